//! How far the world of the model goes. Within its bounds a search is exhaustive.

use crate::{disk::WentBack, intent::Durability, rules::Rules, set::Set};

/// The situation a search begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// A runs as primary of epoch 1, the others follow it.
    First,
    /// A trio after a failover: B runs as primary of epoch 2, A follows it again, and C is still A's standby: it holds
    /// a commit of A's that B never received.
    ThirdAhead,
    /// The same, where B's promotion did not cut the floor that C had under A. A planted bug.
    ThirdAheadUncut,
}

/// How far the world may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The situation at the beginning.
    pub(crate) start: Start,
    /// How many nodes there are: two or three.
    pub(crate) nodes: u8,
    /// The highest epoch. The first is 1.
    pub(crate) epochs: u8,
    /// The highest version. The first is 1.
    pub(crate) versions: u8,
    /// Commits in all, on whichever node.
    pub(crate) commits: u8,
    /// Ends of a server, or of an agent between its promise and the deed, on whichever node.
    pub(crate) crashes: u8,
    /// Orders that are under way for long, at any one time.
    pub(crate) late_orders: usize,
    /// A change of the intent may reach the store long after it was decided.
    pub(crate) late_writes: bool,
    /// The set may be changed.
    pub(crate) set_changes: bool,
    /// A change of the set may be broken off by emptying both sets.
    pub(crate) empties_midway: bool,
    /// Switchovers in all.
    pub(crate) handovers: u8,
    /// Clones in all.
    pub(crate) clones: u8,
    /// Changes of the durability in all.
    pub(crate) durability_changes: u8,
    /// The sync set at the beginning.
    pub(crate) begins_with: Set,
    /// The durability at the beginning.
    pub(crate) durability: Durability,
    /// The primary's agent may empty the set by itself.
    pub(crate) self_shrinks: bool,
    /// There are leases, guards and vouches. Without them a server always has the right to serve, and only the old
    /// agent's attested fence takes the pen where no promise does.
    pub(crate) leases: bool,
    /// Who is promotable at the beginning, where there are leases.
    pub(crate) promotable: Set,
    /// Who is promotable may change.
    pub(crate) promotable_changes: bool,
    /// Orderly stops of the member beside the primary, in all.
    pub(crate) leaves: u8,
    /// Copies of the store that are put back, in all.
    pub(crate) restores: u8,
    /// There are hosts, and floors in the store. What follows goes on only there.
    pub(crate) floors: bool,
    /// As `sync-strict`: without names a primary acknowledges nothing, and the set is never emptied.
    pub(crate) strict: bool,
    /// Ends of a host, in all.
    pub(crate) host_losses: u8,
    /// Whose hosts may.
    pub(crate) hosts: Set,
    /// Disks that go back, in all.
    pub(crate) disk_backs: u8,
    /// Whose disks may.
    pub(crate) disks: Set,
    /// What of a disk may go back.
    pub(crate) went_back: &'static [WentBack],
    /// In a trio, the primary may tell the others the floors, as the store is silent.
    pub(crate) failsafe: bool,
    /// Halves of records that a primary writes, in all.
    pub(crate) halves: u8,
    /// Changes of the leader, in all. With all rules on a leader remembers nothing, and none is looked at.
    pub(crate) leader_changes: u8,
    /// A standby may be started cut off from its upstream.
    pub(crate) starts_cut_off: bool,
}

impl Bounds {
    /// A small world: one failover, one late order.
    pub(crate) const SMALL: Self = Self {
        start: Start::First,
        nodes: 2,
        epochs: 2,
        versions: 7,
        commits: 1,
        crashes: 0,
        late_orders: 1,
        late_writes: false,
        set_changes: true,
        empties_midway: true,
        handovers: 0,
        clones: 0,
        durability_changes: 0,
        begins_with: Set::B,
        durability: Durability::Sync,
        self_shrinks: false,
        leases: false,
        promotable: Set::B,
        promotable_changes: false,
        leaves: 0,
        restores: 0,
        floors: false,
        strict: false,
        host_losses: 0,
        hosts: Set::ABC,
        disk_backs: 0,
        disks: Set::ABC,
        went_back: &[WentBack::Data, WentBack::Memory, WentBack::Both],
        failsafe: false,
        halves: 0,
        leader_changes: 0,
        starts_cut_off: false,
    };
}

/// A world to search: what is kept, and how far it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// What is kept.
    pub(crate) rules: Rules,
    /// How far it goes.
    pub(crate) bounds: Bounds,
}
