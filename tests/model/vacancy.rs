//! What can be decided while nobody is primary: who follows the old one, or that it is declared again.

use crate::{
    bounds::World,
    changes::{declared, reinstated, vacated},
    controller::may_be_promoted,
    floors_judged,
    lease::has_run_out,
    state::{Change, Durability, Intent, NodeId, Role, Set, State, Way},
};

/// The changes of the intent that are possible now.
pub(crate) fn change_intent(state: &State, world: &World, propose: &mut impl FnMut(Change, Intent)) {
    let (intent, rules) = (&state.intent, &world.rules);
    let Some(previous) = intent.previous else { return };
    propose(Change::Vacate, vacated(intent));
    for heir in state.others(previous).filter(|heir| is_heir(state, *heir, world)) {
        fill(state, previous, heir, world, propose);
    }
    let old = state.node(previous);
    let whole = |node: NodeId| {
        state.node(node).up
            || !rules.reinstated_primary_is_whole
            || floors_judged::is_whole(state, node, world)
    };
    if whole(previous) {
        propose(Change::Reinstate, reinstated(intent, previous, world));
    }
    if old.role == Role::Standby {
        // A candidate that never promoted: it still has everything, and is the previous primary by name.
        let asked = old.promise.epoch >= intent.stamp.epoch || !rules.candidate_is_asked_before_passed_over;
        for before in state.others(previous) {
            let was_leased = world.bounds.floors && state.truth.leased_by == previous;
            let never = !was_leased || !rules.candidate_that_was_leased_is_not_passed_over;
            if asked && never && state.node(before).role == Role::Primary && whole(before) {
                propose(Change::PassOver, reinstated(intent, before, world));
            }
        }
    }
}

fn fill(
    state: &State,
    previous: NodeId,
    heir: NodeId,
    world: &World,
    propose: &mut impl FnMut(Change, Intent),
) {
    let (intent, rules) = (&state.intent, &world.rules);
    let both = rules.both_sets_are_satisfied;
    let promises = !intent.sync.is_empty() && (!intent.sync_next.is_empty() || !both);
    let members = if both { intent.sync.union(intent.sync_next) } else { intent.sync };
    if promises && has_the_pen(state, members, heir, world) {
        return propose(Change::DeclareRecruited, declared(intent, heir, Way::Recruited, world));
    }
    let at_its_floor = world.bounds.floors && floors_judged::is_at_its_floor(state, heir, world);
    if !rules.cut_off_needs_a_set && members.is_empty() && at_its_floor && !state.node(previous).up {
        return propose(Change::DeclareRecruited, declared(intent, heir, Way::Recruited, world));
    }
    let may_lose = !(promises && rules.set_decides_the_way);
    let lossy = (intent.durability == Durability::Async && may_lose) || !rules.heir_holds_everything;
    let whole = !rules.fenced_primary_is_whole || floors_judged::is_whole(state, previous, world);
    let fenced = state.node(previous).is_fenced(intent.stamp) && whole || !rules.empty_set_needs_a_fence;
    if fenced && (lossy || holds_everything(state, heir, previous, world)) {
        return propose(Change::DeclareFenced, declared(intent, heir, Way::Fenced, world));
    }
    let gone = state.node(previous).is_fenced(intent.stamp) && !whole;
    if gone && floors_judged::has_reached_all(state, heir, world) {
        return propose(Change::DeclareFenced, declared(intent, heir, Way::Fenced, world));
    }
    let by_mode = intent.durability == Durability::Async || !rules.lease_way_is_for_async;
    if world.bounds.leases && by_mode && may_lose && has_run_out(state, previous, world) {
        propose(Change::DeclareExpired, declared(intent, heir, Way::Expired, world));
    }
}

/// ANY 1: no commit is acknowledged without one of the members, so that all of them must be recruited; and any of them
/// may be the only one to hold one, so that the most advanced follows.
fn has_the_pen(state: &State, members: Set, heir: NodeId, world: &World) -> bool {
    let rules = &world.rules;
    let recruited = |node: NodeId| {
        let counts = floors_judged::may_count(state, node, heir, world);
        let left_out = floors_judged::may_be_left_out(state, node, heir, world);
        (is_recruited(state, node, world) || node == heir) && counts || left_out
    };
    let enough = if rules.all_members_are_recruited {
        members.iter().all(recruited)
    } else {
        members.iter().any(recruited)
    };
    let ahead = |node: NodeId| {
        node != heir
            && is_recruited(state, node, world)
            && shares_history(state, node, world)
            && state.node(node).log.len() > state.node(heir).log.len()
    };
    let (now, next) = (state.intent.sync, state.intent.sync_next);
    let compared = if rules.positions_of_both_sets_count { members } else { now.intersection(next) };
    let judged = floors_judged::a_third_is_heard(state, heir, world);
    enough
        && judged
        && compared.contains(heir)
        && !(rules.most_advanced_is_declared && compared.iter().any(ahead))
}

fn is_recruited(state: &State, node: NodeId, world: &World) -> bool {
    let recruit = state.node(node);
    if recruit.host.cut_off && !world.rules.cut_off_is_not_recruited {
        return true;
    }
    recruit.role == Role::Standby && recruit.recruited && recruit.promise >= state.intent.stamp
}

/// `node` can be promoted: it is a standby, recruited under this intent, so that its position stands still and no
/// older order can take it away.
pub(crate) fn is_heir(state: &State, node: NodeId, world: &World) -> bool {
    let heir = state.node(node);
    let by_promise = state.intent.primary.is_none() && state.intent.sync.contains(node);
    heir.up
        && heir.role == Role::Standby
        && may_be_promoted(state, node, world)
        && shares_history(state, node, world)
        && (is_recruited(state, node, world) || !(world.rules.heir_is_recruited || by_promise))
}

/// The timeline history of `node` has the last switch in it. In a pair it always has.
fn shares_history(state: &State, node: NodeId, world: &World) -> bool {
    if world.bounds.floors {
        return !world.rules.heir_shares_the_history || state.has_the_switch(node);
    }
    let newest = state.ids().map(|other| state.node(other).history).max();
    !world.rules.heir_shares_the_history || Some(state.node(node).history) == newest
}

/// By position; what its history lacks, its position does not tell.
pub(crate) fn holds_everything(state: &State, heir: NodeId, old: NodeId, world: &World) -> bool {
    let (heir, old) = (state.node(heir).log, state.node(old).log);
    if world.rules.heir_shares_the_history { old.begins(heir) } else { old.len() <= heir.len() }
}
