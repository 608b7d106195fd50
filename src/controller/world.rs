//! What this member knows, as the loop gathers it; from here comes the planner's view.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::watch;

use super::{Deps, Leading, Stored, sampler::Sampler, watch::Wanted};
use crate::{
    model::{
        Attempt, Intent, LeaseRecord, LeaseSeen, LiveRpo, MemberFacts, Mono, NodeId, NodeView, Renewals,
        Request, Seen, Stamp, StepKey, View,
    },
    ports::Revision,
    store::Registration,
};

/// Members report every 100 ms: beyond this some of it is missing …
const BEATS_MISSED: Duration = Duration::from_millis(250);
/// … and beyond this every threshold has passed.
const SILENT: Duration = Duration::from_secs(5);
/// No host is started anew in less: only then does its clock begin anew.
const REBOOT: Duration = Duration::from_secs(5);
/// Requests that may wait at most.
const REQUESTS: usize = 16;
/// Failovers remembered for the flap limit.
const FAILOVERS: usize = 64;
/// A turn of the loop that comes this much later than the one before means that this member was stalled. Shorter: busy
/// machines distrust themselves all the time. Longer: what was not heard in a stall is taken for silence.
const STALL: Duration = Duration::from_millis(250);
/// A leader beside the primary hands over leadership only after this long without change.
const SETTLED: Duration = Duration::from_secs(3);

pub(super) struct World {
    node: NodeId,
    members: BTreeSet<NodeId>,
    /// When the last facts of each member left, on its own clock.
    left: BTreeMap<NodeId, Mono>,
    nodes: BTreeMap<NodeId, NodeView>,
    /// When each was last heard, for the others.
    hears: watch::Sender<BTreeMap<NodeId, Mono>>,
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
    /// When the intent that is known was adopted.
    adopted: Mono,
    /// The highest stamp of an intent that was ever read here; at the start, what is remembered of earlier lives.
    remembered: Option<Stamp>,
    /// The highest stamp that anybody said to know of. Apart from what was read here: a read is no late one for it.
    heard_of: Option<Stamp>,
    /// The latest renewal of the primary lease that was ever read here, or that anybody said to know of.
    renewals: Option<Renewals>,
    lease: LeaseSeen,
    pub(super) fenced_by_command: Option<(NodeId, Stamp)>,
    turned: Mono,
    awake_since: Mono,
    sampler: Sampler,
}

impl World {
    pub(super) fn new(deps: &Deps) -> Self {
        Self {
            node: deps.node.clone(),
            members: deps.members.iter().cloned().collect(),
            left: BTreeMap::new(),
            nodes: BTreeMap::new(),
            hears: deps.hears.clone(),
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
            adopted: Mono::default(),
            remembered: deps.remembered.opened().stamp,
            heard_of: None,
            renewals: deps.remembered.opened().renewals,
            lease: LeaseSeen::default(),
            fenced_by_command: None,
            turned: deps.clock.now(),
            awake_since: deps.clock.now(),
            sampler: Sampler::default(),
        }
    }

    /// A member reported.
    pub(super) fn heard(&mut self, node: NodeId, facts: Seen<MemberFacts>) {
        let known = self.nodes.get(&node).map(|known| known.heard).zip(self.left.get(&node).copied());
        if known.is_some_and(|known| is_old_news(known, (facts.at, facts.value.left))) {
            return;
        }
        self.left.insert(node.clone(), facts.value.left);
        // Whoever knows more may be gone when the store is looked at next.
        let promise = facts.value.agent.as_ref().and_then(|agent| agent.promise);
        self.heard_of = self.heard_of.max(facts.value.remembered).max(promise);
        self.renewals = self.renewals.max(facts.value.renewals);
        let at = known.map_or(facts.at, |(heard, _)| heard.max(facts.at));
        let MemberFacts { remembered, renewals, noted, hears, agent, endpoints, .. } = facts.value;
        let endpoints = endpoints.into_iter().map(|(name, value)| (name, Seen { value, at })).collect();
        self.hears.send_modify(|heard| _ = heard.insert(node.clone(), at));
        self.nodes.insert(node, NodeView { heard: at, remembered, renewals, noted, hears, agent, endpoints });
        self.sampler.sample(self.intent.as_ref().map(|(intent, _)| intent), &self.nodes);
    }

    /// The loop has come round. One that comes late was stalled: its facts are old, and lay in its sockets.
    pub(super) fn turned(&mut self, now: Mono) {
        let late = now.since(self.turned);
        if late > STALL {
            tracing::warn!(?late, "this member was stalled");
            self.awake_since = now;
        }
        self.turned = now;
    }

    /// True if a member that was heard a moment ago is so no more.
    pub(super) fn is_anybody_silent(&self, now: Mono) -> bool {
        self.nodes.values().map(|node| now.since(node.heard)).any(|age| age > BEATS_MISSED && age < SILENT)
    }

    /// The primary lease was read, for what was known before the read began.
    pub(super) fn lease_read(&mut self, record: Option<LeaseRecord>, read_for: Wanted, now: Mono) {
        let known = self.lease.last.take();
        self.renewals = self.renewals.max(record.as_ref().map(LeaseRecord::renewals));
        self.lease.renewed |=
            known.as_ref().zip(record.as_ref()).is_some_and(|(known, record)| known.value != *record);
        self.lease.last = record.map(|record| match known {
            Some(known) if known.value == record => known,
            _ => Seen { value: record, at: now },
        });
        (self.lease.read_under, self.lease.known) = (read_for.under, read_for.known);
    }

    /// The latest renewal that anybody knows of, if it is later than the last one that was read.
    pub(super) fn renewals_not_read(&self) -> Option<Renewals> {
        let read = self.lease.last.as_ref().map(|last| last.value.renewals());
        self.renewals.filter(|known| Some(*known) > read)
    }

    /// The store was read. An intent older than one already known is a late read, unless the read began after that one
    /// was known: then the store has gone back, and what this member remembers says so.
    pub(super) fn stored(&mut self, stored: Stored, now: Mono) {
        self.store_error = None;
        self.leader = stored.leader;
        self.registrations = stored.members.into_iter().map(|member| (member.node.clone(), member)).collect();
        let late = stored.asked <= self.adopted;
        match stored.intent {
            Some((intent, revision)) if self.goes_back(&intent) && !late => {
                self.intent = Some((intent, revision));
            }
            Some((intent, revision)) => self.adopt(intent, revision, now),
            None if late => {}
            // The store was wiped: what this member remembers is no intent any more, and the planner will say so.
            None => self.intent = None,
        }
    }

    fn goes_back(&self, intent: &Intent) -> bool {
        self.remembered.is_some_and(|remembered| intent.stamp() < remembered)
    }

    pub(super) fn adopt(&mut self, intent: Intent, revision: Revision, now: Mono) {
        let known = self.intent.as_ref();
        if self.goes_back(&intent) || known.is_some_and(|(known, _)| known.stamp() > intent.stamp()) {
            return;
        }
        if known.is_some_and(|(known, _)| *known == intent) {
            // A store that was moved may count its revisions anew.
            self.intent = Some((intent, revision));
            return;
        }
        (self.adopted, self.remembered) = (now, Some(intent.stamp()));
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
    pub(super) fn view(&self, now: Mono, wall: Timestamp) -> View {
        let removed = self.intent.as_ref().map_or(&[][..], |(intent, _)| &intent.removed);
        let stays = |node: &NodeId| !removed.contains(node);
        View {
            node: Some(self.node.clone()),
            leader: self.leader.clone(),
            wall,
            awake_since: self.awake_since,
            store_error: self.store_error.clone(),
            remembered: self.remembered.max(self.heard_of),
            renewals: self.renewals,
            lease: self.lease.clone(),
            fenced_by_command: self.fenced_by_command.clone(),
            leading: self.leading.as_ref().is_some_and(|leading| now < leading.until),
            // The configuration says who must have come before there is a cluster; later others may have been added.
            members: self
                .members
                .iter()
                .chain(self.registrations.keys())
                .filter(|node| stays(node))
                .cloned()
                .collect(),
            intent: self.intent.as_ref().map(|(intent, _)| intent.clone()),
            nodes: self
                .nodes
                .iter()
                .filter(|(node, _)| stays(node))
                .map(|(node, seen)| (node.clone(), seen.clone()))
                .collect(),
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

/// Answers to orders and the stream overtake each other: what left before what is known, by the sender's clock, is old news,
/// whenever it came. Of both: when it was heard, here, and when it left, there.
fn is_old_news((heard, known_left): (Mono, Mono), (at, left): (Mono, Mono)) -> bool {
    left < known_left && at.since(heard) < REBOOT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_left_earlier_is_old_news_and_what_a_host_says_that_was_started_anew_is_not() {
        let second = 1_000_000;
        let known = (Mono(100 * second), Mono(7 * second));
        assert!(is_old_news(known, (Mono(100 * second + 1), Mono(7 * second - 1))));
        assert!(!is_old_news(known, (Mono(100 * second + 1), Mono(7 * second))));
        assert!(!is_old_news(known, (Mono(99 * second), Mono(7 * second + 1))), "only its way was quicker");
        assert!(!is_old_news(known, (Mono(105 * second), Mono(second))));
    }
}
