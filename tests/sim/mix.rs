//! What one seed is like: its durability, its thresholds, its network, and which faults it has how often.
//!
//! Each seed draws its own mix (swarm testing): some are calm, some lossy, some slow, and few have everything.

use std::time::Duration;

use locum::model::{Durability, OnCrash, Policy};

use super::{Tick, bug::Bug, faults::Kind, rng::Rng};

pub(crate) struct Mix {
    pub(crate) policy: Policy,
    pub(crate) leader_ttl: Tick,
    /// Faults are drawn from these, once in so many ticks, for so long.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) fault_every: u64,
    pub(crate) fault_ticks: Tick,
    pub(crate) fault_length: u64,
    /// Out of a thousand ticks, how many bring a commit: directly at a node, through an endpoint.
    pub(crate) direct: u64,
    pub(crate) clients: u64,
    /// Out of a thousand messages.
    pub(crate) late: u64,
    pub(crate) late_most: u64,
    pub(crate) lose: u64,
    pub(crate) double: u64,
    /// Out of a thousand ticks, how many bring no WAL to the standby.
    pub(crate) wal_stall: u64,
    pub(crate) wal_retry: u64,
    pub(crate) receiver_timeout: Tick,
    pub(crate) sender_timeout: Tick,
    /// Out of a thousand reloads, how many meet a checkpointer that is busy.
    pub(crate) slow_checkpointer: u64,
    /// Out of a thousand rewinds or clones.
    pub(crate) rebuild_fails: u64,
    pub(crate) can_rewind: bool,
}

impl Mix {
    pub(crate) fn draw(rng: &mut Rng, bug: Option<Bug>) -> Self {
        let durability = rng.pick(&[
            Durability::Sync,
            Durability::Sync,
            Durability::Sync,
            Durability::SyncStrict,
            Durability::Async,
        ]);
        let ms = Duration::from_millis;
        let policy = Policy {
            durability,
            max_data_loss: rng.pick(&[0, 64, 800, 1 << 20]),
            detect: ms(500),
            hang: ms(rng.pick(&[400, 1000, 2000])),
            on_crash: if rng.chance(250) { OnCrash::Restart } else { OnCrash::Failover },
            write_wait: ms(rng.pick(&[100, 500, 2000])),
            app_grace: ms(700),
            drain: ms(rng.pick(&[50, 500])),
            handover: ms(rng.pick(&[2000, 15_000])),
            max_failovers: if rng.chance(200) { 2 } else { 1000 },
            flap_window: ms(20_000),
            max_switchover_lag: rng.pick(&[64, 1 << 20]),
        };
        let mut kinds: Vec<Kind> = Kind::ALL.iter().copied().filter(|_| rng.chance(450)).collect();
        if kinds.is_empty() {
            kinds.push(Kind::Crash);
        }
        let rough = rng.chance(500);
        let mut mix = Self {
            policy,
            leader_ttl: rng.pick(&[100, 200, 300]),
            kinds,
            fault_every: rng.pick(&[15, 40, 100, 250]),
            fault_ticks: rng.range(300, 1500),
            fault_length: rng.pick(&[30, 150, 400, 800]),
            direct: rng.pick(&[20, 100, 300]),
            clients: rng.pick(&[20, 100]),
            late: if rough { rng.pick(&[10, 50, 200]) } else { 2 },
            late_most: rng.pick(&[10, 100, 500]),
            lose: if rough { rng.pick(&[0, 10, 50]) } else { 0 },
            double: if rough { rng.pick(&[0, 10, 100]) } else { 0 },
            wal_stall: rng.pick(&[10, 200, 700]),
            wal_retry: rng.pick(&[10, 50, 500]),
            receiver_timeout: rng.pick(&[100, 500]),
            sender_timeout: rng.pick(&[100, 500]),
            slow_checkpointer: rng.pick(&[0, 100, 500]),
            rebuild_fails: rng.pick(&[0, 0, 100, 300]),
            can_rewind: rng.chance(700),
        };
        if let Some(bug) = bug {
            mix.lean_toward(bug, rng);
        }
        mix
    }

    /// Half of the seeds of a planted mistake lean toward what it takes to see it.
    fn lean_toward(&mut self, bug: Bug, rng: &mut Rng) {
        if rng.chance(300) {
            return;
        }
        self.policy.max_failovers = 1000;
        self.policy.on_crash = OnCrash::Failover;
        let wants: &[Kind] = match bug {
            Bug::NoCompareAndSwap | Bug::NoLeaderGuard => &[
                Kind::FreezeController,
                Kind::StoreAway,
                Kind::KillStandby,
                Kind::Cut,
                Kind::Crash,
                Kind::KillMember,
            ],
            Bug::StaleEpoch => &[Kind::FreezeController, Kind::Crash, Kind::Hang, Kind::Cut],
            Bug::PromiseNotKept => {
                &[Kind::Crash, Kind::KillMember, Kind::KillMember, Kind::Hang, Kind::FreezeController]
            }
            Bug::LateSameEpoch => &[Kind::KillStandby, Kind::Cut, Kind::Crash, Kind::FreezeController],
            Bug::NamesShown => &[Kind::BusyCheckpointer, Kind::KillStandby, Kind::Crash, Kind::HostLost],
            Bug::RecruitForgotten => &[Kind::KillMember, Kind::Hang, Kind::Cut, Kind::Deaf],
            Bug::OldStoreBelieved => &[
                Kind::CopyStore,
                Kind::RestoreStore,
                Kind::Cut,
                Kind::KillStandby,
                Kind::Crash,
                Kind::KillMember,
            ],
            Bug::PositionsForgotten => &[Kind::DiskBack, Kind::Crash, Kind::HostLost, Kind::Cut],
            Bug::FenceLeavesProcesses => &[Kind::Hang, Kind::Deaf, Kind::Crash],
        };
        self.kinds = wants.to_vec();
        match bug {
            Bug::OldStoreBelieved | Bug::LateSameEpoch | Bug::NoCompareAndSwap | Bug::NoLeaderGuard => {
                self.policy.durability = Durability::Sync;
                self.policy.write_wait = Duration::from_millis(100);
            }
            Bug::NamesShown => {
                (self.policy.durability, self.slow_checkpointer, self.direct) = (Durability::Sync, 800, 300);
            }
            Bug::PositionsForgotten => self.policy.durability = Durability::Sync,
            Bug::FenceLeavesProcesses => self.policy.durability = Durability::Async,
            Bug::StaleEpoch | Bug::PromiseNotKept => {
                (self.policy.durability, self.policy.max_data_loss) = (Durability::Async, 1 << 20);
                self.policy.on_crash = OnCrash::Restart;
                self.policy.hang = Duration::from_millis(400);
                (self.fault_every, self.fault_length, self.direct) = (40, 150, 300);
            }
            _ => {}
        }
        if matches!(bug, Bug::LateSameEpoch | Bug::StaleEpoch | Bug::PromiseNotKept | Bug::NoCompareAndSwap) {
            (self.late, self.late_most, self.double) = (100, 500, 400);
        }
    }
}
