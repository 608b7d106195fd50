//! How floors come into the store: the primary's agent samples how far each standby has flushed, and carries that with
//! each renewal of its lease. While the store is silent it tells the other members.

use crate::{
    actions::{Action, Step},
    bounds::World,
    floors_judged::floor_of,
    state::{NodeId, Role, State},
    store,
};

/// Everything that the agent of `node` can do to the floors, as a primary.
pub(crate) fn steps(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    if !world.bounds.floors {
        return;
    }
    let (me, intent) = (state.node(node), &state.intent);
    let reigns = intent.primary == Some(node) && me.primary_since == intent.stamp.epoch;
    if me.up && me.role == Role::Primary && reigns && !store::is_disbelieved(state, world) {
        let mut after = *state;
        renewed(&mut after, node, world);
        if after != *state {
            steps.push(Step { action: Action::WritesFloors { node }, after });
        }
    }
    connect(state, node, world, steps);
    failsafe(state, node, world, steps);
}

/// A standby tells how far it has flushed when it connects.
fn connect(state: &State, primary: NodeId, world: &World, steps: &mut Vec<Step>) {
    for node in state.others(primary).filter(|node| is_connected(state, *node, primary)) {
        let mut after = *state;
        sample(&mut after, node, primary, world);
        if after != *state {
            steps.push(Step { action: Action::Connects { node, to: primary }, after });
        }
    }
}

/// The primary has seen, since its host started, that `standby` flushed the commit.
pub(crate) fn has_seen(state: &State, standby: NodeId, primary: NodeId, commit: u8) -> bool {
    let me = state.node(primary);
    let place = me.log.commits().position(|held| held == commit);
    place.is_some_and(|place| usize::from(me.host.samples[standby as usize]) > 2 * (place + 1))
}

/// What a renewal of the primary carries is in the store.
pub(crate) fn renewed(state: &mut State, primary: NodeId, world: &World) {
    if !world.bounds.floors {
        return;
    }
    let rules = &world.rules;
    for node in state.others(primary).filter(|_| rules.floors_are_stored) {
        let seen = state.node(primary).host.samples[node as usize];
        if seen > 0 && rules.floors_of_the_vanished_are_kept {
            let sample = state.floor_at(primary, seen - 1);
            sample.raise(&mut state.truth.floors[node as usize], true);
        }
        if is_connected(state, node, primary) {
            write_sample(state, node, primary, rules.floors_only_grow, world);
        }
    }
    if rules.renewals_carry_the_notes {
        for node in state.others(primary) {
            if let Some(noted) = floor_of(state, node) {
                noted.raise(&mut state.truth.floors[node as usize], true);
            }
        }
    }
    for node in state.others(primary).filter(|_| world.bounds.disk_backs == 0) {
        let stored = state.truth.floors[node as usize].map_or(0, |floor| floor.position);
        let was = &mut state.node_mut(node).host.floor_was;
        *was = stored.max(*was);
    }
    state.truth.reached = Some(state.floor_at(primary, state.flushed(primary)));
    (state.truth.leased, state.truth.leased_by) = (state.intent.stamp.epoch, primary);
    state.ghost.due = state.ghost.due.union(state.acknowledged.without(state.ghost.window));
    state.ghost.silent = false;
}

/// The position that the primary sees of a standby, as its floor: never beyond the primary's own.
pub(crate) fn write_sample(
    state: &mut State,
    node: NodeId,
    primary: NodeId,
    only_grows: bool,
    world: &World,
) {
    let mut position = state.flushed(node);
    if world.rules.floors_are_within_the_primary {
        position = position.min(state.flushed(primary));
    }
    state.floor_at(node, position).raise(&mut state.truth.floors[node as usize], only_grows);
}

/// The walsender of `node` is there.
pub(crate) fn is_connected(state: &State, node: NodeId, primary: NodeId) -> bool {
    let (me, upstream) = (state.node(node), state.node(primary));
    let runs = upstream.up && upstream.role == Role::Primary;
    runs && me.streams() && me.host.has_read && me.upstream == primary && me.log.begins(upstream.log)
}

/// The agent of the primary sees that `node` has flushed something.
pub(crate) fn sample(state: &mut State, node: NodeId, primary: NodeId, world: &World) {
    if world.bounds.floors {
        let seen = 1 + 2 * state.node(node).log.len();
        let known = &mut state.node_mut(primary).host.samples[node as usize];
        *known = seen.max(*known);
    }
}

/// The store is silent: the primary tells all others how far everybody is, and they write it down.
fn failsafe(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    let me = state.node(node);
    if !world.bounds.failsafe || !me.up || me.role != Role::Primary {
        return;
    }
    let answers = |other: NodeId| {
        let other = state.node(other);
        other.up && other.host.has_read && !other.recruited && other.promise.epoch <= me.primary_since
    };
    if !state.others(node).all(answers) {
        return;
    }
    let mut after = *state;
    let rules = &world.rules;
    for told in state.others(node).filter(|told| is_connected(state, *told, node)) {
        let floor = state.floor_at(told, state.flushed(told));
        let noters = state.ids().filter(|by| *by != node || rules.renewals_carry_the_notes);
        for by in noters.filter(|_| rules.failsafe_carries_floors) {
            floor.raise(&mut after.node_mut(by).host.notes.floors[told as usize], true);
        }
    }
    if rules.failsafe_carries_reached {
        let reached = state.floor_at(node, state.flushed(node));
        for by in state.others(node) {
            after.node_mut(by).host.notes.reached = Some((me.primary_since, reached));
        }
    }
    after.ghost.silent = true;
    after.ghost.due = state.ghost.due.union(state.acknowledged.without(state.ghost.window));
    if after != *state {
        steps.push(Step { action: Action::NotesInFailsafe { node }, after });
    }
}
