//! The controllers as an actor: any of them may decide anything that the stored intent and the facts allow.
//!
//! There is no leader in the model. Whoever writes on an intent that is gone is stopped by the store, and whoever
//! orders on one by the agents: a leader that was replaced, froze or is late does nothing else. Facts are read as they
//! are: each one that a decision rests on stays true until the intent changes, so an old reading of it says the same.
//! Every order and every change is either prompt, or late by any time.

use crate::{
    actions::{Action, Step},
    agent::obey,
    orders,
    rules::World,
    state::{Change, Commits, Durability, Intent, NodeId, Proof, Proposal, Role, Set, Stamp, State, Way},
};

/// Everything that some controller can do.
pub(crate) fn steps(state: &State, world: &World, steps: &mut Vec<Step>) {
    change_intent(state, world, steps);
    orders::steps(state, world, steps);
    let mut arrived = *state;
    if let Some(proposal) = arrived.late_write.take() {
        write_intent(&mut arrived, proposal);
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
    match state.intent.primary {
        Some(primary) => with_primary(state, primary, world, &mut proposals),
        None => vacant(state, world, &mut proposals),
    }
    for proposal in proposals {
        let Stamp { epoch, version } = proposal.next.stamp;
        if epoch > world.bounds.epochs || version > world.bounds.versions {
            continue;
        }
        let mut after = *state;
        write_intent(&mut after, proposal);
        steps.push(Step { action: Action::Writes(proposal), after });
        if world.bounds.late_writes && state.late_write.is_none() {
            let mut after = *state;
            after.late_write = Some(proposal);
            steps.push(Step { action: Action::DecidesLate(proposal), after });
        }
    }
}

/// The store takes the change. No proof of another version counts any more.
fn write_intent(state: &mut State, Proposal { change, next, .. }: Proposal) {
    state.intent = next;
    for node in NodeId::BOTH {
        state.node_mut(node).names.proof = Proof::NotSet;
    }
    match (change, next.primary, next.durability) {
        (Change::DeclareFenced, Some(heir), Durability::Async) => {
            let lost: Commits = state.node(heir).log.lacks(state.acknowledged);
            state.forgiven = state.forgiven.union(lost);
        }
        (Change::BeginHandover, ..) => state.spent.handovers += 1,
        (Change::SetDurability, ..) => state.spent.durability_changes += 1,
        _ => {}
    }
}

// ---- what can be decided while somebody is primary --------------------------------------------

fn with_primary(state: &State, primary: NodeId, world: &World, proposals: &mut Vec<Proposal>) {
    let (intent, rules, standby) = (&state.intent, &world.rules, primary.other());
    let mut propose = |change, next| proposals.push(Proposal { change, basis: intent.stamp, next });
    propose(Change::Vacate, vacated(intent));

    let old = state.node(standby);
    if !rules.candidate_is_point_of_no_return && old.role == Role::Primary {
        propose(Change::Reinstate, reinstated(intent, standby, world));
    }
    if intent.handover {
        propose(Change::GiveUpHandover, Intent { handover: false, ..raised(intent) });
        let stopped = state.node(primary).is_fenced(intent.stamp);
        if stopped && is_heir(state, standby, world) && holds_everything(state, standby, primary) {
            propose(Change::HandOver, declared(&vacated(intent), standby, Way::HandedOver, world));
        }
        return;
    }
    if world.bounds.set_changes {
        change_set(state, primary, world, &mut propose);
    }
    if state.spent.handovers < world.bounds.handovers && old.role == Role::Standby {
        propose(Change::BeginHandover, Intent { handover: true, ..raised(intent) });
    }
    if state.spent.durability_changes < world.bounds.durability_changes {
        let durability = match intent.durability {
            Durability::Sync => Durability::Async,
            Durability::Async => Durability::Sync,
        };
        propose(Change::SetDurability, Intent { durability, ..raised(intent) });
    }
}

fn change_set(state: &State, primary: NodeId, world: &World, propose: &mut impl FnMut(Change, Intent)) {
    let (intent, rules, standby) = (&state.intent, &world.rules, primary.other());
    let announce = |set: Set| Intent { sync_next: set, way: Way::Settled, ..raised(intent) };
    let settle = |set: Set| Intent { sync: set, sync_next: set, way: Way::Settled, ..raised(intent) };
    let may_add = intent.durability == Durability::Sync && state.node(standby).role == Role::Standby;
    match (intent.sync, intent.sync_next) {
        (None, None) if may_add && rules.set_is_announced_first => {
            propose(Change::AnnounceSet, announce(Some(standby)));
        }
        (None, None) if may_add && is_proven(state, primary, Some(standby), world) => {
            propose(Change::SettleSet, settle(Some(standby)));
        }
        (None, None) => {}
        (None, Some(joining)) => {
            if is_proven(state, primary, Some(joining), world) {
                propose(Change::SettleSet, settle(Some(joining)));
            }
            propose(Change::AnnounceSet, announce(None));
        }
        (Some(_), Some(_)) if rules.set_is_announced_first => propose(Change::AnnounceSet, announce(None)),
        (Some(_), Some(_)) => propose(Change::SettleSet, settle(None)),
        (Some(leaving), None) => {
            if is_proven(state, primary, None, world) {
                propose(Change::SettleSet, settle(None));
            }
            if !rules.removal_is_carried_through {
                propose(Change::AnnounceSet, announce(Some(leaving)));
            }
        }
    }
}

/// The proof: the names of this very version are in force, and whoever joins streams and has flushed past the position
/// taken then.
fn is_proven(state: &State, primary: NodeId, set: Set, world: &World) -> bool {
    let (server, rules) = (state.node(primary), &world.rules);
    let Proof::Proven(position) = server.names.proof else { return false };
    server.names.configured == set
        && set.is_none_or(|joining| {
            let member = state.node(joining);
            let streams = member.up && member.role == Role::Standby && !member.recruited;
            streams && (member.log.len() >= position || !rules.member_is_caught_up)
        })
}

// ---- what can be decided while nobody is primary ----------------------------------------------

fn vacant(state: &State, world: &World, proposals: &mut Vec<Proposal>) {
    let (intent, rules) = (&state.intent, &world.rules);
    let Some(previous) = intent.previous else { return };
    let (other, old) = (previous.other(), state.node(previous));
    let mut propose = |change, next| proposals.push(Proposal { change, basis: intent.stamp, next });
    propose(Change::Vacate, vacated(intent));

    let next_promises = intent.sync_next == Some(other) || !rules.both_sets_are_satisfied;
    let promised = intent.sync == Some(other) && next_promises;
    if is_heir(state, other, world) {
        let fenced = old.is_fenced(intent.stamp) || !rules.empty_set_needs_a_fence;
        let may_lose = intent.durability == Durability::Async || !rules.heir_holds_everything;
        if promised {
            propose(Change::DeclareRecruited, declared(intent, other, Way::Recruited, world));
        } else if fenced && (may_lose || holds_everything(state, other, previous)) {
            propose(Change::DeclareFenced, declared(intent, other, Way::Fenced, world));
        }
    }
    match old.role {
        Role::Primary => propose(Change::Reinstate, reinstated(intent, previous, world)),
        Role::Standby => {
            // A candidate that never promoted: it still has everything, and is the previous primary by name.
            propose(Change::Reinstate, reinstated(intent, previous, world));
            let asked =
                old.promise.epoch >= intent.stamp.epoch || !rules.candidate_is_asked_before_passed_over;
            if asked && state.node(other).role == Role::Primary {
                propose(Change::PassOver, reinstated(intent, other, world));
            }
        }
    }
}

/// `node` can be promoted: it is a standby, recruited under this intent, so that its position stands still and no
/// older order can take it away.
fn is_heir(state: &State, node: NodeId, world: &World) -> bool {
    let heir = state.node(node);
    let recruited = heir.recruited && heir.promise >= state.intent.stamp;
    let by_promise = state.intent.primary.is_none() && state.intent.sync == Some(node);
    heir.up && heir.role == Role::Standby && (recruited || !(world.rules.heir_is_recruited || by_promise))
}

fn holds_everything(state: &State, heir: NodeId, old: NodeId) -> bool {
    state.node(old).log.begins(state.node(heir).log)
}

// ---- the intents, as in `src/model/intent.rs` -------------------------------------------------

fn raised(intent: &Intent) -> Intent {
    let stamp = Stamp { version: intent.stamp.version + 1, ..intent.stamp };
    Intent { stamp, ..*intent }
}

fn next_epoch(intent: &Intent) -> Intent {
    let Intent { stamp, .. } = raised(intent);
    Intent { stamp: Stamp { epoch: stamp.epoch + 1, ..stamp }, handover: false, ..*intent }
}

fn vacated(intent: &Intent) -> Intent {
    let previous = intent.primary.or(intent.previous);
    Intent { primary: None, previous, way: Way::Settled, ..next_epoch(intent) }
}

fn declared(vacant: &Intent, primary: NodeId, way: Way, world: &World) -> Intent {
    emptied(Intent { primary: Some(primary), way, ..raised(vacant) }, world)
}

fn reinstated(intent: &Intent, primary: NodeId, world: &World) -> Intent {
    emptied(Intent { primary: Some(primary), way: Way::Reinstated, ..next_epoch(intent) }, world)
}

fn emptied(intent: Intent, world: &World) -> Intent {
    if world.rules.declare_empties_the_set {
        Intent { sync: None, sync_next: None, ..intent }
    } else {
        intent
    }
}
