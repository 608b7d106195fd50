//! What this member knows, as the loop gathers it; from here comes the planner's view.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle};

use super::{Deps, Event, Leading, Stored, sampler::Sampler};
use crate::{
    model::{
        Attempt, Intent, LiveRpo, MemberFacts, Mono, NodeId, NodeView, Request, Seen, Stamp, StepKey, View,
    },
    ports::Revision,
    store::Registration,
};

/// Requests that may wait at most.
const REQUESTS: usize = 16;
/// Failovers remembered for the flap limit.
const FAILOVERS: usize = 64;
/// The store is read again this long after it failed.
const STORE_RETRY: Duration = Duration::from_millis(250);
/// A leader beside the primary hands over leadership only after this long without change.
const SETTLED: Duration = Duration::from_secs(3);

pub(super) struct World {
    node: NodeId,
    members: BTreeSet<NodeId>,
    nodes: BTreeMap<NodeId, NodeView>,
    pub(super) registrations: BTreeMap<NodeId, Registration>,
    pub(super) intent: Option<(Intent, Revision)>,
    intent_since: Mono,
    pub(super) leader: Option<NodeId>,
    pub(super) leading: Option<Leading>,
    pub(super) store_error: Option<String>,
    pub(super) verified: Option<Stamp>,
    pub(super) drained: Option<Stamp>,
    requests: VecDeque<Request>,
    pub(super) underway: BTreeSet<StepKey>,
    pub(super) attempts: BTreeMap<StepKey, Attempt>,
    failovers: VecDeque<Mono>,
    sampler: Sampler,
}

impl World {
    pub(super) fn new(deps: &Deps) -> Self {
        Self {
            node: deps.node.clone(),
            members: deps.members.iter().cloned().collect(),
            nodes: BTreeMap::new(),
            registrations: BTreeMap::new(),
            intent: None,
            intent_since: deps.clock.now(),
            leader: None,
            leading: None,
            store_error: None,
            verified: None,
            drained: None,
            requests: VecDeque::new(),
            underway: BTreeSet::new(),
            attempts: BTreeMap::new(),
            failovers: VecDeque::new(),
            sampler: Sampler::default(),
        }
    }

    /// A member reported.
    pub(super) fn heard(&mut self, node: NodeId, facts: Seen<MemberFacts>) {
        if self.nodes.get(&node).is_some_and(|known| known.heard > facts.at) {
            return;
        }
        let at = facts.at;
        let endpoints =
            facts.value.endpoints.into_iter().map(|(name, value)| (name, Seen { value, at })).collect();
        self.nodes.insert(node, NodeView { heard: at, agent: facts.value.agent, endpoints });
        self.sampler.sample(self.intent.as_ref().map(|(intent, _)| intent), &self.nodes);
    }

    /// The store was read. An intent older than one already known is a late read.
    pub(super) fn stored(&mut self, stored: Stored) {
        self.store_error = None;
        self.leader = stored.leader;
        self.registrations = stored.members.into_iter().map(|member| (member.node.clone(), member)).collect();
        match stored.intent {
            Some((intent, revision)) => self.adopt(intent, revision),
            // The store was wiped: what this member remembers is no intent any more, and the planner will say so.
            None => self.intent = None,
        }
    }

    pub(super) fn adopt(&mut self, intent: Intent, revision: Revision) {
        let known = self.intent.as_ref();
        if known.is_some_and(|(_, known)| *known >= revision) {
            return;
        }
        let epoch_changed = known.is_none_or(|(known, _)| known.epoch != intent.epoch);
        if epoch_changed {
            self.intent_since = self.nodes.get(&self.node).map_or(Mono::default(), |node| node.heard);
            self.attempts.clear();
        }
        self.intent = Some((intent, revision));
    }

    /// Takes a request. False: too many wait.
    pub(super) fn ask(&mut self, request: Request) -> bool {
        let room = self.requests.len() < REQUESTS;
        if room {
            self.requests.push_back(request);
        }
        room
    }

    /// Forgets every request; returns their operations.
    pub(super) fn drop_requests(&mut self) -> Vec<String> {
        self.requests.drain(..).map(|request| request.operation).collect()
    }

    /// Failovers are about to be counted anew.
    pub(super) fn forget_failovers(&mut self) {
        self.failovers.clear();
    }

    /// The oldest request was dealt with.
    pub(super) fn answered(&mut self, operation: &str) {
        self.requests.retain(|request| request.operation != operation);
    }

    pub(super) fn failed_over(&mut self, at: Mono) {
        self.failovers.push_back(at);
        while self.failovers.len() > FAILOVERS {
            self.failovers.pop_front();
        }
    }

    pub(super) fn rpo(&self) -> Option<&LiveRpo> {
        self.sampler.rpo()
    }

    /// What the planner sees.
    pub(super) fn view(&self, now: Mono) -> View {
        View {
            leading: self.leading.as_ref().is_some_and(|leading| now < leading.until),
            members: self.members.clone(),
            intent: self.intent.as_ref().map(|(intent, _)| intent.clone()),
            nodes: self.nodes.clone(),
            rpo: self.sampler.rpo().cloned(),
            verified: self.verified,
            drained: self.drained,
            requests: self.requests.iter().cloned().collect(),
            underway: self.underway.clone(),
            attempts: self.attempts.clone(),
            failovers: self.failovers.iter().copied().collect(),
        }
    }

    /// True if leadership had better sit on another host: this one holds the primary, another member is heard, and
    /// nothing is going on.
    pub(super) fn leads_beside_the_primary(&self, now: Mono, incident: bool) -> bool {
        let Some((intent, _)) = &self.intent else { return false };
        let here = intent.primary.as_ref() == Some(&self.node);
        let fresh = |node: &NodeView| now.since(node.heard) < Duration::from_millis(500);
        let other = self.nodes.iter().any(|(node, view)| *node != self.node && fresh(view));
        let settled =
            now.since(self.intent_since) > SETTLED && self.underway.is_empty() && self.requests.is_empty();
        here && other && settled && !incident && intent.handover.is_none()
    }
}

/// Reads the store whenever it changes.
pub(super) fn watch_store(deps: Arc<Deps>, events: mpsc::Sender<Event>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut since = Revision::default();
        loop {
            let read = read(&deps).await;
            let failed = read.is_err();
            if events.send(Event::Store(read.map(Box::new).map_err(|error| error.to_string()))).await.is_err()
            {
                return;
            }
            if failed {
                // Nothing need change for the next reading to succeed.
                tokio::time::sleep(STORE_RETRY).await;
                continue;
            }
            match deps.records.changed(since).await {
                Ok(revision) => since = revision,
                Err(_) => {
                    // The store may be another one now, in which that revision means nothing. The reading tells why.
                    since = Revision::default();
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
    })
}

async fn read(deps: &Deps) -> Result<Stored, crate::ports::StoreError> {
    Ok(Stored {
        last: deps.records.last_incident().await?,
        intent: deps.records.intent().await?,
        leader: deps.records.leader().await?,
        members: deps.records.members().await?,
    })
}
