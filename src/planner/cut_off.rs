//! Standbys that are stopped while nobody is known to be primary: after both hosts lost power, only one may come back.
//!
//! Such a standby is started without an upstream, so that it can be recruited and say how far it has come. That alone
//! counts for nothing: it is promoted only by a failover, by the rules for every recruit.

use super::{case::Case, health};
use crate::model::{AgentFacts, Command, Intent, NodeId, Server};

/// Orders the start of every stopped standby that could matter. True: there is one.
pub(super) fn start(case: &mut Case<'_>, intent: &Intent, old: Option<&NodeId>) -> bool {
    let stopped: Vec<NodeId> =
        case.others(old).into_iter().filter(|node| is_stopped_standby(case, intent, node)).cloned().collect();
    for node in &stopped {
        case.order(intent, node, Command::StartAlone);
    }
    !stopped.is_empty()
}

fn is_stopped_standby(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    let matters = intent.in_sync(node) || intent.promotable.contains(node);
    matters
        && !intent.drained.contains(node)
        && case.heard(node).is_some_and(|agent| is_startable(agent) && !health::foreign(case, intent, agent))
}

/// A stopped server whose directory is a standby's, as the directory itself says: what its agent remembers of a term as primary may
/// have gone back. Without that word: one that has not been primary since it last streamed.
fn is_startable(agent: &AgentFacts) -> bool {
    let Server::Down(down) = &agent.server.value else { return false };
    let standby = down.standby.unwrap_or(agent.primary_since.is_none());
    down.control.is_some() && standby && agent.unfinished.is_none() && agent.promise.is_some()
}
