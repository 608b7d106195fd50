//! App servers: one dies without the database; and they follow the database when it moves.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, routing::get};
use locum::model::{IncidentKind, Mode, OperationState, Snapshot};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    fixture::free_ports,
    pair::{LivePair, Wish, family, primary_of, send},
};

/// A health path that answers 200, and what tells who answered. Aborted, it is dead.
async fn app(port: u16, name: &'static str) -> JoinHandle<()> {
    stuck_app(port, name, Arc::default()).await
}

/// The same, whose health path does not answer while it is stuck.
async fn stuck_app(port: u16, name: &'static str, stuck: Arc<AtomicBool>) -> JoinHandle<()> {
    let health = async move || {
        if stuck.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        "well"
    };
    let router = Router::new().route("/healthz", get(health)).route("/", get(move || async move { name }));
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

fn active(snapshot: &Snapshot) -> Option<&str> {
    snapshot.intent.as_ref()?.app.as_ref().map(|node| node.as_str())
}

/// All app endpoints lead to one node.
fn led_to(snapshot: &Snapshot, name: &str) -> bool {
    let mut web = snapshot.endpoints.iter().filter(|endpoint| endpoint.name.as_str() == "web");
    web.all(|e| e.target.as_ref().is_some_and(|node| node.as_str() == name) && e.mode == Mode::Open)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_dies_is_replaced_without_moving_the_database_and_follows_it_when_it_moves() {
    let ports = free_ports::<2>();
    let mut apps = [app(ports[0], "alpha").await, app(ports[1], "beta").await];
    let health = ports.map(|port| format!("http://127.0.0.1:{port}/healthz"));
    let pair = LivePair::wished(&Wish::default().apps(health)).await;
    let writer = pair.write().await;
    let seen = pair.shows("an active app", |s| active(s).is_some_and(|name| led_to(s, name))).await;
    let (primary, first) = (pair.primary().await, active(&seen).unwrap().to_owned());
    let other = pair.other(&first).node.name;
    let index = crate::pair::NAMES.iter().position(|name| *name == first).unwrap();

    apps[index].abort();
    pair.shows("the other app", |s| active(s) == Some(other) && led_to(s, other)).await;
    // Through an endpoint, like any client; connections of the dead one are of no use.
    let answers = async |name: &str| {
        let web = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        let port = pair.host(name).web;
        web.get(format!("http://127.0.0.1:{port}/")).send().await.unwrap().text().await.unwrap()
    };
    for name in crate::pair::NAMES {
        assert_eq!(answers(name).await, other);
    }
    apps[index] = app(ports[index], crate::pair::NAMES[index]).await;
    let incident = pair.whole(0).await.last_incident.unwrap();
    assert_eq!(incident.kind, IncidentKind::AppFailover);
    assert!(incident.rto_ms().is_some(), "{incident:#?}");
    assert_eq!(pair.primary().await, primary, "the database moved");

    send(family(&pair.host(primary).node.config.data_dir)[0], "KILL");
    let moved = |s: &Snapshot| primary_of(s).is_some_and(|name| name != primary);
    pair.shows("another primary with its app", |s| moved(s) && active(s) == primary_of(s)).await;
    let seen = pair.whole(1).await;
    assert!(led_to(&seen, primary_of(&seen).unwrap()));
    pair.ends(writer, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_app_is_replaced_and_a_free_one_stays_where_it_is_when_the_database_moves() {
    let ports = free_ports::<2>();
    let stuck: [Arc<AtomicBool>; 2] = Default::default();
    let mut apps = Vec::new();
    for ((port, name), stuck) in ports.into_iter().zip(crate::pair::NAMES).zip(&stuck) {
        apps.push(stuck_app(port, name, Arc::clone(stuck)).await);
    }
    let health = ports.map(|port| format!("http://127.0.0.1:{port}/healthz"));
    let pair = LivePair::wished(&Wish::default().apps(health).set("policy.app=free")).await;
    let writer = pair.write().await;
    let seen = pair.shows("an active app", |s| active(s).is_some_and(|name| led_to(s, name))).await;
    let (primary, first) = (pair.primary().await, active(&seen).unwrap().to_owned());
    let other = pair.other(&first).node.name;
    let index = crate::pair::NAMES.iter().position(|name| *name == first).unwrap();

    stuck[index].store(true, Ordering::Relaxed);
    pair.shows("the other app", |s| active(s) == Some(other) && led_to(s, other)).await;
    // It is open for as long as there is no other app server that is well.
    let incident = pair.shows("the incident", |s| s.incident.is_some()).await.incident.unwrap();
    assert_eq!(incident.kind, IncidentKind::AppFailover);
    assert!(incident.cause.summary.contains("does not answer"), "{:?}", incident.cause);
    stuck[index].store(false, Ordering::Relaxed);
    pair.whole(0).await;

    // It stays, whichever side the database is on.
    let operation = pair.ask("/v1/switchover", json!({ "to": pair.other(primary).node.name })).await;
    assert_eq!(pair.over(&operation).await.state, OperationState::Done);
    let seen = pair.whole(1).await;
    assert_eq!((primary_of(&seen), active(&seen)), (Some(pair.other(primary).node.name), Some(other)));
    assert!(led_to(&seen, other));
    pair.ends(writer, 1).await;
}
