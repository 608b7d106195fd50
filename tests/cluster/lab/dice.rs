//! Faults drawn from a seed: the same seed draws the same faults.

use std::time::Duration;

use super::{Back, Deed, Fate, Fault, Order, Part};

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
    /// Its servers have archivers.
    pub(crate) archives: bool,
    /// Its PostgreSQL has `promote_trigger_file`.
    pub(crate) triggers: bool,
}

/// Which kinds are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// What a data centre does: processes, hosts, networks, the store, clocks, full and slow disks.
    Plain,
    /// What nobody expects: disks that go back, directories that vanish, what people do to a server.
    Odd,
    /// Both.
    All,
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

/// What is drawn from: each kind comes once, or as often as it is in there, before any comes again.
#[derive(Clone, Debug)]
pub(crate) struct Deck {
    all: Vec<&'static str>,
    left: Vec<&'static str>,
}

impl Deck {
    /// Of all that this laboratory can do.
    #[must_use]
    pub(crate) fn new(means: Means, which: Kinds) -> Self {
        let all = match which {
            Kinds::Plain => plain(means),
            Kinds::Odd => odd(means),
            Kinds::All => [plain(means), odd(means)].concat(),
        };
        Self { all, left: Vec::new() }
    }

    fn next(&mut self, dice: &mut Dice) -> &'static str {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
        }
        self.left.swap_remove(dice.below(self.left.len()))
    }
}

fn odd(means: Means) -> Vec<&'static str> {
    let mut kinds: Vec<_> = Back::ALL.into_iter().map(Back::as_str).collect();
    kinds.extend([BOTH_BACK, Back::Disk.as_str()]);
    kinds.extend(Order::ALL.map(Order::as_str));
    kinds.extend(Fate::ALL.map(Fate::as_str));
    kinds.extend(Deed::ALL.map(Deed::as_str));
    let can = |kind: &&str| match *kind {
        "disk-back-new-leader" => means.members,
        "directory-parent-moved" => !means.disks,
        "busy-archiver" => means.archives,
        "leftover-trigger" => means.triggers,
        _ => true,
    };
    kinds.retain(can);
    kinds
}

/// The disks of a standby and of the primary, one after the other.
const BOTH_BACK: &str = "disk-back-both";

/// The plain kinds, and how often each is drawn.
fn plain(means: Means) -> Vec<&'static str> {
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

fn goes_back(kind: &str) -> bool {
    kind == BOTH_BACK || Back::ALL.into_iter().any(|back| back.as_str() == kind)
}

/// Draws one.
pub(crate) fn draw(dice: &mut Dice, deck: &mut Deck) -> Drawn {
    let kind = deck.next(dice);
    // The primary is where it hurts.
    let who = match dice.below(10) {
        0..=5 => Who::Primary,
        6..=8 => Who::Standby(dice.below(2)),
        _ => Who::Any(dice.below(4)),
    };
    // What goes back goes back by a second of writes or more.
    let least = if goes_back(kind) { 1_500 } else { 100 };
    let hold = dice.between(Duration::from_millis(least), Duration::from_secs(8));
    let ahead = dice.one(&[-86_400, -3_600, -30, 30, 3_600, 86_400]);
    Drawn { kind, who, hold, ahead }
}

impl Drawn {
    /// Something on a disk goes back in time.
    #[must_use]
    pub(crate) fn goes_back(&self) -> bool {
        goes_back(self.kind)
    }

    /// What a server had is not there any more.
    #[must_use]
    pub(crate) fn takes_data(&self) -> bool {
        self.goes_back() || self.kind == Fate::Removed.as_str()
    }

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
            BOTH_BACK => Fault::DiskBack(Back::Disk, vec![standby, primary.to_owned()]),
            other => self.odd(primary, &server, &standby).unwrap_or_else(|| unreachable!("{other}")),
        })
    }

    fn odd(&self, primary: &str, server: &str, standby: &str) -> Option<Fault> {
        let about = |host: &str| Fault::of_hosts(self.kind, &[host.to_owned()]);
        let deed = Deed::ALL.into_iter().find(|deed| deed.as_str() == self.kind);
        match deed {
            Some(deed) if deed.is_of_standby() => about(standby),
            Some(deed) if deed.is_of_primary() => about(primary),
            _ => about(server)
                .or_else(|| Fault::of_hosts(self.kind, &[primary.to_owned(), standby.to_owned()])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Means = Means {
        etcd: true,
        disks: true,
        clocks: true,
        guard: true,
        members: true,
        archives: true,
        triggers: true,
    };

    #[test]
    fn a_seed_draws_the_same_faults_again_and_every_kind_becomes_a_fault() {
        for means in [ALL, Means { disks: false, ..ALL }] {
            let drawn = || {
                let (mut dice, mut deck) = (Dice::new(7), Deck::new(means, Kinds::All));
                let hosts = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
                let one =
                    |_| draw(&mut dice, &mut deck).fault("a", &hosts[1..], &hosts).expect("a fault").text();
                (0..500).map(one).collect::<Vec<_>>()
            };
            assert_eq!(drawn(), drawn());
            let kinds = [plain(means), odd(means)].concat();
            let is_drawn = |kind: &str| drawn().iter().any(|text| text.split(' ').next() == Some(kind));
            assert!(kinds.iter().all(|kind| is_drawn(kind)), "{kinds:?}");
        }
    }

    #[test]
    fn no_kind_comes_again_before_every_kind_has_come() {
        let (mut dice, mut deck) = (Dice::new(3), Deck::new(ALL, Kinds::Odd));
        let mut once: Vec<_> = odd(ALL);
        let mut first: Vec<_> = once.iter().map(|_| draw(&mut dice, &mut deck).kind).collect();
        once.sort_unstable();
        first.sort_unstable();
        assert_eq!(first, once);
    }
}
