//! Seeded schedules around the real planner: faults as bad as the worst day, safety in every tick, and then it must
//! heal. Single-threaded, in ticks of 10 ms; the same seed is the same schedule, everywhere.
//!
//! A failing seed prints the command that replays it with its whole trace.

#![allow(clippy::print_stdout, reason = "the traces of a replay are its purpose")]

mod agent;
mod bug;
mod checks;
mod confirmed;
mod controller;
mod disks;
mod faults;
mod guard;
mod host;
mod jobs;
mod log;
mod mix;
mod network;
mod plant;
mod postgres;
mod replication;
mod right;
mod rng;
mod run;
mod store;
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use bug::Bug;
use locum::model::NodeId;
use run::{Outcome, run};

/// Ten milliseconds.
pub(crate) type Tick = u64;

/// Hosts at most.
pub(crate) const MOST: usize = 3;
const NAMES: [&str; MOST] = ["seoul", "tokyo", "osaka"];

pub(crate) fn node(host: usize) -> NodeId {
    NodeId::new(NAMES[host]).expect("a good name")
}

pub(crate) fn host_of(node: &NodeId) -> Option<usize> {
    NAMES.iter().position(|name| *name == node.as_str())
}

/// Seeds of `schedules_hold`, unless LOCUM_SIM_SEEDS says otherwise: a minute of two cores at most.
const SEEDS: u64 = 4_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs seeds until one fails, on two threads. The first that fails, and what the others came to.
fn sweep(from: u64, seeds: u64, bug: Option<Bug>) -> (Option<(u64, String)>, Outcome) {
    let next = AtomicU64::new(from);
    let failed = AtomicU64::new(u64::MAX);
    let work = || {
        let mut total = Outcome::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds || seed >= failed.load(Ordering::Relaxed) {
                return total;
            }
            let outcome = run(seed, bug, false).0;
            if outcome.violation.is_some() {
                failed.fetch_min(seed, Ordering::Relaxed);
            }
            total.add(&outcome);
        }
    };
    let total = thread::scope(|scope| {
        let second = scope.spawn(work);
        let mut total = work();
        total.add(&second.join().expect("a run does not panic"));
        total
    });
    let seed = failed.into_inner();
    let failure = (seed != u64::MAX).then(|| {
        let violation =
            run(seed, bug, false).0.violation.unwrap_or_else(|| "it does not happen again".into());
        (seed, violation)
    });
    (failure, total)
}

fn must_hold(from: u64, seeds: u64) {
    let (failure, total) = sweep(from, seeds, None);
    println!("{} schedules: {total}", total.runs);
    if let Some((seed, violation)) = failure {
        panic!(
            "seed {seed}: {violation}\nreplay: LOCUM_SIM_SEED={seed} cargo test --test sim replay -- --nocapture"
        );
    }
}

#[test]
fn schedules_hold() {
    must_hold(1, number("LOCUM_SIM_SEEDS").unwrap_or(SEEDS));
}

#[test]
#[ignore = "some hours; see scripts/sim"]
fn a_million_schedules() {
    let from = number("LOCUM_SIM_FROM").unwrap_or(1_000_000);
    must_hold(from, number("LOCUM_SIM_SEEDS").unwrap_or(1_000_000));
}

/// Every seed that fails, not only the first: for whoever looks for what several have in common.
#[test]
#[ignore = "a tool"]
fn survey() {
    let (from, seeds) = (number("LOCUM_SIM_FROM").unwrap_or(1), number("LOCUM_SIM_SEEDS").unwrap_or(SEEDS));
    let bug = std::env::var("LOCUM_SIM_BUG").ok().and_then(|name| Bug::named(&name));
    let mut total = Outcome::default();
    for seed in from..from + seeds {
        let outcome = run(seed, bug, false).0;
        if let Some(violation) = &outcome.violation {
            println!("seed {seed}: {violation}");
        }
        total.add(&outcome);
    }
    println!("{} schedules: {total}", total.runs);
}

#[test]
fn a_seed_replays() {
    let seed = number("LOCUM_SIM_SEED").unwrap_or(7);
    let bug = std::env::var("LOCUM_SIM_BUG").ok().and_then(|name| Bug::named(&name));
    let (outcome, trace) = run(seed, bug, true);
    if number("LOCUM_SIM_SEED").is_some() {
        trace.iter().for_each(|line| println!("{line}"));
        println!("{outcome}");
        println!("{}", outcome.violation.as_deref().unwrap_or("it holds"));
    }
    assert_eq!(run(seed, bug, false).0, outcome, "the same seed is the same schedule");
}

/// A planted mistake must show within so many seeds.
fn is_caught(bug: Bug, within: u64) {
    let (failure, total) = sweep(1, within, Some(bug));
    match failure {
        Some((seed, violation)) => println!("{bug:?} is caught at seed {seed}: {violation}"),
        None => panic!("{bug:?} is not noticed in {within} seeds ({total})"),
    }
}

mod planted {
    use super::{Bug, is_caught};

    macro_rules! planted {
        ($($name:ident: $bug:ident within $seeds:literal,)*) => {$(
            #[test]
            fn $name() {
                is_caught(Bug::$bug, $seeds);
            }
        )*};
    }

    planted! {
        no_compare_and_swap_is_caught: NoCompareAndSwap within 8_000,
        no_leader_guard_is_caught: NoLeaderGuard within 8_000,
        an_accepted_stale_epoch_is_caught: StaleEpoch within 8_000,
        an_accepted_late_order_of_the_epoch_is_caught: LateSameEpoch within 8_000,
        names_shown_taken_for_names_in_force_are_caught: NamesShown within 8_000,
        a_forgotten_recruit_is_caught: RecruitForgotten within 8_000,
        a_promise_not_kept_is_caught: PromiseNotKept within 8_000,
        an_old_store_believed_is_caught: OldStoreBelieved within 8_000,
        renewals_that_nobody_counts_are_caught: RenewalsUncounted within 8_000,
        notes_that_nobody_keeps_are_caught: NotesForgotten within 8_000,
        forgotten_floors_are_caught: FloorsForgotten within 8_000,
        a_member_counted_below_its_floor_is_caught: CountedBelowFloor within 8_000,
        a_promotion_below_what_was_declared_is_caught: PromotedBelowFloor within 8_000,
        an_old_primary_that_went_back_and_is_started_is_caught: WentBackStarted within 8_000,
        a_memory_believed_after_a_start_of_the_host_is_caught: MemoryBelieved within 8_000,
        a_fence_that_leaves_processes_is_caught: FenceLeavesProcesses within 8_000,
        a_guard_in_async_only_is_caught: GuardOnlyAsync within 8_000,
        a_lease_counted_from_the_reply_is_caught: LeaseFromReply within 8_000,
        a_lapsed_right_that_nobody_is_asked_about_is_caught: LapsedUnasked within 8_000,
        a_recruit_that_breaks_its_word_is_caught: WordNotKept within 8_000,
        a_word_forgotten_at_a_restart_is_caught: WordForgotten within 8_000,
        a_promotable_node_that_the_primary_does_not_know_is_caught: PromotableUnconfirmed within 8_000,
        a_renewal_that_no_reign_guards_is_caught: RenewalUnguarded within 8_000,
        a_set_of_several_in_the_order_of_a_pair_is_caught: JointSkipped within 8_000,
        a_member_of_the_set_that_is_cloned_is_caught: MemberRecloned within 8_000,
        an_old_primary_declared_again_is_caught: OldDeclaredAgain within 8_000,
        the_least_advanced_candidate_is_caught: LeastAdvanced within 8_000,
        a_recruit_that_attests_what_was_seen_before_is_caught: StaleAttest within 8_000,
        silence_that_a_stall_explains_is_caught: SilenceAfterStall within 8_000,
        an_amendment_without_compare_and_swap_is_caught: AmendBlind within 8_000,
        a_rescue_attested_before_it_is_applied_is_caught: RescueAttestedEarly within 8_000,
        half_a_rescue_taken_for_a_whole_one_is_caught: RescueHalf within 8_000,
    }
}
