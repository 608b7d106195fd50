//! Endpoints that lead to several targets at once.

use std::collections::BTreeMap;

use locum::{
    config::Balance,
    endpoint::{balance::Offer, follow, routing::Target},
    model::{ClusterName, EndpointFacts, Snapshot},
};
use serde_json::json;
use tokio::{net::TcpSocket, sync::watch};

use super::*;

fn balanced(kind: EndpointKind, balance: Balance) -> Arc<Proxy> {
    let mut config = endpoint(kind, 1000, DEADLINE);
    config.tuning.balance = balance;
    bind(&config)
}

fn offer(serve: &[&Server], keep: &[&Server]) -> Offer {
    let target = |server: &&Server| Target { node: node(&server.name), address: server.address.clone() };
    let keep = serve.iter().chain(keep).map(|server| node(&server.name)).collect();
    Offer { serve: serve.iter().map(target).collect(), keep }
}

async fn who(proxy: &Proxy) -> (String, BufReader<tokio::net::TcpStream>) {
    let mut client = client(proxy).await;
    let answer = ask(&mut client, "hello").await.unwrap();
    (answer.split(' ').next().unwrap().to_owned(), client)
}

#[tokio::test]
async fn clients_are_distributed_in_turn_and_wait_while_there_is_nobody() {
    let (proxy, seoul, busan) = (
        balanced(EndpointKind::Standbys, Balance::RoundRobin),
        Server::start("seoul").await,
        Server::start("busan").await,
    );
    let mut early = client(&proxy).await;
    until(&proxy, |facts| facts.held == 1 && facts.mode == Mode::Holding).await;
    assert!(matches!(point(&proxy, stamp(1, 1), &seoul), Reply::Refused(_)), "it takes no orders");
    proxy.offer(&offer(&[&seoul, &busan], &[]));
    ask(&mut early, "hello").await.unwrap();
    let mut served: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..20 {
        *served.entry(who(&proxy).await.0).or_default() += 1;
    }
    assert_eq!(served.values().copied().collect::<Vec<_>>(), [10, 10], "{served:?}");
    assert_eq!(proxy.facts().mode, Mode::Open);
}

#[tokio::test]
async fn the_one_with_fewer_connections_is_next() {
    let (proxy, seoul, busan) = (
        balanced(EndpointKind::Apps, Balance::LeastConnections),
        Server::start("seoul").await,
        Server::start("busan").await,
    );
    proxy.offer(&offer(&[&seoul, &busan], &[]));
    let mut kept = Vec::new();
    for _ in 0..10 {
        kept.push(who(&proxy).await);
    }
    kept.retain(|(name, _)| name == "seoul");
    until(&proxy, |facts| facts.open == 5).await;
    for _ in 0..5 {
        let (name, client) = who(&proxy).await;
        assert_eq!(name, "busan");
        kept.push((name, client));
    }
}

#[tokio::test]
async fn a_late_standby_keeps_its_connections_and_a_lost_one_does_not() {
    let (proxy, seoul, busan) = (
        balanced(EndpointKind::Standbys, Balance::RoundRobin),
        Server::start("seoul").await,
        Server::start("busan").await,
    );
    proxy.offer(&offer(&[&seoul], &[]));
    let (_, mut reader) = who(&proxy).await;
    proxy.offer(&offer(&[&busan], &[&seoul]));
    assert_eq!(ask(&mut reader, "late").await.unwrap(), "seoul late");
    for _ in 0..4 {
        assert_eq!(who(&proxy).await.0, "busan", "new ones go elsewhere");
    }
    assert_eq!(proxy.facts().cut_total, 0);
    proxy.offer(&offer(&[&busan], &[]));
    ends_promptly(&mut reader).await;
    assert_eq!(proxy.facts().cut_total, 1);
}

#[tokio::test]
async fn a_dead_app_server_costs_no_new_connection_and_comes_back_by_itself() {
    let (proxy, seoul, busan) = (
        balanced(EndpointKind::Apps, Balance::RoundRobin),
        Server::start("seoul").await,
        Server::start("busan").await,
    );
    proxy.offer(&offer(&[&seoul, &busan], &[]));
    let address = busan.address.clone();
    busan.kill().await;
    for _ in 0..20 {
        assert_eq!(who(&proxy).await.0, "seoul", "before anybody has said that it is down");
    }
    assert_eq!(proxy.facts().refused_total, 0);
    // The member notices that it is gone, and that it is back.
    proxy.offer(&offer(&[&seoul], &[]));
    let busan = Server::at("busan", &address).await;
    proxy.offer(&offer(&[&seoul, &busan], &[]));
    let end = Instant::now() + DEADLINE;
    while who(&proxy).await.0 != "busan" {
        assert!(Instant::now() < end, "the one that came back is served from");
    }
}

#[tokio::test]
async fn those_who_wait_for_one_that_is_down_are_served_by_the_other_that_came_up() {
    let proxy = balanced(EndpointKind::Standbys, Balance::RoundRobin);
    let (seoul, busan) = (Server::start("seoul").await, Server::start("busan").await);
    let both = offer(&[&seoul, &busan], &[]);
    let address = busan.address.clone();
    seoul.kill().await;
    busan.kill().await;
    proxy.offer(&both);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(client(&proxy).await);
    }
    until(&proxy, |facts| facts.held == 20).await;
    let _busan = Server::at("busan", &address).await;
    for client in &mut clients {
        assert_eq!(ask(client, "hello").await.unwrap(), "busan hello");
    }
}

/// A target that is there and whose host answers no attempt to connect: its queue is full. Dropped, it is gone.
async fn hung() -> (String, (TcpListener, Vec<tokio::net::TcpStream>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let (address, mut queued) = (listener.local_addr().unwrap().to_string(), Vec::new());
    while let Ok(connected) =
        timeout(Duration::from_millis(100), tokio::net::TcpStream::connect(&address)).await
    {
        queued.push(connected.unwrap());
    }
    (address, (listener, queued))
}

#[tokio::test]
async fn nobody_goes_on_waiting_for_one_that_hangs_once_the_other_is_up() {
    let mut config = endpoint(EndpointKind::Standbys, 1000, DEADLINE);
    config.tuning.connect = Duration::from_millis(300);
    let proxy = bind(&config);
    let ((hung, _queue), down) = (hung().await, nobody().await);
    let target = |name: &str, address: &String| Target { node: node(name), address: address.clone() };
    let changes = proxy.changes();
    proxy.offer(&Offer {
        serve: vec![target("seoul", &hung), target("busan", &down)],
        keep: [node("seoul"), node("busan")].into(),
    });
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(client(&proxy).await);
    }
    // The offer, and that either takes no connections.
    until(&proxy, |facts| facts.held == 20 && *changes.borrow() >= 3).await;
    let _busan = Server::at("busan", &down).await;
    let began = Instant::now();
    for client in &mut clients {
        assert_eq!(ask(client, "hello").await.unwrap(), "busan hello");
    }
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
}

/// What a member sees while this standby lacks so much of the WAL.
fn shown(primary: &str, standby: &Server, lag: u64) -> Arc<Snapshot> {
    let status = |name: &str, primary: bool, address: &str| {
        serde_json::from_value(json!({
            "node": name, "database": address, "heard_ms": 1.0, "role": if primary { "primary" } else { "standby" },
            "serving": primary, "sync": false, "streaming": !primary, "timeline": 1, "lsn": null,
            "lag_bytes": (!primary).then_some(lag), "replay_bytes": (!primary).then_some(0),
            "promise": null, "job": null, "error": null,
        }))
        .unwrap()
    };
    Arc::new(Snapshot {
        cluster: ClusterName::new("orders").unwrap(),
        node: node("jeju"),
        at: jiff::Timestamp::UNIX_EPOCH,
        leader: None,
        store_error: None,
        intent: None,
        nodes: vec![status("jeju", true, primary), status(&standby.name, false, &standby.address)],
        endpoints: Vec::new(),
        rpo: None,
        findings: Vec::new(),
        plan: Vec::new(),
        if_it_crashed: Vec::new(),
        incident: None,
        last_incident: None,
        operations: Vec::new(),
    })
}

#[tokio::test]
async fn when_the_member_is_stuck_new_clients_wait_and_those_that_are_there_stay() {
    let config = endpoint(EndpointKind::Standbys, 1000, DEADLINE);
    let (proxy, seoul) = (bind(&config), Server::start("seoul").await);
    let (member, sees) = watch::channel(shown("127.0.0.1:1", &seoul, 0));
    let _following = follow(&proxy, &config, sees);
    let (_, mut reader) = who(&proxy).await;
    until(&proxy, |facts| facts.mode == Mode::Holding).await;
    let mut late = client(&proxy).await;
    until(&proxy, |facts| facts.held == 1).await;
    assert_eq!(ask(&mut reader, "still here").await.unwrap(), "seoul still here");
    member.send(shown("127.0.0.1:1", &seoul, 0)).unwrap();
    assert_eq!(ask(&mut late, "at last").await.unwrap(), "seoul at last");
    assert_eq!(proxy.facts().cut_total, 0);
}

#[tokio::test]
async fn which_standbys_serve_and_whether_the_primary_does_is_as_configured() {
    let (seoul, jeju) = (Server::start("seoul").await, Server::start("jeju").await);
    for fallback in [false, true] {
        let mut config = endpoint(EndpointKind::Standbys, 1000, DEADLINE);
        (config.tuning.max_lag, config.tuning.fallback) = (100, fallback);
        let proxy = bind(&config);
        let (member, sees) = watch::channel(shown(&jeju.address, &seoul, 100));
        let _following = follow(&proxy, &config, sees);
        assert_eq!(who(&proxy).await.0, "seoul");
        member.send(shown(&jeju.address, &seoul, 101)).unwrap();
        let serves = |name| {
            move |facts: &EndpointFacts| {
                facts.traffic.targets.iter().any(|target| target.node == node(name) && target.serving)
            }
        };
        until(&proxy, |facts| !serves("seoul")(facts)).await;
        assert_eq!(serves("jeju")(&proxy.facts()), fallback);
        assert_eq!(proxy.facts().mode == Mode::Open, fallback);
    }
}
