//! The physical slots on the primary, which keep the WAL that standbys have yet to get; bounded, so that no absent one fills the disk.

use std::collections::BTreeSet;

use super::case::Case;
use crate::model::{Command, Finding, Intent, NodeId, Primary};

/// What a slot may keep on any disk, however little is free on it: giving up less would not make room, for segments of
/// this size are kept anyway. Smaller: a clone for nothing. Larger: a small disk is full before.
const SLOT_AT_LEAST: u64 = 64 << 20;

/// The slots that a standby makes before it is promoted: for everybody who may follow it, as far as is known by then. What is
/// surplus goes when it is primary.
pub(super) fn first(case: &Case<'_>, intent: &Intent, candidate: &NodeId) -> Vec<String> {
    let mut nodes: BTreeSet<&NodeId> = case.others(Some(candidate)).into_iter().collect();
    // Its host may be lost: whoever leads since then has not heard of it.
    nodes.extend(intent.previous.iter().filter(|previous| *previous != candidate));
    let kept = |node: &&NodeId| case.stood_before(&Finding::SlotGivenUp { node: (*node).clone() }).is_none();
    nodes.into_iter().filter(kept).map(NodeId::slot).collect()
}

/// Slots keep the WAL that an absent standby will need, up to a limit. The one of a node that nobody heard of is not made
/// again, for it would only keep WAL that nothing can be done with.
pub(super) fn keep(
    case: &mut Case<'_>,
    intent: &Intent,
    primary_node: &NodeId,
    primary: &Primary,
    nodes: &[NodeId],
) {
    // A member of which nothing was heard yet may be away for a while: what it lacks is kept for it, as it was.
    let away = case.view.members.iter().filter(|member| *member != primary_node && !nodes.contains(member));
    let away = away.filter(|member| primary.slot(member).is_some());
    let all: Vec<&NodeId> = nodes.iter().chain(away).collect();
    let kept = all.into_iter().filter(|node| !given_up(case, intent, primary_node, primary, node));
    let wanted: Vec<String> = kept.map(NodeId::slot).collect();
    let ours = primary.slots.iter().filter(|slot| slot.name.starts_with("locum_"));
    let surplus = ours.filter(|slot| !wanted.contains(&slot.name) && !slot.active).count();
    let missing = wanted.iter().any(|name| !primary.slots.iter().any(|slot| slot.name == *name));
    if missing || surplus > 0 {
        case.order(intent, primary_node, Command::KeepSlots(wanted));
    }
}

/// True if no WAL is kept for this node: what its slot kept would have filled the primary's disk. It is cloned when it
/// returns, and a member of the sync set is never given up so.
fn given_up(
    case: &mut Case<'_>,
    intent: &Intent,
    primary_node: &NodeId,
    primary: &Primary,
    node: &NodeId,
) -> bool {
    let finding = Finding::SlotGivenUp { node: node.clone() };
    let heard = case.heard(node);
    let gives_up = match primary.slot(node) {
        Some(slot) => {
            let works = heard.is_some_and(|agent| agent.job.is_some());
            let free = case.view.agent(primary_node).and_then(|agent| agent.disk_free);
            let limit = case.policy.max_slot_wal.min(free.unwrap_or(u64::MAX).max(SLOT_AT_LEAST));
            let over = case.policy.max_slot_wal > 0 && slot.retained > limit;
            over && !slot.active && !works && !intent.in_sync(node)
        }
        None => heard.is_none() && case.stood_before(&finding).is_some(),
    };
    if gives_up {
        case.find(finding);
    }
    gives_up
}
