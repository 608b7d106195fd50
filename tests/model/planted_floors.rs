//! Planted bugs around the floors of members: what is known of a standby's disk when it goes back.

use crate::{
    bounds::{Bounds, Start, World},
    disk::WentBack,
    planted::{HARM, assert_broken, assert_caught},
    rules::Rules,
    search::search,
    set::Set,
};

/// A strict pair; a host goes down once, and its data directory comes back as it was at any earlier moment.
pub(crate) const PAIR: Bounds = Bounds {
    floors: true,
    strict: true,
    late_orders: 0,
    set_changes: false,
    empties_midway: false,
    host_losses: 1,
    disk_backs: 1,
    went_back: &[WentBack::Data],
    versions: 3,
    ..Bounds::SMALL
};
/// The same with three nodes, any one of B and C waited for.
pub(crate) const TRIO: Bounds = Bounds { nodes: 3, begins_with: Set::BC, ..PAIR };

/// What Locum did at first.
#[test]
fn a_floor_that_only_the_leader_remembers_is_caught() {
    let rules = Rules { floors_outlive_the_leader: false, ..Rules::ALL };
    let bounds = Bounds { leader_changes: 1, ..PAIR };
    assert_caught("floor only in the leader's memory", rules, bounds);
}

/// The same without a change of the leader: a member that was set back is recruited, and nobody asks how far it was.
#[test]
fn a_member_counted_because_it_was_recruited_is_caught() {
    let rules = Rules { floors_outlive_the_leader: false, ..Rules::ALL };
    assert_broken("trio: recruited, whatever its position", rules, TRIO);
}

#[test]
fn floors_that_no_renewal_carries_are_caught() {
    let rules = Rules { floors_are_stored: false, ..Rules::ALL };
    assert_caught("floors not in the store", rules, PAIR);
}

#[test]
fn a_floor_forgotten_with_the_walsender_is_caught() {
    let rules = Rules { floors_of_the_vanished_are_kept: false, ..Rules::ALL };
    assert_caught("no floor of a standby that vanished before the renewal", rules, PAIR);
}

#[test]
fn a_floor_that_goes_down_is_caught() {
    let rules = Rules { floors_only_grow: false, ..Rules::ALL };
    assert_caught("floor goes down", rules, PAIR);
}

#[test]
fn a_member_below_its_floor_that_counts_is_caught() {
    let rules = Rules { members_are_at_their_floors: false, ..Rules::ALL };
    assert_caught("member below its floor counted", rules, PAIR);
}

#[test]
fn a_member_below_its_floor_that_is_not_cut_is_caught() {
    let rules = Rules { members_below_their_floor_are_cut: false, ..Rules::ALL };
    assert_broken("trio: member below its floor not cut", rules, TRIO);
}

/// Where the standby was set back, and the primary was not, what the store has is enough: each of these is a second net
/// in a pair, or keeps a healthy cluster from being stuck.
#[test]
fn rules_that_are_a_second_net_are_harmless_in_a_pair() {
    let rules = Rules {
        declaring_sets_reached: false,
        nobody_heard_is_ahead: false,
        reinstated_primary_is_whole: false,
        floors_are_within_the_primary: false,
        starting_in_place_cuts: false,
        ..Rules::ALL
    };
    let bounds = Bounds { epochs: 3, versions: 4, host_losses: 2, ..PAIR };
    let report = search(&World { rules, bounds }, &HARM);
    println!("five second nets off: harmless in a pair, {} states", report.states);
    assert!(report.counterexample.is_none());
}

#[test]
fn a_set_settled_without_its_floors_is_caught() {
    let rules = Rules { settling_writes_the_floor: false, ..Rules::ALL };
    let bounds = Bounds {
        strict: false,
        begins_with: Set::EMPTY,
        set_changes: true,
        disks: Set::B,
        hosts: Set::B,
        versions: 5,
        ..PAIR
    };
    assert_broken("set settled without a floor", rules, bounds);
}

#[test]
#[ignore = "takes a minute"]
fn a_floor_without_a_timeline_is_caught() {
    let rules = Rules { timelines_of_floors_are_compared: false, ..Rules::ALL };
    let bounds = Bounds {
        start: Start::ThirdAhead,
        begins_with: Set::EMPTY,
        set_changes: true,
        epochs: 3,
        versions: 4,
        commits: 2,
        disks: Set::C,
        hosts: Set::C,
        ..TRIO
    };
    assert_broken("trio: floor compared by position alone", rules, bounds);
}

#[test]
fn a_promotion_that_is_not_judged_is_caught() {
    let rules = Rules { promotion_is_judged: false, ..Rules::ALL };
    assert_caught("promoted below its recruited position", rules, PAIR);
}
