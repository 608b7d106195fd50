//! What can happen in a state: the actors in turn, and the sentences a trace is made of.

use std::fmt;

use crate::{
    agent, controller, postgres,
    rules::World,
    state::{Change, Command, NodeId, Order, Proposal, Set, State, set_text},
};

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// PostgreSQL writes a commit to its own disk.
    Commits { node: NodeId, commit: u8 },
    /// A client is told that its commit is done.
    Acknowledges { node: NodeId, commit: u8, names: Set },
    /// A standby receives and flushes a commit.
    Receives { node: NodeId, commit: u8 },
    /// The checkpointer takes the configured names.
    TakesNames { node: NodeId, names: Set },
    /// PostgreSQL dies.
    Crashes { node: NodeId },
    /// PostgreSQL restarts by itself, as after a killed backend.
    RestartsItself { node: NodeId },
    /// The member restarts; PostgreSQL goes on.
    MemberRestarts { node: NodeId },
    /// The agent starts its standby.
    StandbyStarts { node: NodeId, cut: bool },
    /// The agent sees, or takes for seen, that the names are in force.
    ProvesNames { node: NodeId, names: Set, position: u8 },
    /// An agent does what it is told, at once.
    Obeys(Order),
    /// An agent writes its promise because of an order, and dies before it does the rest.
    OnlyPromises(Order),
    /// A controller gives an order that stays under way.
    SendsLate(Order),
    /// An order arrives that was under way, and is obeyed. A copy of it may still be under way.
    ObeysLate(Order),
    /// An order under way is lost.
    Loses(Order),
    /// A controller changes the intent.
    Writes(Proposal),
    /// A controller decides on a change, and is slow to write it.
    DecidesLate(Proposal),
    /// A slow change reaches the store.
    WritesLate(Proposal),
}

/// Something that happens, and what is then.
pub(crate) struct Step {
    /// What happens.
    pub(crate) action: Action,
    /// What is then.
    pub(crate) after: State,
}

/// Everything that can happen in `state`.
pub(crate) fn steps(state: &State, world: &World, steps: &mut Vec<Step>) {
    steps.clear();
    for node in NodeId::BOTH {
        postgres::steps(state, node, world, steps);
        agent::steps(state, node, world, steps);
    }
    controller::steps(state, world, steps);
    for step in steps {
        forget_the_dead(&mut step.after, world);
    }
}

/// Drops what is under way and can never have an effect any more, so that states that differ only in it are one:
/// orders below a promise that only grows, and changes decided on an intent that is gone for ever.
fn forget_the_dead(state: &mut State, world: &World) {
    let rules = &world.rules;
    if rules.promise_is_persisted && rules.version_is_checked && rules.promote_checks_epoch {
        state.keep_late_orders(|state, order| order.stamp >= state.node(order.to).promise);
    }
    if rules.compare_and_swap && state.late_write.is_some_and(|write| write.basis != state.intent.stamp) {
        state.late_write = None;
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Commits { node, commit } => write!(f, "{node:?} writes commit {commit}"),
            Self::Acknowledges { node, commit, names } => {
                write!(f, "{node:?} acknowledges commit {commit} (names in force: {})", set_text(names))
            }
            Self::Receives { node, commit } => write!(f, "{node:?} receives and flushes commit {commit}"),
            Self::TakesNames { node, names } => {
                write!(f, "{node:?}: the checkpointer takes the names {}", set_text(names))
            }
            Self::Crashes { node } => write!(f, "{node:?} crashes"),
            Self::RestartsItself { node } => write!(f, "{node:?}: PostgreSQL restarts by itself"),
            Self::MemberRestarts { node } => write!(f, "{node:?}: the member restarts"),
            Self::StandbyStarts { node, cut: true } => write!(f, "{node:?} starts as a standby, cut"),
            Self::StandbyStarts { node, cut: false } => write!(f, "{node:?} starts as a standby, streaming"),
            Self::ProvesNames { node, names, position } => {
                write!(f, "{node:?} reports the names {} in force, position {position}", set_text(names))
            }
            Self::Obeys(order) => write!(f, "{:?} obeys: {order}", order.to),
            Self::OnlyPromises(order) => {
                write!(f, "{:?} promises, and dies before it obeys: {order}", order.to)
            }
            Self::SendsLate(order) => write!(f, "an order to {:?} is under way: {order}", order.to),
            Self::ObeysLate(order) => write!(f, "{:?} obeys a late order: {order}", order.to),
            Self::Loses(order) => write!(f, "an order to {:?} is lost: {order}", order.to),
            Self::Writes(proposal) => write!(f, "the intent becomes {proposal}"),
            Self::DecidesLate(proposal) => write!(f, "a slow controller decides on {proposal}"),
            Self::WritesLate(proposal) => {
                write!(f, "the slow controller's write arrives: the intent becomes {proposal}")
            }
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command {
            Command::SetNames(names) => write!(f, "set names {}", set_text(names))?,
            Command::Recruit => f.write_str("recruit")?,
            Command::Promote => f.write_str("promote")?,
            Command::Serve => f.write_str("serve")?,
            Command::Stop => f.write_str("stop")?,
            Command::Follow => f.write_str("follow")?,
            Command::Rewind => f.write_str("rewind, then follow")?,
            Command::Clone => f.write_str("clone")?,
            Command::PauseReplay => f.write_str("pause replay, for the proof")?,
        }
        write!(f, " ({})", self.stamp)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = &self.next;
        let sets = format!("sync {}, next {}", set_text(next.sync), set_text(next.sync_next));
        let primary = next.primary.map_or_else(|| "nobody".to_owned(), |node| format!("{node:?}"));
        write!(f, "{}: ", next.stamp)?;
        match self.change {
            Change::Vacate => write!(f, "nobody is primary; {sets}"),
            Change::DeclareRecruited => {
                write!(f, "{primary} is declared, as all it needed is recruited; {sets}")
            }
            Change::DeclareFenced => write!(f, "{primary} is declared, as the old primary is gone; {sets}"),
            Change::Reinstate => write!(f, "{primary} is declared again; {sets}"),
            Change::PassOver => {
                write!(f, "{primary} is declared again, as the candidate is passed over; {sets}")
            }
            Change::AnnounceSet => write!(f, "next set announced; {sets}"),
            Change::SettleSet => write!(f, "next set settled; {sets}"),
            Change::BeginHandover => f.write_str("a switchover begins"),
            Change::GiveUpHandover => f.write_str("the switchover is given up"),
            Change::HandOver => write!(f, "{primary} takes over, as the old primary has stopped; {sets}"),
            Change::SetDurability => write!(f, "durability {:?}", next.durability),
        }
    }
}
