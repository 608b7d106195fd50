//! Lease, vouches and guard as actors: the right to serve.
//!
//! There is no clock. That something has run out is an event, and what clocks promise is which of two comes first: a
//! lease runs out at its holder before anybody concludes so; what was vouched runs out at who asked before it does at
//! who vouched. Both are counted by the one from before it asked, and by the other from when it heard or answered.

use crate::{
    actions::{Action, Step},
    agent::is_heard,
    bounds::World,
    floors,
    node::Renewal,
    postgres::stop,
    state::{Durability, Intent, Node, NodeId, Role, Set, State},
    store,
};

/// It takes commits of clients. A guard freezes it the moment its right ends, and lets it go on when that returns.
pub(crate) fn serves(me: &Node, world: &World) -> bool {
    me.is_open() && (!world.bounds.leases || may_serve(me, world))
}

fn may_serve(me: &Node, world: &World) -> bool {
    let rules = &world.rules;
    let enforced = me.guarded && (rules.guard_in_every_mode || me.heard_async);
    let some_vouch = !rules.all_promotable_vouch && !me.vouchers.is_empty();
    !enforced || me.has_right_to_serve() || some_vouch
}

/// Nobody serves on the old primary's lease any more, by the clock of whoever waits for it. True for ever once nobody
/// can renew it.
pub(crate) fn has_run_out(state: &State, old: NodeId, world: &World) -> bool {
    let me = state.node(old);
    let waited = !me.lease && me.renewal != Renewal::Young;
    waited || !(state.lease_key || world.rules.vanished_key_proves_nothing)
}

/// Everything that time, the agent and the guard of `node` can do to its right to serve.
pub(crate) fn steps(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    if !world.bounds.leases {
        return;
    }
    if state.node(node).role == Role::Primary {
        renew(state, node, world, steps);
        ask(state, node, world, steps);
        guard(state, node, world, steps);
    }
    run_out(state, node, world, steps);
}

fn renew(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    let (me, rules) = (state.node(node), &world.rules);
    let disbelieved = world.bounds.floors && store::is_disbelieved(state, world);
    let known = !(state.outdated && rules.store_has_an_identity);
    let granted = known && (reigns(state, node) || !rules.renewal_is_guarded);
    if me.up && knows_no_higher(me) && granted && !disbelieved {
        let mut stored = *state;
        stored.lease_key = true;
        if reigns(state, node) {
            floors::renewed(&mut stored, node, world);
        }
        let unconfirmed = !me.host.list_confirmed;
        if !me.lease || !state.lease_key || unconfirmed || !rules.guard_in_every_mode {
            let mut after = stored;
            after.node_mut(node).lease = true;
            confirm_list(&mut after, node);
            after.node_mut(node).heard_async =
                !rules.guard_in_every_mode && state.intent.durability == Durability::Async;
            steps.push(Step { action: Action::Renews { node }, after });
        }
        if me.renewal == Renewal::None {
            let mut after = stored;
            after.node_mut(node).renewal = Renewal::Young;
            steps.push(Step { action: Action::RenewsUnheard { node }, after });
        }
    }
    if me.renewal != Renewal::None {
        let mut after = *state;
        (after.node_mut(node).renewal, after.node_mut(node).lease) = (Renewal::None, true);
        steps.push(Step { action: Action::HearsRenewal { node }, after });
    }
    if !rules.vanished_key_proves_nothing && state.lease_key {
        let mut after = *state;
        after.lease_key = false;
        steps.push(Step { action: Action::KeyVanishes, after });
    }
}

/// A renewal that is heard in time tells a primary whose host started who may be promoted.
fn confirm_list(state: &mut State, node: NodeId) {
    let listed = state.intent.promotable.union(state.intent.promotable_next);
    let me = state.node_mut(node);
    if !me.host.list_confirmed {
        me.host.list_confirmed = true;
        me.noted = me.noted.union(listed);
    }
}

/// Asked by an agent whose lease has run out, of whoever it noted.
fn ask(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    let (me, rules) = (state.node(node), &world.rules);
    if me.lease || !knows_no_higher(me) || !me.host.up {
        return;
    }
    for by in me.noted.iter().filter(|by| *by != node && !me.vouchers.contains(*by)) {
        let (mine, theirs) = (me.promise, state.node(by).promise);
        let lower = (theirs.life, theirs.epoch) <= (mine.life, me.primary_since);
        let heard = is_heard(state.node(by));
        if heard && (lower || !rules.vouch_needs_the_latest_epoch) {
            let mut after = *state;
            after.node_mut(by).vouched = true;
            after.node_mut(node).vouchers = me.vouchers.with(by);
            steps.push(Step { action: Action::Vouches { by, to: node }, after });
        }
    }
}

/// Time passes.
fn run_out(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    let me = state.node(node);
    if me.lease {
        let mut after = *state;
        after.node_mut(node).lease = false;
        steps.push(Step { action: Action::LeaseRunsOut { node }, after });
    } else if me.renewal == Renewal::Young {
        let mut after = *state;
        let from_request = world.rules.lease_counts_from_request;
        after.node_mut(node).renewal = if from_request { Renewal::None } else { Renewal::Old };
        steps.push(Step { action: Action::RenewalGrowsOld { node }, after });
    }
    if !me.vouchers.is_empty() {
        let mut after = *state;
        after.node_mut(node).vouchers = Set::EMPTY;
        steps.push(Step { action: Action::AnswersRunOut { node }, after });
    }
    if me.vouched && state.ids().all(|other| !state.node(other).vouchers.contains(node)) {
        let mut after = *state;
        after.node_mut(node).vouched = false;
        steps.push(Step { action: Action::VouchRunsOut { node }, after });
    }
}

fn guard(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    let (me, rules) = (state.node(node), &world.rules);
    if me.up && !may_serve(me, world) {
        let mut after = *state;
        stop(&mut after, node);
        steps.push(Step { action: Action::GuardKills { node }, after });
    }
    let left = me.left && reigns(state, node) && !state.intent.attended;
    let disarms = world.bounds.leaves > 0 && (left || !rules.disarmed_once_unattended);
    if me.guarded && disarms {
        let mut after = *state;
        after.node_mut(node).guarded = false;
        steps.push(Step { action: Action::Disarms { node }, after });
    }
    if !me.guarded && me.host.up {
        let mut after = *state;
        (after.node_mut(node).guarded, after.node_mut(node).left) = (true, false);
        steps.push(Step { action: Action::Arms { node }, after });
    }
}

/// The changes of the intent that the primary's own agent may make, beside its lease.
pub(crate) fn change_intent(
    state: &State,
    primary: NodeId,
    world: &World,
    propose: &mut impl FnMut(crate::state::Change, Intent),
) {
    use crate::{changes::raised, state::Change};
    let (me, intent) = (state.node(primary), &state.intent);
    if !reigns(state, primary) || !knows_no_higher(me) {
        return;
    }
    let has_set = !intent.sync.is_empty() || !intent.sync_next.is_empty();
    if world.bounds.self_shrinks && has_set && world.rules.shrink_is_stored_first {
        let next = Intent { sync: Set::EMPTY, sync_next: Set::EMPTY, ..raised(intent) };
        propose(Change::ShrinkSet, next);
    }
    let may_leave = me.guarded && state.spent.leaves < world.bounds.leaves;
    if may_leave && !me.left && intent.handover.is_none() {
        propose(Change::Leave, Intent { attended: false, ..raised(intent) });
    }
    let back = me.guarded && me.lease || !world.rules.attended_once_armed;
    if !intent.attended && back {
        propose(Change::Return, Intent { attended: true, ..raised(intent) });
    }
}

/// It is the declared primary of the stored reign.
fn reigns(state: &State, node: NodeId) -> bool {
    let (me, intent) = (state.node(node), &state.intent);
    let same = (intent.stamp.life, intent.stamp.epoch) == (me.promise.life, me.primary_since);
    intent.primary == Some(node) && same
}

fn knows_no_higher(me: &Node) -> bool {
    me.promise.epoch <= me.primary_since
}
