//! Disks that go back, and floors: with all rules on, nothing is broken within the bounds.

use crate::{bounds::Bounds, disk::WentBack, holds::assert_all_rules_hold, set::Set, state::Durability};

/// A pair with floors; a host goes down once, and its disk may come back as it was at any earlier moment.
const DISKS: Bounds = Bounds {
    floors: true,
    late_orders: 0,
    empties_midway: false,
    set_changes: false,
    host_losses: 1,
    disk_backs: 1,
    versions: 4,
    ..Bounds::SMALL
};

/// The same with three nodes.
const STRICT_TRIO: Bounds = Bounds { nodes: 3, begins_with: Set::BC, strict: true, ..DISKS };

/// Two failovers, and two hosts that go down.
#[test]
fn all_rules_hold_in_a_strict_pair_whose_disks_go_back() {
    let bounds = Bounds { strict: true, epochs: 3, versions: 5, host_losses: 2, ..DISKS };
    assert_all_rules_hold("disks of a strict pair", bounds);
}

/// The set is emptied and filled, and the primary goes on alone meanwhile.
#[test]
fn all_rules_hold_in_a_pair_that_changes_its_set_and_whose_disks_go_back() {
    let bounds =
        Bounds { set_changes: true, went_back: &[WentBack::Data], disks: Set::A, hosts: Set::A, ..DISKS };
    assert_all_rules_hold("disks of a pair, changes of the set", bounds);
}

/// Any one of B and C is waited for.
#[test]
fn all_rules_hold_in_a_strict_trio_whose_standbys_disk_goes_back() {
    let bounds = Bounds { disks: Set::B, hosts: Set::B, versions: 3, ..STRICT_TRIO };
    assert_all_rules_hold("disk of a standby of a strict trio", bounds);
}

/// Any one of B and C is waited for, and one of them may be started cut off from A.
#[test]
fn all_rules_hold_in_a_trio_that_starts_cut_off() {
    let bounds = Bounds { disk_backs: 0, starts_cut_off: true, versions: 3, ..STRICT_TRIO };
    assert_all_rules_hold("trio that starts cut off", bounds);
}

/// With no quorum of the store, A tells B and C how far everybody is.
#[test]
fn all_rules_hold_with_floors_told_in_failsafe() {
    let bounds = Bounds {
        failsafe: true,
        begins_with: Set::B,
        disks: Set::B,
        hosts: Set::B,
        versions: 3,
        ..STRICT_TRIO
    };
    assert_all_rules_hold(
        "disk of a standby of a strict trio, store silent",
        Bounds { went_back: &[WentBack::Data], ..bounds },
    );
}

/// A copy of the store is put back as well.
#[test]
fn all_rules_hold_in_a_pair_whose_store_and_disk_go_back() {
    let bounds = Bounds { strict: true, restores: 1, versions: 3, went_back: &[WentBack::Data], ..DISKS };
    assert_all_rules_hold("disk and store of a strict pair", bounds);
}

/// In async: what B vouched, and whom A asks, are each on one disk.
#[test]
fn all_rules_hold_with_a_lease_in_a_pair_whose_memory_goes_back() {
    let bounds = Bounds {
        leases: true,
        durability: Durability::Async,
        begins_with: Set::EMPTY,
        went_back: &[WentBack::Memory],
        versions: 3,
        ..DISKS
    };
    assert_all_rules_hold("lease, memory goes back", bounds);
}

/// An order of before may arrive after a promise went back.
#[test]
fn all_rules_hold_with_a_late_order_and_a_disk_that_goes_back() {
    let bounds = Bounds { late_orders: 1, strict: true, disks: Set::B, hosts: Set::B, versions: 3, ..DISKS };
    assert_all_rules_hold("disk of a strict pair, late order", bounds);
}

/// The wide worlds, for the nights before a release.
#[test]
#[ignore = "takes minutes"]
fn all_rules_hold_in_wider_worlds_whose_disks_go_back() {
    let moves = Bounds { set_changes: true, versions: 6, ..DISKS };
    assert_all_rules_hold("disks of a pair, changes of the set, wider", moves);
    let trio = Bounds { versions: 4, host_losses: 2, ..STRICT_TRIO };
    assert_all_rules_hold("disks of a strict trio, wider", trio);
    let two = Bounds { strict: true, host_losses: 2, disk_backs: 2, ..DISKS };
    assert_all_rules_hold("two disks of a strict pair", two);
    let passed_over = Bounds { epochs: 4, versions: 5, ..DISKS };
    assert_all_rules_hold("disks of a pair, candidate passed over", passed_over);
    let silent = Bounds {
        failsafe: true,
        begins_with: Set::B,
        disks: Set::A,
        host_losses: 3,
        went_back: &[WentBack::Both],
        epochs: 1,
        versions: 1,
        ..STRICT_TRIO
    };
    assert_all_rules_hold("disk of the primary of a strict trio, store silent", silent);
    let torn = Bounds { strict: true, halves: 1, ..DISKS };
    assert_all_rules_hold("disks of a strict pair, torn records", torn);
}
