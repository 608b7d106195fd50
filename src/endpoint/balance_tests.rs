//! What balanced endpoints may lead to, and in which turn.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use proptest::prelude::*;

use super::*;
use crate::{
    endpoint::fixture::{node, snapshot},
    model::{AppStatus, Durability, Epoch, Incarnation, Intent, Timeline},
};

fn served(offer: &Offer) -> Vec<&str> {
    offer.serve.iter().map(|target| target.node.as_str()).collect()
}

fn keeps(offer: &Offer, name: &str) -> bool {
    offer.keep.iter().any(|node| node.as_str() == name)
}

fn trio() -> Vec<NodeStatus> {
    vec![
        node("a", Role::Primary, None),
        node("b", Role::Standby, Some(0)),
        node("c", Role::Standby, Some(1_000)),
    ]
}

#[test]
fn the_standbys_within_the_limit_serve_and_the_late_one_keeps_its_connections() {
    assert_eq!(served(&standbys(&snapshot(trio()), 1_000, false)), ["b", "c"]);
    let offer = standbys(&snapshot(trio()), 999, false);
    assert_eq!(served(&offer), ["b"]);
    assert!(keeps(&offer, "c") && !keeps(&offer, "a"));
    let mut nodes = trio();
    nodes[2].replay_bytes = Some(1);
    assert_eq!(served(&standbys(&snapshot(nodes), 1_000, false)), ["b"], "what is not replayed is not seen");
}

#[test]
fn a_drained_standby_gets_nobody_new() {
    let mut shown = snapshot(trio());
    let [primary, drained] = [0, 1].map(|index| trio()[index].node.clone());
    let intent = Intent::first(Incarnation(1), Epoch(1), primary, Durability::Sync);
    shown.intent = Some(Intent { drained: vec![drained], ..intent });
    let offer = standbys(&shown, 9_999, false);
    assert_eq!(served(&offer), ["c"]);
    assert!(keeps(&offer, "b"));
}

#[test]
fn lag_against_no_primary_or_an_old_fact_is_no_lag() {
    let with = |change: &dyn Fn(&mut Vec<NodeStatus>)| {
        let mut nodes = trio();
        change(&mut nodes);
        standbys(&snapshot(nodes), 1 << 30, true)
    };
    assert!(with(&|nodes| nodes[0].serving = false).serve.is_empty(), "the primary has no right to serve");
    assert!(with(&|nodes| nodes[0].heard_ms = 1_001.0).serve.is_empty(), "the primary's facts are old");
    assert_eq!(served(&with(&|nodes| nodes[1].heard_ms = 1_001.0)), ["c"]);
    assert_eq!(served(&with(&|nodes| nodes[1].timeline = Some(Timeline(2)))), ["c"], "another history");
    assert_eq!(served(&with(&|nodes| nodes[1].streaming = false)), ["c"]);
    assert_eq!(served(&with(&|nodes| nodes[1].lag_bytes = None)), ["c"]);
}

#[test]
fn the_primary_serves_readers_only_if_told_so_and_only_while_there_is_no_standby() {
    let mut nodes = trio();
    nodes[1].role = Role::Down;
    nodes[2].role = Role::Unknown;
    let (with, without) =
        (standbys(&snapshot(nodes.clone()), 9_999, true), standbys(&snapshot(nodes), 9_999, false));
    assert_eq!(served(&with), ["a"]);
    assert!(without.serve.is_empty());
    assert!(keeps(&with, "c") && !keeps(&with, "b"), "unknown is not gone; down is");
    assert_eq!(served(&standbys(&snapshot(trio()), 9_999, true)), ["b", "c"]);
}

#[test]
fn a_promoted_standby_is_left() {
    let mut nodes = trio();
    nodes.swap(0, 1);
    nodes[0] = node("b", Role::Primary, None);
    nodes[1] = node("a", Role::Down, None);
    let offer = standbys(&snapshot(nodes), 9_999, false);
    assert_eq!(served(&offer), ["c"]);
    assert!(!keeps(&offer, "b"));
}

#[test]
fn every_healthy_app_serves() {
    let mut nodes = trio();
    for (node, healthy) in nodes.iter_mut().zip([true, false, true]) {
        let address = format!("{}:80", node.node);
        node.app = Some(AppStatus {
            address,
            healthy,
            active: false,
            startable: false,
            starting: false,
            error: None,
        });
    }
    nodes[2].heard_ms = 1_001.0;
    nodes.push(node("d", Role::Standby, Some(0)));
    let offer = apps(&snapshot(nodes));
    assert_eq!(served(&offer), ["a"], "what was said long ago is not acted on");
    assert!(keeps(&offer, "b") && keeps(&offer, "c") && !keeps(&offer, "d"));
}

fn seat(well_ms: u64, open: u64) -> Seat {
    Seat { well_ms, refusing: false, open, credit: 0 }
}

fn seats() -> impl Strategy<Value = Vec<Seat>> {
    let seat = (0..20_000u64, any::<bool>(), 0..50u64).prop_map(|(well_ms, refusing, open)| Seat {
        well_ms,
        refusing,
        open,
        credit: 0,
    });
    prop::collection::vec(seat, 0..6)
}

fn balances() -> impl Strategy<Value = Balance> {
    prop_oneof![Just(Balance::RoundRobin), Just(Balance::LeastConnections)]
}

#[test]
fn one_that_has_just_come_gets_a_tenth_and_then_its_share() {
    let count = |mut seats: Vec<Seat>| {
        let chosen: Vec<_> = (0..110).map(|_| next(Balance::RoundRobin, &mut seats).unwrap()).collect();
        chosen.iter().filter(|&&index| index == 1).count()
    };
    assert_eq!(count(vec![seat(EASE_MS, 0), seat(0, 0)]), 10);
    assert_eq!(count(vec![seat(EASE_MS, 0), seat(EASE_MS, 0)]), 55);
    let mut eased = vec![seat(EASE_MS, 3), seat(0, 0)];
    assert_eq!(next(Balance::LeastConnections, &mut eased), Some(0), "one of a tenth is as many as ten");
}

proptest! {
    #[test]
    fn who_refuses_is_chosen_only_if_all_do(mut seats in seats(), balance in balances()) {
        match next(balance, &mut seats) {
            None => prop_assert!(seats.is_empty()),
            Some(index) => prop_assert!(!seats[index].refusing || seats.iter().all(|seat| seat.refusing)),
        }
    }

    #[test]
    fn in_turn_everybody_equal_is_chosen_equally_often(count in 1..6usize, rounds in 1..20usize) {
        let mut seats = vec![seat(EASE_MS, 0); count];
        let mut chosen = vec![0; count];
        for _ in 0..count * rounds {
            chosen[next(Balance::RoundRobin, &mut seats).unwrap()] += 1;
        }
        prop_assert!(chosen.iter().all(|times| *times == rounds), "{chosen:?}");
    }

    #[test]
    fn the_least_connected_of_equals_is_chosen(opens in prop::collection::vec(0..100u64, 1..6)) {
        let mut seats: Vec<_> = opens.iter().map(|open| seat(EASE_MS, *open)).collect();
        let index = next(Balance::LeastConnections, &mut seats).unwrap();
        prop_assert_eq!(Some(&opens[index]), opens.iter().min());
    }

    #[test]
    fn nobody_beyond_the_limit_or_unheard_is_offered(
        lags in prop::collection::vec((prop::option::of(0..200u64), 0..2_000u32, any::<bool>()), 0..5),
        serving in any::<bool>(),
        fallback in any::<bool>(),
    ) {
        let mut nodes = vec![node("p", Role::Primary, None)];
        nodes[0].serving = serving;
        for (i, (lag, heard, streaming)) in lags.iter().enumerate() {
            let mut standby = node(&format!("s{i}"), Role::Standby, *lag);
            (standby.heard_ms, standby.streaming) = (f64::from(*heard), *streaming);
            nodes.push(standby);
        }
        let shown = snapshot(nodes);
        let offer = standbys(&shown, 100, fallback);
        for target in &offer.serve {
            let node = shown.nodes.iter().find(|node| node.node == target.node).unwrap();
            prop_assert!(serving && node.heard_ms <= YOUNG_MS);
            prop_assert!(node.role == Role::Primary || node.lag_bytes.unwrap() <= 100);
            prop_assert!(offer.keep.contains(&target.node), "whoever serves is kept");
        }
    }
}
