//! Hosts and their disks as actors: a host goes down, and comes back with an older copy of what was on its disk.
//!
//! A disk goes back only while its host is down, when nobody sees it, so that both are one step.

use crate::{
    actions::{Action, Step},
    bounds::World,
    floor::Notes,
    log::Log,
    node::Renewal,
    postgres::stop,
    state::{Names, Node, NodeId, Role, Set, Stamp, State},
    store,
};

/// What of a node's disk is an older copy when its host comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WentBack {
    /// Nothing.
    Nothing,
    /// The data directory.
    Data,
    /// The agent's memory file: promise, notes, who may be promoted, what it vouched.
    Memory,
    /// Both.
    Both,
}

impl WentBack {
    fn data(self) -> bool {
        matches!(self, Self::Data | Self::Both)
    }

    fn memory(self) -> bool {
        matches!(self, Self::Memory | Self::Both)
    }
}

/// A data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Data {
    pub(crate) role: Role,
    pub(crate) log: Log,
    pub(crate) torn: bool,
    pub(crate) primary_since: u8,
    pub(crate) recruited: bool,
    pub(crate) upstream: NodeId,
    pub(crate) history: u8,
    pub(crate) configured: Set,
}

/// The file in which an agent remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Memory {
    pub(crate) promise: Stamp,
    pub(crate) noted: Set,
    pub(crate) vouched: bool,
    pub(crate) notes: Notes,
}

/// A copy of a node's disk that somebody keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DiskCopy {
    pub(crate) of: NodeId,
    pub(crate) data: Data,
    pub(crate) memory: Memory,
}

impl DiskCopy {
    fn new(of: NodeId, me: &Node) -> Self {
        let data = Data {
            role: me.role,
            log: me.log,
            torn: me.host.torn,
            primary_since: me.primary_since,
            recruited: me.recruited,
            upstream: me.upstream,
            history: me.history,
            configured: me.names.configured,
        };
        let memory =
            Memory { promise: me.promise, noted: me.noted, vouched: me.vouched, notes: me.host.notes };
        Self { of, data, memory }
    }
}

/// Everything that can happen to the host of `node` and its disk.
pub(crate) fn steps(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    if !world.bounds.floors {
        return;
    }
    let me = state.node(node);
    let backs_left = state.spent.disk_backs < world.bounds.disk_backs && world.bounds.disks.contains(node);
    if backs_left && state.disk_copy.is_none() {
        let mut after = *state;
        after.disk_copy = Some(DiskCopy::new(node, me));
        steps.push(Step { action: Action::CopiesDisk { node }, after });
    }
    if me.host.up {
        if state.spent.host_losses < world.bounds.host_losses && world.bounds.hosts.contains(node) {
            steps.push(Step { action: Action::HostGoesDown { node }, after: down(state, node) });
        }
        read_intent(state, node, world, steps);
        return;
    }
    comes_back(state, node, WentBack::Nothing, world, steps);
    if backs_left && state.disk_copy.is_some_and(|copy| copy.of == node) {
        for went in world.bounds.went_back {
            comes_back(state, node, *went, world, steps);
        }
    }
}

/// What its processes knew is gone; a lease that it held goes on for whoever waits for it.
fn down(state: &State, node: NodeId) -> State {
    let mut after = *state;
    after.spent.host_losses += 1;
    if state.ghost.newest == node && state.node(node).role == Role::Primary {
        after.ghost.window = state.ghost.window.union(state.acknowledged.without(state.ghost.due));
    }
    stop(&mut after, node);
    let me = after.node_mut(node);
    me.vouchers = Set::EMPTY;
    (me.host.up, me.host.has_read, me.host.cut_off, me.host.list_confirmed) = (false, false, false, false);
    me.host.samples = [0; 3];
    after
}

fn comes_back(state: &State, node: NodeId, went: WentBack, world: &World, steps: &mut Vec<Step>) {
    let rules = &world.rules;
    let mut after = *state;
    if let (Some(copy), true) = (state.disk_copy, went != WentBack::Nothing) {
        after.disk_copy = None;
        after.spent.disk_backs += 1;
        if went.data() {
            let gone = copy.data.log.lacks(state.acknowledged.without(state.ghost.due));
            let kept_before = state.node(node).log;
            for commit in gone.iter().filter(|commit| kept_before.holds(*commit)) {
                after.forgiven.insert(commit);
            }
            set_back_data(after.node_mut(node), copy.data);
        }
        if went.memory() {
            let me = after.node_mut(node);
            (me.promise, me.noted, me.vouched) =
                (copy.memory.promise, copy.memory.noted, copy.memory.vouched);
            me.host.notes = copy.memory.notes;
        }
        let same = DiskCopy::new(node, after.node(node)) == DiskCopy::new(node, state.node(node));
        if same {
            return;
        }
    }
    let me = after.node_mut(node);
    me.host.up = true;
    (me.lease, me.renewal, me.guarded) = (false, Renewal::None, true);
    me.host.list_confirmed = !rules.list_is_confirmed_after_a_start;
    me.host.has_read = !rules.intent_is_read_in_this_life;
    me.vouched |=
        world.bounds.leases && rules.grants_are_waited_for_after_a_start && me.role == Role::Standby;
    steps.push(Step { action: Action::HostComesBack { node, went }, after });
}

fn set_back_data(me: &mut Node, data: Data) {
    (me.role, me.log, me.primary_since) = (data.role, data.log, data.primary_since);
    (me.recruited, me.upstream, me.history) = (data.recruited, data.upstream, data.history);
    me.host.torn = data.torn;
    me.names = Names { configured: data.configured, ..Names::NONE };
}

/// The agent reads the intent, and promises it. Its standby streams from nobody but who is primary there.
fn read_intent(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    if state.node(node).host.has_read || store::is_disbelieved(state, world) {
        return;
    }
    let mut after = *state;
    let (stamp, primary, writes) = (state.intent.stamp, state.intent.primary, state.truth.writes);
    let me = after.node_mut(node);
    me.promise = me.promise.max(stamp);
    me.host.has_read = true;
    me.host.notes.writes = me.host.notes.writes.max(writes);
    me.host.cut_off |= me.role == Role::Standby && Some(me.upstream) != primary;
    steps.push(Step { action: Action::ReadsIntent { node }, after });
}
