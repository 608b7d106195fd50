//! Which server answers at a node, and whom it lets in: what is wrong with that, and who would serve clients once promoted.
//!
//! None of it makes a node unfit by itself: a standby on which clients cannot write still holds the data. It is chosen after all
//! that would serve.

use super::case::Case;
use crate::model::{ClientLook, Finding, Intent, NodeId, Server};

/// Names what is wrong at every node that is heard.
pub(super) fn find(case: &mut Case<'_>) {
    for node in case.others(None) {
        let Some(agent) = case.heard(node) else { continue };
        let (now, access) = (case.now, &agent.access);
        if let Some(said) = access.refusal(now) {
            case.find(Finding::LoginRefused { node: node.clone(), said: said.to_owned() });
        }
        if let Some(said) = &access.elsewhere {
            case.find(Finding::OtherServer { node: node.clone(), said: said.clone() });
        }
        if let Some(moved) = &access.moved {
            case.find(Finding::DirectoryMoved { node: node.clone(), now: moved.clone() });
        }
        match access.client(now) {
            Some(ClientLook::ReadOnly { setting, source }) => {
                let (setting, source) = (setting.clone(), source.clone());
                case.find(Finding::ReadOnly { node: node.clone(), setting, source });
            }
            Some(ClientLook::Refused { said }) => {
                case.find(Finding::ClientsRefused { node: node.clone(), said: said.clone() });
            }
            Some(ClientLook::Service) | None => {}
        }
        let lacks = agent.guard.map(|guard| guard.lacks()).unwrap_or_default();
        if !lacks.is_empty() {
            case.find(Finding::GuardLacks { node: node.clone(), lacks });
        }
    }
}

/// Why clients would get no service from this node once it is promoted; None: they would, as far as is known.
pub(super) fn why_no_service(case: &Case<'_>, node: &NodeId) -> Option<String> {
    let agent = case.view.agent(node)?;
    let meets = agent.access.client(case.now).filter(|look| **look != ClientLook::Service);
    meets.map(ToString::to_string)
}

/// Whether any of these would serve clients once promoted.
pub(super) fn any_serves<'n>(case: &Case<'_>, mut nodes: impl Iterator<Item = &'n NodeId>) -> bool {
    nodes.any(|node| why_no_service(case, node).is_none())
}

/// True for a server that refuses its own agent's login, and that the primary sees stream under this node's name.
pub(super) fn is_seen_streaming(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    let Some(agent) = case.heard(node).filter(|agent| agent.access.refusal(case.now).is_some()) else {
        return false;
    };
    let primary = intent.primary.as_ref().and_then(|primary| case.heard(primary));
    let Some(Server::Primary(primary)) = primary.map(|agent| &agent.server.value) else { return false };
    primary.senders.iter().any(|sender| sender.name == agent.standby_name && sender.streaming)
}
