//! What is stored, and what is sent: the intent, its changes, and the orders decided on it.

use std::fmt;

use crate::set::{NodeId, Set};

/// What an order carries and an agent promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    /// The life of the store.
    pub(crate) life: u8,
    /// The declared primary it belongs to.
    pub(crate) epoch: u8,
    /// The exact intent it was decided on.
    pub(crate) version: u8,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.life > 0 {
            write!(f, "{}/", self.life + 1)?;
        }
        write!(f, "{}.{}", self.epoch, self.version)
    }
}

/// How the primary of this epoch was come by. Only milestones look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// Long ago, or nobody is primary.
    Settled,
    /// A failover, by recruiting the standby.
    Recruited,
    /// A failover, after the old primary was fenced.
    Fenced,
    /// A failover, after the old primary's lease had run out.
    Expired,
    /// A switchover.
    HandedOver,
    /// The old primary was declared again.
    Reinstated,
}

/// How much an acknowledged commit promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Durability {
    /// Commits wait for a standby while one is proven.
    Sync,
    /// Commits never wait, and a failover may lose some.
    Async,
}

/// The stored record of what the cluster should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Intent {
    /// The epoch and the version.
    pub(crate) stamp: Stamp,
    /// The declared primary.
    pub(crate) primary: Option<NodeId>,
    /// The one declared before.
    pub(crate) previous: Option<NodeId>,
    /// The sync set.
    pub(crate) sync: Set,
    /// The one being moved to.
    pub(crate) sync_next: Set,
    /// How much an acknowledged commit promises.
    pub(crate) durability: Durability,
    /// A switchover to this node is in progress.
    pub(crate) handover: Option<NodeId>,
    /// Who may be promoted. Only where there are leases.
    pub(crate) promotable: Set,
    /// The set being moved to: the primary's agent notes both before this one counts.
    pub(crate) promotable_next: Set,
    /// Somebody watches over the primary; where not, nobody is promoted without a person.
    pub(crate) attended: bool,
    /// How the primary was come by.
    pub(crate) way: Way,
}

/// A command to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Command {
    /// Set `synchronous_standby_names`.
    SetNames(Set),
    /// Cut the standby from its primary, and attest the position.
    Recruit,
    /// Promote the standby.
    Promote,
    /// Start a stopped primary in place, or attest that it runs.
    Serve,
    /// Stop the server: `Fence`, or `Stop` in a switchover.
    Stop,
    /// Stream from this node.
    Follow(NodeId),
    /// Rewind the data directory to this node's history, and follow it.
    Rewind(NodeId),
    /// Replace the data directory by a copy of this node's, and follow it.
    Clone(NodeId),
    /// Take part in the proof of names that contain this standby. In the model it only makes the agent promise.
    PauseReplay,
    /// As the primary: note durably who may be promoted, and ask them when the lease cannot be renewed.
    Note(Set),
}

/// An order to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    /// To whom.
    pub(crate) to: NodeId,
    /// What.
    pub(crate) command: Command,
    /// Decided on this intent.
    pub(crate) stamp: Stamp,
}

/// What a change of the intent is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// The next epoch, with nobody as primary.
    Vacate,
    /// The recruited standby becomes primary.
    DeclareRecruited,
    /// The standby becomes primary, now that the old one is fenced.
    DeclareFenced,
    /// The standby becomes primary, now that the old one's lease has run out.
    DeclareExpired,
    /// The previous primary becomes primary again, as nobody was declared.
    Reinstate,
    /// The primary before the candidate becomes primary again, as the candidate never promoted.
    PassOver,
    /// The next set.
    AnnounceSet,
    /// The next set is the set.
    SettleSet,
    /// A switchover begins.
    BeginHandover,
    /// A switchover is given up.
    GiveUpHandover,
    /// The old primary has stopped; the standby becomes primary.
    HandOver,
    /// The operator changes the durability.
    SetDurability,
    /// The primary's own agent empties the set.
    ShrinkSet,
    /// Who is to be promotable next.
    AnnouncePromotable,
    /// They are.
    SettlePromotable,
    /// The primary's own agent is about to stop in order.
    Leave,
    /// The primary's own agent is back, and renews.
    Return,
    /// A person accepts the store.
    Accept,
}

/// A change of the intent, decided and not yet written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Proposal {
    /// What it is called.
    pub(crate) change: Change,
    /// The intent it was decided on.
    pub(crate) basis: Stamp,
    /// The intent to be stored.
    pub(crate) next: Intent,
}
