//! The controllers as an actor: any of them may decide anything that the stored intent and the facts allow.
//!
//! There is no leader in the model. Whoever writes on an intent that is gone is stopped by the store, and whoever
//! orders on one by the agents: a leader that was replaced, froze or is late does nothing else. Facts are read as they
//! are: each one that a decision rests on stays true until the intent changes, so an old reading of it says the same.
//! Every order and every change is either prompt, or late by any time.

use crate::{
    actions::{Action, Step},
    agent::obey,
    bounds::World,
    changes::{declared, raised, reinstated, vacated},
    floors_written, lease, orders, promotable, sets,
    state::{Change, Durability, Intent, NodeId, Proof, Proposal, Role, Set, Stamp, State, Way},
    store,
    vacancy::{self, holds_everything, is_heir},
};

/// Everything that some controller can do.
pub(crate) fn steps(state: &State, world: &World, steps: &mut Vec<Step>) {
    if !store::is_disbelieved(state, world) {
        change_intent(state, world, steps);
        orders::steps(state, world, steps);
    }
    let mut arrived = *state;
    if let Some(proposal) = arrived.late_write.take() {
        write_intent(&mut arrived, proposal, world);
        steps.push(Step { action: Action::WritesLate(proposal), after: arrived });
    }
    for order in state.late_orders() {
        if let Some(after) = obey(state, order, world) {
            steps.push(Step { action: Action::ObeysLate(order), after });
        }
        let mut after = *state;
        after.keep_late_orders(|_, other| *other != order);
        steps.push(Step { action: Action::Loses(order), after });
    }
}

fn change_intent(state: &State, world: &World, steps: &mut Vec<Step>) {
    let mut proposals = Vec::new();
    let mut propose = |change, next| proposals.push(Proposal { change, basis: state.intent.stamp, next });
    match state.intent.primary {
        Some(primary) => with_primary(state, primary, world, &mut propose),
        None => vacancy::change_intent(state, world, &mut propose),
    }
    for proposal in proposals {
        let Stamp { epoch, version, .. } = proposal.next.stamp;
        if epoch > world.bounds.epochs || version > world.bounds.versions {
            continue;
        }
        let mut base = *state;
        if let (Change::Return, true, Some(primary)) =
            (proposal.change, world.rules.leave_is_written_anew, state.intent.primary)
        {
            base.node_mut(primary).left = false;
        }
        let mut after = base;
        write_intent(&mut after, proposal, world);
        steps.push(Step { action: Action::Writes(proposal), after });
        if world.bounds.late_writes && state.late_write.is_none() {
            let mut after = base;
            after.late_write = Some(proposal);
            steps.push(Step { action: Action::DecidesLate(proposal), after });
        }
    }
}

/// The store takes the change. No proof of another version counts any more.
pub(crate) fn write_intent(state: &mut State, proposal: Proposal, world: &World) {
    let Proposal { change, next, .. } = proposal;
    let before = *state;
    let promised = sets::promises(&state.intent);
    state.intent = next;
    for node in state.ids() {
        state.node_mut(node).names.proof = Proof::NotSet;
    }
    match (change, next.primary) {
        (Change::DeclareFenced | Change::DeclareExpired, Some(heir))
            if next.durability == Durability::Async && !promised =>
        {
            let lost = state.node(heir).log.lacks(state.acknowledged);
            state.forgiven = state.forgiven.union(lost);
        }
        (Change::BeginHandover, _) => state.spent.handovers += 1,
        (Change::SetDurability, _) => state.spent.durability_changes += 1,
        (Change::Leave, Some(primary)) => {
            state.spent.leaves += 1;
            state.node_mut(primary).left = true;
        }
        _ => {}
    }
    floors_written::written(state, &before, &proposal, world);
}

fn with_primary(state: &State, primary: NodeId, world: &World, propose: &mut impl FnMut(Change, Intent)) {
    let (intent, rules, bounds) = (&state.intent, &world.rules, &world.bounds);
    if bounds.leases || bounds.self_shrinks {
        lease::change_intent(state, primary, world, propose);
    }
    if intent.attended || !rules.unattended_is_not_promoted {
        propose(Change::Vacate, vacated(intent));
    }
    for old in state.others(primary).filter(|old| state.node(*old).role == Role::Primary) {
        if !rules.candidate_is_point_of_no_return {
            propose(Change::Reinstate, reinstated(intent, old, world));
        }
    }
    if let Some(heir) = intent.handover {
        propose(Change::GiveUpHandover, Intent { handover: None, ..raised(intent) });
        let stopped = state.node(primary).is_fenced(intent.stamp);
        if stopped && is_heir(state, heir, world) && holds_everything(state, heir, primary, world) {
            propose(Change::HandOver, declared(&vacated(intent), heir, Way::HandedOver, world));
        }
        return;
    }
    if bounds.set_changes {
        sets::change_intent(state, primary, world, propose);
    }
    if bounds.leases && bounds.promotable_changes {
        promotable::change_intent(state, primary, world, propose);
    }
    if state.spent.handovers < bounds.handovers && intent.attended {
        for heir in state.others(primary).filter(|heir| state.node(*heir).role == Role::Standby) {
            propose(Change::BeginHandover, Intent { handover: Some(heir), ..raised(intent) });
        }
    }
    if state.spent.durability_changes < bounds.durability_changes {
        let durability = match intent.durability {
            Durability::Sync => Durability::Async,
            Durability::Async => Durability::Sync,
        };
        propose(Change::SetDurability, Intent { durability, ..raised(intent) });
    }
}

/// Nobody, where the world has no leases; then everybody may be promoted.
pub(crate) fn may_be_promoted(state: &State, node: NodeId, world: &World) -> bool {
    let promotable: Set = state.intent.promotable;
    !world.bounds.leases || promotable.contains(node) || !world.rules.heir_is_promotable
}
