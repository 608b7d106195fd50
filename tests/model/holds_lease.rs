//! Lease, vouches and guard: with all rules on, nothing is broken within the bounds.

use crate::{bounds::Bounds, holds::assert_all_rules_hold, set::Set, state::Durability};

const LEASE: Bounds = Bounds { leases: true, begins_with: Set::EMPTY, durability: Durability::Async, set_changes: false, epochs: 2, versions: 4, late_orders: 1, ..Bounds::SMALL };

#[test]
fn l1() {
    let m = assert_all_rules_hold("lease pair async", LEASE);
    println!("{m:?}");
}
#[test]
fn l2() {
    let m = assert_all_rules_hold("lease pair async e3 v6 promotable", Bounds { epochs: 3, versions: 6, promotable_changes: true, ..LEASE });
    println!("{m:?}");
}
#[test]
fn l3() {
    let m = assert_all_rules_hold("lease pair sync to async", Bounds { begins_with: Set::B, durability: Durability::Sync, durability_changes: 2, set_changes: true, versions: 6, self_shrinks: true, ..LEASE });
    println!("{m:?}");
}
#[test]
fn l4() {
    let m = assert_all_rules_hold("lease trio async", Bounds { nodes: 3, promotable: Set::BC, versions: 4, late_orders: 0, ..LEASE });
    println!("{m:?}");
}
#[test]
fn l5() {
    let m = assert_all_rules_hold("lease leaves", Bounds { leaves: 1, versions: 6, late_writes: true, ..LEASE });
    println!("{m:?}");
}
