//! Planted bugs around what only one agent remembers: promises, vouches, notes, and how often the store was written.

use crate::{
    bounds::Bounds,
    disk::WentBack,
    planted::{assert_broken, assert_caught},
    planted_floors::{PAIR, TRIO},
    rules::Rules,
    set::Set,
    state::Durability,
};

#[test]
fn a_standby_that_streams_before_its_agent_read_the_intent_is_caught() {
    let rules = Rules { intent_is_read_in_this_life: false, ..Rules::ALL };
    assert_caught("streams again after a start, as its disk forgot that it was cut", rules, PAIR);
}

/// In async, without a set: B may be promoted, and its vouch is on its disk alone.
const ASYNC: Bounds = Bounds {
    leases: true,
    strict: false,
    durability: Durability::Async,
    begins_with: Set::EMPTY,
    went_back: &[WentBack::Memory],
    ..PAIR
};

#[test]
fn a_vouch_that_went_back_with_its_disk_is_caught() {
    let rules = Rules { grants_are_waited_for_after_a_start: false, ..Rules::ALL };
    assert_caught(
        "vouch forgotten by a disk that went back",
        rules,
        Bounds { disks: Set::B, hosts: Set::B, ..ASYNC },
    );
}

#[test]
fn a_list_of_whom_to_ask_that_went_back_is_caught() {
    let rules = Rules { list_is_confirmed_after_a_start: false, ..Rules::ALL };
    let bounds = Bounds {
        promotable: Set::EMPTY,
        promotable_changes: true,
        disks: Set::A,
        hosts: Set::A,
        versions: 5,
        ..ASYNC
    };
    assert_broken("whom to ask, from a disk that went back", rules, bounds);
}

/// A, with B in its set, and C that notes what A tells while the store is silent.
const FAILSAFE: Bounds = Bounds { failsafe: true, begins_with: Set::B, disks: Set::B, hosts: Set::B, ..TRIO };

#[test]
fn floors_that_are_not_told_in_failsafe_are_caught() {
    let rules = Rules { failsafe_carries_floors: false, ..Rules::ALL };
    assert_broken("floors not told while the store is silent", rules, FAILSAFE);
}

#[test]
fn a_position_that_is_not_told_in_failsafe_is_caught() {
    let rules = Rules { failsafe_carries_reached: false, ..Rules::ALL };
    let bounds = Bounds {
        disks: Set::A,
        hosts: Set::A,
        epochs: 3,
        strict: false,
        set_changes: true,
        versions: 3,
        ..FAILSAFE
    };
    assert_broken("primary's position not told while the store is silent", rules, bounds);
}

#[test]
fn a_start_after_failsafe_before_another_is_heard_is_caught() {
    let rules = Rules { a_third_is_heard_after_failsafe: false, ..Rules::ALL };
    let bounds = Bounds {
        host_losses: 3,
        hosts: Set::ABC,
        disks: Set::A,
        went_back: &[WentBack::Both],
        epochs: 1,
        versions: 1,
        ..FAILSAFE
    };
    assert_broken("nobody else heard after the store was silent", rules, bounds);
}

/// The store and a disk go back, both.
const BOTH: Bounds = Bounds { restores: 1, ..PAIR };

#[test]
fn a_store_whose_writes_nobody_counts_is_caught() {
    let rules = Rules { writes_are_counted: false, ..Rules::ALL };
    assert_broken("writes of the store not counted", rules, BOTH);
}

#[test]
fn a_store_whose_renewals_alone_are_counted_is_caught() {
    let rules = Rules { every_write_is_counted: false, ..Rules::ALL };
    assert_broken("only renewals counted", rules, Bounds { epochs: 3, versions: 4, host_losses: 2, ..BOTH });
}

#[test]
#[ignore = "takes minutes"]
fn a_directory_newer_than_the_store_is_caught() {
    let rules = Rules { newer_directory_is_remembered: false, ..Rules::ALL };
    let bounds = Bounds { went_back: &[WentBack::Memory], versions: 4, host_losses: 2, ..BOTH };
    assert_broken("data directory of a later epoch not taken for memory", rules, bounds);
}

// ---- only a standby comes back ------------------------------------------------------------------

#[test]
fn a_standby_that_was_started_cut_off_and_counts_is_caught() {
    let rules = Rules { cut_off_is_not_recruited: false, ..Rules::ALL };
    let bounds = Bounds { starts_cut_off: true, disk_backs: 0, hosts: Set::BC, ..TRIO };
    assert_broken("trio: started cut off, taken for a recruit", rules, bounds);
}

#[test]
fn a_standby_that_takes_over_without_a_set_is_caught() {
    let rules = Rules { cut_off_needs_a_set: false, ..Rules::ALL };
    let bounds =
        Bounds { starts_cut_off: true, strict: false, set_changes: true, versions: 5, disk_backs: 0, ..PAIR };
    assert_caught("takes over at its floor, though the set is empty", rules, bounds);
}

#[test]
fn a_standby_that_follows_an_older_primary_again_is_caught() {
    let rules = Rules { follows_nobody_older_than_its_promise: false, ..Rules::ALL };
    assert_caught(
        "cut off, and follows again whom it promised not to",
        rules,
        Bounds { hosts: Set::B, ..PAIR },
    );
}
