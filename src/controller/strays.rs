//! Standbys that left recovery without an order, as incidents: service did not end, and what was acknowledged there may be
//! lost.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::model::{
    AgentFacts, Cause, Finding, Incident, IncidentId, IncidentKind, NodeId, Objectives, RpoAtOnset, Stray,
    View,
};

/// Those that are recorded, by node and moment.
#[derive(Default)]
pub(super) struct Strays(BTreeSet<(NodeId, Timestamp)>);

impl Strays {
    /// What a former leader recorded.
    pub(super) fn take_up(&mut self, past: &[Incident]) {
        for incident in past.iter().filter(|incident| incident.kind == IncidentKind::LeftRecovery) {
            self.0.extend(incident.from.clone().map(|node| (node, incident.started_at)));
        }
    }

    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Those that are new. What was lost is told later, by the node itself.
    pub(super) fn found(&mut self, view: &View, leader: &NodeId, objectives: Objectives) -> Vec<Incident> {
        let agents = view.nodes.iter().filter_map(|(node, seen)| Some((node, seen.agent.as_ref()?)));
        let strays: Vec<_> =
            agents.filter_map(|(node, agent)| Some((node.clone(), stray(agent)?, agent))).collect();
        let mut new = Vec::new();
        for (node, stray, agent) in strays {
            if self.0.insert((node.clone(), stray.at)) {
                let name = Some(agent.standby_name.clone());
                new.push(Incident { from_name: name, ..incident(view, node, stray, leader, objectives) });
            }
        }
        new
    }
}

/// The last time that it left recovery. One that has come home since tells of it by what it gave up: whoever led meanwhile may not
/// have written it down.
fn stray(agent: &AgentFacts) -> Option<Stray> {
    let given_up = agent.lost.as_ref().and_then(|lost| Some(Stray { under: lost.under, at: lost.stray? }));
    agent.strayed.or(given_up)
}

fn incident(view: &View, node: NodeId, stray: Stray, leader: &NodeId, objectives: Objectives) -> Incident {
    let evidence =
        vec![format!("its agent, at {}, found it out of recovery and had ordered no promotion", stray.under)];
    Incident {
        id: IncidentId(format!("{}-{node}-left-recovery", stray.at.strftime("%Y%m%d-%H%M%S"))),
        kind: IncidentKind::LeftRecovery,
        cause: Cause { summary: Finding::LeftRecovery { node: node.clone() }.to_string(), evidence },
        operation: None,
        epoch: stray.under.epoch,
        from: Some(node),
        from_name: None,
        to: view.intent.as_ref().and_then(|intent| intent.primary.clone()),
        started_at: stray.at,
        leader: leader.clone(),
        marks: Vec::new(),
        rpo: RpoAtOnset::default(),
        live: None,
        objectives,
        connections_cut: 0,
        connections_held: 0,
        repoints: Vec::new(),
        connections_refused: 0,
        longest_gap_ms: None,
        deviations: Vec::new(),
        abandoned: None,
        closed: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Epoch, Incarnation, LostTail, Stamp, Version},
        planner::fixture::{healthy, seoul, tokyo},
    };

    #[test]
    fn a_standby_that_left_recovery_is_one_incident_whoever_leads() {
        let mut view = healthy();
        let under = Stamp { incarnation: Incarnation(1), epoch: Epoch(3), version: Version(10) };
        view.agent_mut(&tokyo()).strayed = Some(Stray { under, at: Timestamp::UNIX_EPOCH });
        let objectives = Objectives { rto_ms: 1.0, rpo_ms: 0.0 };
        let mut strays = Strays::default();
        let recorded = strays.found(&view, &seoul(), objectives);
        assert_eq!(recorded.len(), 1);
        assert_eq!((recorded[0].from.as_ref(), recorded[0].closed), (Some(&tokyo()), true));
        assert!(strays.found(&view, &seoul(), objectives).is_empty());
        let mut next = Strays::default();
        next.take_up(&recorded);
        assert!(next.found(&view, &tokyo(), objectives).is_empty());
    }

    #[test]
    fn one_that_came_home_before_it_was_written_down_is_told_all_the_same() {
        let mut view = healthy();
        let under = Stamp { incarnation: Incarnation(1), epoch: Epoch(3), version: Version(10) };
        let given_up = LostTail { under, stray: Some(Timestamp::UNIX_EPOCH), ..LostTail::default() };
        view.agent_mut(&tokyo()).lost = Some(given_up);
        let objectives = Objectives { rto_ms: 1.0, rpo_ms: 0.0 };
        let mut strays = Strays::default();
        let recorded = strays.found(&view, &seoul(), objectives);
        assert_eq!(recorded.len(), 1);
        assert!(strays.found(&view, &seoul(), objectives).is_empty());
        view.agent_mut(&seoul()).lost = Some(LostTail { under, ..LostTail::default() });
        let mut next = Strays::default();
        next.take_up(&recorded);
        assert!(next.found(&view, &tokyo(), objectives).is_empty(), "an old primary has not left recovery");
    }
}
