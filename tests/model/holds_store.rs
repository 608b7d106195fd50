//! A store that is put back from a copy, and accepted by a person: with all rules on, nothing is broken.

use crate::{
    bounds::Bounds, holds::assert_all_rules_hold, milestones::Milestone, set::Set, state::Durability,
};

#[test]
fn all_rules_hold_with_a_store_that_is_put_back() {
    let bounds = Bounds { restores: 1, versions: 6, ..Bounds::SMALL };
    let milestones = assert_all_rules_hold("store put back", bounds);
    assert!(milestones.contains(&Milestone::ServedAfterAccept));
    assert!(milestones.contains(&Milestone::SetReestablished));
}

/// In async, with a lease. Five versions are enough for a copy, and a failover after it was accepted.
#[test]
fn all_rules_hold_with_a_lease_in_a_store_that_is_put_back() {
    let bounds = Bounds {
        leases: true,
        durability: Durability::Async,
        begins_with: Set::EMPTY,
        set_changes: false,
        promotable_changes: true,
        late_orders: 0,
        restores: 1,
        versions: 5,
        ..Bounds::SMALL
    };
    let milestones = assert_all_rules_hold("lease in a store put back", bounds);
    assert!(milestones.contains(&Milestone::ServedAfterAccept));
    assert!(milestones.contains(&Milestone::FailoverByLease));
}
