//! model
mod actions;
mod agent;
mod controller;
mod postgres;
mod properties;
mod rules;
mod search;
mod state;

use std::time::Instant;
use properties::Property;
use rules::{Bounds, Rules, World};

#[test]
fn probe() {
    let b = Bounds { epochs: 3, versions: 6, commits: 2, crashes: 1, late_orders: 1, late_writes: true, ..Bounds::SMALL };
    let mut b = b;
    for kv in std::env::var("B").unwrap_or_default().split_whitespace() {
        let (k, v) = kv.split_once('=').expect("kv");
        let n: u8 = v.parse().expect("n");
        match k { "e" => b.epochs = n, "v" => b.versions = n, "c" => b.commits = n, "x" => b.crashes = n, "o" => b.late_orders = n as usize,
            "w" => b.late_writes = n > 0, "s" => b.set_changes = n > 0, "h" => b.handovers = n, "k" => b.clones = n, "d" => b.durability_changes = n, "i" => b.begins_in_sync = n > 0, _ => panic!() }
    }
    let t = Instant::now();
    let r = search::search(&World { rules: Rules::ALL, bounds: b }, &Property::ALL);
    println!("{b:?}\n{} states {} steps depth {} {:?} {:?}", r.states, r.steps, r.depth, r.milestones, t.elapsed());
    if let Some(c) = r.counterexample { println!("{} steps\n{c}", c.trace.len()); }
}

#[test]
fn bugs() {
    const HARM: [Property; 2] = [Property::OneWriter, Property::NothingAcknowledgedIsLost];
    macro_rules! bug { ($($field:ident: { $($b:tt)* })*) => { $({
        let rules = Rules { $field: false, ..Rules::ALL };
        let bounds = Bounds { $($b)* ..Bounds::SMALL };
        let t = Instant::now();
        let r = search::search(&World { rules, bounds }, &HARM);
        println!("== {} : {} states, {:?}", stringify!($field), r.states, t.elapsed());
        match r.counterexample { Some(c) => println!("{} steps\n{c}", c.trace.len()), None => println!("NOT CAUGHT") }
    })* } }
    bug! {
        compare_and_swap: { late_writes: true, epochs: 3, }
        version_is_checked: {}
        promote_checks_epoch: { epochs: 4, versions: 8, crashes: 1, commits: 2, }
        promise_is_persisted: {}
        recruit_is_persisted: { crashes: 1, }
        names_are_proven_in_force: {}
        member_is_caught_up: {}
        member_has_promised: { clones: 1, begins_in_sync: false, }
        set_is_announced_first: {}
        both_sets_are_satisfied: {}
        removal_is_carried_through: {}
        members_are_not_cloned: { clones: 1, }
        declare_empties_the_set: { epochs: 4, versions: 8, handovers: 1, late_orders: 0, }
        empty_set_needs_a_fence: {}
        heir_holds_everything: {}
        heir_is_recruited: {clones: 1, begins_in_sync: false, }
        candidate_is_point_of_no_return: { epochs: 3, }
        candidate_is_asked_before_passed_over: { epochs: 4, }
        closed_until_names_in_force: { crashes: 1, }
        no_serve_during_handover: { handovers: 1, late_writes: true, }
    }
}
