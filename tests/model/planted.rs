//! Planted bugs: one rule off, and the search finds how that loses a commit.
//! Each has bounds just wide enough; within the same bounds nothing is broken while the rule is on.

use crate::{
    bounds::{Bounds, World},
    properties::Property::{self, NothingAcknowledgedIsLost, OneWriter, PromisesOnlyGrow},
    rules::Rules,
    search::search,
    set::Set,
};

/// What does harm by itself: a promise that goes back does so only by what follows from it.
pub(crate) const HARM: [Property; 2] = [OneWriter, NothingAcknowledgedIsLost];

/// Asserts that the world without the rule is broken, and the same world with it is not.
pub(crate) fn assert_caught(bug: &str, rules: Rules, bounds: Bounds) {
    assert_broken(bug, rules, bounds);
    let sound = search(&World { rules: Rules::ALL, bounds }, &Property::ALL);
    assert!(sound.counterexample.is_none(), "the rule is what prevents it");
}

/// Asserts that the world without the rule is broken.
pub(crate) fn assert_broken(bug: &str, rules: Rules, bounds: Bounds) {
    let report = search(&World { rules, bounds }, &HARM);
    let counterexample = report.counterexample.expect("the planted bug is caught");
    println!("{bug}: {} steps, {} states\n{counterexample}\n", counterexample.trace.len(), report.states);
}

// ---- the store and the promises ---------------------------------------------------------------

#[test]
fn a_write_on_an_intent_that_is_gone_is_caught() {
    let rules = Rules { compare_and_swap: false, ..Rules::ALL };
    assert_caught(
        "no compare-and-swap",
        rules,
        Bounds { epochs: 3, versions: 4, late_writes: true, ..Bounds::SMALL },
    );
}

#[test]
fn a_late_message_of_the_same_epoch_is_caught() {
    let rules = Rules { version_is_checked: false, ..Rules::ALL };
    assert_caught("late order of the same epoch accepted", rules, Bounds::SMALL);
}

#[test]
fn a_promotion_under_a_stale_epoch_is_caught() {
    let rules = Rules { promote_checks_epoch: false, ..Rules::ALL };
    assert_caught(
        "promote under a stale epoch accepted",
        rules,
        Bounds { epochs: 4, versions: 5, ..Bounds::SMALL },
    );
}

#[test]
fn a_promise_that_is_not_persisted_is_caught() {
    let rules = Rules { promise_is_persisted: false, ..Rules::ALL };
    assert_caught("promise not persisted", rules, Bounds { versions: 4, ..Bounds::SMALL });
}

#[test]
fn a_promise_that_goes_back_is_seen_at_once() {
    let rules = Rules { promise_is_persisted: false, ..Rules::ALL };
    let report = search(&World { rules, bounds: Bounds::SMALL }, &Property::ALL);
    let counterexample = report.counterexample.expect("a promise goes back");
    assert_eq!((counterexample.broken, counterexample.trace.len()), (PromisesOnlyGrow, 1));
}

// ---- the sync set -----------------------------------------------------------------------------

#[test]
fn names_shown_taken_for_names_in_force_are_caught() {
    let rules = Rules { names_are_proven_in_force: false, ..Rules::ALL };
    assert_caught("names shown taken for names in force", rules, Bounds::SMALL);
}

#[test]
fn a_member_that_is_behind_the_proof_is_caught() {
    let rules = Rules { member_is_caught_up: false, ..Rules::ALL };
    assert_caught("standby joins the set before it has caught up", rules, Bounds::SMALL);
}

#[test]
fn a_member_that_an_older_order_can_still_empty_is_caught() {
    let rules = Rules { member_has_promised: false, ..Rules::ALL };
    let bounds = Bounds { versions: 5, clones: 1, begins_with: Set::EMPTY, ..Bounds::SMALL };
    assert_caught("proof without a promise of the standby that joins", rules, bounds);
}

#[test]
fn a_set_that_postgres_names_before_the_store_is_caught() {
    let rules = Rules { set_is_announced_first: false, removal_is_announced_first: false, ..Rules::ALL };
    assert_caught("names set before the store says so", rules, Bounds::SMALL);
}

#[test]
fn a_failover_by_only_one_of_two_sets_is_caught() {
    let rules = Rules { both_sets_are_satisfied: false, ..Rules::ALL };
    assert_caught("failover satisfies only the old set", rules, Bounds { versions: 4, ..Bounds::SMALL });
}

#[test]
fn a_removal_taken_back_in_one_write_is_caught() {
    let rules = Rules { removal_is_carried_through: false, ..Rules::ALL };
    assert_caught("removal taken back in one write", rules, Bounds { versions: 5, ..Bounds::SMALL });
}

#[test]
fn a_clone_of_a_member_is_caught() {
    let rules = Rules { members_are_not_cloned: false, ..Rules::ALL };
    assert_caught(
        "standby cloned while in the set",
        rules,
        Bounds { versions: 3, clones: 1, ..Bounds::SMALL },
    );
}

#[test]
fn a_declare_that_keeps_the_set_is_caught() {
    let rules = Rules { declare_empties_the_set: false, ..Rules::ALL };
    assert_caught("declare keeps the old set", rules, Bounds { epochs: 4, late_orders: 0, ..Bounds::SMALL });
}

// ---- taking the pen ---------------------------------------------------------------------------

/// Not in a pair: its one recruit is also the one heir, and whatever it still receives, it has when it is promoted.
/// The rule is needed where the recruit and the heir are two (ANY 1 of two), which this model does not have.
#[test]
fn a_recruit_that_streams_again_is_harmless_in_a_pair() {
    let rules = Rules { recruit_is_persisted: false, ..Rules::ALL };
    let bounds = Bounds { epochs: 3, versions: 6, crashes: 1, ..Bounds::SMALL };
    let report = search(&World { rules, bounds }, &HARM);
    println!("recruit not persisted: harmless in a pair, {} states", report.states);
    assert!(report.counterexample.is_none());
}

#[test]
fn a_failover_without_a_promise_or_a_fence_is_caught() {
    let rules = Rules { empty_set_needs_a_fence: false, ..Rules::ALL };
    assert_caught("silence taken for a fence", rules, Bounds { versions: 4, ..Bounds::SMALL });
}

#[test]
fn an_heir_that_lacks_something_is_caught() {
    let rules = Rules { heir_holds_everything: false, ..Rules::ALL };
    assert_caught("heir lacks what the fenced primary had", rules, Bounds { versions: 4, ..Bounds::SMALL });
}

#[test]
fn an_heir_that_an_older_order_can_still_empty_is_caught() {
    let rules = Rules { heir_is_recruited: false, ..Rules::ALL };
    let bounds = Bounds { versions: 4, clones: 1, begins_with: Set::EMPTY, ..Bounds::SMALL };
    assert_caught("positions compared before the heir is recruited", rules, bounds);
}

// ---- the old primary --------------------------------------------------------------------------

#[test]
fn the_old_primary_declared_again_after_a_candidate_is_caught() {
    let rules = Rules { candidate_is_point_of_no_return: false, ..Rules::ALL };
    assert_caught(
        "old primary declared again after a candidate",
        rules,
        Bounds { epochs: 3, versions: 4, ..Bounds::SMALL },
    );
}

#[test]
fn a_candidate_passed_over_unasked_is_caught() {
    let rules = Rules { candidate_is_asked_before_passed_over: false, ..Rules::ALL };
    let bounds = Bounds { epochs: 4, versions: 5, ..Bounds::SMALL };
    assert_caught("candidate passed over without its promise", rules, bounds);
}

#[test]
fn clients_let_in_before_the_names_are_in_force_are_caught() {
    let rules = Rules { closed_until_names_in_force: false, ..Rules::ALL };
    let bounds = Bounds { versions: 4, crashes: 1, ..Bounds::SMALL };
    assert_caught("clients let in before the names are in force", rules, bounds);
}

#[test]
fn a_primary_started_during_its_handover_is_caught() {
    let rules = Rules { no_serve_during_handover: false, ..Rules::ALL };
    let bounds = Bounds { versions: 5, handovers: 1, ..Bounds::SMALL };
    assert_caught("stop and serve share a version", rules, bounds);
}
