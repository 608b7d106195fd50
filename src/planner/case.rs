//! One call's working sheet: what is known, and the plan as it grows.

use std::{collections::BTreeMap, time::Duration};

use super::{Memory, Plan};
use crate::model::{
    AgentFacts, Cause, Command, EndpointFacts, EndpointKind, EndpointName, Epoch, Finding, Hold, Intent,
    Mono, NodeId, Policy, RouteOrder, Server, Step, StepKey, View,
};

/// A step that failed is tried again after this, doubled with each failure …
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// … up to this.
const RETRY_LAST: Duration = Duration::from_secs(5);

pub(super) struct Case<'a> {
    pub(super) view: &'a View,
    pub(super) policy: &'a Policy,
    pub(super) now: Mono,
    before: &'a Memory,
    plan: Plan,
}

impl<'a> Case<'a> {
    pub(super) fn new(view: &'a View, before: &'a Memory, policy: &'a Policy, now: Mono) -> Self {
        let plan = Plan { memory: Memory { since: BTreeMap::new(), ..before.clone() }, ..Plan::default() };
        Self { view, policy, now, before, plan }
    }

    pub(super) fn finish(self) -> Plan {
        self.plan
    }

    // ---- what is known ------------------------------------------------------------------------

    /// What a node's agent says, if it was heard within `detect`.
    pub(super) fn heard(&self, node: &NodeId) -> Option<&'a AgentFacts> {
        self.view.fresh(node, self.now, self.policy.detect)
    }

    /// The nodes that have an agent, but for one.
    pub(super) fn others(&self, but: Option<&NodeId>) -> Vec<&'a NodeId> {
        let agents = self.view.nodes.iter().filter(|(_, node)| node.agent.is_some());
        agents.map(|(id, _)| id).filter(|id| Some(*id) != but).collect()
    }

    /// The endpoints of one kind, in members heard within `detect`.
    pub(super) fn endpoints(
        &self,
        kind: EndpointKind,
    ) -> Vec<(&'a NodeId, &'a EndpointName, &'a EndpointFacts)> {
        let heard =
            self.view.nodes.iter().filter(|(_, node)| self.now.since(node.heard) <= self.policy.detect);
        let all = heard.flat_map(|(member, node)| {
            node.endpoints.iter().map(move |(name, seen)| (member, name, &seen.value))
        });
        all.filter(|(_, _, facts)| facts.kind == kind).collect()
    }

    /// True if a node that can be heard runs a standby.
    pub(super) fn is_standby(&self, node: &NodeId) -> bool {
        self.heard(node).is_some_and(|agent| matches!(agent.server.value, Server::Standby(_)))
    }

    /// True if a node was ordered to stop in this epoch and has not answered yet.
    pub(super) fn is_told_to_stop(&self, intent: &Intent, node: &NodeId) -> bool {
        let stop = Step::Order { node: node.clone(), command: Command::Stop, stamp: intent.stamp() };
        self.view.underway.contains(&stop.key())
    }

    /// When the WAL rescue of an epoch was first ordered.
    pub(super) fn rescue_began(&self, epoch: Epoch) -> Option<Mono> {
        self.plan.memory.rescue.filter(|(of, _)| *of == epoch).map(|(_, began)| began)
    }

    // ---- findings and memory ------------------------------------------------------------------

    /// Notes a finding; returns for how long it has stood.
    pub(super) fn find(&mut self, finding: Finding) -> Duration {
        let since = *self.before.since.get(&finding).unwrap_or(&self.now);
        self.plan.memory.since.insert(finding.clone(), since);
        if !self.plan.findings.contains(&finding) {
            self.plan.findings.push(finding);
        }
        self.now.since(since)
    }

    /// For how long a finding noted in this call has stood; None if it was not noted.
    pub(super) fn stood(&self, finding: &Finding) -> Option<Duration> {
        self.plan.memory.since.get(finding).map(|since| self.now.since(*since))
    }

    /// For how long a finding had stood before this call; None if it had not.
    pub(super) fn stood_before(&self, finding: &Finding) -> Option<Duration> {
        self.before.since.get(finding).map(|since| self.now.since(*since))
    }

    pub(super) fn memory(&mut self) -> &mut Memory {
        &mut self.plan.memory
    }

    /// Since when a standby has lacked WAL without taking more of it; None: it lacks none, or takes it.
    pub(super) fn stalled_since(&self, node: &NodeId) -> Option<Mono> {
        self.plan.memory.stalled.get(node).map(|(_, since)| *since)
    }

    // ---- what to do ---------------------------------------------------------------------------

    pub(super) fn hold(&mut self, hold: Hold) {
        if !self.plan.holds.contains(&hold) {
            self.plan.holds.push(hold);
        }
    }

    pub(super) fn hold_if_idle(&mut self, hold: Hold) {
        if self.plan.steps.is_empty() && self.plan.holds.is_empty() {
            self.plan.holds.push(hold);
        }
    }

    pub(super) fn underway(&mut self, what: impl Into<String>) {
        self.hold(Hold::Underway { what: what.into() });
    }

    /// Replaces the intent. Only the first declaration of a call counts: the others were made on what it replaces.
    pub(super) fn declare(&mut self, next: Intent) {
        if !self.declares() {
            self.step(Step::Declare(next));
        }
    }

    /// True if this call declares something: everything else had better wait for the next.
    pub(super) fn declares(&self) -> bool {
        self.plan.steps.iter().any(|step| matches!(step, Step::Declare(_)))
    }

    /// Replaces the intent by one that ends the primary's epoch, and says why.
    pub(super) fn declare_because(&mut self, next: Intent, cause: Cause) {
        self.declare(next);
        self.plan.cause.get_or_insert(cause);
    }

    /// Says why it is not known whether everything acknowledged is kept.
    pub(super) fn doubt(&mut self, why: Option<String>) {
        self.plan.doubt = why;
    }

    /// Says when the cause was first noticed.
    pub(super) fn suspect(&mut self, since: Option<Mono>) {
        self.plan.suspected = self.plan.suspected.or(since);
    }

    /// Says why what this call asks for is an incident.
    pub(super) fn blame(&mut self, cause: Cause) {
        self.plan.cause.get_or_insert(cause);
    }

    /// Orders an agent, unless anything is under way on it already. Fence and recruit go ahead of whatever is.
    pub(super) fn order(&mut self, intent: &Intent, node: &NodeId, command: Command) {
        let urgent = matches!(command, Command::Fence | Command::Recruit);
        let on_it = |key: &StepKey| key.agent && key.epoch == intent.epoch && key.node.as_ref() == Some(node);
        let busy = self.view.underway.iter().any(on_it);
        if busy && !urgent {
            return self.underway(format!("{} on {node} waits for what is under way there", command.name()));
        }
        self.step(Step::Order { node: node.clone(), command, stamp: intent.stamp() });
    }

    pub(super) fn route(
        &mut self,
        intent: &Intent,
        member: &NodeId,
        endpoint: &EndpointName,
        order: RouteOrder,
    ) {
        let stamp = intent.stamp();
        self.step(Step::Route { member: member.clone(), endpoint: endpoint.clone(), order, stamp });
    }

    /// Adds a step, unless it is under way or failed a moment ago.
    pub(super) fn step(&mut self, step: Step) {
        let key = step.key();
        if self.view.underway.contains(&key) {
            return self.underway(step.to_string());
        }
        if let Some(attempt) = self.view.attempts.get(&key) {
            let wait =
                RETRY_FIRST.saturating_mul(1 << attempt.failures.saturating_sub(1).min(10)).min(RETRY_LAST);
            if self.now.since(attempt.at) < wait {
                return self.underway(format!("{step} failed ({}); tried again soon", attempt.error));
            }
        }
        if !self.plan.steps.contains(&step) {
            self.plan.steps.push(step);
        }
    }
}
