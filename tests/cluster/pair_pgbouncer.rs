//! A PgBouncer in front: clients of a switchover wait for a moment and lose nothing; nothing stays paused.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use locum::{
    clock::SystemClock,
    config::{self, DrivenBy},
    endpoint::{Driven, Surroundings},
    model::{
        ClusterName, Driver, EndpointKind, EndpointName, Epoch, Incarnation, Incident, NodeId,
        OperationState, Reply, Repointed, RouteOrder, Snapshot, Stamp, Version,
    },
    ports::Endpoint as _,
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    fixture::{free_ports, missing, until},
    pair::{LivePair, Wish, family, finds, is_quiet, is_whole, primary_of, send},
    pooler::{DATABASE, Pooled, Pooler},
};

/// More for figures: `TEST_POOLER_RUNS=10`.
fn runs() -> u64 {
    std::env::var("TEST_POOLER_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(2)
}

/// A busy machine is no failure.
fn patient() -> Wish {
    Wish::default().set("policy.detect=5s")
}

/// The endpoint in alpha's file.
fn endpoint(port: u16, more: &str) -> String {
    format!(
        "\n[[endpoint]]\nname = \"pooler\"\ntarget = \"primary\"\ndriver = \"pgbouncer\"\n\
         console = \"host=127.0.0.1 port={port} user=locum\"\ndatabases = [\"{DATABASE}\"]\n{more}\n"
    )
}

/// PgBouncer in front of alpha's proxy.
async fn behind_a_proxy(wish: Wish) -> (LivePair, Pooler) {
    let [port] = free_ports();
    let pair =
        LivePair::wished(&wish.more([endpoint(port, "timeout = \"1s\"\ngive_up = \"3s\""), String::new()]))
            .await;
    let databases = format!(
        "[databases]\n{DATABASE} = host=127.0.0.1 port={} dbname=postgres",
        pair.host("alpha").database
    );
    let pooler = Pooler::start(port, &databases).await;
    pair.shows("no finding", |seen| is_whole(seen) && is_quiet(seen)).await;
    (pair, pooler)
}

async fn hand_over(pair: &LivePair, promotions: u64) -> Incident {
    let operation = pair.ask("/v1/switchover", json!({})).await;
    let ended = pair.over(&operation).await;
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    pair.whole(promotions).await;
    settled(pair).await
}

/// The last incident, once every endpoint has come to what it was to be.
async fn settled(pair: &LivePair) -> Incident {
    let has_line = |seen: &Snapshot| {
        let incident = seen.last_incident.as_ref();
        incident.is_some_and(|incident| incident.closed && line(incident).is_some())
    };
    pair.shows("an incident with a line for PgBouncer", has_line).await.last_incident.unwrap()
}

fn line(incident: &Incident) -> Option<&Repointed> {
    incident.repoints.iter().find(|line| line.driver == Driver::Pgbouncer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_through_pgbouncer_fails_no_transaction() {
    let (pair, pooler) = behind_a_proxy(patient()).await;
    let clients = Pooled::start(pooler.port, 8).await;
    for promotions in 1..=runs() {
        let began = Instant::now();
        let incident = hand_over(&pair, promotions).await;
        clients.goes_on().await;
        let phases: Vec<_> = incident.phases().iter().map(|p| format!("{} {:.0}", p.name, p.ms)).collect();
        println!("gap {:?}, RTO {:?} ms: {}", clients.gap(began), incident.rto_ms(), phases.join(", "));
        assert_eq!(clients.failed(), Vec::<String>::new());
        let line = line(&incident).unwrap();
        assert!(line.after_ms.is_some() && line.error.is_none(), "{line:?}");
    }
    assert!(pooler.log().contains("PAUSE"), "it was never paused: {}", pooler.log());
    let acknowledged = clients.finish().await;
    let primary = pair.primary().await;
    assert_eq!(missing(&pair.host(primary).node, &acknowledged).await, 0);
    assert!(!pooler.is_paused().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pgbouncer_that_leads_straight_to_the_servers_is_told_where_they_are() {
    let [port] = free_ports();
    let folder = tempfile::Builder::new().prefix("locum-include-").tempdir_in("/tmp").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let include = folder.path().join("locum.ini");
    std::fs::write(&include, format!("[databases]\n{DATABASE} = host=127.0.0.1 port=1\n")).unwrap();
    let more = format!("file = \"{}\"\noptions = \"dbname=postgres pool_size=9\"", include.display());
    let pooler = Pooler::start(port, &format!("%include {}", include.display())).await;
    let pair = LivePair::wished(&patient().more([endpoint(port, &more), String::new()])).await;
    pair.shows("no finding", |seen| is_whole(seen) && is_quiet(seen)).await;
    let clients = Pooled::start(pooler.port, 8).await;
    for promotions in 1..=runs() {
        let began = Instant::now();
        hand_over(&pair, promotions).await;
        clients.goes_on().await;
        println!("gap {:?}", clients.gap(began));
        assert_eq!(clients.failed(), Vec::<String>::new());
        let primary = pair.primary().await;
        let text = std::fs::read_to_string(&include).unwrap();
        assert!(text.contains(&format!("port={} ", pair.host(primary).node.port)), "{text}");
    }
    let acknowledged = clients.finish().await;
    let primary = pair.primary().await;
    assert_eq!(missing(&pair.host(primary).node, &acknowledged).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_pauses_nothing_and_waits_for_no_console() {
    let (pair, pooler) = behind_a_proxy(Wish::default()).await;
    let writer = pair.write().await;
    let old = pair.primary().await;
    // Its console takes connections and never answers.
    send(pooler.pid(), "STOP");
    send(family(&pair.host(old).node.config.data_dir)[0], "KILL");
    writer.goes_on().await;
    let found = |seen: &Snapshot| is_whole(seen) && primary_of(seen) != Some(old);
    let seen = pair
        .shows("a failover, and the console missed", |seen| {
            found(seen) && finds(seen, "endpoint_unconfirmed")
        })
        .await;
    let incident = seen.last_incident.unwrap();
    // Service was proven before the driver's first try was even over.
    assert!(incident.rto_ms().is_some_and(|rto| rto < 3_000.0), "{incident:#?}");
    let incident = settled(&pair).await;
    let line = line(&incident).unwrap();
    assert!(line.after_ms.is_none() && line.error.is_some(), "{line:?}");
    send(pooler.pid(), "CONT");
    // Given up for the report, and still wanted.
    pair.shows("the console found again", is_quiet).await;
    let clients = Pooled::start(pooler.port, 2).await;
    clients.goes_on().await;
    clients.finish().await;
    assert!(!pooler.log().contains("PAUSE"), "a failover paused: {}", pooler.log());
    pair.ends(writer, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_undone_when_the_switchover_is_rolled_back_and_when_the_member_dies() {
    let wish = Wish::default().set("policy.drain=10s");
    let (mut pair, pooler) = behind_a_proxy(wish).await;
    let clients = Pooled::start(pooler.port, 4).await;
    let old = pair.primary().await;
    // A transaction that a switchover has to wait for, so that it can fail meanwhile.
    let open = pair.host(old).node.connect().await;
    open.batch_execute("BEGIN; INSERT INTO t VALUES (-1)").await.unwrap();
    let operation = pair.ask("/v1/switchover", json!({})).await;
    until("the pause", || async { pooler.is_paused().await.then_some(()) }).await;
    send(family(&pair.other(old).node.config.data_dir)[0], "KILL");
    assert_eq!(pair.over(&operation).await.state, OperationState::Failed);
    clients.goes_on().await;
    assert_eq!(clients.failed(), Vec::<String>::new());
    assert!(!pooler.is_paused().await);
    pair.whole(0).await;

    pair.ask("/v1/switchover", json!({})).await;
    until("the pause", || async { pooler.is_paused().await.then_some(()) }).await;
    let alpha = &mut pair.host_mut("alpha").member;
    alpha.kill();
    assert!(pooler.is_paused().await, "nobody is there to undo it");
    alpha.start();
    clients.goes_on().await;
    drop(open);
    pair.shows("all is well in the end", |seen| is_whole(seen) && is_quiet(seen)).await;
    assert!(!pooler.is_paused().await);
    clients.goes_on().await;
    clients.finish().await;
}

/// A driver of its own, without a member around it.
fn driver(port: u16, pause_max: Duration, folder: &Path) -> Arc<Driven> {
    let config = config::Driven {
        name: EndpointName::new("pooler").unwrap(),
        target: EndpointKind::Primary,
        timeout: Duration::from_secs(5),
        give_up: Duration::from_secs(30),
        by: DrivenBy::Pgbouncer(config::Pgbouncer {
            console: format!("host=127.0.0.1 port={port} user=locum"),
            password_file: None,
            databases: vec![DATABASE.into()],
            file: None,
            options: String::new(),
            pause_max,
        }),
    };
    let around = Surroundings {
        cluster: &ClusterName::new("pairs").unwrap(),
        node: &NodeId::new("alpha").unwrap(),
        state_dir: folder,
        may_serve: Arc::new(|| true),
        app: None,
        clock: Arc::new(SystemClock),
    };
    Driven::open(&config, &around).unwrap()
}

fn stamp(version: u64) -> Stamp {
    Stamp { incarnation: Incarnation(1), epoch: Epoch(1), version: Version(version) }
}

fn point() -> RouteOrder {
    RouteOrder::Point { node: NodeId::new("beta").unwrap(), address: "127.0.0.1:1".into() }
}

async fn well(driven: &Driven) {
    let well =
        || driven.facts().problem.is_none() && driven.facts().repoint.is_some_and(|r| r.confirmed.is_some());
    until("an endpoint that is well", || async { well().then_some(()) }).await;
}

async fn resumed(pooler: &Pooler) {
    until("PgBouncer goes on", || async { (!pooler.is_paused().await).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_ends_by_its_limit_and_with_the_next_life_of_a_member_that_died() {
    let [port] = free_ports();
    let pooler = Pooler::start(port, &format!("[databases]\n{DATABASE} = host=127.0.0.1 port=1")).await;
    let folder = tempfile::tempdir().unwrap();
    let long = Duration::from_secs(3600);

    // Its life ends without a word, and nobody orders anything in the next one.
    let dies = driver(port, long, folder.path());
    assert_eq!(dies.order(stamp(1), RouteOrder::Hold), Reply::Done);
    assert_eq!(dies.park(stamp(1), BTreeSet::new()).await, Reply::Done);
    assert!(pooler.is_paused().await);
    drop(dies);
    assert!(pooler.is_paused().await);
    let next = driver(port, long, folder.path());
    resumed(&pooler).await;

    // A late order pauses nothing; a vacancy in the middle of a switchover ends it; so does the end of a member in order.
    next.order(stamp(3), RouteOrder::Hold);
    assert!(matches!(next.park(stamp(2), BTreeSet::new()).await, Reply::Refused(_)));
    assert!(!pooler.is_paused().await);
    assert_eq!(next.park(stamp(3), BTreeSet::new()).await, Reply::Done);
    next.order(stamp(4), RouteOrder::Cut);
    resumed(&pooler).await;
    next.order(stamp(5), RouteOrder::Hold);
    assert_eq!(next.park(stamp(5), BTreeSet::new()).await, Reply::Done);
    next.close().await;
    assert!(!pooler.is_paused().await);

    let short = driver(port, Duration::from_secs(1), folder.path());
    short.order(stamp(6), RouteOrder::Hold);
    assert_eq!(short.park(stamp(6), BTreeSet::new()).await, Reply::Done);
    resumed(&pooler).await;
    let told = || short.facts().problem.is_some_and(|problem| problem.contains("pause_max"));
    until("the reason", || async { told().then_some(()) }).await;
    short.order(stamp(7), point());
    well(&short).await;
    // The next switchover may pause again.
    short.order(stamp(8), RouteOrder::Hold);
    assert_eq!(short.park(stamp(8), BTreeSet::new()).await, Reply::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_paused_is_told_and_left_alone_and_every_new_route_has_it_reconnect() {
    let [port] = free_ports();
    let pooler = Pooler::start(port, &format!("[databases]\n{DATABASE} = host=127.0.0.1 port=1")).await;
    let folder = tempfile::tempdir().unwrap();
    let driven = driver(port, Duration::from_secs(3600), folder.path());
    let reconnected = || pooler.log().matches("RECONNECT").count();
    driven.order(stamp(1), point());
    well(&driven).await;
    let before = reconnected();
    assert!(before > 0, "{}", pooler.log());

    pooler.run(&format!("PAUSE {DATABASE}")).await;
    driven.order(stamp(2), point());
    let told = || driven.facts().problem.is_some_and(|problem| problem.contains("not by Locum"));
    until("who paused it", || async { told().then_some(()) }).await;
    assert!(pooler.is_paused().await);
    assert!(reconnected() > before, "{}", pooler.log());
    pooler.run(&format!("RESUME {DATABASE}")).await;
    well(&driven).await;
}
