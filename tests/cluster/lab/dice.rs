//! Faults drawn from a seed: the same seed draws the same faults.

use std::time::Duration;

use super::{Fault, Part};

/// `splitmix64`: small, and the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// From a seed.
    #[must_use]
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or_default()
    }

    /// One of them.
    pub(crate) fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A time between two.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from((most - least).as_millis()).unwrap_or(u64::MAX).max(1);
        least + Duration::from_millis(self.next() % span)
    }
}

/// What a laboratory can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    /// It has etcd.
    pub(crate) etcd: bool,
    /// It has disks of its own.
    pub(crate) disks: bool,
    /// Its wall clocks can be set.
    pub(crate) clocks: bool,
    /// The program has a guard.
    pub(crate) guard: bool,
    /// A killed or frozen member beside a living PostgreSQL is survived in this mode.
    pub(crate) members: bool,
}

/// Whom a fault is about; who that is, is seen when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The declared primary.
    Primary,
    /// One of the others with PostgreSQL.
    Standby(usize),
    /// Any host at all.
    Any(usize),
}

/// A fault before anybody knows who is who.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    /// Which.
    pub(crate) kind: &'static str,
    /// About whom.
    pub(crate) who: Who,
    /// How long it lasts at least.
    pub(crate) hold: Duration,
    /// To what a clock is set, in seconds.
    pub(crate) ahead: i64,
}

/// The kinds, and how often each is drawn.
fn kinds(means: Means) -> Vec<&'static str> {
    let mut kinds = vec![
        "kill-postmaster",
        "kill-postmaster",
        "kill-postgres",
        "kill-backend",
        "freeze-postgres",
        "freeze-postmaster",
        "kill-wal-receiver",
        "freeze-wal-receiver",
        "kill-everything",
        "host-lost",
        "host-lost",
        "isolated",
        "isolated",
        "link-cut",
        "one-way-cut",
        "bursts",
        "starved",
    ];
    if means.members {
        kinds.extend(["kill-member", "freeze-member"]);
    }
    if means.etcd {
        kinds.extend([
            "store-cut",
            "store-stopped",
            "store-killed",
            "store-slow",
            "kill-etcd",
            "freeze-etcd",
        ]);
    }
    if means.guard {
        kinds.extend(["kill-guard", "freeze-guard", "kill-locum"]);
    }
    if means.clocks {
        kinds.extend(["clock-set", "clock-set"]);
    }
    if means.disks {
        kinds.extend(["disk-full", "disk-hangs"]);
    }
    kinds
}

/// Draws one.
pub(crate) fn draw(dice: &mut Dice, means: Means) -> Drawn {
    let kind = dice.one(&kinds(means));
    // The primary is where it hurts.
    let who = match dice.below(10) {
        0..=5 => Who::Primary,
        6..=8 => Who::Standby(dice.below(2)),
        _ => Who::Any(dice.below(4)),
    };
    let hold = dice.between(Duration::from_millis(100), Duration::from_secs(8));
    let ahead = dice.one(&[-86_400, -3_600, -30, 30, 3_600, 86_400]);
    Drawn { kind, who, hold, ahead }
}

impl Drawn {
    /// The fault itself, now that it is known who is who. None: there is no such host.
    #[must_use]
    pub(crate) fn fault(&self, primary: &str, standbys: &[String], all: &[String]) -> Option<Fault> {
        let other = || standbys.first().cloned();
        let host = match self.who {
            Who::Primary => primary.to_owned(),
            Who::Standby(number) => standbys.get(number % standbys.len().max(1))?.clone(),
            Who::Any(number) => all.get(number % all.len().max(1))?.clone(),
        };
        let server =
            if host == primary || standbys.contains(&host) { host.clone() } else { primary.to_owned() };
        let standby = if server == primary { other()? } else { server.clone() };
        Some(match self.kind {
            "kill-postmaster" => Fault::Kill(Part::Postmaster, server),
            "kill-postgres" => Fault::Kill(Part::Postgres, server),
            "kill-backend" => Fault::Kill(Part::Backend, primary.to_owned()),
            "freeze-postgres" => Fault::Freeze(Part::Postgres, server),
            "freeze-postmaster" => Fault::Freeze(Part::Postmaster, server),
            "kill-wal-receiver" => Fault::Kill(Part::WalReceiver, standby),
            "freeze-wal-receiver" => Fault::Freeze(Part::WalReceiver, standby),
            "kill-everything" => Fault::Kill(Part::Everything, host),
            "kill-member" => Fault::Kill(Part::Member, server),
            "freeze-member" => Fault::Freeze(Part::Member, server),
            "kill-guard" => Fault::Kill(Part::Guard, server),
            "freeze-guard" => Fault::Freeze(Part::Guard, server),
            "kill-locum" => Fault::Kill(Part::Locum, server),
            "kill-etcd" => Fault::Kill(Part::Etcd, server),
            "freeze-etcd" => Fault::Freeze(Part::Etcd, server),
            "host-lost" => Fault::HostLost(host),
            "isolated" => Fault::Isolated(host),
            "link-cut" => Fault::LinkCut(primary.to_owned(), standby),
            "one-way-cut" if server == primary => Fault::OneWayCut(primary.to_owned(), standby),
            "one-way-cut" => Fault::OneWayCut(server, primary.to_owned()),
            "store-cut" => Fault::StoreCut(server),
            "bursts" => Fault::Bursts(host, 300, 1000),
            "store-stopped" => Fault::StoreStopped,
            "store-killed" => Fault::StoreKilled,
            "store-slow" => Fault::StoreSlow(50, 250),
            "disk-full" => Fault::DiskFull(server),
            "clock-set" => Fault::ClockSet(server, self.ahead),
            "disk-hangs" => Fault::DiskHangs(server),
            "starved" => Fault::Starved(12),
            other => unreachable!("{other}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Means = Means { etcd: true, disks: true, clocks: true, guard: true, members: true };

    #[test]
    fn a_seed_draws_the_same_faults_again_and_every_kind_becomes_a_fault() {
        let drawn = || {
            let mut dice = Dice::new(7);
            let hosts = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
            let one = |_| draw(&mut dice, ALL).fault("a", &hosts[1..], &hosts).expect("a fault").text();
            (0..500).map(one).collect::<Vec<_>>()
        };
        assert_eq!(drawn(), drawn());
        let kinds: std::collections::BTreeSet<_> = kinds(ALL).into_iter().collect();
        assert!(kinds.iter().all(|kind| drawn().iter().any(|text| text.starts_with(kind))));
    }
}
