//! PostgreSQL as an actor: it commits, streams, crashes, and knows nothing of Locum.

use crate::{
    actions::{Action, Step},
    bounds::World,
    floors,
    lease::serves,
    state::{NodeId, Role, Set, State},
};

/// Everything that the PostgreSQL of `node` can do by itself.
pub(crate) fn steps(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    commit(state, node, world, steps);
    acknowledge(state, node, world, steps);
    receive(state, node, world, steps);
    tear(state, node, world, steps);
    take_names(state, node, steps);
    end(state, node, world, steps);
}

fn commit(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    if !serves(state.node(node), world) || state.written == world.bounds.commits {
        return;
    }
    let mut after = *state;
    after.written += 1;
    after.node_mut(node).log.append(state.written + 1);
    after.node_mut(node).host.torn = false;
    steps.push(Step { action: Action::Commits { node, commit: after.written }, after });
}

/// A commit in the log is acknowledged as soon as one of whom the names in force ask for holds it. That this one has
/// since been cut or promoted does not matter: its report may have been under way.
fn acknowledge(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    let me = state.node(node);
    if !serves(me, world) {
        return;
    }
    let names = me.names.in_force;
    for commit in (1..=state.written).filter(|commit| me.log.holds(*commit)) {
        let satisfied = names.is_empty() && !world.bounds.strict
            || names
                .iter()
                .any(|waited_for| waited_for != node && holds(state, waited_for, node, commit, world));
        if satisfied && !state.acknowledged.contains(commit) {
            let mut after = *state;
            after.acknowledged.insert(commit);
            steps.push(Step { action: Action::Acknowledges { node, commit, names }, after });
        }
    }
}

/// `standby` holds the commit. Where hosts go down, the primary must have seen that since it started.
fn holds(state: &State, standby: NodeId, primary: NodeId, commit: u8, world: &World) -> bool {
    let seen = !world.bounds.floors || floors::has_seen(state, standby, primary, commit);
    seen && state.node(standby).log.holds(commit)
}

/// What a server sent before it was frozen may arrive afterwards.
fn receive(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    let me = state.node(node);
    let upstream = state.node(me.upstream);
    let reads = me.host.has_read;
    if !me.streams() || !reads || !upstream.up || upstream.role != Role::Primary {
        return;
    }
    if let Some(commit) = me.log.next_from(upstream.log) {
        let mut after = *state;
        after.node_mut(node).log.append(commit);
        after.node_mut(node).history = upstream.history;
        after.node_mut(node).host.torn = false;
        floors::sample(&mut after, node, me.upstream, world);
        steps.push(Step { action: Action::Receives { node, commit, from: me.upstream }, after });
    }
}

/// Half of a record is written, and flushed by a standby. The rest may never come.
fn tear(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    let me = state.node(node);
    if world.bounds.halves == 0 {
        return;
    }
    if me.host.torn {
        return stream_anew(state, node, steps);
    }
    let mut after = *state;
    after.node_mut(node).host.torn = true;
    let may_write = state.spent.halves < world.bounds.halves && state.written < world.bounds.commits;
    if serves(me, world) && may_write {
        after.spent.halves += 1;
        steps.push(Step { action: Action::WritesHalf { node }, after });
        return;
    }
    let upstream = state.node(me.upstream);
    let streams = me.streams() && me.host.has_read && upstream.up && upstream.role == Role::Primary;
    let begins = me.log.begins(upstream.log);
    let more = me.log.len() < upstream.log.len() || upstream.host.torn;
    if streams && begins && more {
        steps.push(Step { action: Action::ReceivesHalf { node, from: me.upstream }, after });
    }
}

/// A record whose other half never came is overwritten, as the upstream has no such record.
fn stream_anew(state: &State, node: NodeId, steps: &mut Vec<Step>) {
    let me = state.node(node);
    let upstream = state.node(me.upstream);
    let runs = upstream.up && upstream.role == Role::Primary && !upstream.host.torn;
    if me.streams() && me.host.has_read && runs && me.log == upstream.log {
        let mut after = *state;
        after.node_mut(node).host.torn = false;
        steps.push(Step { action: Action::OverwritesHalf { node, from: me.upstream }, after });
    }
}

/// The checkpointer alone makes names effective. Where the agent kept a started server closed for that, it opens it.
fn take_names(state: &State, node: NodeId, steps: &mut Vec<Step>) {
    let me = state.node(node);
    let names = me.names.configured;
    if me.up && me.role == Role::Primary && me.names.in_force != names {
        let mut after = *state;
        after.node_mut(node).names.in_force = names;
        after.node_mut(node).open = true;
        steps.push(Step { action: Action::TakesNames { node, names }, after });
    }
}

fn end(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    if !state.node(node).up || state.spent.crashes == world.bounds.crashes {
        return;
    }
    let mut crashed = *state;
    crashed.spent.crashes += 1;
    stop(&mut crashed, node);
    let was_primary = state.node(node).role == Role::Primary;
    steps.push(Step { action: Action::Crashes { node }, after: crashed });
    if was_primary {
        let mut after = crashed;
        start_primary(&mut after, node, world);
        steps.push(Step { action: Action::RestartsItself { node }, after });
    }
}

/// A primary's server starts. No names are in force at first, whatever is configured.
pub(crate) fn start_primary(state: &mut State, node: NodeId, world: &World) {
    let me = state.node_mut(node);
    me.up = true;
    me.names.in_force = Set::EMPTY;
    me.open = me.names.configured.is_empty() || !world.rules.closed_until_names_in_force;
}

/// A server is gone.
pub(crate) fn stop(state: &mut State, node: NodeId) {
    let me = state.node_mut(node);
    (me.up, me.open, me.names.in_force) = (false, false, Set::EMPTY);
}
