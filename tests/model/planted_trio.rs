//! Planted bugs that take three nodes to do harm: ANY 1 of two, and a third node with a history of its own.

use crate::{
    bounds::{Bounds, Start},
    planted::assert_caught,
    rules::Rules,
    set::Set,
};

/// A alone with B in its set, and C beside it.
const TRIO: Bounds = Bounds { nodes: 3, epochs: 2, versions: 4, late_orders: 0, ..Bounds::SMALL };
/// Any one of B and C.
const ANY_ONE: Bounds = Bounds { begins_with: Set::BC, ..TRIO };

#[test]
fn a_member_added_in_the_order_of_a_pair_is_caught() {
    let rules = Rules { set_is_announced_first: false, ..Rules::ALL };
    assert_caught("trio: member added, PostgreSQL first", rules, TRIO);
}

#[test]
fn a_member_removed_in_the_order_of_a_pair_is_caught() {
    let rules = Rules { removal_is_announced_first: false, ..Rules::ALL };
    assert_caught("trio: member removed, the store in one write", rules, ANY_ONE);
}

#[test]
fn a_removal_without_a_proof_is_caught() {
    let rules = Rules { removal_is_proven: false, ..Rules::ALL };
    assert_caught("trio: removal settled without a proof", rules, Bounds { versions: 5, ..ANY_ONE });
}

#[test]
fn a_change_taken_back_in_one_write_is_caught() {
    let rules = Rules { removal_is_carried_through: false, ..Rules::ALL };
    assert_caught("trio: addition taken back in one write", rules, Bounds { versions: 5, ..TRIO });
}

#[test]
fn a_failover_by_the_old_set_alone_is_caught() {
    let rules = Rules { both_sets_are_satisfied: false, ..Rules::ALL };
    assert_caught("trio: failover satisfies only the old set", rules, TRIO);
}

#[test]
fn one_recruit_of_two_is_caught() {
    let rules = Rules { all_members_are_recruited: false, ..Rules::ALL };
    assert_caught("trio: only one of two recruited", rules, ANY_ONE);
}

#[test]
fn the_less_advanced_recruit_is_caught() {
    let rules = Rules { most_advanced_is_declared: false, ..Rules::ALL };
    assert_caught("trio: not the most advanced declared", rules, ANY_ONE);
}

/// Under {B} → {B,C} the names {B,C} may be in force, and C alone may hold what was acknowledged.
#[test]
fn an_heir_sought_only_among_those_in_both_sets_is_caught() {
    let rules = Rules { positions_of_both_sets_count: false, ..Rules::ALL };
    assert_caught("trio: only who is in both sets compared", rules, TRIO);
}

#[test]
fn a_recruit_that_streams_again_after_a_restart_is_caught() {
    let rules = Rules { recruit_is_persisted: false, ..Rules::ALL };
    assert_caught("trio: recruit not persisted", rules, Bounds { crashes: 1, ..ANY_ONE });
}

/// C is ahead of the switch: its position is the higher one, and none of what the new primary wrote is in it.
const THIRD_AHEAD: Bounds =
    Bounds { start: Start::ThirdAhead, begins_with: Set::EMPTY, epochs: 3, versions: 3, commits: 2, ..TRIO };

#[test]
fn an_heir_of_another_history_is_caught() {
    let rules = Rules { heir_shares_the_history: false, ..Rules::ALL };
    assert_caught("trio: third node an heir before it shares the history", rules, THIRD_AHEAD);
}

#[test]
fn a_member_of_another_history_is_caught() {
    let rules = Rules { member_shares_the_history: false, ..Rules::ALL };
    let bounds = Bounds { versions: 5, ..THIRD_AHEAD };
    assert_caught("trio: third node counted before it shares the history", rules, bounds);
}
