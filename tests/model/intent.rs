//! What is stored, and what is sent: the intent, its changes, and the orders decided on it.

use std::fmt;

use crate::state::NodeId;

/// What an order carries and an agent promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stamp {
    /// The declared primary it belongs to.
    pub(crate) epoch: u8,
    /// The exact intent it was decided on.
    pub(crate) version: u8,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.version)
    }
}

/// A set of sync standbys in a pair: nobody, or one node.
pub(crate) type Set = Option<NodeId>;

/// A set, as sentences print it.
pub(crate) fn set_text(set: Set) -> String {
    set.map_or_else(|| "{}".to_owned(), |node| format!("{{{node:?}}}"))
}

/// How the primary of this epoch was come by. Only milestones look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Way {
    /// Long ago, or nobody is primary.
    Settled,
    /// A failover, by recruiting the standby.
    Recruited,
    /// A failover, after the old primary was fenced.
    Fenced,
    /// A switchover.
    HandedOver,
    /// The old primary was declared again.
    Reinstated,
}

/// How much an acknowledged commit promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Durability {
    /// Commits wait for a standby while one is proven.
    Sync,
    /// Commits never wait, and a failover may lose some.
    Async,
}

/// The stored record of what the cluster should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// A switchover to the other node is in progress.
    pub(crate) handover: bool,
    /// How the primary was come by.
    pub(crate) way: Way,
}

/// A command to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Stream from the other node.
    Follow,
    /// Rewind the data directory to the other node's history, and follow it.
    Rewind,
    /// Replace the data directory by a copy of the other node's, and follow it.
    Clone,
    /// Take part in the proof of names that contain this standby. In the model it only makes the agent promise.
    PauseReplay,
}

/// An order to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Order {
    /// To whom.
    pub(crate) to: NodeId,
    /// What.
    pub(crate) command: Command,
    /// Decided on this intent.
    pub(crate) stamp: Stamp,
}

/// What a change of the intent is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Change {
    /// The next epoch, with nobody as primary.
    Vacate,
    /// The recruited standby becomes primary.
    DeclareRecruited,
    /// The standby becomes primary, now that the old one is fenced.
    DeclareFenced,
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
}

/// A change of the intent, decided and not yet written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Proposal {
    /// What it is called.
    pub(crate) change: Change,
    /// The intent it was decided on.
    pub(crate) basis: Stamp,
    /// The intent to be stored.
    pub(crate) next: Intent,
}
