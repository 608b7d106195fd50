//! One seed, from a pair that somebody set up by hand to a healed one.

use std::fmt;

use locum::model::Hold;

use super::{Tick, bug::Bug, world::World};

/// The pair is declared and settles before anything goes wrong.
const SETTLE: Tick = 1000;
/// After the last fault it must have healed within this: two minutes.
const HEAL: Tick = 12_000;
/// It must stay well for so long.
const STAY: Tick = 100;
/// Declarations that are never too many, and how many more each fault may lead to.
const DECLARES: (u64, u64) = (100, 25);

/// What came of a seed, or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<String>,
    pub(crate) runs: u64,
    ticks: u64,
    faults: u64,
    failovers: u64,
    switchovers: u64,
    acks: u64,
    lost: u64,
    /// Told without having waited; told by a server whose member and guard were gone; sets emptied without a leader.
    weak: u64,
    unguarded: u64,
    amends: u64,
    /// The store was restored and rightly not believed.
    disbelieved: u64,
    /// It was believed by a member that could not know better; nothing more is judged then.
    blind: u64,
    longest_heal: u64,
    /// Disks that went back, commits lost with one that no renewal could tell of, and runs in which nobody was left to serve.
    disks_back: u64,
    unrenewed: u64,
    held: u64,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.ticks += other.ticks;
        self.faults += other.faults;
        self.failovers += other.failovers;
        self.switchovers += other.switchovers;
        self.acks += other.acks;
        self.lost += other.lost;
        self.weak += other.weak;
        self.unguarded += other.unguarded;
        self.amends += other.amends;
        self.disbelieved += other.disbelieved;
        self.blind += other.blind;
        self.disks_back += other.disks_back;
        self.unrenewed += other.unrenewed;
        self.held += other.held;
        self.longest_heal = self.longest_heal.max(other.longest_heal);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} s simulated, {} faults, {} failovers, {} switchovers, {} commits acknowledged, {} given up in async, \
             {} that did not wait, {} unguarded, {} sets emptied without a leader, {} stores not believed, {} believed blindly, \
             {} disks went back, {} commits lost with them that no renewal could tell of, {} runs held because nobody had everything, \
             healed within {:.1} s",
            self.ticks / 100,
            self.faults,
            self.failovers,
            self.switchovers,
            self.acks,
            self.lost,
            self.weak,
            self.unguarded,
            self.amends,
            self.disbelieved,
            self.blind,
            self.disks_back,
            self.unrenewed,
            self.held,
            self.longest_heal as f64 / 100.0
        )
    }
}

/// Runs a seed. With `traced`, returns what happened line by line.
pub(crate) fn run(seed: u64, bug: Option<Bug>, traced: bool) -> (Outcome, Vec<String>) {
    let mut world = World::new(seed, bug, traced);
    let mut healed = Healing::default();
    settle(&mut world);
    let end = world.now + world.mix.fault_ticks;
    while world.now < end && world.checks.violation.is_none() && !world.is_blind() {
        world.tick(true);
    }
    if world.checks.violation.is_none() && !world.is_blind() {
        world.put_right();
        healed.heal(&mut world);
    }
    let declares = world.store.declares;
    if declares > DECLARES.0 + DECLARES.1 * world.faults.count && bug.is_none() {
        let faults = world.faults.count;
        world.checks.violate(|| format!("{declares} declarations for {faults} faults"));
    }
    let checks = &world.checks;
    let outcome = Outcome {
        violation: checks
            .violation
            .clone()
            .map(|text| format!("at {:.2} s: {text}", world.now as f64 / 100.0)),
        runs: 1,
        ticks: world.now,
        faults: world.faults.count,
        failovers: checks.failovers,
        switchovers: checks.switchovers,
        acks: checks.acks() as u64,
        lost: checks.lost,
        weak: checks.weak,
        unguarded: checks.unguarded,
        amends: world.amends,
        disbelieved: u64::from(healed.disbelieved),
        blind: u64::from(world.is_blind()),
        longest_heal: healed.took,
        disks_back: world.disks_back,
        unrenewed: checks.unrenewed,
        held: u64::from(healed.held),
    };
    (outcome, std::mem::take(&mut world.log.lines))
}

fn settle(world: &mut World) {
    let until = world.now + SETTLE;
    while world.ailment().is_some() && world.checks.violation.is_none() {
        if world.now > until {
            let ailment = world.ailment().unwrap_or_default();
            return world.checks.violate(|| format!("a healthy pair does not settle: {ailment}"));
        }
        world.tick(false);
    }
}

#[derive(Default)]
struct Healing {
    took: Tick,
    disbelieved: bool,
    /// Nobody serves, and rightly so.
    held: bool,
}

impl Healing {
    /// Lets it heal, and stay healed.
    fn heal(&mut self, world: &mut World) {
        let began = world.now;
        let mut well = 0;
        while world.checks.violation.is_none() && well < STAY && !world.is_blind() {
            world.tick(false);
            if world.now.is_multiple_of(100) {
                world.accept_if_disbelieved();
                world.resume_if_paused();
            }
            self.disbelieved |= world.controllers.iter().any(|c| c.holds.contains(&Hold::StoreNotBelieved));
            let ailment = world.ailment();
            well = if ailment.is_none() { well + 1 } else { 0 };
            let Some(ailment) = ailment.filter(|_| world.now - began > HEAL) else { continue };
            if world.is_unsure() || world.only_copy_went_back() && world.holds_with_reason() {
                self.held = true;
                return;
            }
            if world.bug.is_none() {
                let (lacking, holds) = (world.only_copy_went_back(), world.holds());
                world.checks.violate(|| {
                    format!("it does not heal: {ailment}; somebody has everything: {}; {holds}", !lacking)
                });
            }
            return;
        }
        self.took = world.now - began;
        let primary = world.store.intent.as_ref().and_then(|(intent, _)| intent.primary.clone());
        if let Some(host) = primary.as_ref().and_then(super::host_of)
            && world.checks.violation.is_none()
            && !world.is_blind()
        {
            world.checks.finished(&world.hosts[host].pg);
        }
    }
}
