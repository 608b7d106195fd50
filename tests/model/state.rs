//! One state of the pair: two nodes, the stored intent, and what is under way between them.
//! Small copied values; no rule is applied here.

pub(crate) use crate::{
    intent::{Change, Command, Durability, Intent, Order, Proposal, Set, Stamp, Way, set_text},
    log::{Commits, Log},
};

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
