//! A store that is put back.
use crate::{bounds::Bounds, holds::assert_all_rules_hold};
#[test]
fn s1() {
    let m = assert_all_rules_hold("store put back", Bounds { restores: 1, versions: 6, commits: 1, late_orders: 1, ..Bounds::SMALL });
    println!("{m:?}");
}
use crate::{set::Set,state::Durability};
#[test]
fn s2() {
    let m = assert_all_rules_hold("store put back lease", Bounds { restores: 1, versions: 4, commits: 1, late_orders: 1,leases: true, begins_with: Set::EMPTY, durability: Durability::Async, set_changes: false, ..Bounds::SMALL });
    println!("{m:?}");
}
