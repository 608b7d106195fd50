//! One agent: its promise file, what it knows of its server, and the orders it takes. `jobs` carries them out.
//!
//! It does what `locum::agent` does, rule by rule; what is left out is how.

use std::{collections::VecDeque, time::Duration};

use locum::model::{
    AgentFacts, Command, Control, ControlState, Down, GuardFacts, Lsn, Mono, NodeId, Noted, Primary, Probe,
    Reached, Renewals, ReplayEffort, ReplayState, Reply, Rescued, Seen, Server, Slot, Stamp, Standby,
    StandbyName, SystemId, Timeline, Unfinished, Upstream, Version, WalSender,
};

use super::{
    Tick,
    bug::Bug,
    checks::Checks,
    confirmed::Confirmed,
    guard::Guard,
    host::Host,
    host_of,
    jobs::Job,
    log::Log,
    mix::Mix,
    node,
    postgres::{Pg, Proc, lsn},
    right::{Known, Out, Round, Told, Verdict},
    rng::Rng,
};

/// Between two looks at a server that runs, and two heartbeats.
const LOOK: Tick = 10;
/// A probe without an answer for this long is shown as failing.
const SHOWN: Tick = 30;
/// How long an order waits for the one before it.
const TURN: Tick = 500;
/// Between two renewals of the lease.
const RENEW: Tick = 20;

/// The promise file: what survives the member.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) promise: Option<Stamp>,
    pub(crate) primary_since: Option<Stamp>,
    pub(crate) name: StandbyName,
    pub(crate) unfinished: Option<Unfinished>,
    pub(crate) recruited: Option<Stamp>,
    pub(crate) paused: Option<Stamp>,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) admitted: Option<(Stamp, Vec<NodeId>)>,
    pub(crate) vouched: Option<(Stamp, Duration)>,
}

/// Whom to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) host: usize,
    pub(crate) id: u64,
}

struct Waiting {
    stamp: Stamp,
    command: Command,
    asker: Asker,
    since: Tick,
}

pub(crate) struct Agent {
    pub(crate) host: usize,
    pub(crate) disk: Disk,
    pub(crate) server: Seen<Server>,
    /// A server of its directory has answered as a primary in this life.
    pub(crate) answered: bool,
    /// The postmaster it is attached to.
    pub(crate) attached: u64,
    /// The agent itself is ending the server.
    pub(crate) expected: bool,
    probe: Probe,
    probing: Option<Tick>,
    probe_at: Tick,
    pub(crate) names_proven: Option<(Version, Lsn)>,
    pub(crate) checkpointed: Option<Version>,
    pub(crate) recruited: Option<Stamp>,
    /// Where it attested that it stands still.
    pub(crate) stood_at: usize,
    pub(crate) rescued: Option<Rescued>,
    failed: Vec<(String, String)>,
    /// When the dead server's control file and end of WAL will have been read.
    pub(crate) remains_at: Option<Tick>,
    look_at: Tick,
    job: Option<Job>,
    queue: VecDeque<Waiting>,
    pub(crate) serves_until: Option<Mono>,
    pub(crate) vouched_until: Option<Mono>,
    pub(crate) known: Known,
    round: Option<Round>,
    renew_at: Tick,
    unwell_since: Option<Mono>,
    /// Where it streamed from last; for a mistake that forgets why it no longer does.
    pub(crate) streamed_from: Option<usize>,
    /// Answers that arrived since the last tick, and what is to be sent after this one.
    inbox: Vec<(u64, Told)>,
    pub(crate) out: Vec<Out>,
    next_id: u64,
    /// Something worth telling has changed.
    pub(crate) changed: bool,
    clones: u32,
    /// What this primary was seen to have, and its standbys to confirm.
    pub(crate) confirmed: Confirmed,
    /// It started where no postmaster ran, and has not read the present term yet: what it remembers may be old.
    pub(crate) unproven: bool,
    /// Whom the primary may ask for their word was noted in this life, or a postmaster has outlived the member.
    pub(crate) list_confirmed: bool,
    /// Its host started: a word that it gave and does not remember may bind it until then.
    pub(crate) waits_until: Option<Mono>,
    /// It serves by the others' word.
    pub(crate) failsafe: bool,
}

/// What an agent can reach during one tick.
pub(crate) struct Reach<'a> {
    pub(crate) now: Tick,
    /// Its host's clock.
    pub(crate) clock: Mono,
    pub(crate) pg: &'a mut Pg,
    pub(crate) guard: &'a mut Guard,
    /// The other hosts, in two parts; and which of all a connection would reach.
    pub(crate) before: &'a [Host],
    pub(crate) after: &'a [Host],
    pub(crate) linked: [bool; super::MOST],
    pub(crate) rng: &'a mut Rng,
    pub(crate) mix: &'a Mix,
    pub(crate) checks: &'a mut Checks,
    pub(crate) log: &'a mut Log,
    pub(crate) bug: Option<Bug>,
    /// The latest renewal of the lease that its member knows of.
    pub(crate) renewals: Option<Renewals>,
    /// What a primary told its member.
    pub(crate) noted: &'a Option<Noted>,
    pub(crate) fresh: &'a mut dyn FnMut() -> u32,
    /// Faults are on.
    pub(crate) unreliable: bool,
}

impl Reach<'_> {
    /// Another server.
    pub(crate) fn other(&self, host: usize) -> Option<&Pg> {
        let here = self.before.len();
        let other =
            if host < here { self.before.get(host) } else { self.after.get(host.wrapping_sub(here + 1)) };
        other.map(|other| &other.pg)
    }
}

fn urgency(command: &Command) -> u8 {
    match command {
        Command::Fence => 2,
        Command::Recruit | Command::Rescue { .. } | Command::Promote { .. } => 1,
        _ => 0,
    }
}

impl Agent {
    pub(crate) fn new(host: usize, name: StandbyName) -> Self {
        let disk = Disk {
            promise: None,
            primary_since: None,
            name,
            unfinished: None,
            recruited: None,
            paused: None,
            upstream: None,
            admitted: None,
            vouched: None,
        };
        Self::of(host, disk)
    }

    fn of(host: usize, disk: Disk) -> Self {
        Self {
            host,
            disk,
            server: Seen { value: Server::Unknown, at: Mono(0) },
            answered: false,
            attached: 0,
            expected: false,
            probe: Probe::default(),
            probing: None,
            probe_at: 0,
            names_proven: None,
            checkpointed: None,
            recruited: None,
            stood_at: 0,
            rescued: None,
            failed: Vec::new(),
            remains_at: None,
            look_at: 0,
            job: None,
            queue: VecDeque::new(),
            serves_until: None,
            vouched_until: None,
            known: Known::default(),
            round: None,
            renew_at: 0,
            unwell_since: None,
            streamed_from: None,
            inbox: Vec::new(),
            out: Vec::new(),
            next_id: 0,
            changed: true,
            clones: 0,
            confirmed: Confirmed::default(),
            unproven: false,
            list_confirmed: true,
            waits_until: None,
            failsafe: false,
        }
    }

    /// The member was killed and starts again: what is left is what is on disk.
    ///
    /// `boot`: the host was off as well, and until when a word may bind that was given before.
    pub(crate) fn restart(&mut self, pg: &mut Pg, clock: Mono, boot: Option<Mono>, bug: Option<Bug>) {
        let mut disk = self.disk.clone();
        if bug == Some(Bug::WordForgotten) {
            disk.vouched = None;
        }
        let mut recruited = None;
        if bug == Some(Bug::PromiseNotKept) {
            disk.promise = disk.primary_since;
        }
        if bug == Some(Bug::RecruitForgotten)
            && let Some(stamp) = disk.recruited
            && let Some(before) = self.streamed_from
        {
            let slot = node(self.host).slot();
            pg.conninfo = Some(super::postgres::Conninfo { host: before, slot, name: disk.name.clone() });
            pg.conninfo_read.clone_from(&pg.conninfo);
            recruited = Some(stamp);
        }
        let (clones, next_id, streamed_from) = (self.clones, self.next_id, self.streamed_from);
        // No disk goes back under a server that runs.
        let unproven = pg.is_down();
        let waits_until = boot.or(self.waits_until);
        // A word given before this start counts again from here.
        let vouched_until = disk.vouched.map(|(_, length)| clock.plus(length));
        *self = Self {
            clones,
            next_id,
            streamed_from,
            recruited,
            vouched_until,
            unproven,
            list_confirmed: !unproven,
            waits_until,
            ..Self::of(self.host, disk)
        };
    }

    /// The term that the store has was read in this life.
    pub(crate) fn learns(&mut self, term: Stamp) {
        if self.unproven {
            self.unproven = false;
            self.disk.promise = self.disk.promise.max(Some(term));
            self.changed = true;
        }
    }

    /// A name that no earlier life of this standby had.
    pub(crate) fn new_name(&mut self) -> StandbyName {
        self.clones += 1;
        StandbyName(format!("{}_{:08x}", node(self.host).slot(), self.clones))
    }

    pub(crate) fn facts(&self, guard: Option<GuardFacts>) -> AgentFacts {
        AgentFacts {
            promise: self.disk.promise,
            primary_since: self.disk.primary_since,
            system: Some(SystemId(7)),
            address: format!("{}:5432", node(self.host)),
            standby_name: self.disk.name.clone(),
            no_failover: false,
            no_sync: false,
            no_clone: false,
            priority: 0,
            serves_until: self.serves_until,
            admitted: self.admitted(),
            vouched_until: self.vouched_until,
            server: self.server.clone(),
            disk_free: None,
            checksum_failures: None,
            recovery_rate: None,
            unfinished: self.disk.unfinished,
            job: self.job.as_ref().map(|job| job.command.name().to_owned()),
            failed: self.failed.clone(),
            lost: None,
            strayed: None,
            hindrances: Vec::new(),
            rescued: self.rescued.clone(),
            guard,
            told: self.disk.upstream.clone(),
            app: None,
            access: Default::default(),
        }
    }

    fn admitted(&self) -> Option<Vec<NodeId>> {
        if !self.list_confirmed {
            return None;
        }
        let of_term = |since: Stamp| self.disk.primary_since.is_some_and(|term| term.same_epoch(since));
        self.disk.admitted.as_ref().filter(|(since, _)| of_term(*since)).map(|(_, nodes)| nodes.clone())
    }

    // ---- the right to serve -------------------------------------------------------------------

    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn take_told(&mut self, id: u64, told: Told) {
        self.inbox.push((id, told));
    }

    pub(crate) fn told(&mut self, id: u64) -> Option<Told> {
        let index = self.inbox.iter().position(|(of, _)| *of == id)?;
        Some(self.inbox.swap_remove(index).1)
    }

    pub(crate) fn grant(&mut self, stamp: Stamp, until: Mono, ahead: bool, r: &mut Reach<'_>) {
        self.changed |= self.serves_until.is_none();
        self.serves_until = self.serves_until.max(Some(until));
        let armed =
            r.bug != Some(Bug::GuardOnlyAsync) || r.mix.policy.durability == locum::model::Durability::Async;
        if armed {
            r.guard.arm(stamp, until, r.pg, ahead, (r.now, r.clock));
        }
    }

    fn note_expiry(&mut self, now: Mono) {
        let before = self.serves_until;
        self.serves_until = before.filter(|until| *until > now);
        self.changed |= before.is_some() && self.serves_until.is_none();
    }

    /// Renews for as long as there is something to renew.
    fn maintain(&mut self, r: &mut Reach<'_>) {
        if let Some(mut round) = self.round.take() {
            match round.step(self, r) {
                None => self.round = Some(round),
                Some(verdict) => {
                    if let Verdict::Deposed(reign) = verdict {
                        self.step_down(&reign, r);
                    }
                    self.note_expiry(r.clock);
                }
            }
            return;
        }
        if r.now < self.renew_at {
            return;
        }
        let eighth = u64::try_from(r.mix.policy.lease_ttl.as_millis() / 80).unwrap_or(RENEW);
        self.renew_at = r.now + RENEW.min(eighth);
        let well = match &self.server.value {
            // What the guard holds frozen does not hang.
            _ if r.pg.held => Ok(()),
            Server::Primary(primary) => primary.probe.failing_since.map_or(Ok(()), Err),
            _ => Err(r.clock),
        };
        self.unwell_since = match well {
            Ok(()) => None,
            Err(since) => Some(self.unwell_since.unwrap_or(since).min(since)),
        };
        let down = !matches!(self.server.value, Server::Primary(_) | Server::Starting | Server::Unknown);
        let hangs = self.unwell_since.is_some_and(|since| r.clock.since(since) >= r.mix.policy.hang);
        let stamp =
            self.disk.primary_since.filter(|since| self.disk.promise.is_some_and(|p| p.same_epoch(*since)));
        match stamp.filter(|_| !down && !hangs) {
            None => self.note_expiry(r.clock),
            Some(stamp) => {
                let lapsed = self.serves_until.is_none_or(|until| until <= r.clock);
                self.round = Some(Round::new(stamp, false, lapsed));
                self.maintain(r);
            }
        }
    }

    /// Another reign stands: nothing more may be acknowledged here.
    fn step_down(&mut self, reign: &locum::model::Reign, r: &mut Reach<'_>) {
        let stamp = Stamp { incarnation: reign.incarnation, epoch: reign.epoch, version: Version(1) };
        r.log.say(|| format!("agent {}: the store declares {stamp}: it ends itself", self.host));
        self.serves_until = None;
        self.disk.promise = self.disk.promise.max(Some(stamp));
        self.expected = true;
        r.pg.kill(r.now);
        self.attest_down(stamp, r);
        self.remains_at = Some(r.now + r.rng.range(1, 15));
    }

    // ---- orders -------------------------------------------------------------------------------

    /// Takes an order. Some: it is answered at once.
    pub(crate) fn order(
        &mut self,
        stamp: Stamp,
        command: Command,
        asker: Asker,
        reach: &mut Reach<'_>,
    ) -> Vec<(Asker, Reply)> {
        if let Some(refusal) = self.outdated(stamp, reach.bug) {
            reach.log.say(|| format!("agent {}: {} {stamp} refused", self.host, command.name()));
            return vec![(asker, refusal)];
        }
        if self.disk.promise.is_none() && matches!(command, Command::Promote { .. }) {
            return vec![(asker, Reply::Refused("no promise file".into()))];
        }
        if self.disk.promise < Some(stamp) {
            if self.disk.promise.is_none_or(|promise| promise.incarnation != stamp.incarnation) {
                (self.names_proven, self.checkpointed) = (None, None);
            }
            self.disk.promise = Some(stamp);
            self.changed = true;
        }
        let mut replies = Vec::new();
        if let Some(job) = &self.job
            && urgency(&command) > urgency(&job.command)
        {
            // Says nothing about whether it would have worked: not remembered as a failure.
            replies.push((job.asker, Reply::Failed("given up for a command that cannot wait".into())));
            reach.log.say(|| format!("agent {}: {} is given up", self.host, job.command.name()));
            self.job = None;
        }
        self.queue.push_back(Waiting { stamp, command, asker, since: reach.now });
        replies
    }

    fn outdated(&self, stamp: Stamp, bug: Option<Bug>) -> Option<Reply> {
        let higher = self.disk.promise.filter(|promise| *promise > stamp)?;
        let accepted = match bug {
            Some(Bug::StaleEpoch) => !higher.same_epoch(stamp),
            Some(Bug::LateSameEpoch) => higher.same_epoch(stamp),
            _ => false,
        };
        (!accepted).then(|| Reply::Refused(format!("the order is of {stamp}, promised is {higher}")))
    }

    /// What failed may be tried anew.
    pub(crate) fn forget_failures(&mut self) {
        self.failed.clear();
        self.changed = true;
    }

    fn remember_failure(&mut self, command: &Command, why: &str) {
        let kept = matches!(
            command,
            Command::Serve { .. } | Command::Follow(_) | Command::Rewind(..) | Command::Clone(..)
        );
        if kept {
            if self.failed.len() == 10 {
                self.failed.remove(0);
            }
            self.failed.push((command.name().to_owned(), why.to_owned()));
            self.changed = true;
        }
    }

    // ---- time passes --------------------------------------------------------------------------

    /// One tick. Returns the answers to orders that ended in it.
    pub(crate) fn step(&mut self, reach: &mut Reach<'_>) -> Vec<(Asker, Reply)> {
        self.watch(reach);
        let mut replies = self.work(reach);
        self.maintain(reach);
        self.watch(reach);
        if reach.now >= self.look_at {
            self.look_at = reach.now + LOOK;
            self.look(reach);
        }
        self.probe(reach);
        if self.job.is_none() {
            replies.extend(self.work(reach));
        }
        // What nobody waits for any more.
        self.inbox.clear();
        replies
    }

    fn work(&mut self, reach: &mut Reach<'_>) -> Vec<(Asker, Reply)> {
        let mut replies = Vec::new();
        if self.job.is_none()
            && let Some(next) = self.queue.pop_front()
        {
            if reach.now - next.since > TURN {
                let why = "could not begin: another command is under way".to_owned();
                replies.push((next.asker, Reply::Failed(why)));
            } else if let Some(refusal) = self.outdated(next.stamp, reach.bug) {
                replies.push((next.asker, refusal));
            } else {
                reach.checks.carried_out(self.host, next.stamp, &next.command);
                reach
                    .log
                    .say(|| format!("agent {}: {} {} begins", self.host, next.command.name(), next.stamp));
                self.job = Some(Job::new(next.stamp, next.command, next.asker, reach.now));
            }
        }
        let Some(mut job) = self.job.take() else { return replies };
        match job.step(self, reach) {
            None => self.job = Some(job),
            Some(done) => {
                if let Err(why) = &done {
                    self.remember_failure(&job.command, why.text());
                }
                reach
                    .log
                    .say(|| format!("agent {}: {} {} {done:?}", self.host, job.command.name(), job.stamp));
                if reach.bug == Some(Bug::StaleAttest) && job.command == Command::Recruit && done.is_ok() {
                    self.look_at = reach.now + LOOK;
                    if let Server::Standby(standby) = &mut self.server.value {
                        standby.recruited = self.recruited;
                    }
                } else {
                    self.look(reach);
                }
                self.changed = true;
                replies.push((job.asker, done.map_or_else(Into::into, |()| Reply::Done)));
            }
        }
        replies
    }

    /// Sees a postmaster come and go at once, as its pidfd tells.
    fn watch(&mut self, reach: &mut Reach<'_>) {
        let pg = &mut *reach.pg;
        if !pg.is_down() && self.attached != pg.generation {
            (self.attached, self.expected) = (pg.generation, false);
            (self.probe, self.probing, self.probe_at) = (Probe::default(), None, reach.now);
            (self.names_proven, self.checkpointed, self.remains_at) = (None, None, None);
            self.confirmed = Confirmed::default();
            if reach.bug != Some(Bug::RecruitForgotten) {
                self.recruited = None;
            }
            self.server = Seen { value: Server::Starting, at: reach.clock };
            (self.look_at, self.changed) = (reach.now, true);
        }
        if pg.is_down() && !matches!(self.server.value, Server::Down(_)) {
            let watched = self.attached == pg.generation;
            let clean = matches!(pg.control, ControlState::ShutDown | ControlState::ShutDownInRecovery);
            let crashed = !(clean || watched && self.expected);
            self.down(watched.then_some(reach.clock), crashed, reach);
        }
        if let Some(due) = self.remains_at
            && due <= reach.now
            && let Server::Down(down) = &mut self.server.value
        {
            // Orphans are ended before the end of WAL is read.
            self.remains_at = None;
            reach.pg.end_orphans();
            down.control = Some(control(reach.pg, reach.mix));
            (down.wal_end, down.wal_timeline) =
                (Some(lsn(reach.pg.wal.len())), Some(Timeline(reach.pg.timeline)));
            down.history.clone_from(&reach.pg.history);
            down.standby = Some(reach.pg.standby_signal);
            down.primary_since = reach.pg.primary_since;
            self.changed = true;
        }
    }

    /// Notes that nothing runs any more, if that is news.
    pub(crate) fn down(&mut self, since: Option<Mono>, crashed: bool, reach: &mut Reach<'_>) {
        if !matches!(self.server.value, Server::Down(_)) {
            let down = Down { watched: self.answered, ..Down::seen(since, crashed) };
            self.server = Seen { value: Server::Down(down), at: reach.clock };
            self.remains_at = Some(reach.now + reach.rng.range(1, 15));
            self.changed = true;
        }
    }

    pub(crate) fn attest_down(&mut self, stamp: Stamp, reach: &mut Reach<'_>) {
        reach.guard.outranked(stamp, reach.pg);
        self.down(Some(reach.clock), false, reach);
        self.server.at = reach.clock;
        if let Server::Down(down) = &mut self.server.value {
            down.fenced = Some(stamp);
        }
    }

    /// Looks at the server over the kept connection.
    pub(crate) fn look(&mut self, reach: &mut Reach<'_>) {
        let pg = &mut *reach.pg;
        if pg.is_frozen() || self.attached != pg.generation {
            if pg.is_frozen() && pg.proc == Proc::Primary && self.probing.is_none() {
                self.probe_at = reach.now;
            }
            return;
        }
        let value = match pg.proc {
            Proc::Down | Proc::Stopping { .. } | Proc::Promoting { .. } => return,
            Proc::Starting { .. } => Server::Starting,
            Proc::Primary => {
                self.recruited = None;
                let primary = self.primary(pg);
                self.confirmed.looked(&primary, &pg.slot_at, reach.now);
                Server::Primary(primary)
            }
            Proc::Standby => {
                if self.recruited.is_some()
                    && pg.receiver.is_none()
                    && reach.bug != Some(Bug::RecruitForgotten)
                {
                    reach.checks.stands_at(self.host, self.stood_at, pg.replayed);
                }
                if let Some(receiver) = &pg.receiver {
                    self.streamed_from = Some(receiver.from);
                    // What streams is no primary's directory any more.
                    self.disk.primary_since = None;
                }
                if pg.receiver.is_some() && reach.bug != Some(Bug::RecruitForgotten) {
                    self.recruited = None;
                }
                Server::Standby(self.standby(pg))
            }
        };
        if matches!(&value, Server::Primary(_))
            || matches!(&value, Server::Standby(standby) if standby.streaming)
        {
            self.failed.clear();
        }
        let value = self.attest_again(value, reach);
        self.answered |= matches!(value, Server::Primary(_));
        self.changed |= std::mem::discriminant(&value) != std::mem::discriminant(&self.server.value);
        self.server = Seen { value, at: reach.clock };
    }

    /// A recruit that is remembered on disk, and stands still, attests so again after a restart.
    fn attest_again(&mut self, mut value: Server, reach: &mut Reach<'_>) -> Server {
        let pg = &*reach.pg;
        let cut = pg.conninfo_read.is_none() && pg.receiver.is_none() && !pg.paused;
        if let Server::Standby(standby) = &mut value
            && self.recruited.is_none()
            && (!self.unproven || reach.bug == Some(Bug::MemoryBelieved))
            && let Some(stamp) = self.disk.recruited
            && self.job.is_none()
            && cut
            && pg.replayed == pg.wal.len()
        {
            (self.recruited, self.stood_at) = (Some(stamp), reach.pg.replayed);
            standby.recruited = self.recruited;
            reach.checks.recruited(self.host, stamp);
            self.changed = true;
        }
        value
    }

    /// What a renewal says of this primary's WAL. None: it was not looked at yet.
    pub(crate) fn reached(&self, pg: &Pg) -> Option<Reached> {
        let Server::Primary(primary) = &self.server.value else { return None };
        (primary.timeline == pg.tli()).then(|| self.confirmed.reached(primary, &pg.history))?
    }

    fn primary(&self, pg: &Pg) -> Primary {
        Primary {
            timeline: pg.tli(),
            checkpoint_timeline: Timeline(pg.control_timeline),
            redo: None,
            switch: pg.history.last().copied(),
            flushed: lsn(pg.wal.len()),
            writable: true,
            probe: self.probe.clone(),
            names: Some(pg.names.clone()),
            names_proven: self.names_proven,
            senders: pg
                .senders
                .iter()
                .map(|(name, sender)| WalSender {
                    name: name.clone(),
                    streaming: sender.streaming,
                    flushed: lsn(sender.flushed),
                    sync: pg.names_in_force.contains(name),
                })
                .collect(),
            slots: pg
                .slots
                .iter()
                .map(|name| Slot { name: name.clone(), active: false, retained: 0 })
                .collect(),
            logical_slots: Vec::new(),
            busy: 0,
            checkpointed: self.checkpointed,
        }
    }

    fn standby(&self, pg: &Pg) -> Standby {
        let told = self.disk.upstream.clone().filter(|upstream| {
            pg.conninfo_read
                .as_ref()
                .is_some_and(|read| Some(read.host) == host_of(&upstream.node) && read.name == self.disk.name)
        });
        Standby {
            timeline: pg.tli(),
            history: pg.history.clone(),
            flushed: lsn(pg.flushed()),
            replayed: lsn(pg.replayed),
            streaming: pg.receiver.is_some(),
            upstream: told,
            replay: match (pg.paused, self.disk.paused) {
                (false, _) => ReplayState::Running,
                (true, Some(stamp)) => ReplayState::PausedForProof(stamp),
                (true, None) => ReplayState::PausedByPerson,
            },
            recruited: self.recruited,
            logical_slots: Vec::new(),
            effort: ReplayEffort::default(),
            // Records are whole here.
            unfinished_until: None,
        }
    }

    /// A new connection with a commit of its own, now and then.
    fn probe(&mut self, reach: &mut Reach<'_>) {
        if !matches!(self.server.value, Server::Primary(_)) || reach.now < self.probe_at {
            return;
        }
        let began = *self.probing.get_or_insert(reach.now);
        let pg = &mut *reach.pg;
        if pg.is_frozen() || pg.deaf {
            if reach.now - began >= SHOWN && self.probe.failing_since.is_none() {
                let ago = Duration::from_millis(10 * (reach.now - began));
                let age = u64::try_from(ago.as_micros()).unwrap_or(0);
                self.probe.failing_since = Some(Mono(reach.clock.0.saturating_sub(age)));
                self.probe.error = Some("no answer".into());
                self.show_probe();
            }
            return;
        }
        if pg.proc != Proc::Primary {
            return;
        }
        self.probing = None;
        self.probe_at = reach.now + reach.rng.range(50, 200);
        pg.write((reach.fresh)());
        let was_failing = self.probe.failing_since.is_some();
        self.probe = Probe { last_ok: Some(reach.clock), took_us: Some(5000), ..Probe::default() };
        if was_failing {
            self.show_probe();
        }
    }

    fn show_probe(&mut self) {
        if let Server::Primary(primary) = &mut self.server.value {
            primary.probe = self.probe.clone();
        }
        self.changed = true;
    }
}

/// What `pg_controldata` would print.
pub(crate) fn control(pg: &Pg, mix: &Mix) -> Control {
    Control {
        state: pg.control,
        system: SystemId(7),
        timeline: Timeline(pg.control_timeline),
        checkpoint: lsn(pg.checkpoint),
        redo: lsn(pg.checkpoint),
        can_rewind: mix.can_rewind,
    }
}
