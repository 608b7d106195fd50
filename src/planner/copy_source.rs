//! From where a clone is copied: a standby that is up to date is better than the primary, whose disk and network are its
//! clients'.
//!
//! It streams from the primary all the same, by the slot that it has there. That slot keeps WAL from a position on, and the
//! copy must not end before that.

use super::case::Case;
use crate::model::{AgentFacts, CopySource, Intent, Lsn, NodeId, Primary, ReplayState, Server};

/// How far behind the primary a standby may be that is copied from. Less: any burst of writes has the primary copied. More: what
/// the copy lacks is streamed afterwards from the primary, which was to be spared.
const BEHIND: u64 = 64 << 20;

/// The standby that a clone of `node` is copied from. None: the primary.
pub(super) fn best(
    case: &Case<'_>,
    intent: &Intent,
    node: &NodeId,
    (primary_node, primary): (&NodeId, &Primary),
) -> Option<CopySource> {
    let slot = primary.slot(node)?;
    let kept_from = Lsn(primary.flushed.0.saturating_sub(slot.retained));
    let others = case.others(Some(primary_node)).into_iter().filter(|other| *other != node);
    let fit = others.filter_map(|other| {
        let agent = case.heard(other).filter(|agent| is_whole(agent) && !intent.drained.contains(other))?;
        let Server::Standby(standby) = &agent.server.value else { return None };
        let follows = standby.upstream.as_ref().is_some_and(|upstream| upstream.node == *primary_node);
        let streams = follows && standby.streaming && standby.timeline == primary.timeline;
        let applies = standby.replay == ReplayState::Running && standby.recruited.is_none();
        let close = standby.replayed >= kept_from && primary.flushed.bytes_since(standby.replayed) <= BEHIND;
        (streams && applies && close).then_some((other, agent))
    });
    // A copy slows its source down, and commits wait for a member of the set.
    let (source, agent) = fit.min_by_key(|(other, _)| (intent.in_sync(other), (*other).clone()))?;
    Some(CopySource { node: source.clone(), address: agent.address.clone() })
}

/// Nothing is being done to it, and it may be copied.
fn is_whole(agent: &AgentFacts) -> bool {
    !agent.no_clone && agent.job.is_none() && agent.unfinished.is_none()
}
