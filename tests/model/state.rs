//! One state of the pair: two nodes, the stored intent, and what is under way between them.
//! Small copied values; no rule is applied here.

use std::fmt;

/// One of the two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum NodeId {
    /// The primary at the beginning.
    A,
    /// The standby at the beginning.
    B,
}

impl NodeId {
    /// Both nodes.
    pub(crate) const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other node of the pair.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

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

/// The most commits a log can hold.
pub(crate) const LOG_SIZE: usize = 3;

/// WAL: commits in order, each a number from 1; 0 is an empty place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Log([u8; LOG_SIZE]);

impl Log {
    /// How many commits it holds: the flush position.
    pub(crate) fn len(self) -> u8 {
        self.0.iter().fold(0, |len, commit| len + u8::from(*commit != 0))
    }

    /// True if it holds the commit.
    pub(crate) fn holds(self, commit: u8) -> bool {
        self.0.contains(&commit)
    }

    /// Appends a commit.
    pub(crate) fn append(&mut self, commit: u8) {
        self.0[usize::from(self.len())] = commit;
    }

    /// True if everything in it is at the same place in `longer`.
    pub(crate) fn begins(self, longer: Self) -> bool {
        self.0.iter().zip(longer.0).all(|(mine, theirs)| *mine == 0 || *mine == theirs)
    }

    /// The commit that a standby with this log receives next from `upstream`, if it can stream from it.
    pub(crate) fn next_from(self, upstream: Self) -> Option<u8> {
        let next = *upstream.0.get(usize::from(self.len()))?;
        (next != 0 && self.begins(upstream)).then_some(next)
    }

    /// What both have in common, from the beginning on.
    pub(crate) fn common(self, other: Self) -> Self {
        let mut common = Self::default();
        for (mine, theirs) in self.0.into_iter().zip(other.0) {
            if mine == 0 || mine != theirs {
                break;
            }
            common.append(mine);
        }
        common
    }

    /// The commits of `of` that it lacks.
    pub(crate) fn lacks(self, of: Commits) -> Commits {
        let mut missing = Commits::default();
        for commit in of.iter().filter(|commit| !self.holds(*commit)) {
            missing.insert(commit);
        }
        missing
    }
}

/// A set of commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Commits(u8);

impl Commits {
    /// Adds a commit.
    pub(crate) fn insert(&mut self, commit: u8) {
        self.0 |= 1 << commit;
    }

    /// True if the commit is in it.
    pub(crate) fn contains(self, commit: u8) -> bool {
        self.0 & (1 << commit) != 0
    }

    /// True if it is empty.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are not in `other`.
    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those in either.
    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Each of them.
    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        (1..8).filter(move |commit| self.contains(*commit))
    }
}

/// What a data directory is, whether or not a server runs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    /// It recovers from another.
    Standby,
    /// It takes writes, or did until it stopped.
    Primary,
}

/// How far the names of the intent's present version have come on a primary. Every write of the intent begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Proof {
    /// They were not set under this version.
    NotSet,
    /// They were set under this version.
    Set,
    /// They were proven under this version, and then the primary's flush position was this.
    Proven(u8),
}

/// A primary's `synchronous_standby_names`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Names {
    /// As the file and SHOW tell.
    pub(crate) configured: Set,
    /// As commits wait for: the checkpointer may take the new ones later.
    pub(crate) in_force: Set,
    /// What the agent knows about them.
    pub(crate) proof: Proof,
}

impl Names {
    /// No names, and nothing proven.
    pub(crate) const NONE: Self = Self { configured: None, in_force: None, proof: Proof::NotSet };
}

/// One node: its PostgreSQL and its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node {
    /// A server runs.
    pub(crate) up: bool,
    /// What its data directory is.
    pub(crate) role: Role,
    /// Clients are let in.
    pub(crate) open: bool,
    /// Its WAL, all of it on disk.
    pub(crate) log: Log,
    /// The highest stamp its agent promised to refuse anything below.
    pub(crate) promise: Stamp,
    /// The epoch under which it last became primary; 0: never.
    pub(crate) primary_since: u8,
    /// As a standby: cut from its upstream, on disk, until it is told to follow.
    pub(crate) recruited: bool,
    /// As a primary.
    pub(crate) names: Names,
}

impl Node {
    /// It takes commits of clients.
    pub(crate) fn serves(&self) -> bool {
        self.up && self.open && self.role == Role::Primary
    }

    /// Its server is gone, and its agent will not start it below this stamp.
    pub(crate) fn is_fenced(&self, stamp: Stamp) -> bool {
        !self.up && self.promise >= stamp
    }
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

/// The most orders that can be late at a time.
pub(crate) const LATE_ORDERS: usize = 2;

/// How much of the bounds was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Spent {
    /// Servers and agents that ended by themselves.
    pub(crate) crashes: u8,
    /// Switchovers begun.
    pub(crate) handovers: u8,
    /// Clones begun.
    pub(crate) clones: u8,
    /// Changes of the durability.
    pub(crate) durability_changes: u8,
}

/// The pair, the store, and what is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// A and B.
    nodes: [Node; 2],
    /// The stored intent.
    pub(crate) intent: Intent,
    /// Orders that may arrive at any later time, any number of times, or never. Sorted; None last.
    late_orders: [Option<Order>; LATE_ORDERS],
    /// A change whose writer is slow.
    pub(crate) late_write: Option<Proposal>,
    /// Commits written so far, on whichever node: the number of the last one.
    pub(crate) written: u8,
    /// Commits that a client was told of.
    pub(crate) acknowledged: Commits,
    /// Acknowledged commits that an async failover was allowed to lose.
    pub(crate) forgiven: Commits,
    /// How much of the bounds was used.
    pub(crate) spent: Spent,
}

impl State {
    /// A runs as primary of epoch 1, B follows it.
    pub(crate) fn first(in_sync: bool) -> Self {
        let stamp = Stamp { epoch: 1, version: 1 };
        let set = in_sync.then_some(NodeId::B);
        let standby = Node {
            up: true,
            role: Role::Standby,
            open: false,
            log: Log::default(),
            promise: stamp,
            primary_since: 0,
            recruited: false,
            names: Names::NONE,
        };
        let names = Names { configured: set, in_force: set, proof: Proof::NotSet };
        let primary = Node { role: Role::Primary, open: true, primary_since: 1, names, ..standby };
        let intent = Intent {
            stamp,
            primary: Some(NodeId::A),
            previous: None,
            sync: set,
            sync_next: set,
            durability: Durability::Sync,
            handover: false,
            way: Way::Settled,
        };
        Self {
            nodes: [primary, standby],
            intent,
            late_orders: [None; LATE_ORDERS],
            late_write: None,
            written: 0,
            acknowledged: Commits::default(),
            forgiven: Commits::default(),
            spent: Spent::default(),
        }
    }

    /// A node.
    pub(crate) fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node as usize]
    }

    /// A node, to be changed.
    pub(crate) fn node_mut(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    /// The node that last became primary.
    pub(crate) fn newest_primary(&self) -> &Node {
        let [a, b] = &self.nodes;
        if a.primary_since > b.primary_since { a } else { b }
    }

    /// The orders under way.
    pub(crate) fn late_orders(&self) -> impl Iterator<Item = Order> {
        self.late_orders.into_iter().flatten()
    }

    /// Puts an order under way. False: it already is, or `most` are.
    pub(crate) fn send_late(&mut self, order: Order, most: usize) -> bool {
        let free = self.late_orders.iter().take(most).position(Option::is_none);
        let (Some(place), false) = (free, self.late_orders.contains(&Some(order))) else { return false };
        self.late_orders[place] = Some(order);
        self.sort_late_orders();
        true
    }

    /// Keeps only the late orders that the condition holds for.
    pub(crate) fn keep_late_orders(&mut self, keep: impl Fn(&Self, &Order) -> bool) {
        for place in 0..LATE_ORDERS {
            if self.late_orders[place].is_some_and(|order| !keep(self, &order)) {
                self.late_orders[place] = None;
            }
        }
        self.sort_late_orders();
    }

    fn sort_late_orders(&mut self) {
        self.late_orders.sort_unstable_by_key(|order| (order.is_none(), *order));
    }
}
