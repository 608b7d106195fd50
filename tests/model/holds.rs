//! With all rules on, nothing is broken within the bounds, and everything that should be possible is.

use std::{collections::BTreeSet, time::Instant};

use crate::{
    bounds::{Bounds, World},
    milestones::Milestone,
    properties::Property,
    rules::Rules,
    search::search,
    set::Set,
};

/// Searches the whole world and returns the milestones met.
pub(crate) fn assert_all_rules_hold(name: &str, bounds: Bounds) -> BTreeSet<Milestone> {
    let began = Instant::now();
    let report = search(&World { rules: Rules::ALL, bounds }, &Property::ALL);
    let took = began.elapsed();
    println!("{name}: {} states, {} steps, depth {}, {took:.1?}", report.states, report.steps, report.depth);
    if let Some(counterexample) = report.counterexample {
        panic!("{} steps:\n{counterexample}", counterexample.trace.len());
    }
    report.milestones
}

/// Failovers, a switchover, a clone and set changes, each of which may meet a crash and a late order.
#[test]
fn all_rules_together_hold_within_bounds() {
    let bounds = Bounds { epochs: 3, versions: 6, crashes: 1, handovers: 1, clones: 1, ..Bounds::SMALL };
    let milestones = assert_all_rules_hold("all rules together", bounds);
    let expected = [
        Milestone::FailoverByRecruit,
        Milestone::FailoverByFence,
        Milestone::Switchover,
        Milestone::Reinstated,
        Milestone::OldPrimaryRejoined,
        Milestone::SetReestablished,
    ];
    assert_eq!(milestones, BTreeSet::from(expected));
}

/// A controller that was slow to write finds another intent. Two commits tell "nothing", "some" and "all" of a log apart.
#[test]
fn all_rules_hold_with_slow_writers() {
    let bounds = Bounds { epochs: 3, versions: 6, commits: 2, late_writes: true, ..Bounds::SMALL };
    assert_all_rules_hold("slow writers", bounds);
}

/// Two orders are under way at once.
#[test]
fn all_rules_hold_with_two_late_orders() {
    let bounds = Bounds { late_orders: 2, clones: 1, ..Bounds::SMALL };
    assert_all_rules_hold("two late orders", bounds);
}

/// Three failovers from a cluster that promises nothing at first. Only here a candidate can be passed over.
#[test]
fn all_rules_hold_through_three_failovers() {
    let bounds = Bounds { epochs: 4, clones: 1, begins_with: Set::EMPTY, ..Bounds::SMALL };
    let milestones = assert_all_rules_hold("three failovers", bounds);
    assert!(milestones.contains(&Milestone::CandidatePassedOver));
}

/// In async a failover may lose commits, but nobody acknowledges any more what the new primary lacks.
#[test]
fn all_rules_hold_while_the_durability_changes() {
    let bounds = Bounds { epochs: 3, versions: 6, commits: 2, durability_changes: 2, ..Bounds::SMALL };
    assert_all_rules_hold("changes of the durability", bounds);
}

/// The primary's own agent empties the set; it may be slow to write, and so may the controllers.
#[test]
fn all_rules_hold_while_the_agent_empties_the_set() {
    let bounds = Bounds { versions: 6, self_shrinks: true, late_writes: true, crashes: 1, ..Bounds::SMALL };
    let milestones = assert_all_rules_hold("set emptied by the agent", bounds);
    assert!(milestones.contains(&Milestone::SetShrunkByAgent));
}

/// The wide world, for the nights before a release.
#[test]
#[ignore = "takes minutes"]
fn all_rules_hold_in_a_wider_world() {
    let bounds =
        Bounds { epochs: 3, versions: 7, commits: 2, crashes: 1, handovers: 1, clones: 1, ..Bounds::SMALL };
    assert_all_rules_hold("wider world", bounds);
    assert_all_rules_hold("wider world, not in sync at first", Bounds { begins_with: Set::EMPTY, ..bounds });
}
