//! One member's controller: what it knows, its leadership, what it has begun. It does what `locum::controller` does;
//! the decisions are those of the real planner.

use std::collections::{BTreeMap, BTreeSet};

use locum::{
    model::{
        Attempt, Command, Hold, Intent, Known, LeaseRecord, LeaseSeen, LiveRpo, MemberFacts, Mono, NodeId,
        NodeView, PositionLog, Primary, Renewals, Reply, Request, RequestKind, RouteOrder, Seen, Server,
        Stamp, Standby, Step, StepKey, View,
    },
    planner::{Memory, Plan, plan},
};

use super::{
    Tick, bug::Bug, checks::Checks, host::HostClock, host_of, log::Log, mix::Mix, node, plant, rng::Rng,
};

/// Answers to short orders are given up after this.
pub(crate) const SHORT: Tick = 1500;
/// What copies data may take hours.
pub(crate) const LONG: Tick = 2_000_000;
/// How long another member may show no sign of life while it has an order.
pub(crate) const SIGN_OF_LIFE: Tick = 500;
/// How long an order to another member's endpoint may take altogether.
pub(crate) const QUICK: Tick = 200;
/// The loop plans at least this often.
const TURN: Tick = 5;
/// A turn that comes this much later than the one before means that this member was stalled.
const STALL: Tick = 25;
/// A leader beside the primary hands over leadership only after this long without change.
const SETTLED: Tick = 300;

/// A leadership, and until when it may be believed, by the own clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leading {
    pub(crate) created: i64,
    pub(crate) until: Mono,
}

/// Something begun that has not reached anybody yet. It stays in hand while the controller is frozen.
#[derive(Clone)]
pub(crate) struct Task {
    pub(crate) due: Tick,
    pub(crate) key: StepKey,
    pub(crate) work: Work,
}

#[derive(Clone)]
pub(crate) enum Work {
    Declare { created: i64, basis: Box<Option<(Intent, i64)>>, next: Box<Intent>, rpo: Option<LiveRpo> },
    Amend { basis: Box<(Intent, i64)>, next: Box<Intent> },
    FenceCommand { node: NodeId, stamp: Stamp },
    Order { node: NodeId, stamp: Stamp, command: Command },
    Route { node: NodeId, stamp: Stamp, order: RouteOrder },
    Verify { stamp: Stamp, sent: Option<(Tick, Vec<u32>)> },
    Drain { stamp: Stamp },
}

/// An order that was sent and is not answered.
pub(crate) struct Pending {
    pub(crate) key: StepKey,
    pub(crate) to: usize,
    pub(crate) deadline: Tick,
    pub(crate) life_seen: Tick,
    /// Which life of the other member it was sent to.
    pub(crate) lives: u64,
    /// The connection broke: there will be no more signs of life.
    pub(crate) broken: bool,
}

/// What came of a step.
pub(crate) enum Effect {
    None,
    Declared { before: Box<Option<Intent>>, next: Box<Intent>, revision: i64 },
    Drained(Stamp),
    Verified(Stamp),
    Amended(Box<Intent>, i64),
    FencedByCommand(NodeId, Stamp),
}

/// A read of the primary lease that is under way.
pub(crate) struct LeaseRead {
    pub(crate) under: Option<Stamp>,
    pub(crate) missed: Option<Renewals>,
    pub(crate) asked: Tick,
    pub(crate) answered: Tick,
    /// What it found, once it has reached the store.
    pub(crate) found: Option<Option<(LeaseRecord, i64)>>,
}

pub(crate) struct Controller {
    pub(crate) host: usize,
    clock: HostClock,
    pub(crate) leader: Option<NodeId>,
    /// When the intent that is known was adopted, and when the read that is under way began.
    adopted: Tick,
    pub(crate) read_asked: Tick,
    pub(crate) remembered: Option<Stamp>,
    heard_of: Option<Stamp>,
    /// The latest renewal of the lease that it ever read, or that anybody said to know of.
    pub(crate) renewals: Option<Renewals>,
    pub(crate) lease: LeaseSeen,
    /// Somebody knew of a later renewal than the last one that was read, when the last read began.
    lease_known: Option<Renewals>,
    lease_revision: Option<i64>,
    pub(crate) lease_read: Option<LeaseRead>,
    fenced_by_command: Option<(NodeId, Stamp)>,
    turned: Tick,
    pub(crate) awake_since: Tick,
    members: BTreeSet<NodeId>,
    pub(crate) nodes: BTreeMap<NodeId, NodeView>,
    pub(crate) intent: Option<(Intent, i64)>,
    epoch_since: Tick,
    pub(crate) leading: Option<Leading>,
    pub(crate) next_try: Tick,
    pub(crate) read_at: Option<Tick>,
    pub(crate) read: Option<i64>,
    verified: Option<Stamp>,
    drained: Option<Stamp>,
    pub(crate) requests: Vec<Request>,
    underway: BTreeSet<StepKey>,
    attempts: BTreeMap<StepKey, Attempt>,
    failovers: Vec<Mono>,
    sampler: Sampler,
    memory: Memory,
    pub(crate) tasks: Vec<Task>,
    pub(crate) pending: BTreeMap<u64, Pending>,
    pub(crate) frozen_until: Tick,
    turn_at: Tick,
    pub(crate) dirty: bool,
    /// Since when every plan was without steps and all was well.
    pub(crate) well_since: Option<Tick>,
    pub(crate) holds: Vec<Hold>,
}

impl Controller {
    pub(crate) fn new(host: usize, hosts: usize, clock: HostClock, now: Tick) -> Self {
        Self {
            host,
            clock,
            leader: None,
            adopted: 0,
            read_asked: now,
            remembered: None,
            heard_of: None,
            renewals: None,
            lease: LeaseSeen::default(),
            lease_known: None,
            lease_revision: None,
            lease_read: None,
            fenced_by_command: None,
            turned: now,
            awake_since: now,
            members: (0..hosts).map(node).collect(),
            nodes: BTreeMap::new(),
            intent: None,
            epoch_since: now,
            leading: None,
            next_try: now,
            read_at: None,
            read: None,
            verified: None,
            drained: None,
            requests: Vec::new(),
            underway: BTreeSet::new(),
            attempts: BTreeMap::new(),
            failovers: Vec::new(),
            sampler: Sampler::default(),
            memory: Memory::default(),
            tasks: Vec::new(),
            pending: BTreeMap::new(),
            frozen_until: 0,
            turn_at: now,
            dirty: true,
            well_since: None,
            holds: Vec::new(),
        }
    }

    /// What it knows of the store.
    pub(crate) fn knows_of(&self) -> Known {
        Known { stamp: self.remembered.max(self.heard_of), renewals: self.renewals }
    }

    pub(crate) fn leads(&self, now: Tick) -> bool {
        self.leading.is_some_and(|leading| self.clock.at(now) < leading.until)
    }

    /// When it heard each member last.
    pub(crate) fn hears(&self) -> BTreeMap<NodeId, Mono> {
        self.nodes.iter().map(|(node, view)| (node.clone(), view.heard)).collect()
    }

    // ---- what comes in ------------------------------------------------------------------------

    pub(crate) fn heard(&mut self, facts: MemberFacts, at: Mono) {
        if self.nodes.get(&facts.node).is_some_and(|known| known.heard > at) {
            return;
        }
        let promise = facts.agent.as_ref().and_then(|agent| agent.promise);
        self.heard_of = self.heard_of.max(facts.remembered).max(promise);
        let endpoints = facts.endpoints.into_iter().map(|(name, value)| (name, Seen { value, at })).collect();
        let MemberFacts { node, remembered, renewals, noted, hears, agent, .. } = facts;
        self.renewals = self.renewals.max(renewals);
        self.nodes.insert(node, NodeView { heard: at, remembered, renewals, noted, hears, agent, endpoints });
        self.sampler.sample(self.intent.as_ref().map(|(intent, _)| intent), &self.nodes);
        self.dirty = true;
    }

    /// The store was read. An older intent than one already known is a late read, unless the read began after that one was
    /// known: then the store has gone back.
    pub(crate) fn stored(
        &mut self,
        intent: Option<(Intent, i64)>,
        leader: Option<NodeId>,
        now: Tick,
        bug: Option<Bug>,
    ) {
        (self.leader, self.dirty) = (leader, true);
        let late = self.read_asked <= self.adopted;
        match intent {
            Some((intent, revision)) if self.goes_back(&intent) && !late => {
                self.intent = Some((intent, revision))
            }
            Some((intent, revision)) => self.adopt(intent, revision, now, bug),
            None if late => {}
            None => self.intent = None,
        }
    }

    fn goes_back(&self, intent: &Intent) -> bool {
        self.remembered.is_some_and(|remembered| intent.stamp() < remembered)
    }

    /// The store was read, or written by this controller.
    pub(crate) fn adopt(&mut self, intent: Intent, revision: i64, now: Tick, bug: Option<Bug>) {
        let known = self.intent.as_ref();
        let older = self.goes_back(&intent) || known.is_some_and(|(known, _)| known.stamp() > intent.stamp());
        if older && bug != Some(Bug::OldStoreBelieved) {
            return;
        }
        if known.is_some_and(|(known, _)| *known == intent) {
            self.intent = Some((intent, revision));
            return;
        }
        (self.adopted, self.remembered) = (now, Some(intent.stamp()));
        if known.is_none_or(|(known, _)| known.epoch != intent.epoch) {
            self.epoch_since = now;
            self.attempts.clear();
        }
        self.intent = Some((intent, revision));
        self.dirty = true;
    }

    /// The store is another one now: every watch has broken, and what was read is read anew.
    pub(crate) fn watches_broke(&mut self) {
        (self.read, self.read_at, self.lease_revision) = (None, None, None);
    }

    /// True if the lease is to be read now: it was renewed, or another intent is known to stand.
    pub(crate) fn wants_lease(&self, revision: Option<i64>) -> bool {
        let stands = self.intent.as_ref().map(|(intent, _)| intent.stamp());
        let missed = self.renewals_not_read() > self.lease_known;
        self.lease_read.is_none()
            && (missed || self.lease.read_under != stands || self.lease_revision != revision)
    }

    /// The latest renewal that anybody knows of, if it is later than the last one that was read.
    pub(crate) fn renewals_not_read(&self) -> Option<Renewals> {
        let read = self.lease.last.as_ref().map(|last| last.value.renewals());
        self.renewals.filter(|known| Some(*known) > read)
    }

    pub(crate) fn lease_told(
        &mut self,
        found: Option<(LeaseRecord, i64)>,
        (under, missed): (Option<Stamp>, Option<Renewals>),
        now: Tick,
    ) {
        let known = self.lease.last.take();
        self.lease_revision = found.as_ref().map(|(_, revision)| *revision);
        self.renewals = self.renewals.max(found.as_ref().map(|(record, _)| record.renewals()));
        self.lease.renewed |=
            known.as_ref().zip(found.as_ref()).is_some_and(|(known, (record, _))| known.value != *record);
        let at = self.clock.at(now);
        self.lease.last = found.map(|(record, _)| match known {
            Some(known) if known.value == record => known,
            _ => Seen { value: record, at },
        });
        (self.lease.read_under, self.lease.known, self.dirty) = (under, missed, true);
        self.lease_known = missed;
    }

    /// Leadership was gained, with how long ago the store says failovers were, by the wall clock; or lost.
    pub(crate) fn lead(&mut self, leading: Option<Leading>, past: &[i64], now: Tick) {
        if self.leading.is_some() != leading.is_some() {
            let Memory { advanced, crashes, .. } = std::mem::take(&mut self.memory);
            self.memory = Memory { advanced, crashes, ..Memory::default() };
            if leading.is_some() {
                let at = |ago: &i64| self.clock.at(now.saturating_sub(u64::try_from(*ago).unwrap_or(0)));
                self.failovers = past.iter().map(at).collect();
            } else {
                self.requests.clear();
            }
        }
        self.leading = leading;
        self.dirty = true;
    }

    /// A step has ended.
    pub(crate) fn ended(
        &mut self,
        key: StepKey,
        outcome: Result<Effect, String>,
        now: Tick,
        bug: Option<Bug>,
    ) {
        self.underway.remove(&key);
        self.dirty = true;
        let effect = match outcome {
            Ok(effect) => effect,
            Err(error) => {
                let failures = self.attempts.get(&key).map_or(0, |attempt| attempt.failures) + 1;
                self.attempts.insert(key, Attempt { failures, at: self.clock.at(now), error });
                return;
            }
        };
        self.attempts.remove(&key);
        match effect {
            Effect::None => {}
            Effect::Drained(stamp) => self.drained = Some(stamp),
            Effect::Verified(stamp) => self.verified = Some(stamp),
            Effect::Amended(next, revision) => self.adopt(*next, revision, now, bug),
            Effect::FencedByCommand(node, stamp) => self.fenced_by_command = Some((node, stamp)),
            Effect::Declared { before, next, revision } => {
                let before_life = before.as_ref().as_ref().map(|before| before.incarnation);
                if before.is_some_and(|before| before.primary.is_some() && next.primary.is_none()) {
                    self.failovers.push(self.clock.at(now));
                }
                self.requests.retain(|request| match &request.kind {
                    RequestKind::Pause => !next.paused,
                    RequestKind::Resume => next.paused,
                    RequestKind::Drain { node } => !next.drained.contains(node),
                    RequestKind::Remove { node } => !next.removed.contains(node),
                    RequestKind::Restore { node } => {
                        next.drained.contains(node) || next.removed.contains(node)
                    }
                    RequestKind::Rejoin { .. } => {
                        next.rejoin.as_ref().is_none_or(|asked| asked.operation != request.operation)
                    }
                    RequestKind::AcceptStore => before_life.is_some_and(|before| before == next.incarnation),
                    // Nobody asks for these here.
                    RequestKind::Schedule { .. } | RequestKind::Cancel => false,
                    RequestKind::Switchover { .. } => {
                        next.handover.as_ref().is_none_or(|handover| handover.operation != request.operation)
                    }
                });
                self.adopt(*next, revision, now, bug);
            }
        }
    }

    /// A member has answered an order.
    pub(crate) fn answered(
        &mut self,
        id: u64,
        reply: Reply,
        facts: MemberFacts,
        now: Tick,
        bug: Option<Bug>,
    ) {
        let at = self.clock.at(now);
        let facts = if facts.node == node(self.host) { facts } else { facts.rebased(at) };
        self.heard(facts, at);
        let Some(pending) = self.pending.remove(&id) else { return };
        let outcome = match reply {
            Reply::Done => Ok(Effect::None),
            Reply::Refused(why) => Err(format!("refused: {why}")),
            Reply::Failed(why) => Err(why),
        };
        self.ended(pending.key, outcome, now, bug);
    }

    // ---- plan ---------------------------------------------------------------------------------

    pub(crate) fn view(&self, now: Tick, bug: Option<Bug>) -> View {
        let mut view = View {
            node: Some(node(self.host)),
            leading: self.leads(now),
            leader: self.leader.clone(),
            wall: jiff::Timestamp::UNIX_EPOCH,
            awake_since: self.clock.at(self.awake_since),
            store_error: None,
            remembered: self.knows_of().stamp,
            renewals: self.renewals,
            lease: self.lease.clone(),
            fenced_by_command: self.fenced_by_command.clone(),
            members: self.members.clone(),
            intent: self.intent.as_ref().map(|(intent, _)| intent.clone()),
            nodes: self.nodes.clone(),
            rpo: self.sampler.last.clone(),
            verified: self.verified,
            drained: self.drained,
            requests: self.requests.clone(),
            underway: self.underway.clone(),
            attempts: self.attempts.clone(),
            failovers: self.failovers.clone(),
        };
        if bug == Some(Bug::OldStoreBelieved)
            && let Some(intent) = &view.intent
        {
            let stamp = intent.stamp();
            view.remembered = view.remembered.min(Some(stamp));
            for node in view.nodes.values_mut() {
                node.remembered = node.remembered.min(Some(stamp));
                if let Some(agent) = &mut node.agent {
                    agent.promise = agent.promise.map(|promise| promise.min(stamp));
                }
            }
        }
        plant::see(bug, &mut view);
        view
    }

    /// Plans, if it is time to, and begins what is planned. True: this leader had better resign.
    pub(crate) fn turn(
        &mut self,
        now: Tick,
        mix: &Mix,
        rng: &mut Rng,
        checks: &mut Checks,
        log: &mut Log,
        (bug, unreliable): (Option<Bug>, bool),
    ) -> bool {
        if !(self.dirty || now >= self.turn_at) {
            return false;
        }
        (self.dirty, self.turn_at) = (false, now + TURN);
        if now - self.turned > STALL {
            self.awake_since = now;
        }
        self.turned = now;
        let (view, at) = (self.view(now, bug), self.clock.at(now));
        let mut decided = plan(&view, &self.memory, &mix.policy, at);
        if rng.chance(20) && decided != plan(&view, &self.memory, &mix.policy, at) {
            checks.violate(|| "the same facts were planned on twice, with two outcomes".to_owned());
        }
        plant::ask(bug, &view, &mut decided, at);
        let well = view.leading && decided.steps.is_empty() && decided.holds == [Hold::AllWell];
        self.well_since = well.then(|| self.well_since.unwrap_or(now));
        if log.on && decided.holds != self.holds {
            let holds: Vec<String> = decided.holds.iter().map(ToString::to_string).collect();
            log.say(|| format!("controller {}: {}", self.host, holds.join(" | ")));
        }
        self.holds.clone_from(&decided.holds);
        for step in &decided.steps {
            let awake = now - self.awake_since;
            checks.planned(step, &view, decided.cause.as_ref(), awake);
            // Work may stay in hand for a while, and be stale by then.
            let stays =
                if unreliable && rng.chance(mix.late) { rng.range(1, mix.late_most) } else { rng.below(2) };
            self.begin(step, &decided, (now, stays), rng, log);
        }
        self.memory = decided.memory;
        view.leading && self.had_better_resign(&view, now)
    }

    fn had_better_resign(&self, view: &View, now: Tick) -> bool {
        let Some(intent) = &view.intent else { return false };
        let (at, me) = (self.clock.at(now), node(self.host));
        let here = intent.primary.as_ref() == Some(&me);
        let heard =
            view.nodes.iter().any(|(other, seen)| *other != me && at.since(seen.heard).as_millis() < 500);
        let settled =
            now - self.epoch_since > SETTLED && self.underway.is_empty() && self.requests.is_empty();
        here && heard && settled && self.well_since.is_some() && intent.handover.is_none()
    }

    fn begin(&mut self, step: &Step, plan: &Plan, (now, stays): (Tick, Tick), rng: &mut Rng, log: &mut Log) {
        let key = step.key();
        if self.underway.contains(&key) {
            return;
        }
        let because = plan.cause.as_ref().filter(|_| matches!(step, Step::Declare(_)));
        log.say(|| {
            let why = because.map_or(String::new(), |cause| format!(" because {}", cause.summary));
            let what = match step {
                Step::Declare(next) | Step::Amend(next) => {
                    format!("{step}, sync {:?} next {:?}", names(&next.sync), names(&next.sync_next))
                }
                _ => step.to_string(),
            };
            format!("controller {}: {what}{why}", self.host)
        });
        let work = match step.clone() {
            Step::Refuse { operation, .. } => {
                return self.requests.retain(|request| request.operation != operation);
            }
            Step::Declare(next) => {
                let Some(leading) = self.leading else { return };
                let (basis, rpo) = (Box::new(self.intent.clone()), self.sampler.last.clone());
                Work::Declare { created: leading.created, basis, next: Box::new(next), rpo }
            }
            Step::Amend(next) => {
                let Some(basis) = self.intent.clone() else { return };
                Work::Amend { basis: Box::new(basis), next: Box::new(next) }
            }
            Step::FenceCommand { node, stamp } => Work::FenceCommand { node, stamp },
            Step::Order { node, command, stamp } => {
                if matches!(command, Command::Serve { .. }) {
                    // A server that is started anew has proven nothing, though its epoch is the same.
                    self.verified = None;
                }
                Work::Order { node, stamp, command }
            }
            Step::Route { member, order, stamp, .. } => Work::Route { node: member, stamp, order },
            Step::Verify { stamp } => Work::Verify { stamp, sent: None },
            Step::Drain { stamp, .. } => Work::Drain { stamp },
        };
        self.underway.insert(key.clone());
        let wait = match work {
            Work::Drain { .. } => rng.range(1, 20),
            Work::FenceCommand { .. } => rng.range(10, 100),
            _ => 0,
        };
        self.tasks.push(Task { due: now + stays + wait, key, work });
    }
}

fn names(set: &[locum::model::Member]) -> Vec<&str> {
    set.iter().map(|member| member.name.0.as_str()).collect()
}

/// The live RPO, as `controller::sampler` samples it.
#[derive(Default)]
struct Sampler {
    of: Option<NodeId>,
    positions: PositionLog,
    last: Option<LiveRpo>,
}

impl Sampler {
    fn sample(&mut self, intent: Option<&Intent>, nodes: &BTreeMap<NodeId, NodeView>) {
        let Some((intent, primary_node)) = intent.and_then(|intent| Some((intent, intent.primary.as_ref()?)))
        else {
            return;
        };
        let Some(agent) = nodes.get(primary_node).and_then(|view| view.agent.as_ref()) else { return };
        let (Server::Primary(primary), at) = (&agent.server.value, agent.server.at) else { return };
        if self.last.as_ref().is_some_and(|last| last.as_of >= at) {
            return;
        }
        if self.of.as_ref() != Some(primary_node) {
            *self = Self { of: Some(primary_node.clone()), ..Self::default() };
        }
        self.positions.note(at, primary.flushed);
        let others = nodes.iter().filter(|(node, _)| *node != primary_node);
        let agents = others.filter_map(|(node, view)| Some((node, view.agent.as_ref()?)));
        let best = agents
            .filter_map(|(node, agent)| Some((node.clone(), position(agent, primary, at, intent)?)))
            .max_by_key(|(_, lsn)| *lsn);
        let safe = !intent.sync_next.is_empty() && !intent.sync.is_empty();
        self.last = Some(self.positions.live(at, primary.flushed, best, safe));
    }
}

fn position(
    agent: &locum::model::AgentFacts,
    primary: &Primary,
    at: Mono,
    intent: &Intent,
) -> Option<locum::model::Lsn> {
    let shares = |standby: &Standby| {
        intent.settled && intent.switch.is_none_or(|switch| standby.history.contains(&switch))
    };
    let sender = primary.senders.iter().find(|sender| sender.name == agent.standby_name);
    sender.map(|sender| sender.flushed).or_else(|| match &agent.server.value {
        Server::Standby(standby) if agent.server.at <= at && shares(standby) => Some(standby.flushed),
        _ => None,
    })
}

/// Where a node's member runs.
pub(crate) fn member(node: &NodeId) -> usize {
    host_of(node).expect("one of the nodes")
}
