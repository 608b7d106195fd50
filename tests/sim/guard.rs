//! The guard: the dead-man switch beside one server, an actor of its own. It lives on when the member is killed or frozen,
//! knows a deadline and a stamp, and nothing else.

use locum::model::{GuardFacts, GuardMethod, GuardState, Mono, Stamp};

use super::{Tick, host::HostClock, log::Log, mix::Mix, postgres::Pg, rng::Rng};

#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    host: usize,
    /// Killed; another is started by the member after this.
    pub(crate) dead_until: Tick,
    pub(crate) stamp: Stamp,
    deadline: Option<Mono>,
    /// Which postmaster the deadline is about.
    of: u64,
    /// It has noticed the deadline, and will have frozen the server by then.
    acts_at: Option<Tick>,
    frozen_since: Option<Tick>,
    /// A guard was killed, or its member stopped in order, since this server was last guarded: nothing bounds it. A right
    /// that had run out by the time the next guard was told of it bounds it when that guard has frozen it.
    pub(crate) gone: bool,
}

impl Guard {
    pub(crate) fn new(host: usize) -> Self {
        Self { host, ..Self::default() }
    }

    pub(crate) fn lives(&self, now: Tick) -> bool {
        self.dead_until <= now
    }

    /// A new deadline: for the server that runs, or, ahead of a start, for the one that is about to be started.
    pub(crate) fn arm(
        &mut self,
        stamp: Stamp,
        until: Mono,
        pg: &Pg,
        ahead: bool,
        (now, clock): (Tick, Mono),
    ) {
        let outdated = stamp < self.stamp && !stamp.same_epoch(self.stamp);
        if !self.lives(now) || outdated || pg.is_down() && !ahead {
            return;
        }
        self.of = pg.generation + u64::from(pg.is_down());
        let later = self.deadline.is_none_or(|known| known < until) || !stamp.same_epoch(self.stamp);
        self.stamp = self.stamp.max(stamp);
        if later {
            (self.deadline, self.acts_at) = (Some(until), None);
            self.gone &= until <= clock;
        }
    }

    /// What it tells its member.
    pub(crate) fn facts(&self, held: bool, now: Tick) -> Option<GuardFacts> {
        let state = match self.deadline {
            _ if held => GuardState::Frozen,
            Some(_) => GuardState::Armed,
            None => GuardState::Off,
        };
        self.lives(now).then_some(GuardFacts {
            state,
            since: Mono::default(),
            deadline: self.deadline,
            stamp: Some(self.stamp),
            postmaster: None,
            method: GuardMethod::Cgroup,
            realtime: true,
            spared: true,
            locked: true,
            enforce: true,
            keeps: false,
            strayed: false,
        })
    }

    /// Explicit: the server has ended, or is to go on unguarded.
    pub(crate) fn disarm(&mut self, pg: &mut Pg) {
        pg.held = false;
        (self.deadline, self.acts_at, self.frozen_since) = (None, None, None);
    }

    /// A higher epoch is known.
    pub(crate) fn outranked(&mut self, stamp: Stamp, pg: &mut Pg) {
        self.stamp = self.stamp.max(stamp);
        self.disarm(pg);
    }

    /// Its host went off, and what its member remembers went back.
    pub(crate) fn begins_anew(&mut self) {
        *self = Self { dead_until: self.dead_until, ..Self::new(self.host) };
    }

    pub(crate) fn killed(&mut self, until: Tick) {
        *self = Self { dead_until: until, gone: true, stamp: self.stamp, ..Self::new(self.host) };
    }

    pub(crate) fn step(
        &mut self,
        now: Tick,
        clock: HostClock,
        pg: &mut Pg,
        mix: &Mix,
        rng: &mut Rng,
        log: &mut Log,
    ) {
        if !self.lives(now) {
            return;
        }
        if pg.is_down() && pg.generation >= self.of && !pg.has_processes(now) {
            return self.disarm(pg);
        }
        if pg.held && self.frozen_since.is_none() {
            // Another guard froze it, and was killed: its time is counted anew.
            self.frozen_since = Some(now);
        }
        let Some(deadline) = self.deadline.filter(|_| pg.generation >= self.of) else {
            return self.kill_in_the_end(now, pg, mix, log);
        };
        if clock.at(now) < deadline {
            if pg.held {
                log.say(|| format!("guard {}: thaws", self.host));
            }
            (pg.held, self.frozen_since, self.acts_at) = (false, None, None);
            return;
        }
        // The worst that was tested is part of the deadline.
        let at = *self.acts_at.get_or_insert_with(|| now + rng.below(mix.guard_slow));
        if now < at {
            return;
        }
        if !pg.held {
            log.say(|| format!("guard {}: freezes", self.host));
            (pg.held, self.frozen_since, self.gone) = (true, Some(now), false);
        }
        self.kill_in_the_end(now, pg, mix, log);
    }

    fn kill_in_the_end(&mut self, now: Tick, pg: &mut Pg, mix: &Mix, log: &mut Log) {
        let limit = u64::try_from(mix.policy.freeze_max.as_millis() / 10).unwrap_or(u64::MAX);
        if self.frozen_since.is_some_and(|since| now - since >= limit) {
            log.say(|| format!("guard {}: kills", self.host));
            pg.kill(now);
            self.disarm(pg);
        }
    }
}
