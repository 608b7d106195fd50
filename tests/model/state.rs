//! One state of the cluster: its nodes, the stored intent, and what is under way between them.
//! Small copied values; no rule is applied here.

use crate::{
    bounds::{Bounds, Start},
    disk::DiskCopy,
    floor::{Floor, Truth},
    ghost::Ghost,
};
pub(crate) use crate::{
    intent::{Change, Command, Durability, Intent, Order, Proposal, Stamp, Way},
    log::Commits,
    node::{Names, Node, Proof, Role},
    set::{NodeId, Set},
};

/// The most orders that can be late at a time.
pub(crate) const LATE_ORDERS: usize = 2;

/// How much of the bounds was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spent {
    /// Servers and agents that ended by themselves.
    pub(crate) crashes: u8,
    /// Switchovers begun.
    pub(crate) handovers: u8,
    /// Clones begun.
    pub(crate) clones: u8,
    /// Changes of the durability.
    pub(crate) durability_changes: u8,
    /// Orderly stops of the member beside the primary.
    pub(crate) leaves: u8,
    /// Copies of the store that were put back.
    pub(crate) restores: u8,
    /// Hosts that went down.
    pub(crate) host_losses: u8,
    /// Disks that went back.
    pub(crate) disk_backs: u8,
    /// Changes of the leader.
    pub(crate) leader_changes: u8,
    /// Halves of records written.
    pub(crate) halves: u8,
}

/// The cluster, the store, and what is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// A, B, and in a trio C.
    nodes: [Option<Node>; 3],
    /// The stored intent.
    pub(crate) intent: Intent,
    /// What the store keeps beside it. Nothing changes it where the world has no floors.
    pub(crate) truth: Truth,
    /// A copy of the store that somebody keeps.
    pub(crate) copy: Option<(Intent, Truth)>,
    /// A copy of a node's disk that somebody keeps.
    pub(crate) disk_copy: Option<DiskCopy>,
    /// What nobody in the world knows, where disks go back.
    pub(crate) ghost: Ghost,
    /// The store is older than what some member has seen of it.
    pub(crate) outdated: bool,
    /// The key of the primary lease is in the store.
    pub(crate) lease_key: bool,
    /// Orders that may arrive at any later time, any number of times, or never. Sorted; None last.
    late_orders: [Option<Order>; LATE_ORDERS],
    /// A change whose writer is slow.
    pub(crate) late_write: Option<Proposal>,
    /// Commits written so far, on whichever node: the number of the last one.
    pub(crate) written: u8,
    /// Commits that a client was told of.
    pub(crate) acknowledged: Commits,
    /// Acknowledged commits that a failover was allowed to lose.
    pub(crate) forgiven: Commits,
    /// How much of the bounds was used.
    pub(crate) spent: Spent,
}

impl State {
    /// The state that a search of these bounds begins with.
    pub(crate) fn first(bounds: &Bounds) -> Self {
        match bounds.start {
            Start::First => Self::fresh(bounds),
            Start::ThirdAhead | Start::ThirdAheadUncut => Self::third_ahead(bounds),
        }
    }

    /// See [`Start::ThirdAhead`].
    fn third_ahead(bounds: &Bounds) -> Self {
        let mut state = Self::fresh(bounds);
        let [Some(first), Some(_), Some(third)] = state.nodes else { return state };
        state.intent.stamp.epoch = 2;
        (state.intent.primary, state.intent.previous) = (Some(NodeId::B), Some(NodeId::A));
        let promise = state.intent.stamp;
        let primary = Node { promise, primary_since: 2, history: 2, upstream: NodeId::A, ..first };
        let follower = Node { primary_since: 1, history: 2, ..Node::standby(promise, NodeId::B) };
        let mut ahead = third;
        ahead.log.append(1);
        state.written = 1;
        state.ghost.newest = NodeId::B;
        state.ghost.epoch = 2;
        if bounds.floors {
            state.third_ahead_floors();
            ahead.host.floor_was = 2;
        }
        if bounds.start == Start::ThirdAheadUncut {
            state.truth.floors[NodeId::C as usize] = Some(Floor { timeline: 0, position: 2 });
        }
        state.nodes = [Some(follower), Some(primary), Some(ahead)];
        state
    }

    /// What B wrote when it was promoted: its timeline begins at the beginning, and C's commit is no floor.
    fn third_ahead_floors(&mut self) {
        let begin = Some(Floor { timeline: 0, position: 0 });
        self.truth.floors[NodeId::C as usize] = begin;
        (self.truth.reached, self.truth.switch) = (begin, (2, 0));
        (self.truth.leased, self.truth.leased_by) = (2, NodeId::B);
    }

    /// See [`Start::First`].
    fn fresh(bounds: &Bounds) -> Self {
        let stamp = Stamp { life: 0, epoch: 1, version: 1 };
        let set = bounds.begins_with;
        let promotable = if bounds.leases { bounds.promotable } else { Set::EMPTY };
        let standby = Node::standby(stamp, NodeId::A);
        let mut truth = Truth::NONE;
        if bounds.floors {
            set.iter()
                .for_each(|node| truth.floors[node as usize] = Some(Floor { timeline: 0, position: 0 }));
        }
        let names = Names { configured: set, in_force: set, proof: Proof::NotSet };
        let primary = Node {
            role: Role::Primary,
            open: true,
            primary_since: 1,
            names,
            upstream: NodeId::B,
            lease: bounds.leases,
            noted: promotable,
            ..standby
        };
        let intent = Intent {
            stamp,
            primary: Some(NodeId::A),
            previous: None,
            sync: set,
            sync_next: set,
            durability: bounds.durability,
            handover: None,
            promotable,
            promotable_next: promotable,
            attended: true,
            way: Way::Settled,
        };
        Self {
            nodes: [Some(primary), Some(standby), (bounds.nodes == 3).then_some(standby)],
            intent,
            truth,
            copy: None,
            disk_copy: None,
            ghost: Ghost::new(bounds.floors),
            outdated: false,
            lease_key: bounds.leases,
            late_orders: [None; LATE_ORDERS],
            late_write: None,
            written: 0,
            acknowledged: Commits::default(),
            forgiven: Commits::default(),
            spent: Spent::default(),
        }
    }

    /// All nodes.
    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        let most = if self.is_trio() { 3 } else { 2 };
        NodeId::ALL.into_iter().take(most)
    }

    /// All nodes but one.
    pub(crate) fn others(&self, node: NodeId) -> impl Iterator<Item = NodeId> + use<> {
        self.ids().filter(move |other| *other != node)
    }

    /// True if there is a third node.
    pub(crate) fn is_trio(&self) -> bool {
        self.nodes[2].is_some()
    }

    /// A node.
    pub(crate) fn node(&self, node: NodeId) -> &Node {
        self.nodes[node as usize].as_ref().expect("a node of this world")
    }

    /// A node, to be changed.
    pub(crate) fn node_mut(&mut self, node: NodeId) -> &mut Node {
        self.nodes[node as usize].as_mut().expect("a node of this world")
    }

    /// The node that last became primary.
    pub(crate) fn newest_primary(&self) -> &Node {
        let [a, b, c] = &self.nodes;
        let mut newest = a.as_ref().expect("A is always there");
        for other in [b, c].into_iter().flatten() {
            if other.primary_since >= newest.primary_since {
                newest = other;
            }
        }
        newest
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
