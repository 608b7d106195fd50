//! What can happen in a state: the actors in turn.

use crate::{
    agent,
    bounds::World,
    controller,
    disk::{self, WentBack},
    floors, ghost, lease, postgres,
    state::{NodeId, Order, Proposal, Set, Stamp, State},
    store,
};

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// PostgreSQL writes a commit to its own disk.
    Commits { node: NodeId, commit: u8 },
    /// A client is told that its commit is done.
    Acknowledges { node: NodeId, commit: u8, names: Set },
    /// A standby receives and flushes a commit.
    Receives { node: NodeId, commit: u8, from: NodeId },
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
    /// The agent empties the names, and the store does not know.
    ShrinksNames { node: NodeId },
    /// The store takes a renewal of the lease, and its holder hears so in time.
    Renews { node: NodeId },
    /// The store takes a renewal of the lease, and the answer is slow.
    RenewsUnheard { node: NodeId },
    /// A slow answer arrives.
    HearsRenewal { node: NodeId },
    /// A lease has passed since its holder asked for it.
    LeaseRunsOut { node: NodeId },
    /// The same for the request whose answer is slow.
    RenewalGrowsOld { node: NodeId },
    /// The lease's key is gone from the store.
    KeyVanishes,
    /// A node answers that there is no higher epoch, and none for the length of a lease.
    Vouches { by: NodeId, to: NodeId },
    /// A lease has passed since the question that was answered.
    AnswersRunOut { node: NodeId },
    /// A lease has passed since the answer.
    VouchRunsOut { node: NodeId },
    /// The guard kills a frozen server.
    GuardKills { node: NodeId },
    /// The member stops in order, and disarms the guard.
    Disarms { node: NodeId },
    /// The member is back, and arms the guard.
    Arms { node: NodeId },
    /// The host of a node goes down.
    HostGoesDown { node: NodeId },
    /// It comes back; some of its disk may be as it was at an earlier moment.
    HostComesBack { node: NodeId, went: WentBack },
    /// Somebody makes a copy of a node's disk.
    CopiesDisk { node: NodeId },
    /// The agent reads the intent for the first time since its host started.
    ReadsIntent { node: NodeId },
    /// The agent starts its standby cut off from its upstream, of which nothing shows that it lives.
    StartsCutOff { node: NodeId },
    /// A standby that was started cut off follows its upstream again, which lives.
    FollowsAgain { node: NodeId },
    /// Another controller leads, and remembers nothing.
    LeaderChanges,
    /// A standby connects, and tells how far it has flushed.
    Connects { node: NodeId, to: NodeId },
    /// The primary writes half of a record.
    WritesHalf { node: NodeId },
    /// A standby flushes half of a record.
    ReceivesHalf { node: NodeId, from: NodeId },
    /// A standby streams anew, and half of a record is overwritten.
    OverwritesHalf { node: NodeId, from: NodeId },
    /// A renewal of the primary carries the floors to the store.
    WritesFloors { node: NodeId },
    /// The primary tells the others the floors, as the store is silent, and they write them down.
    NotesInFailsafe { node: NodeId },
    /// Somebody makes a copy of the store.
    CopiesStore,
    /// Somebody puts the copy back.
    PutsBack(Stamp),
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
    for node in state.ids() {
        postgres::steps(state, node, world, steps);
        agent::steps(state, node, world, steps);
        lease::steps(state, node, world, steps);
        disk::steps(state, node, world, steps);
        floors::steps(state, node, world, steps);
    }
    controller::steps(state, world, steps);
    store::steps(state, world, steps);
    ghost::steps(state, world, steps);
    for step in steps {
        ghost::follow(state, step, world);
        forget_the_dead(&mut step.after, world);
    }
}

/// Drops what is under way and can never have an effect any more, so that states that differ only in it are one:
/// orders below a promise that only grows, and changes decided on an intent that is gone for ever.
fn forget_the_dead(state: &mut State, world: &World) {
    let rules = &world.rules;
    let promises_only_grow = world.bounds.disk_backs == 0;
    if promises_only_grow
        && rules.promise_is_persisted
        && rules.version_is_checked
        && rules.promote_checks_epoch
    {
        state.keep_late_orders(|state, order| order.stamp >= state.node(order.to).promise);
    }
    if rules.compare_and_swap && state.late_write.is_some_and(|write| write.basis != state.intent.stamp) {
        state.late_write = None;
    }
}
