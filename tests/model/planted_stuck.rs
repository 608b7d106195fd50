//! Rules that keep a healthy cluster from being stuck: with one off nothing is lost, but a milestone is not reached.
//! No disk goes back in these worlds.

use std::collections::BTreeSet;

use crate::{
    bounds::{Bounds, Start, World},
    milestones::Milestone::{self, DeclaredAfterARewind, DeclaredAfterATornRecord, DeclaredInMidRecord},
    planted_floors::PAIR,
    properties::Property,
    rules::Rules,
    search::search,
    set::Set,
};

/// A strict pair, no disk of which goes back; half of a record is written, and its primary may start in place.
const TORN: Bounds = Bounds { halves: 1, disk_backs: 0, ..PAIR };

fn reached(name: &str, rules: Rules, bounds: Bounds) -> BTreeSet<Milestone> {
    let report = search(&World { rules, bounds }, &Property::ALL);
    println!("{name}: {} states", report.states);
    assert!(report.counterexample.is_none());
    report.milestones
}

#[test]
fn a_standby_whose_last_record_is_torn_takes_over() {
    assert!(
        reached("torn records", Rules::ALL, TORN)
            .is_superset(&BTreeSet::from([DeclaredInMidRecord, DeclaredAfterATornRecord]))
    );
}

#[test]
fn a_floor_in_mid_record_that_refuses_a_healthy_standby_is_caught() {
    let rules = Rules { torn_record_is_not_below: false, ..Rules::ALL };
    assert!(!reached("torn record counts for nothing", rules, TORN).contains(&DeclaredInMidRecord));
}

#[test]
fn a_floor_that_no_start_in_place_cuts_is_caught() {
    let rules = Rules { starting_in_place_cuts: false, ..Rules::ALL };
    assert!(!reached("start in place cuts no floor", rules, TORN).contains(&DeclaredAfterATornRecord));
}

/// C received a commit of A's that B never did, and that was its floor. B took over, and C is to be rewound.
const REWIND: Bounds = Bounds {
    start: Start::ThirdAhead,
    nodes: 3,
    begins_with: Set::EMPTY,
    set_changes: true,
    epochs: 3,
    versions: 5,
    halves: 0,
    host_losses: 0,
    ..TORN
};

#[test]
fn a_standby_that_was_rewound_takes_over() {
    assert!(reached("rewound standby", Rules::ALL, REWIND).contains(&DeclaredAfterARewind));
}

#[test]
fn a_floor_that_no_switch_cuts_is_caught() {
    let rules = Rules { floors_are_cut_at_the_switch: false, ..Rules::ALL };
    let bounds = Bounds { start: Start::ThirdAheadUncut, ..REWIND };
    assert!(!reached("switch cuts no floor", rules, bounds).contains(&DeclaredAfterARewind));
}
