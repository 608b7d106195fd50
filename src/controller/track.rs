//! The incident, as it is reached mark by mark. Pure: told what was declared and what is seen, it says what to record.

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

use super::{
    losses::{self, Unread},
    strays::Strays,
};
use crate::{
    model::{
        Cause, Command, EndpointFacts, EndpointKind, Incident, IncidentId, IncidentKind, Intent, LiveRpo,
        MarkName, Mode, Mono, NodeId, Objectives, Repoint, Repointed, RpoAtOnset, Server, Stamp, Step,
        StepKey, View,
    },
    planner::Plan,
};

/// For so long after the outage those who waited for its end are counted: a server takes them one after the other.
const SERVED_BY: Duration = Duration::from_secs(5);

pub(super) struct Tracker {
    node: NodeId,
    objectives: Objectives,
    /// An endpoint whose member was not heard for this long is not waited for: it may be gone with its host.
    detect: Duration,
    open: Option<Incident>,
    /// What was open when leadership was lost. A store that was away took no record of what was reached last.
    interrupted: Option<Incident>,
    unread: Unread,
    strays: Strays,
    /// Those of them that are complete now, and not recorded yet.
    read: Vec<Incident>,
    /// States that are not recorded yet; of one incident the last counts.
    pending: Vec<Incident>,
    recorded: Option<Incident>,
    wall: (Mono, Timestamp),
    /// Connections cut, served late and given up by all endpoints when the incident began; None: not known, as a former
    /// leader saw it begin.
    counts: Option<[u64; 3]>,
}

impl Tracker {
    pub(super) fn new(node: NodeId, objectives: Objectives, detect: Duration) -> Self {
        let wall = (Mono::default(), Timestamp::UNIX_EPOCH);
        Self {
            node,
            objectives,
            detect,
            open: None,
            interrupted: None,
            unread: Unread::default(),
            strays: Strays::default(),
            read: Vec::new(),
            pending: Vec::new(),
            recorded: None,
            wall,
            counts: None,
        }
    }

    pub(super) fn open(&self) -> Option<&Incident> {
        self.open.as_ref()
    }

    /// Leadership was lost: whoever leads now goes on with the record in the store.
    pub(super) fn forget(&mut self) {
        self.interrupted = self.open.take().or(self.interrupted.take());
        self.recorded = None;
        self.unread.forget();
        self.strays.forget();
        self.read.clear();
        self.pending.clear();
    }

    /// Goes on with what a former leader recorded, oldest first: the last incident, if it has not ended, and what was not known
    /// of others. Marks are taken as they are: on one machine all members share the clock they were read from. This member may
    /// have been that leader, and know of more.
    pub(super) fn take_up(&mut self, past: &[Incident]) {
        past.iter().filter(|incident| incident.closed).for_each(|incident| self.unread.note(incident));
        self.strays.take_up(past);
        // A standby that left recovery meanwhile is recorded beside what goes on.
        let of_service = |incident: &&Incident| incident.kind != IncidentKind::LeftRecovery;
        if let Some(incident) =
            past.iter().rev().find(of_service).filter(|incident| !incident.closed && self.open.is_none())
        {
            self.recorded = Some(incident.clone());
            let mut open = incident.clone();
            if let Some(known) = self.interrupted.take().filter(|known| known.id == open.id) {
                known.marks.into_iter().for_each(|mark| open.mark(mark.name, mark.at));
            }
            self.open = Some(open);
            self.counts = None;
        }
    }

    /// What is to be recorded since the last call.
    pub(super) fn changed(&mut self) -> Vec<Incident> {
        let mut states = std::mem::take(&mut self.pending);
        if self.open.is_some() && self.open != self.recorded {
            self.recorded.clone_from(&self.open);
            states.extend(self.open.clone());
        }
        states
    }

    /// Earlier incidents whose records have become complete since the last call.
    pub(super) fn completed(&mut self) -> Vec<Incident> {
        std::mem::take(&mut self.read)
    }

    pub(super) fn deviation(&mut self, what: String) {
        const KEPT: usize = 50;
        if let Some(incident) = &mut self.open
            && incident.deviations.len() < KEPT
        {
            incident.deviations.push(what);
        }
    }

    /// The intent was replaced. True if that was a failover.
    #[expect(clippy::too_many_arguments, reason = "one call site; each is a plain value of the moment")]
    pub(super) fn declared(
        &mut self,
        before: Option<&Intent>,
        next: &Intent,
        cause: Option<Cause>,
        view: &View,
        suspected: Option<Mono>,
        decided: Mono,
        now: Mono,
    ) -> bool {
        let Some(before) = before else { return false };
        let vacated = before.primary.is_some() && next.primary.is_none();
        let dropped = cause.as_ref().map(|cause| cause.summary.clone());
        if vacated {
            if let Some(switchover) = self.open.as_mut().filter(|_| before.handover.is_some()) {
                switchover.abandoned = Some("the primary failed on the way; see the failover".to_owned());
            }
            self.begin(IncidentKind::Failover, next, before.primary.as_ref(), cause, view, now);
            let onset = onset(view, EndpointKind::Primary, before.primary.as_ref()).unwrap_or(decided);
            self.mark(MarkName::Onset, onset);
            self.mark(MarkName::Suspected, suspected.unwrap_or(decided).max(onset));
            self.mark(MarkName::Confirmed, decided);
        } else if let (None, Some(handover)) = (&before.handover, &next.handover) {
            self.begin(IncidentKind::Switchover, next, before.primary.as_ref(), cause, view, now);
            if let Some(incident) = &mut self.open {
                incident.operation = Some(handover.operation.clone());
                incident.cause.summary = format!("switchover to {} asked for by an operator", handover.to);
            }
        } else if before.handover.is_some() && next.handover.is_none() && before.epoch == next.epoch {
            if let Some(incident) = &mut self.open {
                incident.abandoned = cause.as_ref().map(|cause| cause.summary.clone());
                incident.to.clone_from(&next.primary);
            }
        } else if before.epoch == next.epoch && before.app != next.app && cause.is_some() && self.goes_on() {
            // What the failover of the database cost is still being found out: that record is not cut off for this.
            let to = next.app.as_ref().map_or("nobody", NodeId::as_str);
            self.deviation(format!("the app server of {to} took over meanwhile"));
        } else if before.epoch == next.epoch && before.app != next.app && cause.is_some() {
            self.begin(IncidentKind::AppFailover, next, before.app.as_ref(), cause, view, now);
            let onset = onset(view, EndpointKind::App, before.app.as_ref()).unwrap_or(decided);
            self.mark(MarkName::Onset, onset);
            self.mark(MarkName::Suspected, suspected.unwrap_or(decided).max(onset));
            self.mark(MarkName::Confirmed, decided);
            if let Some(incident) = &mut self.open {
                incident.to.clone_from(&next.app);
            }
        }
        if let Some(scheduled) = before.scheduled.as_ref().filter(|_| next.scheduled.is_none()) {
            if before.epoch != next.epoch {
                self.deviation(format!(
                    "the switchover scheduled for {} was dropped: it was asked for under other roles",
                    scheduled.at
                ));
            } else if next.handover.is_none() && dropped.is_some() && !self.goes_on() {
                self.begin(IncidentKind::Switchover, next, before.primary.as_ref(), None, view, now);
                if let Some(incident) = &mut self.open {
                    (incident.abandoned, incident.operation) = (dropped, Some(scheduled.operation.clone()));
                    incident.to = None;
                    incident.cause.summary = "switchover that was scheduled by an operator".to_owned();
                }
            }
        }
        let chosen = next.primary.is_some() && before.epoch <= next.epoch && before.primary != next.primary;
        if let Some(incident) = self.open.as_mut().filter(|_| chosen) {
            incident.epoch = next.epoch;
            incident.to.clone_from(&next.primary);
            if incident.at(MarkName::Onset).is_some() {
                incident.mark(MarkName::Fenced, decided);
                incident.mark(MarkName::Chosen, now);
            }
        }
        vacated
    }

    /// Sessions were parked from `began` on: from then on clients of a switchover wait.
    pub(super) fn drained(&mut self, began: Mono) {
        self.mark(MarkName::Onset, began);
        self.mark(MarkName::Confirmed, began);
    }

    /// A commit through every endpoint succeeded, in the epoch of `stamp`. One of an earlier epoch proves nothing.
    pub(super) fn verified(&mut self, stamp: Stamp, now: Mono) {
        let proven = |incident: &Incident| {
            incident.epoch == stamp.epoch
                && incident.kind != IncidentKind::AppFailover
                && incident.at(MarkName::Onset).is_some()
        };
        if self.open.as_ref().is_some_and(proven) {
            self.mark(MarkName::Repointed, now);
            self.mark(MarkName::Verified, now);
        }
    }

    fn mark(&mut self, name: MarkName, at: Mono) {
        if let Some(incident) = &mut self.open {
            incident.mark(name, at);
        }
    }

    fn begin(
        &mut self,
        kind: IncidentKind,
        next: &Intent,
        from: Option<&NodeId>,
        cause: Option<Cause>,
        view: &View,
        now: Mono,
    ) {
        self.close();
        let wall = self.wall.1 - jiff::SignedDuration::try_from(now.since(self.wall.0)).unwrap_or_default();
        let live = view.rpo.clone();
        let rpo = RpoAtOnset {
            live_bytes: live.as_ref().and_then(|live| live.bytes),
            live_ms: live.as_ref().and_then(|live| live.ms),
            // Only a failover can lose anything.
            acknowledged_is_safe: kind != IncidentKind::Failover || is_safe(next, live.as_ref()),
            ..RpoAtOnset::default()
        };
        self.counts = Some(counts(view));
        self.open = Some(Incident {
            id: IncidentId(format!("{}-e{}v{}", wall.strftime("%Y%m%d-%H%M%S"), next.epoch, next.version)),
            kind,
            cause: cause.unwrap_or(Cause { summary: String::new(), evidence: Vec::new() }),
            operation: None,
            epoch: next.epoch,
            from: from.cloned(),
            from_name: from.and_then(|node| Some(view.agent(node)?.standby_name.clone())),
            to: next.primary.clone(),
            started_at: self.wall.1,
            leader: self.node.clone(),
            marks: Vec::new(),
            rpo,
            live,
            objectives: self.objectives,
            connections_cut: 0,
            connections_held: 0,
            repoints: Vec::new(),
            connections_refused: 0,
            longest_gap_ms: None,
            deviations: Vec::new(),
            abandoned: None,
            closed: false,
        });
    }

    fn close(&mut self) {
        if let Some(incident) = self.open.take() {
            let closed = Incident { closed: true, ..incident };
            self.unread.note(&closed);
            self.pending.push(closed);
        }
        self.recorded = None;
    }

    /// Sees how far things have come.
    pub(super) fn observe(&mut self, view: &View, plan: &Plan, now: Mono, wall: Timestamp) {
        self.wall = (now, wall);
        // A lease that is renewed late is no end of leadership: `forget` is told of that.
        if !view.leading {
            return;
        }
        let Some(intent) = &view.intent else { return };
        for stray in self.strays.found(view, &self.node, self.objectives) {
            self.unread.note(&stray);
            self.pending.push(stray);
        }
        self.read.extend(self.unread.read(view, self.open.as_ref()));
        self.found_under_way(intent, view, now);
        self.restart_in_place(intent, view, plan, now);
        let reached = Reached { view, since: now.back(self.detect) };
        let Some(incident) = &mut self.open else { return };
        let fills = |step: &Step| matches!(step, Step::Declare(next) if next.primary.is_some());
        if incident.kind == IncidentKind::Failover && intent.primary.is_none() && plan.steps.iter().any(fills)
        {
            incident.rpo.doubt.clone_from(&plan.doubt);
        }
        match incident.kind {
            IncidentKind::AppFailover => progress_of_app(incident, reached, intent, now),
            IncidentKind::Failover | IncidentKind::Switchover | IncidentKind::Restart => {
                progress(incident, reached, intent, now)
            }
            // It is recorded as one that has ended.
            IncidentKind::LeftRecovery => {}
        }
        note_rescue(incident, intent, view, now);
        let repointing = note_repoints(incident, view, intent);
        if incident.marks.first().is_some_and(|first| first.name == MarkName::Onset) {
            settle_times(incident, self.wall);
        }
        if incident.at(MarkName::AppReady).is_none_or(|ready| now.since(ready) <= SERVED_BY) {
            let recorded =
                [incident.connections_cut, incident.connections_held, incident.connections_refused];
            [incident.connections_cut, incident.connections_held, incident.connections_refused] =
                counted(&mut self.counts, recorded, counts(view));
        }
        incident.longest_gap_ms = longest_gap_ms(incident, view).or(incident.longest_gap_ms);
        let given_up =
            incident.abandoned.is_some() && (incident.marks.is_empty() || incident.rto_ms().is_some());
        let known = losses::is_known(incident, view);
        let ended = incident.at(MarkName::RedundancyRestored).is_some() && known && !repointing;
        if ended || given_up {
            self.close();
        }
    }

    /// An incident of the database is open.
    fn goes_on(&self) -> bool {
        self.open.as_ref().is_some_and(|incident| incident.kind != IncidentKind::AppFailover)
    }

    /// Whoever declared what stands in the store may have died before it recorded that, or may not have been told that
    /// it was stored: an incident taken up follows the epoch, and a vacancy without an incident begins one.
    fn found_under_way(&mut self, intent: &Intent, view: &View, now: Mono) {
        if view.underway.iter().any(|key| key.what == "declare") {
            return;
        }
        if let Some(incident) = self.open.as_mut().filter(|incident| incident.epoch < intent.epoch)
            && intent.primary.is_some()
        {
            incident.epoch = intent.epoch;
            incident.to.clone_from(&intent.primary);
        }
        let recorded = self.open.as_ref().is_some_and(|incident| {
            incident.kind == IncidentKind::Failover && incident.epoch == intent.epoch
        });
        if intent.primary.is_none() && !recorded {
            let cause = Cause {
                summary: "a failover was found under way; who declared it left no record".to_owned(),
                evidence: Vec::new(),
            };
            self.begin(IncidentKind::Failover, intent, intent.previous.as_ref(), Some(cause), view, now);
            let onset = onset(view, EndpointKind::Primary, intent.previous.as_ref()).unwrap_or(now);
            self.mark(MarkName::Onset, onset);
            self.mark(MarkName::Suspected, now);
            self.mark(MarkName::Confirmed, now);
        }
    }

    fn restart_in_place(&mut self, intent: &Intent, view: &View, plan: &Plan, now: Mono) {
        let serves =
            plan.steps.iter().any(|step| matches!(step, Step::Order { command: Command::Serve { .. }, .. }));
        let ongoing = self.open.as_ref().is_some_and(|incident| incident.rto_ms().is_none());
        let Some(cause) = plan.cause.clone().filter(|_| serves && !ongoing) else { return };
        self.begin(IncidentKind::Restart, intent, intent.primary.as_ref(), Some(cause), view, now);
        let onset = onset(view, EndpointKind::Primary, intent.primary.as_ref()).unwrap_or(now);
        self.mark(MarkName::Onset, onset);
        self.mark(MarkName::Suspected, plan.suspected.unwrap_or(now).max(onset));
        self.mark(MarkName::Confirmed, now);
    }
}

/// The last byte that a server sent through an endpoint of the kind while it led to `target`; else the last good
/// probe, where there was no traffic.
fn onset(view: &View, kind: EndpointKind, target: Option<&NodeId>) -> Option<Mono> {
    let facts = view.nodes.values().flat_map(|node| node.endpoints.values()).map(|seen| &seen.value);
    let byte = |facts: &EndpointFacts| {
        if facts.target.as_ref() == target { facts.last_server_byte } else { facts.last_byte_before }
    };
    let served = facts.filter(|facts| facts.kind == kind).filter_map(byte).max();
    let agent = view.agent(target?);
    let probed = agent.and_then(|agent| match kind {
        EndpointKind::App | EndpointKind::Apps => agent.app.as_ref()?.last_ok,
        EndpointKind::Primary | EndpointKind::Standbys => match &agent.server.value {
            Server::Primary(primary) => primary.probe.last_ok,
            Server::Down(down) => down.since,
            _ => None,
        },
    });
    served.max(probed)
}

/// True if every acknowledged commit was on a standby. The sets that a vacancy keeps say so as of the declaration; the
/// last reading may be from before the set was proven, or from before it was emptied.
fn is_safe(next: &Intent, live: Option<&LiveRpo>) -> bool {
    match &next.primary {
        None => !next.sync.is_empty() && !next.sync_next.is_empty(),
        Some(_) => live.is_some_and(|live| live.acknowledged_is_safe),
    }
}

/// What the endpoints have counted since the incident began: `before`, or what a former leader recorded, is gone on from.
fn counted(before: &mut Option<[u64; 3]>, recorded: [u64; 3], now: [u64; 3]) -> [u64; 3] {
    let before = before.get_or_insert_with(|| std::array::from_fn(|i| now[i].saturating_sub(recorded[i])));
    // A member that was started again counts from zero: nothing is taken back.
    std::array::from_fn(|i| now[i].saturating_sub(before[i]).max(recorded[i]))
}

fn counts(view: &View) -> [u64; 3] {
    let all = view.nodes.values().flat_map(|node| node.endpoints.values()).map(|seen| &seen.value);
    all.fold([0; 3], |[cut, held, refused], facts| {
        [cut + facts.cut_total, held + facts.held_total, refused + facts.refused_total]
    })
}

/// How long the servers behind the endpoints were silent: between the last byte of the one before and the first of the
/// one after. Endpoints that had been silent for long before the onset say nothing of the outage.
fn longest_gap_ms(incident: &Incident, view: &View) -> Option<f64> {
    const IN_USE: Duration = Duration::from_secs(1);
    let (onset, to) = (incident.at(MarkName::Onset)?, incident.to.as_ref()?);
    let kind = match incident.kind {
        IncidentKind::AppFailover => EndpointKind::App,
        IncidentKind::Failover
        | IncidentKind::Switchover
        | IncidentKind::Restart
        | IncidentKind::LeftRecovery => EndpointKind::Primary,
    };
    let facts = view.nodes.values().flat_map(|node| node.endpoints.values()).map(|seen| &seen.value);
    let in_use = |facts: &&EndpointFacts| {
        let last = facts.last_byte_before;
        // An endpoint that has yet to move on shows the gap of an earlier incident.
        facts.kind == kind
            && facts.target.as_ref() == Some(to)
            && facts.stamp.epoch >= incident.epoch
            && last.is_some_and(|last| last >= onset.back(IN_USE))
    };
    let longest = facts.filter(in_use).filter_map(|facts| facts.traffic.last_gap_us).max()?;
    Some(Duration::from_micros(longest).as_secs_f64() * 1000.0)
}

/// What is seen, and since when a member must have been heard for its endpoints to count.
#[derive(Clone, Copy)]
struct Reached<'a> {
    view: &'a View,
    since: Mono,
}

fn leads_to(reached: Reached<'_>, kind: EndpointKind, node: Option<&NodeId>, intent: &Intent) -> bool {
    let heard = reached.view.nodes.values().filter(|member| member.heard >= reached.since);
    let mut of_kind = heard
        .flat_map(|member| member.endpoints.values())
        .map(|seen| &seen.value)
        .filter(|facts| facts.kind == kind);
    of_kind.all(|facts| {
        facts.target.as_ref() == node && facts.mode == Mode::Open && facts.stamp.same_epoch(intent.stamp())
    })
}

fn progress(incident: &mut Incident, reached: Reached<'_>, intent: &Intent, now: Mono) {
    let view = reached.view;
    let Some(node) = &intent.primary else { return };
    let begun = incident.at(MarkName::Onset).is_some();
    let handing_over = intent.handover.is_some();
    if !begun || handing_over {
        return;
    }
    let server = view.agent(node).map(|agent| (&agent.server.value, agent.primary_since));
    let promoted = matches!(server, Some((Server::Primary(p), Some(since))) if p.writable && since.same_epoch(intent.stamp()));
    if !promoted {
        return;
    }
    incident.mark(MarkName::Promoted, now);
    if !leads_to(reached, EndpointKind::Primary, Some(node), intent) {
        return;
    }
    incident.mark(MarkName::Repointed, now);
    let verified = view.verified.is_some_and(|stamp| stamp.same_epoch(intent.stamp()));
    if incident.at(MarkName::Verified).is_none() && !(verified && incident.abandoned.is_some()) {
        return;
    }
    incident.mark(MarkName::Verified, now);
    if app_is_ready(incident, reached, intent) {
        incident.mark(MarkName::AppReady, now);
    }
    if incident.rto_ms().is_some() && redundant(view, intent) {
        incident.mark(MarkName::RedundancyRestored, now);
    }
}

/// A WAL rescue begins when the fence is known, and ends with what it brought. Of several the most counts: one that is
/// repeated finds nothing missing.
fn note_rescue(incident: &mut Incident, intent: &Intent, view: &View, now: Mono) {
    let ongoing = incident.kind == IncidentKind::Failover && incident.epoch == intent.epoch;
    if !ongoing || incident.at(MarkName::Promoted).is_some() {
        return;
    }
    let ordered = |key: &StepKey| key.agent && key.epoch == intent.epoch && key.what.starts_with("Rescue");
    if intent.primary.is_none() && view.underway.iter().any(ordered) {
        incident.mark(MarkName::Fenced, now);
    }
    let agents = view.nodes.values().filter_map(|node| node.agent.as_ref()?.rescued.as_ref());
    let ended =
        agents.filter(|rescued| rescued.under.same_epoch(intent.stamp())).map(|rescued| rescued.bytes);
    if let Some(bytes) = ended.max() {
        incident.rpo.rescued_bytes = incident.rpo.rescued_bytes.max(Some(bytes));
        if intent.primary.is_none() {
            incident.mark(MarkName::Fenced, now);
            incident.mark(MarkName::Rescued, now);
        }
    }
}

/// Notes how far each endpoint has come. True if one is still being waited for, which its own limit bounds.
fn note_repoints(incident: &mut Incident, view: &View, intent: &Intent) -> bool {
    let Some(onset) = incident.at(MarkName::Onset) else { return false };
    if intent.primary.is_none() || intent.handover.is_some() {
        return false;
    }
    let kind = |kind| incident.kind != IncidentKind::AppFailover || kind == EndpointKind::App;
    let all = view.nodes.iter().flat_map(|(member, node)| {
        node.endpoints.iter().map(move |(name, seen)| (member, name, &seen.value))
    });
    let mut waits = false;
    let mut lines = Vec::new();
    for (member, name, facts) in all.filter(|(.., facts)| kind(facts.kind)) {
        // One of another epoch, or from before, is no part of this.
        let part = |repoint: &&Repoint| repoint.under.same_epoch(intent.stamp()) && repoint.began >= onset;
        let Some(repoint) = facts.repoint.as_ref().filter(part) else { continue };
        waits |= repoint.confirmed.is_none() && !repoint.given_up;
        lines.push(Repointed {
            member: member.clone(),
            endpoint: name.clone(),
            driver: facts.driver,
            took_ms: repoint.confirmed.map(|at| at.ms_since(repoint.began)),
            after_ms: repoint.confirmed.map(|at| at.ms_since(onset)),
            error: facts.problem.clone().filter(|_| repoint.confirmed.is_none()),
        });
    }
    for line in lines {
        let same = |known: &&mut Repointed| known.member == line.member && known.endpoint == line.endpoint;
        match incident.repoints.iter_mut().find(same) {
            Some(known) if known.after_ms.is_none() => *known = line,
            Some(_) => {}
            None => incident.repoints.push(line),
        }
    }
    waits
}

/// The active app server has answered since the endpoints led to the new primary, or there is none.
fn app_is_ready(incident: &Incident, reached: Reached<'_>, intent: &Intent) -> bool {
    let view = reached.view;
    let Some(active) = &intent.app else { return true };
    let Some(app) = view.agent(active).and_then(|agent| agent.app.as_ref()) else {
        return view.nodes.values().all(|node| node.agent.as_ref().is_none_or(|agent| agent.app.is_none()));
    };
    let since = incident.at(MarkName::Repointed).unwrap_or_default();
    let answered = app.healthy && app.last_ok.is_some_and(|at| at >= since);
    answered && leads_to(reached, EndpointKind::App, Some(active), intent)
}

fn redundant(view: &View, intent: &Intent) -> bool {
    let streams = |agent: &crate::model::AgentFacts| matches!(&agent.server.value, Server::Standby(s) if s.streaming && s.recruited.is_none());
    let any = view.nodes.values().filter_map(|node| node.agent.as_ref()).any(streams);
    let promised = intent.durability == crate::model::Durability::Async
        || (!intent.sync.is_empty() && intent.sync == intent.sync_next);
    any && promised
}

fn progress_of_app(incident: &mut Incident, reached: Reached<'_>, intent: &Intent, now: Mono) {
    let view = reached.view;
    let Some(active) = &intent.app else { return };
    incident.mark(MarkName::Chosen, now);
    if !leads_to(reached, EndpointKind::App, Some(active), intent) {
        return;
    }
    incident.mark(MarkName::Repointed, now);
    let app = view.agent(active).and_then(|agent| agent.app.as_ref());
    if app.is_some_and(|app| app.healthy) {
        incident.mark(MarkName::AppReady, now);
    }
    let other = view
        .nodes
        .iter()
        .filter(|(node, _)| *node != active)
        .filter_map(|(_, node)| node.agent.as_ref()?.app.as_ref());
    if incident.rto_ms().is_some() && other.into_iter().any(|app| app.healthy || app.startable) {
        incident.mark(MarkName::RedundancyRestored, now);
    }
}

/// The wall-clock time of the onset and the age of the live RPO, once the onset is known.
fn settle_times(incident: &mut Incident, (now, wall): (Mono, Timestamp)) {
    let Some(onset) = incident.at(MarkName::Onset) else { return };
    if let Ok(ago) = jiff::SignedDuration::try_from(now.since(onset))
        && incident.marks.len() <= 3
    {
        incident.started_at = wall - ago;
    }
    if let Some(live) = &incident.live {
        incident.rpo.as_of_ms = onset.ms_since(live.as_of);
    }
}
