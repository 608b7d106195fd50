//! Lease, vouches and guard: with all rules on, nothing is broken within the bounds.

use std::collections::BTreeSet;

use crate::{
    bounds::Bounds, holds::assert_all_rules_hold, milestones::Milestone, set::Set, state::Durability,
};

/// A pair in async: no sync set, and B promotable.
const ASYNC: Bounds = Bounds {
    leases: true,
    durability: Durability::Async,
    begins_with: Set::EMPTY,
    set_changes: false,
    versions: 4,
    ..Bounds::SMALL
};

/// Two failovers in a row: what was vouched, noted and leased under the one is nothing under the other.
#[test]
fn all_rules_hold_with_a_lease() {
    let bounds =
        Bounds { epochs: 3, versions: 6, promotable_changes: true, late_orders: 0, crashes: 1, ..ASYNC };
    let milestones = assert_all_rules_hold("lease", bounds);
    let expected = [
        Milestone::FailoverByLease,
        Milestone::FailoverByFence,
        Milestone::ServedOnVouches,
        Milestone::MadePromotable,
        Milestone::Reinstated,
    ];
    assert!(BTreeSet::from(expected).is_subset(&milestones));
}

/// From sync to async and back, with the set that the primary's own agent may empty.
#[test]
fn all_rules_hold_with_a_lease_while_the_durability_changes() {
    let bounds = Bounds {
        durability: Durability::Sync,
        durability_changes: 2,
        begins_with: Set::B,
        set_changes: true,
        self_shrinks: true,
        versions: 5,
        ..ASYNC
    };
    let milestones = assert_all_rules_hold("lease, durability changes", bounds);
    let expected = [Milestone::FailoverByRecruit, Milestone::FailoverByLease, Milestone::SetShrunkByAgent];
    assert!(BTreeSet::from(expected).is_subset(&milestones));
}

/// The member beside the primary is stopped in order and comes back, twice; its writes may be slow.
#[test]
fn all_rules_hold_while_the_member_leaves_and_returns() {
    let bounds = Bounds { leaves: 2, versions: 6, late_writes: true, late_orders: 0, ..ASYNC };
    let milestones = assert_all_rules_hold("lease, member leaves and returns", bounds);
    assert!(milestones.contains(&Milestone::ServedUnattended));
    assert!(milestones.contains(&Milestone::Returned));
}

/// Both others must vouch, and any of them may follow.
#[test]
fn all_rules_hold_with_a_lease_in_a_trio() {
    let bounds = Bounds { nodes: 3, promotable: Set::BC, epochs: 3, versions: 5, late_orders: 0, ..ASYNC };
    let milestones = assert_all_rules_hold("lease in a trio", bounds);
    let expected = [Milestone::FailoverByLease, Milestone::ServedOnVouches];
    assert!(BTreeSet::from(expected).is_subset(&milestones));
}

/// The set decides the way, not the name of the mode.
#[test]
fn all_rules_hold_with_a_lease_and_a_set_in_a_trio() {
    let bounds = Bounds {
        nodes: 3,
        promotable: Set::BC,
        begins_with: Set::B,
        set_changes: true,
        self_shrinks: true,
        late_orders: 0,
        ..ASYNC
    };
    let milestones = assert_all_rules_hold("lease and set in a trio", bounds);
    let expected = [Milestone::FailoverByRecruit, Milestone::FailoverByLease, Milestone::SetShrunkByAgent];
    assert!(BTreeSet::from(expected).is_subset(&milestones));
}

/// The wide worlds, for the nights before a release.
#[test]
#[ignore = "takes minutes"]
fn all_rules_hold_with_a_lease_in_a_wider_world() {
    let bounds = Bounds { epochs: 3, versions: 6, promotable_changes: true, ..ASYNC };
    assert_all_rules_hold("lease, wider world", bounds);
    let in_sync = Bounds {
        durability: Durability::Sync,
        durability_changes: 2,
        begins_with: Set::B,
        set_changes: true,
        self_shrinks: true,
        versions: 6,
        ..ASYNC
    };
    assert_all_rules_hold("lease, durability changes, wider world", in_sync);
}
