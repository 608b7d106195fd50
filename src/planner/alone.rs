//! What the member beside the primary does itself, whoever leads: say that it attends, and, where no leader is heard,
//! empty the sync set, so that writes that wait for a lost standby do not wait for an election too.
//!
//! Emptying is safe from anywhere, because it promises less and goes by the same compare-and-swap: if a leader has ended
//! the epoch first, the write is refused, and if this one is first, the leader's is.

use super::{case::Case, health, health::Health, sync_set};
use crate::model::{Command, Durability, GuardState, Intent, NodeId, Step};

/// Says that this member attends the primary beside it, once its guard counts. Nobody else may say so.
pub(super) fn attend(case: &mut Case<'_>, intent: &Intent) {
    let beside = case.view.node.is_some() && case.view.node == intent.primary;
    if intent.attended || !beside {
        return;
    }
    let Some(agent) = case.view.node.as_ref().and_then(|me| case.heard(me)) else { return };
    let taken = agent.primary_since.is_some_and(|since| since.same_epoch(intent.stamp()));
    let counts = agent.guard.is_some_and(|guard| guard.state == GuardState::Armed);
    if taken && counts && agent.serves_until.is_some_and(|until| until > case.now) {
        case.step(Step::Amend(Intent { attended: true, ..intent.clone() }.raised()));
    }
}

pub(super) fn plan(case: &mut Case<'_>, intent: &Intent) {
    let Some(me) = case.view.node.clone().filter(|me| intent.primary.as_ref() == Some(me)) else { return };
    if intent.durability != Durability::Sync || intent.handover.is_some() || intent.paused {
        return;
    }
    if leader_is_heard(case, &me) {
        return;
    }
    let Health::Good(primary) = health::of_primary(case, intent, &me) else { return };
    let primary = primary.clone();
    let set: Vec<_> = intent.sync.iter().chain(&intent.sync_next).cloned().collect();
    let empty = set.is_empty();
    if !empty && set.iter().all(|member| sync_set::given_up(case, intent, &primary, member)) {
        return case.step(Step::Amend(intent.unpromised()));
    }
    if empty && primary.names.as_ref().is_none_or(|names| !names.is_empty()) {
        case.order(intent, &me, Command::SetNames(Vec::new()));
    }
}

fn leader_is_heard(case: &Case<'_>, me: &NodeId) -> bool {
    let Some(leader) = &case.view.leader else { return false };
    // Its own name there is of an earlier life, or of a lease about to run out.
    let view = case.view.nodes.get(leader).filter(|_| leader != me);
    view.is_some_and(|view| case.now.since(view.heard) <= case.policy.detect)
}
