//! Planted bugs around the old primary: what is known of its own disk when it goes back.

use crate::{
    bounds::Bounds,
    planted::{assert_broken, assert_caught},
    planted_floors::PAIR,
    rules::Rules,
    set::Set,
};

#[test]
fn a_primary_started_below_its_floor_is_caught() {
    let rules = Rules { primary_is_at_its_floor: false, ..Rules::ALL };
    assert_caught("old primary started, whatever it lacks", rules, PAIR);
}

#[test]
fn a_primary_started_below_what_it_had_reached_is_caught() {
    let rules = Rules { reached_is_judged: false, ..Rules::ALL };
    let bounds = Bounds { strict: false, set_changes: true, versions: 4, ..PAIR };
    assert_caught("old primary started below what it had reached", rules, bounds);
}

#[test]
fn floors_that_are_emptied_with_their_set_are_caught() {
    let rules = Rules { emptied_sets_raise_reached: false, ..Rules::ALL };
    assert_caught(
        "emptied sets forget their floors",
        rules,
        Bounds { epochs: 3, versions: 3, host_losses: 2, ..PAIR },
    );
}

#[test]
fn an_end_of_wal_that_went_back_is_caught() {
    let rules = Rules { fenced_primary_is_whole: false, ..Rules::ALL };
    let bounds = Bounds { strict: false, set_changes: true, versions: 5, ..PAIR };
    assert_broken("end of WAL of a disk that went back", rules, bounds);
}

#[test]
fn a_recruited_position_that_is_not_written_is_caught() {
    let rules = Rules { recruited_position_is_a_floor: false, ..Rules::ALL };
    assert_caught(
        "recruited position not written",
        rules,
        Bounds { epochs: 3, versions: 3, host_losses: 2, ..PAIR },
    );
}

#[test]
fn a_candidate_that_was_primary_and_is_passed_over_is_caught() {
    let rules = Rules { candidate_that_was_leased_is_not_passed_over: false, ..Rules::ALL };
    let bounds = Bounds { strict: false, epochs: 4, versions: 5, host_losses: 1, ..PAIR };
    assert_broken("candidate passed over that was primary before its disk went back", rules, bounds);
}

/// Names are in the data directory, too: a primary whose disk went back would wait for nobody.
#[test]
fn names_of_a_data_directory_that_went_back_are_caught() {
    let rules = Rules { starts_with_the_names_of_the_intent: false, ..Rules::ALL };
    let bounds = Bounds {
        strict: false,
        begins_with: Set::EMPTY,
        set_changes: true,
        disks: Set::A,
        hosts: Set::A,
        versions: 5,
        ..PAIR
    };
    assert_broken("names from a data directory that went back", rules, bounds);
}
