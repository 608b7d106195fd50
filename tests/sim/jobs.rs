//! Commands, carried out tick by tick. Each begins by checking what it needs; what it changes on disk stays when the
//! member is killed half-way.

use locum::model::{
    Command, CopySource, NodeId, Reply, Rescued, Server, Stamp, Standby, StandbyName, Unfinished, Upstream,
    WalPosition,
};

use super::{
    Tick,
    agent::{Agent, Asker, Reach},
    bug::Bug,
    host::Life,
    host_of, node,
    postgres::{Conninfo, Pg, Proc, common, fork, lsn},
    right::{Ask, CALL, Out, Round, Told, Verdict},
};

/// Deadlines, as in `agent::orders` and the files beside it.
const TAKE_OVER: Tick = 3000;
const PROMOTION: Tick = 2500;
const RELOADED: Tick = 200;
const PROOF: Tick = 200;
const START: Tick = 6000;
const STOP: Tick = 6000;
const CHECKPOINT: Tick = 6000;

/// Why a command was not done.
#[derive(Clone, Debug)]
pub(crate) enum Unable {
    Refused(String),
    Failed(String),
}

impl Unable {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Refused(why) | Self::Failed(why) => why,
        }
    }
}

impl From<Unable> for Reply {
    fn from(unable: Unable) -> Self {
        match unable {
            Unable::Refused(why) => Self::Refused(why),
            Unable::Failed(why) => Self::Failed(why),
        }
    }
}

type Done = Option<Result<(), Unable>>;

fn refused(why: &str) -> Done {
    Some(Err(Unable::Refused(why.to_owned())))
}

fn failed(why: &str) -> Done {
    Some(Err(Unable::Failed(why.to_owned())))
}

const DONE: Done = Some(Ok(()));

/// A command under way.
pub(crate) struct Job {
    pub(crate) stamp: Stamp,
    pub(crate) command: Command,
    pub(crate) asker: Asker,
    since: Tick,
    phase: u8,
    until: Tick,
    generation: u64,
    quiet: u8,
    before: Option<Unfinished>,
    claim: Option<Round>,
    /// Of a rescue: how far it had come before, and what came of the copy.
    began_at: usize,
    copied: Option<Result<(), &'static str>>,
    /// Of a start in place: the question after the last renewal, and what it says.
    asked: Option<(u64, Tick)>,
    renewed: Option<Option<WalPosition>>,
}

impl Job {
    pub(crate) fn new(stamp: Stamp, command: Command, asker: Asker, now: Tick) -> Self {
        let (before, claim, copied) = (None, None, None);
        let (phase, until, generation, quiet, began_at) = (0, 0, 0, 0, 0);
        Self {
            stamp,
            command,
            asker,
            since: now,
            phase,
            until,
            generation,
            quiet,
            before,
            claim,
            began_at,
            copied,
            asked: None,
            renewed: None,
        }
    }

    /// One tick of it. Some: it has ended.
    pub(crate) fn step(&mut self, agent: &mut Agent, r: &mut Reach<'_>) -> Done {
        match self.command.clone() {
            Command::Fence => self.fence(agent, r),
            Command::Recruit => self.recruit(agent, r),
            Command::Rescue { from, within } => {
                let within = u64::try_from(within.as_millis() / 10).unwrap_or(Tick::MAX);
                self.rescue(agent, r, &from, within)
            }
            Command::Promote { names, floor, .. } => self.promote(agent, r, names, floor),
            Command::Serve { floor } => self.serve(floor, agent, r),
            Command::Checkpoint => self.checkpoint(agent, r),
            Command::Stop => self.stop(agent, r),
            Command::Follow(upstream) => self.follow(agent, r, &upstream),
            Command::StartAlone => self.start_alone(agent, r),
            Command::Rewind(upstream, _) => self.rewind(agent, r, &upstream),
            Command::Clone(upstream, _, source) => self.clone_from(agent, r, &upstream, source.as_ref()),
            Command::SetNames(names) => self.set_names(agent, r, &names),
            Command::ProveNames => self.prove_names(agent, r),
            Command::PauseReplay => self.pause_replay(agent, r),
            Command::ResumeReplay => Self::resume_replay(agent, r),
            Command::Forget => {
                agent.forget_failures();
                DONE
            }
            // It was promised before this.
            Command::Promise => DONE,
            Command::Admit(nodes) => Self::admit(agent, self.stamp, nodes),
            Command::KeepSlots(slots) => Self::keep_slots(agent, r, &slots),
        }
    }

    fn lasts(&self, r: &Reach<'_>, limit: Tick) -> bool {
        r.now - self.since > limit
    }

    /// Goes to the next phase, which lasts for so long.
    fn wait(&mut self, r: &mut Reach<'_>, from: u64, to: u64) -> Done {
        self.phase += 1;
        self.until = r.now + r.rng.range(from, to);
        None
    }

    /// Confirms the right to serve before a server is started or promoted. None: not yet told.
    fn claim(&mut self, agent: &mut Agent, r: &mut Reach<'_>) -> Done {
        let mut round = self.claim.take().unwrap_or_else(|| Round::new(self.stamp, true, false));
        match round.step(agent, r) {
            None => {
                self.claim = Some(round);
                None
            }
            Some(Verdict::Serves) => DONE,
            Some(Verdict::Silent) => failed("its right to serve could not be confirmed"),
            Some(Verdict::NotYet) => failed("the store declares it under another epoch"),
            Some(Verdict::Deposed(_)) => refused("the store declares another primary"),
        }
    }

    /// How far this node was by the last renewal of the lease, read anew. None: not yet told. Some(None): another's, or the
    /// store is silent.
    fn renewed_last(&mut self, agent: &mut Agent, r: &Reach<'_>) -> Option<Option<WalPosition>> {
        if let Some(renewed) = self.renewed {
            return Some(renewed);
        }
        let Some((id, asked)) = self.asked else {
            let id = agent.next_id();
            agent.out.push(Out::Store { id, ask: Ask::Last });
            self.asked = Some((id, r.now));
            return None;
        };
        let told = agent.told(id);
        if told.is_none() && r.now - asked <= CALL {
            return None;
        }
        let renewed = match told {
            Some(Told::Last(Some((last, _)))) => {
                let own = last.node == node(agent.host) && last.incarnation == self.stamp.incarnation;
                last.position().filter(|_| own)
            }
            _ => None,
        };
        self.renewed = Some(renewed);
        Some(renewed)
    }

    /// Notes durably who may be promoted in its place; it never shrinks within a term.
    fn admit(agent: &mut Agent, stamp: Stamp, nodes: Vec<NodeId>) -> Done {
        if !agent.disk.primary_since.is_some_and(|since| since.same_epoch(stamp)) {
            return refused("it is not the primary of this epoch");
        }
        let before = agent.disk.admitted.take().filter(|(since, _)| since.same_epoch(stamp));
        let mut all: Vec<NodeId> = before.into_iter().flat_map(|(_, nodes)| nodes).chain(nodes).collect();
        all.sort();
        all.dedup();
        agent.disk.admitted = Some((stamp, all));
        agent.list_confirmed = true;
        DONE
    }

    fn fence(&mut self, agent: &mut Agent, r: &mut Reach<'_>) -> Done {
        if self.phase == 0 {
            agent.expected = true;
            return self.wait(r, 1, 3);
        }
        if r.now < self.until {
            return None;
        }
        let left = r.bug == Some(Bug::FenceLeavesProcesses);
        if left && (r.pg.is_frozen() || r.pg.deaf) {
            // The postmaster is stopped, and taken for dead.
        } else if left && r.pg.has_processes(r.now) {
            r.pg.crash(r.now, r.rng);
            r.pg.orphans_until = r.now + 100;
        } else {
            r.pg.kill(r.now);
        }
        agent.attest_down(self.stamp, r);
        if !left {
            agent.remains_at = Some(r.now + r.rng.range(1, 15));
        }
        DONE
    }

    fn recruit(&mut self, agent: &mut Agent, r: &mut Reach<'_>) -> Done {
        if self.phase == 0 {
            if r.pg.proc != Proc::Standby || !is_standby(agent) {
                return refused("the server is no running standby");
            }
            if !agent.word_is_kept(self.stamp, r) {
                return None;
            }
            if r.pg.frozen {
                return self.lasts(r, TAKE_OVER).then(|| Err(Unable::Failed("no answer".into())));
            }
            if r.pg.paused {
                if agent.disk.paused.is_none() {
                    return refused("replay is paused, not by Locum");
                }
                (r.pg.paused, agent.disk.paused) = (false, None);
            }
            (r.pg.conninfo, agent.disk.upstream) = (None, None);
            agent.disk.recruited = Some(self.stamp);
            r.pg.reload(r.now, r.rng, r.mix);
            self.generation = r.pg.generation;
            self.phase = 1;
            return None;
        }
        if r.pg.generation != self.generation || r.pg.is_down() {
            return failed("the server was restarted meanwhile");
        }
        if self.lasts(r, TAKE_OVER) {
            return failed("not done in time");
        }
        let still = !r.pg.frozen && r.pg.receiver.is_none() && r.pg.replayed == r.pg.wal.len();
        self.quiet = if still { self.quiet + 1 } else { 0 };
        if self.quiet < 2 {
            return None;
        }
        (agent.recruited, agent.stood_at) = (Some(self.stamp), r.pg.replayed);
        r.checks.recruited(agent.host, self.stamp);
        DONE
    }

    /// Fetches what only the fenced one has, a few records at a time; then applies them; then attests anew.
    fn rescue(&mut self, agent: &mut Agent, r: &mut Reach<'_>, from: &NodeId, within: Tick) -> Done {
        if self.phase == 0 {
            if r.pg.proc != Proc::Standby || !is_standby(agent) {
                return refused("the server is no running standby");
            }
            if !agent.recruited.is_some_and(|by| by.same_epoch(self.stamp)) {
                return refused("it is not recruited in this epoch");
            }
            (self.generation, self.began_at) = (r.pg.generation, r.pg.replayed);
            return self.wait(r, 1, 3);
        }
        if r.pg.generation != self.generation || r.pg.is_down() {
            return failed("the server was restarted meanwhile");
        }
        if self.phase == 1 {
            if r.now < self.until || r.pg.frozen {
                return None;
            }
            match self.fetch(agent, r, from) {
                // There may be more.
                Ok(true) if !self.lasts(r, within) => {
                    self.until = r.now + r.rng.range(1, 3);
                    return None;
                }
                Ok(more) => self.copied = Some(if more { Err("it did not come in time") } else { Ok(()) }),
                Err(why) => self.copied = Some(Err(why)),
            }
            self.phase = 2;
        }
        if self.lasts(r, within + TAKE_OVER) {
            return failed("not done in time");
        }
        let still = !r.pg.frozen && r.pg.receiver.is_none() && r.pg.replayed == r.pg.wal.len();
        if !still && r.bug != Some(Bug::RescueAttestedEarly) {
            return None;
        }
        if agent.recruited.is_none() {
            (agent.recruited, agent.stood_at) = (Some(self.stamp), r.pg.replayed);
            r.checks.recruited(agent.host, self.stamp);
        }
        match self.copied.take() {
            Some(Err(_)) if r.bug == Some(Bug::RescueHalf) => {}
            Some(Err(why)) => return failed(why),
            _ => {}
        }
        let bytes = (r.pg.replayed - self.began_at.min(r.pg.replayed)) as u64 * 8;
        agent.rescued = Some(Rescued { under: self.stamp, from: from.clone(), bytes });
        DONE
    }

    /// One chunk. True: there may be more.
    fn fetch(&self, agent: &mut Agent, r: &mut Reach<'_>, from: &NodeId) -> Result<bool, &'static str> {
        let host = host_of(from).filter(|host| r.linked[*host]).ok_or("no answer")?;
        let other =
            r.before.iter().chain(r.after).find(|other| other.agent.host == host).ok_or("no answer")?;
        if other.life != Life::Up || r.unreliable && r.rng.chance(r.mix.lose) {
            return Err("no answer");
        }
        let fenced = match &other.agent.server.value {
            Server::Down(down) => down.fenced,
            _ => None,
        };
        if !other.pg.is_down() || !fenced.is_some_and(|by| by.same_epoch(self.stamp) || by > self.stamp) {
            return Err("it is not fenced");
        }
        if other.pg.timeline != r.pg.timeline || common(r.pg, &other.pg) < r.pg.wal.len() {
            return Err("another history");
        }
        let have = r.pg.wal.len();
        let end = other.pg.wal.len().min(have + 5);
        if end > have {
            agent.recruited = None;
            r.checks.moves(agent.host);
            r.pg.wal.extend_from_slice(&other.pg.wal[have..end]);
        }
        Ok(end < other.pg.wal.len())
    }

    fn promote(
        &mut self,
        agent: &mut Agent,
        r: &mut Reach<'_>,
        names: Vec<StandbyName>,
        floor: Option<WalPosition>,
    ) -> Done {
        if self.phase == 0 {
            if agent.disk.unfinished.is_some() {
                return refused("the data directory is unfinished");
            }
            match &agent.server.value {
                Server::Primary(_) => return promoted_already(agent, r, self.stamp),
                Server::Standby(standby) => {
                    if floor.is_some_and(|floor| !standby.wal().contains(floor)) {
                        return refused("it had more when it was declared: its disk went back in time");
                    }
                    if let Some(why) = not_promotable(standby, self.stamp) {
                        return refused(why);
                    }
                }
                _ => return refused("the server is no running standby"),
            }
            if !agent.word_is_kept(self.stamp, r) {
                return None;
            }
            match self.claim(agent, r) {
                Some(Ok(())) => {}
                other => return other,
            }
            if r.pg.proc != Proc::Standby || r.pg.frozen {
                return failed("the server does not answer");
            }
            r.pg.names = names;
            self.begin_promotion(agent, r);
            self.phase = 1;
            return None;
        }
        if r.pg.is_down() {
            return failed("PostgreSQL ended while it was being promoted");
        }
        if self.lasts(r, PROMOTION) {
            return failed("not writable in time");
        }
        (r.pg.proc == Proc::Primary && !r.pg.is_frozen()).then_some(Ok(()))
    }

    fn begin_promotion(&self, agent: &mut Agent, r: &mut Reach<'_>) {
        r.pg.conninfo = None;
        r.pg.reload(r.now, r.rng, r.mix);
        (agent.disk.primary_since, r.pg.primary_since) = (Some(self.stamp), Some(self.stamp));
        (agent.disk.recruited, agent.disk.upstream, agent.disk.paused) = (None, None, None);
        r.pg.promote(r.now, r.rng);
        let left: Vec<usize> = r
            .before
            .iter()
            .chain(r.after)
            .filter(|h| h.pg.commits(r.now) && !h.guard.gone)
            .map(|h| h.agent.host)
            .collect();
        r.checks.promotes(agent.host, self.stamp, &left);
    }

    fn serve(&mut self, floor: Option<WalPosition>, agent: &mut Agent, r: &mut Reach<'_>) -> Done {
        if self.phase == 0 {
            if agent.disk.unfinished.is_some() {
                return refused("the data directory is unfinished");
            }
            match &agent.server.value {
                Server::Standby(_) => return refused("the server is a standby"),
                Server::Unknown => return failed("it cannot be told what the server is"),
                Server::Primary(_) => {
                    return self
                        .claim(agent, r)
                        .map(|claimed| claimed.and_then(|()| adopt(agent, r, self.stamp)));
                }
                Server::Starting => {}
                Server::Down(down) => {
                    let stale = r.bug == Some(Bug::StaleEpoch);
                    if down.fenced.is_some_and(|fenced| fenced >= self.stamp) && !stale {
                        return refused("its end was attested under this stamp or a later one");
                    }
                    if r.pg.standby_signal {
                        // Declared, and ended before it was promoted: it starts cut from everybody.
                        (agent.disk.upstream, agent.disk.paused, r.pg.conninfo) = (None, None, None);
                    } else {
                        let down = down.clone();
                        let unasked = matches!(r.bug, Some(Bug::WentBackStarted | Bug::FloorsForgotten));
                        let judged = down.watched || unasked;
                        if let Some(floor) = floor.filter(|_| !judged) {
                            match down.wal().map(|wal| wal.contains(floor)) {
                                Some(true) => {}
                                Some(false) => {
                                    return refused("it has less than it must: its disk went back");
                                }
                                None => return failed("the end of its WAL is not read yet"),
                            }
                        }
                        let renewed =
                            if down.watched || unasked { None } else { self.renewed_last(agent, r)? };
                        match renewed.map(|renewed| down.wal().map(|wal| wal.contains(renewed))) {
                            Some(None) => return failed("the end of its WAL is not read yet"),
                            Some(Some(false)) => {
                                return refused("it has less than it renewed: its disk went back in time");
                            }
                            None | Some(Some(true)) => {}
                        }
                        match self.claim(agent, r) {
                            Some(Ok(())) => {}
                            other => return other,
                        }
                    }
                    if r.pg.is_down() {
                        let standby = r.pg.standby_signal;
                        r.pg.end_orphans();
                        if !standby {
                            r.checks.starts(agent.host, self.stamp);
                        }
                        r.pg.start(standby, r.now, r.rng);
                        return self.wait(r, 1, 1);
                    }
                }
            }
            self.phase = 1;
        }
        match &agent.server.value {
            Server::Primary(_) => {
                self.claim(agent, r).map(|claimed| claimed.and_then(|()| adopt(agent, r, self.stamp)))
            }
            Server::Standby(_) => DONE,
            Server::Down(_) if r.now > self.until => failed("PostgreSQL ended after its start"),
            _ => self.lasts(r, START).then(|| Err(Unable::Failed("does not accept connections".into()))),
        }
    }

    fn checkpoint(&mut self, agent: &mut Agent, r: &mut Reach<'_>) -> Done {
        if !matches!(agent.server.value, Server::Primary(_)) {
            return refused("the server is no running primary");
        }
        if self.phase == 0 {
            self.generation = r.pg.generation;
            return self.wait(r, 2, 40);
        }
        if self.lasts(r, CHECKPOINT) {
            return failed("not done in time");
        }
        if r.now < self.until || r.pg.is_frozen() || r.pg.checkpointer_busy_until > r.now {
            return None;
        }
        r.pg.checkpoint_now();
        if r.pg.generation == self.generation {
            agent.checkpointed = Some(self.stamp.version);
        }
        DONE
    }

    fn stop(&mut self, agent: &mut Agent, r: &mut Reach<'_>) -> Done {
        let in_order = |r: &Reach<'_>| r.pg.is_down() && r.pg.control == locum::model::ControlState::ShutDown;
        if self.phase == 0 {
            if matches!(agent.server.value, Server::Down(_)) && in_order(r) {
                agent.attest_down(self.stamp, r);
                return DONE;
            }
            if !matches!(agent.server.value, Server::Primary(_)) {
                return refused("the server is no running primary");
            }
            agent.expected = true;
            r.pg.stop(r.now, r.rng);
            self.phase = 1;
            return None;
        }
        if !r.pg.is_down() {
            if !self.lasts(r, STOP) {
                return None;
            }
            r.pg.kill(r.now);
        }
        agent.attest_down(self.stamp, r);
        agent.remains_at = Some(r.now);
        if in_order(r) { DONE } else { failed("it has stopped, but not in order") }
    }

    fn follow(&mut self, agent: &mut Agent, r: &mut Reach<'_>, upstream: &Upstream) -> Done {
        match (self.phase, &agent.server.value) {
            (0, _) if agent.disk.unfinished.is_some() => refused("the data directory is unfinished"),
            (0, Server::Primary(_)) => refused("the server is a running primary: fence it first"),
            (0, Server::Unknown) => failed("it cannot be told what the server is"),
            (0, Server::Starting) if r.pg.standby_signal => {
                lead(agent, r, upstream);
                if !r.pg.is_frozen() {
                    r.pg.reload(r.now, r.rng, r.mix);
                }
                self.phase = 2;
                None
            }
            (0, Server::Starting) => failed("a server that is no standby is starting"),
            (0, Server::Standby(_)) => {
                lead(agent, r, upstream);
                if agent.disk.paused.take().is_some() {
                    r.pg.paused = false;
                }
                r.pg.reload(r.now, r.rng, r.mix);
                self.wait(r, RELOADED, RELOADED)
            }
            (0, Server::Down(_)) => {
                if !r.pg.is_down() {
                    return failed("it runs already");
                }
                lead(agent, r, upstream);
                agent.disk.paused = None;
                r.pg.end_orphans();
                r.pg.start(true, r.now, r.rng);
                self.phase = 1;
                self.wait(r, 1, 1)
            }
            (1, _) if r.pg.frozen => {
                (r.now > self.until).then(|| Err(Unable::Failed("the server does not have it".into())))
            }
            (1, _) => DONE,
            (_, Server::Standby(_)) => {
                r.pg.slots.clear();
                DONE
            }
            (_, Server::Down(_)) if r.now > self.until => failed("PostgreSQL ended after its start"),
            // Told to follow another one meanwhile.
            _ if agent.disk.promise.is_some_and(|later| later.epoch > self.stamp.epoch) => DONE,
            _ if self.lasts(r, START) => {
                agent.expected = true;
                r.pg.kill(r.now);
                agent.attest_down(self.stamp, r);
                failed("does not get on")
            }
            _ => None,
        }
    }

    /// Starts a stopped standby without an upstream, unless the server that it followed answers.
    fn start_alone(&mut self, agent: &mut Agent, r: &mut Reach<'_>) -> Done {
        if self.phase == 0 {
            if agent.disk.unfinished.is_some() {
                return refused("the data directory is unfinished");
            }
            match &agent.server.value {
                Server::Down(_) => {}
                Server::Standby(_) => return DONE,
                _ => return refused("the server is no stopped standby"),
            }
            if !r.pg.standby_signal {
                return refused("standby.signal is not there: it is no standby's directory");
            }
            let upstream = agent.disk.upstream.as_ref().and_then(|upstream| host_of(&upstream.node));
            let answers = |host: usize| {
                r.linked[host]
                    && r.other(host).is_some_and(|other| other.accepts() && other.proc == Proc::Primary)
            };
            if upstream.is_some_and(answers) {
                return refused("the primary that it followed answers");
            }
            if !r.pg.is_down() {
                return failed("it runs already");
            }
            (agent.disk.upstream, agent.disk.paused, r.pg.conninfo) = (None, None, None);
            r.pg.end_orphans();
            r.pg.start(true, r.now, r.rng);
            return self.wait(r, 1, 1);
        }
        match &agent.server.value {
            Server::Standby(_) => DONE,
            Server::Down(_) if r.now > self.until => failed("PostgreSQL ended after its start"),
            _ => self.lasts(r, START).then(|| Err(Unable::Failed("does not accept connections".into()))),
        }
    }

    fn rewind(&mut self, agent: &mut Agent, r: &mut Reach<'_>, upstream: &Upstream) -> Done {
        match self.phase {
            0 if !matches!(agent.server.value, Server::Down(_)) => refused("the server runs: fence it first"),
            0 => {
                agent.disk.unfinished = Some(Unfinished::Rewind);
                r.checks.rebuilds(agent.host);
                self.wait(r, 10, 120)
            }
            1 if r.now < self.until => None,
            1 => {
                let fails = r.unreliable && r.rng.chance(r.mix.rebuild_fails);
                let Some(source) = reachable(r, upstream).filter(|_| !fails).cloned() else {
                    return failed("the upstream is not reached, or something else went wrong");
                };
                if r.pg.control_timeline != source.control_timeline {
                    let (believed, truly) = (fork(r.pg, &source), common(r.pg, &source));
                    if believed > truly && r.checks.goes_on_unknowing() {
                        r.checks.diverges();
                    } else if believed > truly {
                        r.checks.violate(|| "a rewind leaves what it should have taken away".to_owned());
                    }
                    copy_of_upstream(r.pg, &source);
                    r.pg.replayed = truly;
                }
                agent.disk.unfinished = None;
                self.restart_as_follow(r)
            }
            _ => self.go_on_following(agent, r, upstream),
        }
    }

    fn clone_from(
        &mut self,
        agent: &mut Agent,
        r: &mut Reach<'_>,
        upstream: &Upstream,
        standby: Option<&CopySource>,
    ) -> Done {
        match self.phase {
            0 if is_standby(agent) => {
                agent.expected = true;
                r.pg.kill(r.now);
                agent.attest_down(self.stamp, r);
                None
            }
            0 if !matches!(agent.server.value, Server::Down(_)) => refused("the server runs: fence it first"),
            0 => {
                self.before = agent.disk.unfinished;
                agent.disk.unfinished = Some(Unfinished::Clone);
                agent.disk.name = agent.new_name();
                r.checks.rebuilds(agent.host);
                self.wait(r, 20, 200)
            }
            1 if r.now < self.until => None,
            1 => {
                let fails = r.unreliable && r.rng.chance(r.mix.rebuild_fails);
                let copied =
                    standby.and_then(|standby| readable(r, standby)).or_else(|| reachable(r, upstream));
                let Some(source) = copied.filter(|_| !fails).cloned() else {
                    agent.disk.unfinished = self.before;
                    return failed("the upstream is not reached, or something else went wrong");
                };
                copy_of_upstream(r.pg, &source);
                r.pg.names.clone_from(&source.names);
                r.pg.replayed = r.pg.wal.len();
                (agent.disk.unfinished, agent.disk.primary_since) = (None, None);
                self.restart_as_follow(r)
            }
            _ => self.go_on_following(agent, r, upstream),
        }
    }

    /// What rewind and clone end with is a follow: its phases are counted from ten.
    fn restart_as_follow(&mut self, r: &Reach<'_>) -> Done {
        (self.phase, self.since) = (10, r.now);
        None
    }

    fn go_on_following(&mut self, agent: &mut Agent, r: &mut Reach<'_>, upstream: &Upstream) -> Done {
        self.phase -= 10;
        let done = self.follow(agent, r, upstream);
        self.phase += 10;
        done
    }

    fn set_names(&mut self, agent: &mut Agent, r: &mut Reach<'_>, names: &[StandbyName]) -> Done {
        let Server::Primary(primary) = &agent.server.value else {
            return refused("the server is no running primary");
        };
        if self.phase == 0 {
            if primary.names.as_deref() == Some(names) && r.pg.names == names {
                return DONE;
            }
            agent.names_proven = None;
            r.pg.names = names.to_vec();
            r.pg.reload(r.now, r.rng, r.mix);
            return self.wait(r, 1, 2);
        }
        if r.pg.is_frozen() || r.pg.proc != Proc::Primary {
            return (r.now - self.since > RELOADED).then(|| Err(Unable::Failed("no answer".into())));
        }
        (r.now >= self.until).then_some(Ok(()))
    }

    fn prove_names(&mut self, agent: &mut Agent, r: &mut Reach<'_>) -> Done {
        let Server::Primary(_) = &agent.server.value else {
            return refused("the server is no running primary");
        };
        if self.phase == 0 {
            self.generation = r.pg.generation;
            return self.wait(r, 1, 4);
        }
        if r.pg.generation != self.generation {
            return failed("the server was restarted meanwhile");
        }
        if r.now - self.since > PROOF {
            return failed("the commit was not seen waiting");
        }
        if r.now < self.until || r.pg.is_frozen() || r.pg.deaf || r.pg.proc != Proc::Primary {
            return None;
        }
        let shown = r.bug == Some(Bug::NamesShown);
        // One standby that replays is enough for a commit of any one of them not to wait.
        let replays = |host: usize| r.other(host).is_none_or(|other| !other.paused);
        let unpaused = r.pg.names_in_force.iter().any(|name| {
            r.pg.senders.get(name).is_some_and(|sender| sender.streaming && replays(sender.host))
        });
        if !shown && !r.pg.names.is_empty() && (r.pg.names_in_force.is_empty() || unpaused) {
            return failed("the commit did not wait: the names are not in force");
        }
        if !shown && r.pg.names_in_force != r.pg.names {
            return None;
        }
        r.pg.write((r.fresh)());
        agent.names_proven = Some((self.stamp.version, lsn(r.pg.wal.len())));
        DONE
    }

    fn pause_replay(&mut self, agent: &mut Agent, r: &mut Reach<'_>) -> Done {
        if !is_standby(agent) || r.pg.proc != Proc::Standby {
            return refused("the server is no running standby");
        }
        if r.pg.frozen {
            return (r.now - self.since > RELOADED).then(|| Err(Unable::Failed("no answer".into())));
        }
        if r.pg.paused && agent.disk.paused.is_none() {
            return refused("replay is paused already, not by Locum");
        }
        agent.disk.paused = Some(self.stamp);
        r.pg.paused = true;
        DONE
    }

    fn resume_replay(agent: &mut Agent, r: &mut Reach<'_>) -> Done {
        if !is_standby(agent) || r.pg.proc != Proc::Standby || r.pg.frozen {
            return refused("the server is no running standby");
        }
        if r.pg.paused && agent.disk.paused.is_none() {
            return refused("replay was paused by a person");
        }
        (agent.disk.paused, r.pg.paused) = (None, false);
        DONE
    }

    fn keep_slots(agent: &Agent, r: &mut Reach<'_>, slots: &[String]) -> Done {
        if !matches!(agent.server.value, Server::Primary(_)) || r.pg.is_frozen() {
            return refused("the server is no running primary");
        }
        r.pg.slots = slots.iter().cloned().collect();
        DONE
    }
}

fn is_standby(agent: &Agent) -> bool {
    matches!(agent.server.value, Server::Standby(_))
}

fn adopt(agent: &mut Agent, r: &mut Reach<'_>, stamp: Stamp) -> Result<(), Unable> {
    if !agent.disk.primary_since.is_some_and(|since| since.same_epoch(stamp)) {
        agent.disk.primary_since = Some(stamp);
    }
    r.pg.primary_since = Some(stamp);
    (agent.disk.recruited, agent.disk.upstream, agent.disk.paused) = (None, None, None);
    Ok(())
}

fn promoted_already(agent: &mut Agent, r: &mut Reach<'_>, stamp: Stamp) -> Done {
    let same = |since: Option<Stamp>| since.is_some_and(|since| since.same_epoch(stamp));
    if same(agent.disk.primary_since) {
        return DONE;
    }
    if same(agent.disk.recruited) {
        return Some(adopt(agent, r, stamp));
    }
    refused("the server is a primary already")
}

fn not_promotable(standby: &Standby, stamp: Stamp) -> Option<&'static str> {
    if standby.recruited.is_some_and(|by| by.same_epoch(stamp)) {
        return None;
    }
    if standby.streaming {
        return Some("it streams from a primary: recruit it first");
    }
    (standby.replayed < standby.flushed).then_some("it has not replayed all it has")
}

/// Writes where to stream from. What was attested of a recruit ends before that.
fn lead(agent: &mut Agent, r: &mut Reach<'_>, upstream: &Upstream) {
    agent.recruited = None;
    r.checks.led_to(agent.host, &upstream.node);
    agent.disk.recruited = None;
    agent.disk.upstream = Some(upstream.clone());
    let host = host_of(&upstream.node).unwrap_or(agent.host);
    r.pg.conninfo = Some(Conninfo { host, slot: upstream.slot.clone(), name: agent.disk.name.clone() });
    r.pg.standby_signal = true;
}

fn reachable<'a>(r: &'a Reach<'_>, upstream: &Upstream) -> Option<&'a Pg> {
    let host = host_of(&upstream.node)?;
    r.other(host).filter(|other| r.linked[host] && other.accepts() && other.proc == Proc::Primary)
}

fn readable<'a>(r: &'a Reach<'_>, standby: &CopySource) -> Option<&'a Pg> {
    let host = host_of(&standby.node)?;
    r.other(host).filter(|other| r.linked[host] && other.accepts() && other.proc == Proc::Standby)
}

fn copy_of_upstream(pg: &mut Pg, source: &Pg) {
    pg.wal.clone_from(&source.wal);
    pg.timeline = source.timeline;
    pg.history.clone_from(&source.history);
    pg.control_timeline = source.control_timeline;
    pg.control = locum::model::ControlState::Other;
    pg.standby_signal = true;
    pg.primary_since = source.primary_since;
    pg.slots.clear();
}
