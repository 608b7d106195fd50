//! What a proxy beside an app does with what members show.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use super::*;
use crate::{
    endpoint::fixture::{node, snapshot},
    model::{
        AppStatus, Driver, Durability, EndpointName, EndpointStatus, Epoch, Handover, Incarnation, Mode,
        NodeId, Role, Traffic,
    },
};

fn name(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// a serves, b follows.
fn shown() -> Snapshot {
    let mut shown = snapshot(vec![node("a", Role::Primary, None), node("b", Role::Standby, Some(0))]);
    shown.intent = Some(Intent::first(Incarnation(1), Epoch(4), name("a"), Durability::Sync));
    shown
}

fn intent(shown: &mut Snapshot) -> &mut Intent {
    shown.intent.as_mut().unwrap()
}

fn asked(shown: &Snapshot, last: Stamp) -> Option<RouteOrder> {
    order(shown, EndpointKind::Primary, last).map(|(stamp, order)| {
        assert_eq!(stamp, shown.intent.as_ref().unwrap().stamp());
        order
    })
}

fn point(to: &str) -> Option<RouteOrder> {
    Some(RouteOrder::Point { node: name(to), address: format!("{to}:5432") })
}

#[test]
fn it_leads_to_who_serves_and_cuts_when_nobody_does() {
    let mut shown = shown();
    assert_eq!(asked(&shown, Stamp::default()), point("a"));
    let first = intent(&mut shown).stamp();
    *intent(&mut shown) = intent(&mut shown).vacated(None);
    assert_eq!(asked(&shown, first), Some(RouteOrder::Cut));
    *intent(&mut shown) = intent(&mut shown).declared(name("b"), None);
    assert_eq!(asked(&shown, first), Some(RouteOrder::Hold), "declared, and no primary yet");
    (shown.nodes[1].role, shown.nodes[1].serving) = (Role::Primary, true);
    let now = intent(&mut shown).stamp();
    assert_eq!(asked(&shown, now), point("b"));
}

#[test]
fn what_a_member_does_not_know_changes_nothing() {
    let mut shown = shown();
    let present = intent(&mut shown).stamp();
    (shown.nodes[0].role, shown.nodes[0].serving) = (Role::Unknown, false);
    assert_eq!(asked(&shown, present), None, "only its member is not heard");
    assert_eq!(asked(&shown, Stamp::default()), Some(RouteOrder::Hold), "but nobody was led there yet");
    let later = intent(&mut shown).clone().raised().stamp();
    assert_eq!(asked(&shown, later), None, "an older intent");
    shown.intent = None;
    assert_eq!(asked(&shown, Stamp::default()), None, "a store that is not reached");
}

/// An endpoint of the primary that has its clients wait, under that stamp.
fn held(stamp: Stamp) -> EndpointStatus {
    EndpointStatus {
        member: name("a"),
        name: EndpointName::new("db").unwrap(),
        kind: EndpointKind::Primary,
        listen: "127.0.0.1:6432".into(),
        target: Some(name("a")),
        mode: Mode::Holding,
        open: 0,
        held: 0,
        stamp,
        driver: Driver::Proxy,
        problem: None,
        cut_total: 0,
        held_total: 0,
        refused_total: 0,
        traffic: Traffic::default(),
    }
}

#[test]
fn new_connections_wait_while_the_leader_has_them_wait() {
    let mut shown = shown();
    let stamp = intent(&mut shown).stamp();
    shown.endpoints.push(held(stamp));
    assert_eq!(asked(&shown, stamp), Some(RouteOrder::Hold));
    shown.endpoints[0].mode = Mode::Open;
    assert_eq!(asked(&shown, stamp), point("a"));
    // One that missed the latest order says nothing of it.
    (shown.endpoints[0].mode, shown.endpoints[0].stamp) = (Mode::Holding, Stamp::default());
    assert_eq!(asked(&shown, stamp), point("a"));
    *intent(&mut shown) = intent(&mut shown).handed_over(name("b"), None);
    assert_eq!(asked(&shown, stamp), Some(RouteOrder::Hold));
}

#[test]
fn in_a_switchover_they_wait_when_the_leader_says_so_and_not_for_the_checkpoint() {
    let mut shown = shown();
    let since = intent(&mut shown).version.next();
    let handover = Handover { to: name("b"), operation: "op".into(), since };
    *intent(&mut shown) = Intent { handover: Some(handover), ..intent(&mut shown).clone() }.raised();
    let stamp = intent(&mut shown).stamp();
    assert_eq!(asked(&shown, stamp), Some(RouteOrder::Hold), "no member has an endpoint that would tell");
    assert!(shown.hands_over(&name("a")) && !shown.hands_over(&name("b")));
    shown.endpoints.push(held(stamp));
    assert_eq!(asked(&shown, stamp), Some(RouteOrder::Hold));
    // The set has changed since: the endpoint was told under an earlier version of the same hand-over.
    *intent(&mut shown) = intent(&mut shown).clone().raised();
    assert_eq!(asked(&shown, stamp), Some(RouteOrder::Hold));
    shown.endpoints[0].mode = Mode::Open;
    assert_eq!(asked(&shown, stamp), point("a"));
    assert!(!shown.hands_over(&name("a")));
    shown.endpoints[0] = held(Stamp::default());
    assert_eq!(asked(&shown, stamp), point("a"), "held by what came before");
}

#[test]
fn an_app_is_led_to_where_it_is_active() {
    let mut shown = shown();
    let of = |shown: &Snapshot| order(shown, EndpointKind::App, Stamp::default()).map(|(_, order)| order);
    assert_eq!(of(&shown), None);
    intent(&mut shown).app = Some(name("b"));
    assert_eq!(of(&shown), None, "it is not known where that is");
    let app = AppStatus {
        address: "b:80".into(),
        healthy: true,
        active: true,
        startable: false,
        starting: false,
        error: None,
    };
    shown.nodes[1].app = Some(app);
    assert_eq!(of(&shown), Some(RouteOrder::Point { node: name("b"), address: "b:80".into() }));
}
