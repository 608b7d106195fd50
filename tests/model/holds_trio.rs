//! Three nodes, ANY 1: with all rules on, nothing is broken within the bounds.

use crate::{bounds::Bounds, holds::assert_all_rules_hold, set::Set};

const TRIO: Bounds = Bounds { nodes: 3, epochs: 2, versions: 5, late_orders: 0, ..Bounds::SMALL };

#[test]
fn t1() {
    let m = assert_all_rules_hold("trio from {B}", Bounds { commits: 1, versions: 5, late_orders: 1, ..TRIO });
    println!("{m:?}");
}
#[test]
fn t2() {
    let m = assert_all_rules_hold("trio from {B,C}, crash", Bounds { begins_with: Set::BC, commits: 2, crashes: 1, versions: 5, ..TRIO });
    println!("{m:?}");
}
#[test]
fn t3() {
    let m = assert_all_rules_hold("trio three epochs", Bounds { begins_with: Set::BC, commits: 2, epochs: 3, versions: 6, ..TRIO });
    println!("{m:?}");
}
#[test]
fn t4() {
    let m = assert_all_rules_hold("trio from {B} v7", Bounds { commits: 2, versions: 7, late_orders: 0, ..TRIO });
    println!("{m:?}");
}
