//! What moves the truth, writes it: a recruit, a set that is settled, a declaration, a promotion, a start in place.

use crate::{
    bounds::World,
    floor::Floor,
    floors::{is_connected, write_sample},
    floors_judged::{floor_of, members},
    state::{Change, NodeId, Proof, Proposal, State},
};

/// `node` was cut for a failover, and its position is known: complete records only.
pub(crate) fn recruited(state: &mut State, node: NodeId, world: &World) {
    if !world.bounds.floors || state.intent.primary.is_some() {
        return;
    }
    let rules = &world.rules;
    let of_the_history = state.has_the_switch(node);
    if of_the_history && members(state).contains(node) {
        let log = state.node(node).log;
        for commit in state.acknowledged.iter().filter(|commit| log.holds(*commit)) {
            state.ghost.due.insert(commit);
        }
    }
    if rules.recruited_position_is_a_floor && (of_the_history || !rules.recruited_floor_is_of_the_history) {
        let floor = state.floor_at(node, 2 * state.node(node).log.len());
        floor.raise(&mut state.truth.floors[node as usize], rules.floors_only_grow);
        if rules.emptied_sets_raise_reached
            && state.truth.reached.is_none_or(|known| floor.position > known.position)
        {
            state.truth.reached = Some(floor);
        }
    }
}

/// What a change of the intent writes beside it. `before` is the state that it was written on.
pub(crate) fn written(state: &mut State, before: &State, proposal: &Proposal, world: &World) {
    if !world.bounds.floors {
        return;
    }
    let rules = &world.rules;
    match (proposal.change, proposal.next.primary) {
        (Change::SettleSet, Some(primary)) if rules.settling_writes_the_floor => {
            let Proof::Proven(position) = before.node(primary).names.proof else { return };
            for member in proposal.next.sync.iter() {
                if is_connected(before, member, primary) && before.node(member).log.len() >= position {
                    write_sample(state, member, primary, rules.floors_only_grow, world);
                }
            }
        }
        (Change::DeclareRecruited | Change::DeclareFenced | Change::DeclareExpired, Some(heir))
            if rules.declaring_sets_reached =>
        {
            let complete = 2 * state.node(heir).log.len();
            state.truth.reached = Some(state.floor_at(heir, complete));
        }
        (Change::Reinstate | Change::PassOver, Some(old)) if rules.emptied_sets_raise_reached => {
            for member in members(before).iter().filter(|member| *member != old) {
                let Some(floor) = floor_of(before, member) else { continue };
                if state.truth.reached.is_none_or(|known| floor.position > known.position) {
                    state.truth.reached = Some(floor);
                }
            }
        }
        _ => {}
    }
}

/// `node` was promoted: its timeline begins, and what was known of older ones is cut to that place.
pub(crate) fn promoted(state: &mut State, node: NodeId, world: &World) {
    if !world.bounds.floors {
        return;
    }
    let epoch = state.node(node).primary_since;
    state.node_mut(node).host.torn = false;
    state.node_mut(node).host.cut_off = false;
    state.node_mut(node).host.samples = [0; 3];
    let at = state.node(node).log.len();
    let floor = state.floor_at(node, 2 * at);
    if world.rules.floors_are_cut_at_the_switch {
        cut_all(state, floor);
    }
    (state.truth.reached, state.truth.switch) = (Some(floor), (epoch, at));
    (state.truth.leased, state.truth.leased_by) = (epoch, node);
}

/// `node` is started in place as the primary it was: what it had not, nobody has.
pub(crate) fn started_in_place(state: &mut State, node: NodeId, world: &World) {
    if !world.bounds.floors {
        return;
    }
    state.node_mut(node).host.torn = false;
    let floor = state.floor_at(node, 2 * state.node(node).log.len());
    if world.rules.starting_in_place_cuts {
        state.truth.reached = Some(floor);
        cut_all(state, floor);
    }
}

fn cut_all(state: &mut State, floor: Floor) {
    for known in &mut state.truth.floors {
        floor.cut(known);
    }
    for node in state.ids() {
        let notes = &mut state.node_mut(node).host.notes;
        notes.floors.iter_mut().for_each(|known| floor.cut(known));
        if let Some((_, reached)) = &mut notes.reached
            && reached.position > floor.position
        {
            *reached = floor;
        }
    }
}
