//! Three nodes, ANY 1: with all rules on, nothing is broken within the bounds.

use std::collections::BTreeSet;

use crate::{
    bounds::{Bounds, Start},
    holds::assert_all_rules_hold,
    milestones::Milestone,
    set::Set,
};

/// A with B in its set, and C beside it.
const TRIO: Bounds = Bounds { nodes: 3, versions: 5, late_orders: 0, ..Bounds::SMALL };

/// Long enough for {B} → {B,C} → {C} and a failover.
#[test]
fn all_rules_hold_while_a_trio_changes_its_set() {
    let bounds = Bounds { versions: 7, ..TRIO };
    let milestones = assert_all_rules_hold("trio: changes of the set", bounds);
    let expected = [Milestone::SetMoved, Milestone::MostAdvancedDeclared, Milestone::ThirdNodeRewound];
    assert!(BTreeSet::from(expected).is_subset(&milestones));
}

/// An order may arrive at any later time.
#[test]
fn all_rules_hold_in_a_trio_with_a_late_order() {
    let bounds = Bounds { late_orders: 1, ..TRIO };
    assert_all_rules_hold("trio: late order", bounds);
}

/// Any one of B and C is waited for, and a server may end, or an agent after its promise. Two commits tell "nothing",
/// "some" and "all" of a log apart.
#[test]
fn all_rules_hold_in_a_trio_with_a_crash() {
    let bounds = Bounds { begins_with: Set::BC, commits: 2, crashes: 1, ..TRIO };
    let milestones = assert_all_rules_hold("trio: crash", bounds);
    assert!(milestones.contains(&Milestone::MostAdvancedDeclared));
}

/// C is ahead of the switch: it follows the new primary, counts for it, and may become primary itself.
#[test]
fn all_rules_hold_while_the_third_node_follows() {
    let bounds = Bounds {
        start: Start::ThirdAhead,
        begins_with: Set::EMPTY,
        epochs: 3,
        commits: 2,
        clones: 1,
        self_shrinks: true,
        ..TRIO
    };
    let milestones = assert_all_rules_hold("trio: third node ahead of the switch", bounds);
    let expected = [Milestone::ThirdNodeRewound, Milestone::SetReestablished, Milestone::SetShrunkByAgent];
    assert!(BTreeSet::from(expected).is_subset(&milestones));
}

/// The wide worlds, for the nights before a release.
#[test]
#[ignore = "takes minutes"]
fn all_rules_hold_in_a_wider_trio() {
    let bounds = Bounds { commits: 2, ..TRIO };
    assert_all_rules_hold("wider trio, changes of the set", Bounds { versions: 7, ..bounds });
    let failovers = Bounds { begins_with: Set::BC, epochs: 3, versions: 6, self_shrinks: true, ..bounds };
    assert_all_rules_hold("wider trio, two failovers", failovers);
    let ahead =
        Bounds { start: Start::ThirdAhead, begins_with: Set::EMPTY, epochs: 3, late_orders: 1, ..bounds };
    assert_all_rules_hold("wider trio, third node ahead", ahead);
}
