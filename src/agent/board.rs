//! What the agent knows, in one place: written by whoever saw it, read by anyone at any time.
//!
//! A change worth acting on wakes the readers; a mere position does not. Nothing here waits.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{floors::Confirmed, meter::Meter, promise::Promise};
use crate::{
    model::{
        AccessFacts, AgentFacts, Down, Lsn, Mono, Primary, Probe, Reached, ReplayEffort, ReplayState, Seen,
        Server, Stamp, Standby, Switch, Timeline, Version,
    },
    postgres::observe::{Look, PrimaryMore, StandbyMore},
};

/// How many failed commands are remembered.
const FAILED: usize = 10;

/// The facts, and what they are put together from.
#[derive(Debug)]
pub(super) struct State {
    /// What is reported.
    pub(super) facts: AgentFacts,
    /// Grows with every postmaster seen: what was learned of an earlier one is never taken for this one's.
    pub(super) generation: u64,
    /// The agent itself is ending the server: its end is no crash.
    pub(super) expected: bool,
    /// This agent has ordered this postmaster to be promoted.
    pub(super) ordered: bool,
    /// This postmaster was seen in recovery.
    pub(super) was_standby: bool,
    /// It left recovery without an order, and is being ended.
    pub(super) strays: bool,
    /// The probes of this primary.
    pub(super) probe: Probe,
    /// Where this primary's log ended right after its last probe.
    pub(super) probed: Lsn,
    /// Names proven in force on this postmaster.
    pub(super) names_proven: Option<(Version, Lsn)>,
    /// A checkpoint was completed under this version.
    pub(super) checkpointed: Option<Version>,
    /// This postmaster was seen cut and quiet under this stamp.
    pub(super) recruited: Option<Stamp>,
    /// A server of this directory has answered as a primary in this life.
    pub(super) answered: bool,
    /// The list of who may be promoted was confirmed in this life, or the server outlived the last one.
    pub(super) memory_is_whole: bool,
    /// A record begins where this recruit's replay stands, and is unfinished: it would end here.
    pub(super) unfinished_until: Option<Lsn>,
    /// The switches before a timeline.
    pub(super) history: Option<(Timeline, Vec<Switch>)>,
    promise: Promise,
    primary: Option<PrimaryMore>,
    standby: Option<StandbyMore>,
    received: Timeline,
    replay: Meter,
    confirmed: Confirmed,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Board {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

impl Board {
    pub(super) fn new(facts: AgentFacts, promise: Promise) -> Self {
        let state = State {
            facts,
            generation: 0,
            expected: false,
            ordered: false,
            was_standby: false,
            strays: false,
            probe: Probe::default(),
            probed: Lsn(0),
            names_proven: None,
            checkpointed: None,
            recruited: None,
            unfinished_until: None,
            answered: false,
            memory_is_whole: false,
            history: None,
            promise,
            primary: None,
            standby: None,
            received: Timeline(0),
            replay: Meter::default(),
            confirmed: Confirmed::default(),
        };
        Self { state: Mutex::new(state), changes: watch::Sender::new(0) }
    }

    /// Changes with everything worth acting on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Wakes the readers for something that is not on the board.
    pub(super) fn bump(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here panics half-way through a change, so a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn facts(&self) -> AgentFacts {
        self.lock().facts.clone()
    }

    /// Reads something without copying everything.
    pub(super) fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.lock())
    }

    /// Changes something; wakes the readers if what is worth acting on changed.
    pub(super) fn update<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let (result, moved) = {
            let mut state = self.lock();
            let before = outline(&state.facts);
            let result = change(&mut state);
            (result, outline(&state.facts) != before)
        };
        if moved {
            self.bump();
        }
        result
    }

    /// Waits until `ready` says so. False: not within `deadline`.
    pub(super) async fn until(&self, deadline: Duration, ready: impl Fn(&AgentFacts) -> bool) -> bool {
        let mut changes = self.changes();
        let wait = async {
            while !self.read(|s| ready(&s.facts)) {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(deadline, wait).await.is_ok()
    }
}

impl State {
    /// A postmaster was found. What is known of the server begins anew.
    pub(super) fn attached(&mut self, at: Mono) -> u64 {
        self.generation += 1;
        self.expected = false;
        (self.ordered, self.was_standby, self.strays) = (false, false, false);
        self.probe = Probe::default();
        self.probed = Lsn(0);
        self.names_proven = None;
        self.checkpointed = None;
        self.recruited = None;
        self.unfinished_until = None;
        self.confirmed.begins_anew();
        self.primary = None;
        self.standby = None;
        self.received = Timeline(0);
        self.replay.begins_anew();
        self.facts.access = AccessFacts::default();
        self.facts.server = Seen { value: Server::Starting, at };
        self.generation
    }

    /// The postmaster has ended, or none is there. True: this was news.
    pub(super) fn down(&mut self, at: Mono, since: Option<Mono>, crashed: bool) -> bool {
        let news = !matches!(self.facts.server.value, Server::Down(_));
        if news {
            let down = Down { watched: self.answered, ..Down::seen(since, crashed) };
            self.facts.server = Seen { value: Server::Down(down), at };
            self.facts.access = AccessFacts::default();
            self.generation += 1;
        }
        news
    }

    /// What a server that is down has left is to be read again: somebody may have written since.
    pub(super) fn forget_remains(&mut self) {
        if let Some(down) = self.down_mut() {
            (down.control, down.wal_end, down.wal_timeline) = (None, None, None);
        }
    }

    /// The details of a server that is down.
    pub(super) fn down_mut(&mut self) -> Option<&mut Down> {
        match &mut self.facts.server.value {
            Server::Down(down) => Some(down),
            _ => None,
        }
    }

    /// True if a look without more could not be reported: the role, or this postmaster, is new.
    pub(super) fn needs_more(&self, look: &Look) -> bool {
        match look {
            Look::Primary(quick, more) => {
                more.is_none() && (self.primary.is_none() || self.confirmed.misses(&quick.senders))
            }
            Look::Standby(_, more) => more.is_none() && self.standby.is_none(),
        }
    }

    /// True if nobody has said since this postmaster was found on which timeline it receives.
    pub(super) fn has_seen_no_receiver(&self) -> bool {
        self.received == Timeline(0)
    }

    /// The timeline whose history is wanted and not known.
    pub(super) fn wants_history(&self) -> Option<Timeline> {
        let timeline = match &self.facts.server.value {
            Server::Primary(p) => p.timeline,
            Server::Standby(s) => s.timeline,
            _ => return None,
        };
        let known = self.history.as_ref().is_some_and(|(of, _)| *of == timeline);
        (!known && timeline > Timeline(1)).then_some(timeline)
    }

    /// A look was taken at `at`.
    pub(super) fn looked(&mut self, at: Mono, look: Look) {
        // It was let start because its disk was judged whole, or it outlived the last life. A standby is started unjudged.
        self.answered |= matches!(look, Look::Primary(..));
        self.facts.server.value = match look {
            Look::Primary(quick, more) => {
                self.standby = None;
                self.recruited = None;
                self.replay = Meter::default();
                let fuller = more.is_some();
                self.primary = more.or_else(|| self.primary.take());
                let Some(more) = self.primary.clone() else { return };
                self.facts.checksum_failures = more.checksum_failures;
                let primary = Primary {
                    timeline: more.timeline,
                    checkpoint_timeline: more.checkpoint_timeline,
                    redo: Some(more.redo),
                    switch: self.switches(more.timeline).last().copied(),
                    flushed: quick.flushed,
                    writable: quick.writable,
                    probe: self.probe.clone(),
                    names: super::names::parse(&more.names),
                    names_proven: self.names_proven,
                    senders: quick.senders,
                    slots: more.slots.clone(),
                    logical_slots: more.logical_slots.clone(),
                    busy: quick.busy,
                    checkpointed: self.checkpointed,
                };
                self.confirmed.looked(&primary, fuller.then_some(&more));
                Server::Primary(primary)
            }
            Look::Standby(quick, more) => {
                self.was_standby = true;
                self.standby = more.or_else(|| self.standby.take());
                let Some(more) = self.standby.clone() else { return };
                self.facts.checksum_failures = more.checksum_failures;
                self.received = self.received.max(quick.received_timeline.unwrap_or_default());
                if quick.streaming {
                    self.recruited = None;
                }
                let timeline = self.received.max(more.timeline);
                let effort = self.replay.looked(at, &quick);
                Server::Standby(Standby {
                    timeline,
                    history: self.switches(timeline),
                    flushed: quick.flushed,
                    replayed: quick.replayed,
                    streaming: quick.streaming,
                    upstream: super::follow::upstream_of(&more.conninfo, &self.promise),
                    replay: match (quick.paused, self.promise.paused) {
                        (false, _) => ReplayState::Running,
                        (true, Some(stamp)) => ReplayState::PausedForProof(stamp),
                        (true, None) => ReplayState::PausedByPerson,
                    },
                    recruited: self.recruited,
                    logical_slots: more.logical_slots,
                    effort,
                    unfinished_until: self.unfinished_until,
                })
            }
        };
        self.facts.server.at = at;
        if self.serves() {
            self.facts.failed.clear();
        }
    }

    fn serves(&self) -> bool {
        match &self.facts.server.value {
            Server::Primary(p) => p.writable,
            Server::Standby(s) => s.streaming,
            _ => false,
        }
    }

    fn switches(&self, timeline: Timeline) -> Vec<Switch> {
        match &self.history {
            Some((of, switches)) if *of == timeline => switches.clone(),
            _ => Vec::new(),
        }
    }

    /// What the promise file holds has changed, or was read.
    pub(super) fn promised(&mut self, promise: &Promise) {
        let life = |of: &Promise| of.promise.map(|stamp| stamp.incarnation);
        if life(&self.promise) != life(promise) {
            // Versions begin anew with a new life of the store: what was done under one of the last says nothing.
            (self.names_proven, self.checkpointed) = (None, None);
            self.refresh();
        }
        self.promise = promise.clone();
        self.facts.promise = promise.promise;
        self.facts.primary_since = promise.primary_since;
        self.facts.system = promise.system;
        self.facts.standby_name = promise.standby_name.clone();
        self.facts.unfinished = promise.unfinished;
        self.facts.lost = promise.lost.clone();
        self.facts.strayed = promise.strayed;
        self.facts.recovery_rate = promise.recovery_rate;
        self.facts.told.clone_from(&promise.upstream);
        self.refresh_memory();
        if promise.recruited.is_none() {
            self.recruited = None;
            self.refresh();
        }
    }

    /// Reports who may be promoted as noted, unless the list may be an old one.
    pub(super) fn refresh_memory(&mut self) {
        let noted = self.promise.admitted.as_ref().filter(|_| self.memory_is_whole);
        let of_term =
            noted.filter(|(under, _)| self.promise.primary_since.is_some_and(|s| s.same_epoch(*under)));
        self.facts.admitted = of_term.map(|(_, nodes)| nodes.clone());
    }

    /// A recruit that is remembered, where this postmaster is cut as it should be and was not attested yet.
    pub(super) fn unattested(&self) -> Option<Stamp> {
        let Server::Standby(standby) = &self.facts.server.value else { return None };
        let cut = !standby.streaming && self.standby.as_ref().is_some_and(|more| more.conninfo.is_empty());
        self.promise.recruited.filter(|_| cut && standby.recruited.is_none())
    }

    /// What a renewal of the lease says of this primary's WAL. None: it is none, or its history was not read yet.
    pub(super) fn reached(&self) -> Option<Reached> {
        let Server::Primary(primary) = &self.facts.server.value else { return None };
        let read = self.history.as_ref().is_some_and(|(of, _)| *of == primary.timeline);
        if primary.timeline > Timeline(1) && !read {
            return None;
        }
        self.confirmed.reached(primary, &self.switches(primary.timeline))
    }

    /// A recruit is remembered, and it was led to no primary since.
    pub(super) const fn is_recruit(&self) -> bool {
        self.promise.recruited.is_some()
    }

    /// The history of `timeline` was read.
    pub(super) fn learned(&mut self, timeline: Timeline, switches: Vec<Switch>) {
        match &mut self.facts.server.value {
            Server::Primary(p) if p.timeline == timeline => p.switch = switches.last().copied(),
            Server::Standby(s) if s.timeline == timeline => s.history.clone_from(&switches),
            _ => {}
        }
        self.history = Some((timeline, switches));
    }

    /// Puts what is known of this primary's probes, names and checkpoint into the facts.
    pub(super) fn refresh(&mut self) {
        let (probe, proven, done) = (self.probe.clone(), self.names_proven, self.checkpointed);
        let (recruited, until) = (self.recruited, self.unfinished_until);
        match &mut self.facts.server.value {
            Server::Primary(p) => (p.probe, p.names_proven, p.checkpointed) = (probe, proven, done),
            Server::Standby(s) => (s.recruited, s.unfinished_until) = (recruited, until),
            _ => {}
        }
    }

    /// A command failed that others may have to know about.
    pub(super) fn failed(&mut self, command: &str, why: String) {
        if self.facts.failed.len() == FAILED {
            self.facts.failed.remove(0);
        }
        self.facts.failed.push((command.to_owned(), why));
    }
}

/// The facts without what moves all the time: what is left is worth waking somebody for.
fn outline(facts: &AgentFacts) -> AgentFacts {
    let mut still = facts.clone();
    still.server.at = Mono(0);
    still.disk_free = None;
    still.access.refused.iter_mut().for_each(|seen| seen.at = Mono(0));
    still.access.client.iter_mut().for_each(|seen| seen.at = Mono(0));
    still.job = still.job.map(|_| String::new());
    // What changes with every renewal wakes nobody; what the guard is doing does.
    still.guard = still.guard.map(|guard| crate::model::GuardFacts { deadline: None, ..guard });
    still.serves_until = still.serves_until.map(|_| Mono(0));
    still.vouched_until = still.vouched_until.map(|_| Mono(0));
    match &mut still.server.value {
        Server::Primary(p) => {
            p.flushed = Lsn(0);
            p.busy = 0;
            p.probe = Probe {
                failing_since: p.probe.failing_since.map(|_| Mono(0)),
                code: p.probe.code.take(),
                ..Probe::default()
            };
            p.senders.iter_mut().for_each(|sender| sender.flushed = Lsn(0));
            p.senders.sort_by(|a, b| a.name.cmp(&b.name));
            p.slots.iter_mut().for_each(|slot| slot.retained = 0);
        }
        Server::Standby(s) => {
            (s.flushed, s.replayed, s.effort) = (Lsn(0), Lsn(0), ReplayEffort::default());
        }
        Server::Unknown | Server::Starting | Server::Down(_) => {}
    }
    still
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::promise::PromiseFile,
        model::{Epoch, Incarnation},
        planner::fixture::{healthy, primary, seoul},
    };

    #[test]
    fn what_was_proven_in_an_earlier_life_of_the_store_counts_for_nothing_in_the_next() {
        let dir = tempfile::tempdir().expect("dir");
        let mut file = PromiseFile::open(dir.path(), &seoul()).expect("a file");
        let board = Board::new(healthy().agent_mut(&seoul()).clone(), file.held().clone());
        let mut promise = |life: u64, version: u64| {
            let stamp = Stamp { incarnation: Incarnation(life), epoch: Epoch(1), version: Version(version) };
            file.keep(Promise { promise: Some(stamp), ..file.held().clone() }).expect("kept");
            board.update(|s| s.promised(file.held()));
        };
        promise(1, 3);
        board.update(|s| {
            s.facts.server.value = Server::Primary(primary());
            (s.names_proven, s.checkpointed) = (Some((Version(3), Lsn(0x600))), Some(Version(3)));
            s.refresh();
        });
        promise(1, 4);
        let proven = || match board.read(|s| s.facts.server.value.clone()) {
            Server::Primary(seen) => (seen.names_proven, seen.checkpointed),
            other => panic!("{other:?}"),
        };
        assert_eq!(proven(), (Some((Version(3), Lsn(0x600))), Some(Version(3))));
        promise(2, 3);
        assert_eq!(proven(), (None, None));
    }
}
