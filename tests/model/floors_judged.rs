//! What is judged by floors: who is recruited, who may be promoted, and whether an old primary is whole.

use crate::{
    bounds::World,
    floor::Floor,
    state::{NodeId, Role, Set, State},
};

/// What the store and the agents that are heard know of the disk of `node`.
pub(crate) fn floor_of(state: &State, node: NodeId) -> Option<Floor> {
    let mut known = state.truth.floors[node as usize];
    for by in state.ids().filter(|by| state.node(*by).host.up) {
        if let Some(noted) = state.node(by).host.notes.floors[node as usize] {
            noted.raise(&mut known, true);
        }
    }
    known
}

/// The WAL of `node` contains this floor: it is that long, and of the same timeline there.
fn contains(state: &State, node: NodeId, floor: Option<Floor>, world: &World) -> bool {
    let Some(floor) = floor else { return true };
    let rules = &world.rules;
    let log = state.node(node).log;
    let mine = if rules.torn_record_is_not_below { state.flushed(node) } else { 2 * log.len() };
    let exempt = floor.position == 0 || floor.position % 2 == 1 || !rules.timelines_of_floors_are_compared;
    mine >= floor.position && (exempt || state.timeline_at(log, floor.position) == floor.timeline)
}

/// `node` is not below its own floor.
pub(crate) fn is_at_its_floor(state: &State, node: NodeId, world: &World) -> bool {
    contains(state, node, floor_of(state, node), world)
}

/// What `heir` must have of a member of the set: either that one is not below its floor, or `heir` contains it. Both
/// must be cut and have promised, which is judged elsewhere.
pub(crate) fn may_count(state: &State, member: NodeId, heir: NodeId, world: &World) -> bool {
    let floor = floor_of(state, member);
    let heir_has_it = floor.is_some() && contains(state, heir, floor, world);
    if world.bounds.floors && !world.rules.floors_outlive_the_leader {
        return member != heir || state.node(heir).log.len() >= state.ghost.leader_saw[heir as usize];
    }
    !world.bounds.floors
        || !world.rules.members_are_at_their_floors
        || contains(state, member, floor, world)
        || heir_has_it
}

/// The position of a recruit that is below its floor need not be known, where the heir contains that floor. It must be
/// cut all the same; only with a planted bug it need not.
pub(crate) fn may_be_left_out(state: &State, member: NodeId, heir: NodeId, world: &World) -> bool {
    let floor = floor_of(state, member);
    let planted = world.bounds.floors && !world.rules.members_below_their_floor_are_cut;
    planted && floor.is_some() && contains(state, heir, floor, world)
}

/// The data directory of `node`, which was primary or is about to be, has everything that it is known to have had.
pub(crate) fn is_whole(state: &State, node: NodeId, world: &World) -> bool {
    let rules = &world.rules;
    if !world.bounds.floors || !rules.primary_is_at_its_floor {
        return true;
    }
    let me = state.node(node);
    let reached = state.truth.reached.filter(|_| rules.reached_is_judged);
    let (members, was_primary) = (members(state), me.role == Role::Primary);
    contains(state, node, reached, world)
        && (!was_primary || state.others(node).all(|by| is_as_noted_by(state, node, by, world)))
        && !(was_primary && rules.nobody_heard_is_ahead && somebody_is_ahead(state, node))
        && a_third_is_heard(state, node, world)
        && state
            .others(node)
            .filter(|member| members.contains(*member))
            .all(|member| contains(state, node, floor_of(state, member), world))
}

/// `node` has everything that the old primary, whose disk went back, is known to have had.
pub(crate) fn has_reached_all(state: &State, node: NodeId, world: &World) -> bool {
    let rules = &world.rules;
    let members = members(state);
    rules.heir_has_what_was_reached
        && state.truth.reached.is_some()
        && contains(state, node, state.truth.reached, world)
        && members.iter().all(|member| contains(state, node, floor_of(state, member), world))
        && a_third_is_heard(state, node, world)
}

pub(crate) fn members(state: &State) -> Set {
    state.intent.sync.union(state.intent.sync_next)
}

/// `by` noted in failsafe how far the primary was, and `node` is.
fn is_as_noted_by(state: &State, node: NodeId, by: NodeId, world: &World) -> bool {
    let by = state.node(by);
    let Some((epoch, reached)) = by.host.notes.reached.filter(|_| by.host.up) else { return true };
    let declared = u8::from(state.intent.primary == Some(node));
    let binds = epoch >= state.truth.switch.0 && epoch < state.intent.stamp.epoch + declared;
    !binds || contains(state, node, Some(reached), world)
}

fn somebody_is_ahead(state: &State, node: NodeId) -> bool {
    state.others(node).any(|other| {
        let them = state.node(other);
        let standby = them.up && them.role == Role::Standby;
        standby && them.log.len() > state.node(node).log.len() && state.has_the_switch(other)
    })
}

/// After failsafe, one other member that noted is heard. In a pair there is none.
pub(crate) fn a_third_is_heard(state: &State, node: NodeId, world: &World) -> bool {
    let noted = |other: NodeId| state.node(other).host.up && state.node(other).host.notes.is_noted();
    let needed = state.ghost.silent && state.is_trio() && world.rules.a_third_is_heard_after_failsafe;
    !needed || state.others(node).any(noted)
}

/// `node` may be promoted: it still is where it was recruited, and was not primary in this epoch before.
pub(crate) fn may_promote(state: &State, node: NodeId, world: &World) -> bool {
    let unused = state.truth.leased != state.intent.stamp.epoch;
    !world.bounds.floors || !world.rules.promotion_is_judged || (unused && is_whole(state, node, world))
}
