//! Between the look at the route and the new connection's place on the board an order may come.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::{sync::Arc, time::Duration};

use super::{balance::Offer, routing::Target, switchboard::Switchboard};
use crate::{
    clock::SystemClock,
    config,
    model::{EndpointKind, EndpointName, Epoch, Incarnation, NodeId, RouteOrder, Stamp, Version},
};

fn board(kind: EndpointKind) -> Arc<Switchboard> {
    let config = config::Endpoint {
        name: EndpointName::new("db").unwrap(),
        target: kind,
        listen: "127.0.0.1:0".parse().unwrap(),
        max_held: 10,
        hold: Duration::from_secs(1),
        tuning: config::Tuning::default(),
    };
    Arc::new(Switchboard::new(&config, Arc::new(SystemClock)))
}

fn seoul() -> Target {
    Target { node: NodeId::new("seoul").unwrap(), address: "127.0.0.1:1".into() }
}

fn stamp(version: u64) -> Stamp {
    Stamp { incarnation: Incarnation(1), epoch: Epoch(1), version: Version(version) }
}

#[test]
fn no_connection_is_opened_to_a_life_that_an_order_has_ended() {
    let board = board(EndpointKind::Primary);
    let Target { node, address } = seoul();
    let point = RouteOrder::Point { node, address };
    board.order(stamp(1), point.clone()).unwrap();
    let life = board.pick().unwrap();
    assert!(board.link(&life, 1).is_some());
    board.order(stamp(2), RouteOrder::Hold).unwrap();
    assert!(board.link(&life, 1).is_none(), "new ones wait");
    board.order(stamp(3), point.clone()).unwrap();
    assert!(board.link(&life, 1).is_some(), "the same life goes on");
    board.order(stamp(4), RouteOrder::Cut).unwrap();
    assert!(board.link(&life, 1).is_none());
    board.order(stamp(5), point).unwrap();
    assert!(board.link(&life, 1).is_none(), "the target is the same, its life is another");
    let life = board.pick().unwrap();
    board.close();
    assert!(board.link(&life, 1).is_none(), "nobody is taken any more");
}

#[test]
fn no_connection_is_opened_to_a_target_that_is_not_offered_any_more() {
    let board = board(EndpointKind::Standbys);
    let offer = |serve: Vec<Target>| board.offer(&Offer { serve, keep: [seoul().node].into() });
    offer(vec![seoul()]);
    let life = board.pick().unwrap();
    let kept = board.link(&life, 1).unwrap();
    offer(vec![seoul()]);
    assert!(Arc::ptr_eq(&life, &board.pick().unwrap()), "what goes on being offered goes on living");
    offer(Vec::new());
    assert!(board.link(&life, 1).is_none());
    assert_eq!(board.facts("").open, 1, "whoever was there is kept");
    drop(kept);
}
