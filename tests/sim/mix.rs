//! What one seed is like: its durability, its thresholds, its network, and which faults it has how often.
//!
//! Each seed draws its own mix (swarm testing): some are calm, some lossy, some slow, and few have everything.

use std::time::Duration;

use locum::model::{Durability, GuardMode, OnCrash, Policy};

use super::{MOST, Tick, bug::Bug, faults::Kind, rng::Rng};

pub(crate) struct Mix {
    pub(crate) policy: Policy,
    /// Hosts with a PostgreSQL, and hosts altogether: one may be a witness.
    pub(crate) servers: usize,
    pub(crate) hosts: usize,
    /// Microseconds that each host's clock counts in a tick of ten thousand: within one part in a hundred.
    pub(crate) rates: [u64; MOST],
    /// Within so many ticks the guard has frozen the server; the lease allows for twenty.
    pub(crate) guard_slow: u64,
    pub(crate) leader_ttl: Tick,
    /// Faults are drawn from these, once in so many ticks, for so long.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) fault_every: u64,
    pub(crate) fault_ticks: Tick,
    pub(crate) fault_length: u64,
    /// Out of a thousand ticks, how many bring a commit: directly at a node, through an endpoint.
    pub(crate) direct: u64,
    pub(crate) clients: u64,
    /// Out of a thousand: how many commits do not wait, or wait and are cancelled.
    pub(crate) weak: u64,
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
    /// What of a disk goes back: the data, the memory.
    pub(crate) disks: &'static [(bool, bool)],
    /// A host is isolated for at least so long.
    pub(crate) isolation: Tick,
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
            on_crash: match rng.range(0, 999) {
                0..150 => OnCrash::Restart,
                150..250 => OnCrash::Fastest,
                _ => OnCrash::Failover,
            },
            write_wait: ms(rng.pick(&[100, 500, 2000])),
            app_grace: ms(700),
            app: locum::model::AppTie::Tied,
            drain: ms(rng.pick(&[50, 500])),
            handover: ms(rng.pick(&[2000, 15_000])),
            max_failovers: if rng.chance(200) { 2 } else { 1000 },
            flap_window: ms(20_000),
            max_switchover_lag: rng.pick(&[64, 1 << 20]),
            max_slot_wal: 16 << 30,
            lease_ttl: ms(rng.pick(&[1000, 2000, 3000])),
            guard: GuardMode::Enforce,
            freeze_max: ms(rng.pick(&[500, 2000, 10_000])),
            veto_max: ms(5000),
            rescue_max: ms(rng.pick(&[0, 300, 2000])),
            has_fence_command: rng.chance(150),
        };
        let (servers, hosts) = rng.pick(&[(2, 2), (2, 3), (3, 3), (3, 3)]);
        let rates = [(); MOST].map(|()| rng.range(9_900, 10_100));
        let mut kinds: Vec<Kind> = Kind::ALL.iter().copied().filter(|_| rng.chance(450)).collect();
        if kinds.is_empty() {
            kinds.push(Kind::Crash);
        }
        let rough = rng.chance(500);
        let mut mix = Self {
            policy,
            servers,
            hosts,
            rates,
            guard_slow: rng.pick(&[1, 5, 19]),
            leader_ttl: rng.pick(&[100, 200, 300]),
            kinds,
            fault_every: rng.pick(&[15, 40, 100, 250]),
            fault_ticks: rng.range(300, 1500),
            fault_length: rng.pick(&[30, 150, 400, 800]),
            direct: rng.pick(&[20, 100, 300]),
            clients: rng.pick(&[20, 100]),
            weak: rng.pick(&[0, 20, 200]),
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
            disks: &[(true, false), (true, false), (false, true), (true, true)],
            isolation: 0,
        };
        if rng.chance(333) {
            // What takes disks back, and what makes that matter.
            mix.kinds.extend([Kind::DiskBack, Kind::DiskBack]);
            if rng.chance(300) {
                mix.kinds.push(Kind::StoreBack);
            }
            let with = [Kind::Crash, Kind::HostLost, Kind::KillMember, Kind::CopyStore, Kind::RestoreStore];
            mix.kinds.extend(with.into_iter().filter(|_| rng.chance(300)));
        }
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
            Bug::NoLeaderGuard => &[Kind::FreezeController, Kind::KillStandby, Kind::StoreAway],
            Bug::NoCompareAndSwap => &[
                Kind::FreezeController,
                Kind::StoreAway,
                Kind::KillStandby,
                Kind::Cut,
                Kind::Crash,
                Kind::KillMember,
            ],
            Bug::StaleEpoch => &[Kind::FreezeController, Kind::Crash, Kind::Hang, Kind::Cut],
            Bug::PromiseNotKept => {
                &[Kind::KillStandby, Kind::KillMember, Kind::KillMember, Kind::HostLost, Kind::Crash]
            }
            Bug::LateSameEpoch => &[Kind::HostLost, Kind::Cut, Kind::KillStandby, Kind::FreezeController],
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
            Bug::RenewalsUncounted => &[
                Kind::DiskBack,
                Kind::DiskBack,
                Kind::StoreBack,
                Kind::StoreBack,
                Kind::Crash,
                Kind::HostLost,
            ],
            Bug::NotesForgotten => {
                &[Kind::DiskBack, Kind::StoreDown, Kind::StoreDown, Kind::HostLost, Kind::Crash]
            }
            Bug::FloorsForgotten | Bug::CountedBelowFloor | Bug::WentBackStarted => {
                &[Kind::DiskBack, Kind::DiskBack, Kind::Crash, Kind::HostLost, Kind::Cut, Kind::KillMember]
            }
            Bug::PromotedBelowFloor => &[Kind::DiskBack, Kind::DiskBack, Kind::Crash, Kind::HostLost],
            // Whoever was promoted while the old primary was cut off forgets it, and nobody can tell it so.
            Bug::MemoryBelieved => &[
                Kind::Isolated,
                Kind::Isolated,
                Kind::DiskBack,
                Kind::DiskBack,
                Kind::StoreDown,
                Kind::StoreDown,
            ],
            // The primary is cut off right after a start in its place, with the list of its first moments.
            Bug::ListBelieved => &[Kind::DiskBack, Kind::DiskBack, Kind::DiskBack, Kind::Isolated],
            Bug::RecruitedAtBoot => {
                &[Kind::DiskBack, Kind::StoreAway, Kind::StoreAway, Kind::Isolated, Kind::KillMember]
            }
            Bug::FenceLeavesProcesses => &[Kind::Hang, Kind::Deaf, Kind::Crash],
            Bug::GuardOnlyAsync => &[Kind::FreezeMember, Kind::KillMember, Kind::Isolated],
            Bug::LeaseFromReply => &[Kind::FreezeMember, Kind::FreezeMember, Kind::Isolated],
            Bug::LapsedUnasked => &[Kind::CopyStore, Kind::RestoreStore, Kind::KillMember],
            Bug::WordNotKept => {
                &[Kind::StoreAway, Kind::Cut, Kind::CutOneWay, Kind::KillMember, Kind::Isolated]
            }
            Bug::WordForgotten => &[Kind::StoreAway, Kind::StoreAway, Kind::Isolated, Kind::KillMember],
            Bug::PromotableUnconfirmed => &[Kind::Crash, Kind::HostLost, Kind::Isolated, Kind::Isolated],
            Bug::RenewalUnguarded => &[Kind::StoreAway, Kind::Isolated, Kind::FreezeMember],
            Bug::JointSkipped => {
                &[Kind::KillStandby, Kind::Crash, Kind::HostLost, Kind::Isolated, Kind::KillMember]
            }
            Bug::MemberRecloned => &[Kind::KillStandby, Kind::Crash],
            Bug::OldDeclaredAgain => &[Kind::Crash, Kind::Hang, Kind::FreezeController, Kind::KillMember],
            Bug::LeastAdvanced | Bug::StaleAttest => {
                &[Kind::Crash, Kind::Hang, Kind::CutOneWay, Kind::KillStandby]
            }
            Bug::SilenceAfterStall => &[Kind::FreezeController, Kind::FreezeMember, Kind::StoreAway],
            Bug::RescueAttestedEarly | Bug::RescueHalf => {
                &[Kind::Crash, Kind::Crash, Kind::Cut, Kind::CutOneWay, Kind::KillMember]
            }
            Bug::AmendBlind => &[
                Kind::KillStandby,
                Kind::Isolated,
                Kind::Cut,
                Kind::FreezeController,
                Kind::HostLost,
                Kind::Crash,
            ],
        };
        self.kinds = wants.to_vec();
        match bug {
            Bug::NoLeaderGuard => {
                (self.leader_ttl, self.late, self.late_most) = (100, 300, 500);
                (self.fault_every, self.fault_length) = (40, 400);
            }
            Bug::LateSameEpoch => {
                (self.servers, self.hosts, self.policy.durability) = (3, 3, Durability::Sync);
                self.policy.write_wait = Duration::from_millis(100);
                (self.fault_every, self.fault_length) = (40, 150);
            }
            Bug::OldStoreBelieved | Bug::NoCompareAndSwap => {
                (self.servers, self.hosts, self.direct) = (2, 2, 300);
                self.policy.durability = Durability::Sync;
                self.policy.write_wait = Duration::from_millis(100);
            }
            Bug::NamesShown => {
                (self.policy.durability, self.slow_checkpointer, self.direct) = (Durability::Sync, 800, 300);
            }
            Bug::RenewalsUncounted
            | Bug::FloorsForgotten
            | Bug::CountedBelowFloor
            | Bug::WentBackStarted
            | Bug::PromotedBelowFloor => {
                self.policy.durability = Durability::Sync;
                (self.fault_every, self.fault_length, self.direct) = (100, 400, 300);
            }
            Bug::NotesForgotten => {
                (self.servers, self.hosts, self.policy.durability) = (2, 3, Durability::Sync);
                (self.policy.lease_ttl, self.direct) = (Duration::from_secs(1), 300);
                (self.fault_every, self.fault_length) = (100, 400);
            }
            Bug::MemoryBelieved | Bug::ListBelieved => {
                (self.servers, self.hosts, self.policy.durability) = (2, 3, Durability::Async);
                (self.policy.lease_ttl, self.policy.max_data_loss) = (Duration::from_secs(1), 1 << 20);
                (self.policy.has_fence_command, self.direct) = (false, 300);
                (self.policy.freeze_max, self.disks) = (Duration::from_secs(10), &[(false, true)]);
                (self.fault_every, self.fault_length) = (60, 400);
                if bug == Bug::ListBelieved {
                    self.policy.on_crash = OnCrash::Restart;
                    (self.fault_every, self.fault_length, self.isolation) = (15, 30, 400);
                }
            }
            Bug::RecruitedAtBoot => {
                (self.servers, self.hosts, self.policy.durability) = (2, 3, Durability::Async);
                (self.policy.lease_ttl, self.policy.max_data_loss) = (Duration::from_secs(3), 1 << 20);
                (self.policy.has_fence_command, self.direct) = (false, 300);
                (self.fault_every, self.fault_length) = (40, 100);
            }
            Bug::FenceLeavesProcesses => self.policy.durability = Durability::Async,
            Bug::LeaseFromReply
            | Bug::WordNotKept
            | Bug::PromotableUnconfirmed
            | Bug::RenewalUnguarded
            | Bug::SilenceAfterStall => {
                (self.policy.durability, self.policy.max_data_loss) = (Durability::Async, 1 << 20);
                (self.policy.freeze_max, self.direct, self.policy.has_fence_command) =
                    (Duration::from_secs(10), 300, false);
                self.policy.lease_ttl =
                    Duration::from_millis(if bug == Bug::LeaseFromReply { 1000 } else { 3000 });
                (self.fault_every, self.fault_length) = (100, 500);
            }
            Bug::LapsedUnasked => {
                (self.policy.durability, self.policy.max_data_loss) = (Durability::Async, 1 << 20);
                (self.policy.lease_ttl, self.policy.freeze_max) =
                    (Duration::from_secs(1), Duration::from_secs(10));
                (self.servers, self.hosts) = (3, 3);
                (self.fault_every, self.fault_length, self.direct) = (150, 500, 300);
            }
            Bug::WordForgotten => {
                (self.servers, self.hosts, self.policy.durability) = (2, 3, Durability::Async);
                (self.policy.lease_ttl, self.policy.max_data_loss) = (Duration::from_secs(2), 1 << 20);
                (self.policy.has_fence_command, self.direct) = (false, 300);
                (self.fault_every, self.fault_length) = (40, 150);
            }
            Bug::GuardOnlyAsync => {
                (self.policy.durability, self.weak, self.direct) = (Durability::Sync, 500, 300);
                (self.fault_every, self.fault_length) = (100, 800);
            }
            Bug::AmendBlind => {
                self.policy.durability = Durability::Sync;
                self.policy.write_wait = Duration::from_millis(100);
                (self.late, self.late_most) = (200, 200);
            }
            Bug::RescueAttestedEarly | Bug::RescueHalf => {
                (self.policy.durability, self.policy.max_data_loss) = (Durability::Async, 0);
                (self.policy.rescue_max, self.wal_stall, self.direct) = (Duration::from_secs(2), 700, 300);
                (self.fault_every, self.fault_length) = (40, 30);
                (self.lose, self.late) = (200, 10);
            }
            Bug::JointSkipped | Bug::LeastAdvanced | Bug::StaleAttest => {
                (self.servers, self.hosts, self.policy.durability) = (3, 3, Durability::Sync);
                self.policy.write_wait = Duration::from_millis(100);
                (self.direct, self.slow_checkpointer, self.wal_stall) = (300, 500, 700);
            }
            Bug::StaleEpoch | Bug::PromiseNotKept => {
                (self.servers, self.hosts, self.policy.durability) = (3, 3, Durability::Sync);
                (self.fault_every, self.fault_length, self.direct) = (40, 150, 300);
            }
            _ => {}
        }
        if matches!(bug, Bug::LateSameEpoch | Bug::StaleEpoch | Bug::PromiseNotKept | Bug::NoCompareAndSwap) {
            (self.late, self.late_most, self.double) = (100, 500, 400);
        }
    }
}
