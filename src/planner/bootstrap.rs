//! The first intent of a store: only when every member was heard, none remembers an epoch, and exactly one is primary.
//! The others are its standbys, or new and to be cloned.

use std::time::Duration;

use super::case::Case;
use crate::model::{
    AgentFacts, Epoch, Finding, Hold, Incarnation, Intent, NodeId, Server, Step, SystemId, Unfinished,
};

/// A first cluster is declared on facts no older than this.
const FRESH: Duration = Duration::from_secs(1);

pub(super) fn plan(case: &mut Case<'_>) {
    if !case.view.leading {
        return case.hold(Hold::NotLeader);
    }
    let heard = |node: &NodeId| case.view.fresh(node, case.now, FRESH);
    // A server that was not looked at yet may be a sound standby: declared around, it would be fenced as a pretender.
    // A witness has none to look at: to hear of it is enough.
    let seen = |node: &NodeId| {
        let view = case.view.nodes.get(node).filter(|view| case.now.since(view.heard) <= FRESH);
        view.is_some_and(|view| {
            let server = view.agent.as_ref().map(|agent| &agent.server.value);
            !matches!(server, Some(Server::Starting | Server::Unknown))
        })
    };
    let missing: Vec<NodeId> = case.view.members.iter().filter(|node| !seen(node)).cloned().collect();
    let agents: Vec<_> = case.view.members.iter().filter_map(|node| Some((node, heard(node)?))).collect();
    let is_primary = |server: &Server| matches!(server, Server::Primary(primary) if primary.writable);
    let primaries: Vec<(NodeId, Option<SystemId>)> = agents
        .iter()
        .filter(|(_, agent)| is_primary(&agent.server.value))
        .map(|(node, agent)| ((*node).clone(), agent.system))
        .collect();
    let foreign: Vec<NodeId> = match primaries.as_slice() {
        [(_, system)] => agents
            .iter()
            .filter(|(_, agent)| agent.system != *system && !awaits_its_first_clone(agent))
            .map(|(node, _)| (*node).clone())
            .collect(),
        _ => Vec::new(),
    };
    refuse_requests(case);
    match (missing.is_empty(), primaries.as_slice(), foreign.is_empty()) {
        (true, [(primary, _)], true) => {
            case.declare(Intent::first(Incarnation(1), Epoch(1), primary.clone(), case.policy.durability));
        }
        (true, [_], false) => foreign.into_iter().for_each(|node| {
            case.find(Finding::ForeignData { node: node.clone() });
            case.hold(Hold::WaitingForMembers { missing: vec![node], primaries: Vec::new() });
        }),
        _ => {
            let primaries = primaries.into_iter().map(|(node, _)| node).collect();
            case.hold(Hold::WaitingForMembers { missing, primaries });
        }
    }
}

/// A node without a data directory that a person has said is new. One that merely has none may have lost it.
fn awaits_its_first_clone(agent: &AgentFacts) -> bool {
    let nothing = matches!(&agent.server.value, Server::Down(down) if down.control.is_none());
    nothing && agent.system.is_none() && agent.unfinished == Some(Unfinished::Clone)
}

fn refuse_requests(case: &mut Case<'_>) {
    for request in &case.view.requests {
        let blockers = vec!["no cluster is declared yet".to_owned()];
        case.step(Step::Refuse { operation: request.operation.clone(), blockers });
    }
}
