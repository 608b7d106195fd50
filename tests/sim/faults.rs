//! What goes wrong, and how it is put right again when the bad time is over.

use locum::model::{Hold, Known, Request, RequestKind};

use super::{MOST, Tick, bug::Bug, host::Life, node, postgres::Proc, world::World};

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SIGKILL of the postmaster of whoever is primary.
    Crash,
    /// The same, of a standby.
    KillStandby,
    /// Every process of a server is stopped, and continued later.
    Hang,
    /// The postmaster alone is stopped.
    Deaf,
    /// The member (agent, endpoint, controller) is killed, and started again by the init system.
    KillMember,
    /// The member is stopped, and continued.
    FreezeMember,
    /// Its controller alone stalls.
    FreezeController,
    /// Server and member end at once: the power went.
    HostLost,
    /// The link between the hosts is cut.
    Cut,
    /// It is cut in one direction.
    CutOneWay,
    /// The store is down.
    StoreDown,
    /// The store cannot be reached from one host.
    StoreAway,
    /// A person stops a server in order.
    CleanStop,
    /// A person pauses replay.
    PauseReplay,
    /// Somebody asks for a switchover.
    Switchover,
    /// Somebody pauses automatic action, and resumes it later.
    Pause,
    /// A checkpoint that takes long.
    BusyCheckpointer,
    /// The store is copied …
    CopyStore,
    /// … and the copy is put back.
    RestoreStore,
    /// A host reaches neither the others nor the store, though everything on it goes on.
    Isolated,
    /// The guard alone is killed; another one is started soon.
    KillGuard,
    /// Member and guard are killed at once, and the server goes on.
    KillBoth,
    /// The member is stopped in order, and started again later.
    StopMember,
    /// The wall clock of a host is set to something else.
    ClockStep,
    /// The store goes back in time, whoever is there. Drawn by some seeds only: see `mix`.
    StoreBack,
    /// The power goes, and what is on disk goes back in time meanwhile. Drawn by some seeds only: see `mix`.
    DiskBack,
}

impl Kind {
    /// What a seed draws from.
    pub(crate) const ALL: [Self; 24] = [
        Self::Crash,
        Self::KillStandby,
        Self::Hang,
        Self::Deaf,
        Self::KillMember,
        Self::FreezeMember,
        Self::FreezeController,
        Self::HostLost,
        Self::Cut,
        Self::CutOneWay,
        Self::StoreDown,
        Self::StoreAway,
        Self::CleanStop,
        Self::PauseReplay,
        Self::Switchover,
        Self::Pause,
        Self::BusyCheckpointer,
        Self::CopyStore,
        Self::RestoreStore,
        Self::Isolated,
        Self::KillGuard,
        Self::KillBoth,
        Self::StopMember,
        Self::ClockStep,
    ];
}

/// What a fault leaves to be undone later.
#[derive(Clone, Copy, Debug)]
enum Undo {
    Continue(usize),
    ResumeReplay(usize),
    Resume,
}

#[derive(Default)]
pub(crate) struct Faults {
    undo: Vec<(Tick, Undo)>,
    pub(crate) count: u64,
    operations: u64,
}

impl World {
    /// Perhaps something goes wrong now; what is over is undone.
    pub(crate) fn go_wrong(&mut self) {
        self.undo_due(self.now);
        if !self.rng.chance(1000 / self.mix.fault_every) {
            return;
        }
        let kind = self.rng.pick(&self.mix.kinds);
        let (host, length) = (self.rng.index(self.hosts.len()), self.rng.range(5, self.mix.fault_length));
        let primary = (0..self.mix.servers)
            .find(|host| !self.hosts[*host].pg.is_down() && !self.hosts[*host].pg.standby_signal);
        // Whoever holds the pen is hit more often than chance would have it.
        let host = primary.filter(|_| self.rng.chance(300)).unwrap_or(host);
        self.faults.count += 1;
        self.log.say(|| format!("FAULT {kind:?}, host {host}, {length} ticks"));
        self.inflict(kind, host, primary, self.now + length);
    }

    fn other_than(&mut self, host: usize) -> usize {
        let other = self.rng.index(self.hosts.len() - 1);
        if other >= host { other + 1 } else { other }
    }

    fn inflict(&mut self, kind: Kind, host: usize, primary: Option<usize>, until: Tick) {
        let now = self.now;
        match kind {
            Kind::Crash => {
                if let Some(primary) = primary {
                    self.hosts[primary].pg.crash(now, &mut self.rng);
                }
            }
            Kind::KillStandby => {
                if primary != Some(host) && self.hosts[host].serves {
                    self.hosts[host].pg.crash(now, &mut self.rng);
                }
            }
            Kind::Hang => {
                let host = primary.filter(|_| self.rng.chance(700)).unwrap_or(host);
                self.hosts[host].pg.frozen = !self.hosts[host].pg.is_down();
                self.faults.undo.push((until, Undo::Continue(host)));
            }
            Kind::Deaf => {
                let host = primary.unwrap_or(host);
                self.hosts[host].pg.deaf = !self.hosts[host].pg.is_down();
                self.faults.undo.push((until, Undo::Continue(host)));
            }
            Kind::KillMember => self.kill_member(host, until),
            Kind::FreezeMember => {
                if self.hosts[host].life == Life::Up {
                    self.hosts[host].life = Life::Frozen(until);
                }
            }
            Kind::FreezeController => self.controllers[host].frozen_until = until,
            Kind::HostLost => {
                self.lose_host(host, until);
            }
            Kind::Cut => {
                let other = self.other_than(host);
                let cut = &mut self.network.links.cut_until;
                (cut[host][other], cut[other][host]) = (until, until);
            }
            Kind::CutOneWay => {
                let other = self.other_than(host);
                self.network.links.cut_until[host][other] = until;
            }
            Kind::Isolated => {
                let until = until.max(now + self.mix.isolation);
                let one_way = self.rng.chance(250);
                for other in (0..self.hosts.len()).filter(|other| *other != host) {
                    let cut = &mut self.network.links.cut_until;
                    cut[host][other] = until;
                    if !one_way {
                        cut[other][host] = until;
                    }
                }
                self.store.away_until[host] = until;
            }
            Kind::KillGuard => {
                let soon = until.min(now + 50);
                self.hosts[host].guard.killed(soon);
            }
            Kind::KillBoth => {
                self.hosts[host].guard.killed(until);
                self.kill_member(host, until);
            }
            Kind::StopMember => {
                if self.hosts[host].life == Life::Up {
                    self.hosts[host].stopping = Some(until.max(now + 50));
                }
            }
            Kind::ClockStep => {
                let off = i64::try_from(self.rng.range(0, 200_000)).unwrap_or(0);
                self.hosts[host].wall_off += off - 100_000;
            }
            Kind::StoreDown => self.store.down_until = until,
            Kind::StoreAway => self.store.away_until[host] = until,
            Kind::CleanStop => {
                let pg = &mut self.hosts[host].pg;
                if pg.proc == Proc::Standby && !pg.frozen {
                    pg.stop_standby(now);
                } else if !pg.is_frozen() {
                    pg.stop(now, &mut self.rng);
                }
            }
            Kind::PauseReplay => {
                let pg = &mut self.hosts[host].pg;
                if pg.proc == Proc::Standby {
                    pg.paused = true;
                    self.faults.undo.push((until, Undo::ResumeReplay(host)));
                }
            }
            Kind::Switchover if self.rng.chance(400) => {
                let from_scratch = self.rng.chance(500);
                self.ask(RequestKind::Rejoin { node: node(host), from_scratch });
            }
            Kind::Switchover => self.ask(RequestKind::Switchover { to: None }),
            Kind::Pause => {
                self.ask(RequestKind::Pause);
                self.faults.undo.push((until, Undo::Resume));
            }
            Kind::BusyCheckpointer => self.hosts[host].pg.checkpointer_busy_until = until,
            Kind::CopyStore => self.store.make_copy(),
            Kind::RestoreStore => self.restore_store(),
            Kind::StoreBack => self.store_back(),
            Kind::DiskBack => self.disk_back(host, until),
        }
    }

    fn undo_due(&mut self, now: Tick) {
        let (due, later): (Vec<_>, Vec<_>) = self.faults.undo.iter().partition(|(at, _)| *at <= now);
        self.faults.undo = later;
        for (_, undo) in due {
            match undo {
                Undo::Continue(host) => {
                    (self.hosts[host].pg.frozen, self.hosts[host].pg.deaf) = (false, false);
                }
                Undo::ResumeReplay(host) => {
                    if self.hosts[host].agent.disk.paused.is_none() {
                        self.hosts[host].pg.paused = false;
                    }
                }
                Undo::Resume => self.ask(RequestKind::Resume),
            }
        }
    }

    /// An operator asks whoever leads, as far as that one knows.
    fn ask(&mut self, kind: RequestKind) {
        let now = self.now;
        let leader = (0..self.hosts.len())
            .find(|host| self.hosts[*host].life == Life::Up && self.controllers[*host].leads(now));
        let Some(leader) = leader else { return };
        self.faults.operations += 1;
        let operation = format!("op{}", self.faults.operations);
        self.log.say(|| format!("operator asks for {kind:?}"));
        self.controllers[leader].requests.push(Request { operation, kind });
    }

    fn restore_store(&mut self) {
        // Both members hear each other, so that what the agents remember is known to whoever reads the store.
        let all = 0..self.hosts.len();
        let linked = all.clone().all(|a| all.clone().all(|b| self.network.links.open(a, b, self.now)));
        let quiet = linked && self.hosts.iter().all(|host| host.life == Life::Up);
        if (quiet || self.bug == Some(Bug::OldStoreBelieved)) && self.store.restore(self.now) {
            self.store_is_older("is restored from a copy");
        }
    }

    fn store_is_older(&mut self, how: &str) {
        self.log.say(|| format!("the store {how}: {:?}", self.store.known()));
        self.checks.store_restored();
        self.controllers.iter_mut().for_each(super::controller::Controller::watches_broke);
    }

    /// The store has a disk, too. Somebody who is heard remembers more, else nobody could know.
    fn store_back(&mut self) {
        let older = self.rng.index(3);
        let known = self.hosts.iter().filter(|host| host.life == Life::Up).map(|host| host.remembered);
        let (stamp, renewals) = known.fold((None, None), |(stamp, renewals), known| {
            (known.stamp.max(stamp), known.renewals.max(renewals))
        });
        if self.store.goes_back(older, Known { stamp, renewals }, self.now) {
            self.disks_back += 1;
            self.store_is_older("goes back in time");
        }
    }

    /// The bad time is over: everything is put right that Locum is not there to put right.
    pub(crate) fn put_right(&mut self) {
        self.log.say(|| "FAULTS ARE OVER".to_owned());
        self.network.heal(self.now);
        self.store.down_until = self.store.down_until.min(self.now);
        self.store.away_until = [0; MOST];
        for (host, controller) in self.hosts.iter_mut().zip(&mut self.controllers) {
            (host.pg.frozen, host.pg.deaf, host.pg.checkpointer_busy_until) = (false, false, 0);
            controller.frozen_until = 0;
            host.guard.dead_until = host.guard.dead_until.min(self.now + 50);
            match host.life {
                Life::Up => {}
                Life::Frozen(_) => host.life = Life::Frozen(self.now),
                Life::Dead(until) => host.life = Life::Dead(until.min(self.now + 100)),
            }
            if host.agent.disk.paused.is_none() {
                host.pg.paused = false;
            }
        }
        self.faults.undo.clear();
        self.resume_if_paused();
    }

    /// A person accepts a store that was put back, after having stopped every primary but the last one.
    pub(crate) fn accept_if_disbelieved(&mut self) {
        let now = self.now;
        let leader = self.controllers.iter().find(|controller| controller.leads(now));
        let Some(leader) = leader.filter(|leader| leader.holds.contains(&Hold::StoreNotBelieved)) else {
            return;
        };
        if !leader.requests.is_empty() {
            return;
        }
        let last = (0..self.mix.servers).max_by_key(|host| self.hosts[*host].agent.disk.primary_since);
        for host in self.primaries().into_iter().filter(|host| Some(*host) != last) {
            self.log.say(|| format!("a person stops host {host}"));
            self.hosts[host].pg.stop(now, &mut self.rng);
        }
        self.ask(RequestKind::AcceptStore);
    }

    /// A person lifts a pause that was left behind.
    pub(crate) fn resume_if_paused(&mut self) {
        let paused = self.store.intent.as_ref().is_some_and(|(intent, _)| intent.paused);
        let now = self.now;
        let disbelieved =
            self.controllers.iter().any(|c| c.leads(now) && c.holds.contains(&Hold::StoreNotBelieved));
        if disbelieved {
            return;
        }
        let asked = self.controllers.iter().any(|c| c.leads(now) && !c.requests.is_empty());
        if paused && !asked {
            self.ask(RequestKind::Resume);
        }
    }
}
