//! Which nodes are in service: a person drains one, takes it back into service, or removes it from the cluster.
//!
//! A drained node is neither waited for nor promoted nor touched, so that a person can work on it; it is safe to stop once
//! it has left the sync set and the list of those who may be promoted. Only such a node can be removed: nobody's promise
//! rests on it any more. A removed one is not looked at, and its own member ends.

use super::{Memory, case::Case};
use crate::model::{Durability, Finding, Hold, Intent, Mono, NodeId, Policy, RequestKind, View};

impl Intent {
    /// Nothing rests on this node: no commit waits for it, and it may not be promoted.
    #[must_use]
    pub fn is_free_of(&self, node: &NodeId) -> bool {
        !self.in_sync(node) && !self.promotable.contains(node) && self.primary.as_ref() != Some(node)
    }
}

/// The member that sees itself removed does nothing more. What rests on others is theirs.
pub(super) fn is_removed(case: &mut Case<'_>, intent: &Intent) -> bool {
    let own = case.view.node.as_ref().filter(|node| intent.removed.contains(node));
    let Some(node) = own.cloned() else { return false };
    case.find(Finding::Removed { node });
    case.hold(Hold::NotLeader);
    true
}

/// What a person has taken out of service is said for as long as it is.
pub(super) fn find(case: &mut Case<'_>, intent: &Intent) {
    intent.drained.iter().for_each(|node| _ = case.find(Finding::Drained { node: node.clone() }));
}

/// The intent that fulfils a request about a node, or every reason why that cannot be. What was asked twice is done twice:
/// the store may tell of the first declaration before its own answer comes.
pub(super) fn admit(
    view: &View,
    policy: &Policy,
    now: Mono,
    kind: &RequestKind,
) -> Result<Intent, Vec<String>> {
    let memory = Memory::default();
    let case = Case::new(view, &memory, policy, now);
    let Some(intent) = &view.intent else { return Err(vec!["no cluster is declared yet".into()]) };
    let (next, blockers) = match kind {
        RequestKind::Drain { node } => (drained(intent, node), against_drain(&case, intent, node)),
        RequestKind::Restore { node } => (restored(intent, node), Vec::new()),
        RequestKind::Remove { node } => (removed(intent, node), against_removal(intent, node)),
        _ => return Err(vec!["this is no request about a node in service".into()]),
    };
    let follower = (!view.leading).then(|| "this member does not lead".to_owned());
    let blockers: Vec<String> = follower.into_iter().chain(blockers).collect();
    if blockers.is_empty() { Ok(next.raised()) } else { Err(blockers) }
}

fn drained(intent: &Intent, node: &NodeId) -> Intent {
    Intent { drained: with(&intent.drained, node), ..intent.clone() }
}

fn restored(intent: &Intent, node: &NodeId) -> Intent {
    let without = |nodes: &[NodeId]| nodes.iter().filter(|other| *other != node).cloned().collect();
    Intent { drained: without(&intent.drained), removed: without(&intent.removed), ..intent.clone() }
}

fn removed(intent: &Intent, node: &NodeId) -> Intent {
    Intent { removed: with(&intent.removed, node), ..restored(intent, node) }
}

fn with(nodes: &[NodeId], node: &NodeId) -> Vec<NodeId> {
    let mut nodes = nodes.to_vec();
    nodes.push(node.clone());
    nodes.sort();
    nodes.dedup();
    nodes
}

fn against_drain(case: &Case<'_>, intent: &Intent, node: &NodeId) -> Vec<String> {
    let mut blockers = Vec::new();
    if intent.primary.as_ref() == Some(node) {
        blockers.push(format!("{node} is the primary; `locum switchover` makes another one that first"));
    } else if intent.removed.contains(node) {
        blockers.push(format!("{node} was removed from the cluster"));
    } else if !case.view.members.contains(node) && !case.view.nodes.contains_key(node) {
        blockers.push(format!("the node {node} is not known"));
    }
    if intent.primary.is_none() {
        blockers.push("a failover is under way".into());
    }
    if let Some(handover) = &intent.handover {
        blockers.push(format!("a switchover to {} is under way", handover.to));
    }
    let others = intent.sync.iter().chain(&intent.sync_next).any(|member| member.node != *node);
    if intent.durability == Durability::SyncStrict && intent.in_sync(node) && !others {
        blockers.push(format!(
            "{node} is the only standby that commits are promised to be on (sync-strict): they would wait from then on"
        ));
    }
    blockers
}

fn against_removal(intent: &Intent, node: &NodeId) -> Vec<String> {
    if intent.removed.contains(node) {
        return Vec::new();
    }
    if !intent.drained.contains(node) {
        return vec![format!("{node} is in service; `locum node drain {node}` first")];
    }
    if !intent.is_free_of(node) {
        return vec![format!("{node} is still being drained; try again in a moment")];
    }
    Vec::new()
}
