//! The live RPO, sampled with every report of the primary.

use std::collections::BTreeMap;

use crate::model::{
    AgentFacts, Intent, LiveRpo, Lsn, Mono, NodeId, NodeView, PositionLog, Primary, Server, Standby,
};

#[derive(Default)]
pub(super) struct Sampler {
    of: Option<NodeId>,
    log: PositionLog,
    last: Option<LiveRpo>,
}

impl Sampler {
    /// The live RPO as of the last reading of the primary; None: there was none yet.
    pub(super) fn rpo(&self) -> Option<&LiveRpo> {
        self.last.as_ref()
    }

    /// Takes a new reading, if the declared primary has one. A primary that cannot be read leaves the last one
    /// standing: its age tells.
    pub(super) fn sample(&mut self, intent: Option<&Intent>, nodes: &BTreeMap<NodeId, NodeView>) {
        let Some(intent) = intent else { return };
        let Some(node) = &intent.primary else { return };
        let Some(agent) = nodes.get(node).and_then(|view| view.agent.as_ref()) else { return };
        let Server::Primary(primary) = &agent.server.value else { return };
        let at = agent.server.at;
        if self.last.as_ref().is_some_and(|last| last.as_of >= at) {
            return;
        }
        if self.of.as_ref() != Some(node) {
            *self = Self { of: Some(node.clone()), ..Self::default() };
        }
        self.log.note(at, primary.flushed);
        let standby = best_standby(node, primary, at, nodes, intent);
        // While the set is being emptied, PostgreSQL may already wait for nobody.
        let safe =
            !intent.sync_next.is_empty() && intent.sync.iter().any(|member| is_sender(primary, &member.name));
        self.last = Some(self.log.live(at, primary.flushed, standby, safe));
    }
}

fn is_sender(primary: &Primary, name: &crate::model::StandbyName) -> bool {
    primary.senders.iter().any(|sender| sender.name == *name && sender.streaming)
}

/// The standby that has flushed most. Its position comes from the primary's own statement, which reads it before the
/// primary's; one that does not stream counts with what its agent reported before that.
fn best_standby(
    primary_node: &NodeId,
    primary: &Primary,
    at: Mono,
    nodes: &BTreeMap<NodeId, NodeView>,
    intent: &Intent,
) -> Option<(NodeId, Lsn)> {
    let others = nodes.iter().filter(|(node, _)| *node != primary_node);
    let agents = others.filter_map(|(node, view)| Some((node, view.agent.as_ref()?)));
    agents
        .filter_map(|(node, agent)| Some((node.clone(), position(agent, primary, at, intent)?)))
        .max_by_key(|(_, lsn)| *lsn)
}

fn position(agent: &AgentFacts, primary: &Primary, at: Mono, intent: &Intent) -> Option<Lsn> {
    // What another history holds is nothing of the primary's, however far it goes.
    let shares = |standby: &Standby| {
        intent.settled && intent.switch.is_none_or(|switch| standby.history.contains(&switch))
    };
    let sender = primary.senders.iter().find(|sender| sender.name == agent.standby_name);
    // A sender that has just connected does not know yet what its standby has flushed.
    let sent = sender.map(|sender| sender.flushed).filter(|flushed| *flushed > Lsn::default());
    sent.or_else(|| match &agent.server.value {
        Server::Standby(standby) if agent.server.at <= at && shares(standby) => Some(standby.flushed),
        _ => None,
    })
}
