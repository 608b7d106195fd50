//! Endpoints that lead to several at once: reads to the standbys, requests to every app server that is well.

use std::collections::BTreeSet;

use locum::model::{NodeId, Snapshot};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, NoTls};

use crate::{
    app::App,
    fixture::{free_ports, until},
    pair::{
        LivePair, NAMES, THIRD, Third, Wish, family, is_whole, joined, primary_of, send, status_of, well,
    },
    plain::locum,
};

/// So many connections tell who is in the pool: one that has just come in gets a tenth of its share at first.
const LOOKS: usize = 24;

/// A reader's session.
struct Session {
    client: Client,
    connection: JoinHandle<Result<(), Error>>,
    /// Whose it is.
    node: &'static str,
}

impl Session {
    async fn goes_on(&self) {
        self.client.batch_execute("SELECT 1").await.expect("an answer in a session that nothing has ended");
    }

    async fn ends(self) {
        let what = format!("the end of the session with {}", self.node);
        until(&what, || async { self.connection.is_finished().then_some(()) }).await;
    }
}

/// Which node a server's port is of.
fn ports(pair: &LivePair, third: &Third) -> [(u16, &'static str); 3] {
    let [alpha, beta] = pair.hosts.each_ref().map(|host| (host.node.port, host.node.name));
    [alpha, beta, (third.0.node.port, THIRD)]
}

/// Where readers connect.
#[derive(Clone, Copy)]
struct Reads {
    port: u16,
    nodes: [(u16, &'static str); 3],
}

impl Reads {
    /// A new session. It is tried once: a client of a balanced endpoint need not try again.
    async fn open(self) -> Session {
        let at = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port);
        let (client, connection) = tokio_postgres::connect(&at, NoTls).await.expect("a connection");
        let connection = tokio::spawn(connection);
        let row = client.query_one("SELECT current_setting('port')::int", &[]).await.expect("an answer");
        let port = u16::try_from(row.get::<_, i32>(0)).expect("a port");
        let node = self.nodes.into_iter().find(|(of, _)| *of == port).expect("one of the three").1;
        Session { client, connection, node }
    }

    /// Who answers new connections.
    async fn spread(self) -> BTreeSet<&'static str> {
        let mut nodes = BTreeSet::new();
        for _ in 0..LOOKS {
            nodes.insert(self.open().await.node);
        }
        nodes
    }

    /// Waits until it is these.
    async fn spreads_over(self, nodes: &[&'static str]) {
        let wanted: BTreeSet<_> = nodes.iter().copied().collect();
        let what = format!("new connections spread over {nodes:?}");
        until(&what, || async { (self.spread().await == wanted).then_some(()) }).await;
    }

    /// A session with that node.
    async fn session_with(self, node: &str) -> Session {
        until("a session with each", || async { Some(self.open().await).filter(|one| one.node == node) })
            .await
    }
}

/// Kills the PostgreSQL of a node.
fn kill(pair: &LivePair, third: &Third, name: &str) {
    let node = if name == THIRD { &third.0.node } else { &pair.host(name).node };
    send(family(&node.config.data_dir)[0], "KILL");
}

/// An endpoint for readers.
fn reads(port: u16, fallback: bool) -> String {
    format!(
        "[[endpoint]]\nname = \"reads\"\ntarget = \"standbys\"\nlisten = \"127.0.0.1:{port}\"\nhold = \"60s\"\n\
         fallback = {fallback}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_spread_over_the_standbys_that_are_there_and_leave_the_one_that_is_promoted() {
    let [falling_back, strict] = free_ports();
    let wish = Wish::default().more([reads(falling_back, true), reads(strict, false)]);
    let (pair, mut third) = joined(&wish).await;
    let nodes = ports(&pair, &third);
    let (falling_back, strict) = (Reads { port: falling_back, nodes }, Reads { port: strict, nodes });
    let primary = pair.primary().await;
    let second = pair.other(primary).node.name;
    strict.spreads_over(&[second]).await;
    locum(&["node", "add", "--yes"], &pair.config_file(THIRD)).expect(0, &["Next: `locum run"]);
    third.0.member.start();
    pair.shows("three nodes, well", |seen| well(seen, 2)).await;
    let writer = pair.write().await;
    for reads in [falling_back, strict] {
        reads.spreads_over(&[second, THIRD]).await;
    }

    // Nobody starts again what is killed now.
    pair.over(&pair.ask("/v1/pause", json!({})).await).await;
    let (lost, kept) = (strict.session_with(second).await, strict.session_with(THIRD).await);
    kill(&pair, &third, second);
    lost.ends().await;
    for reads in [falling_back, strict] {
        assert_eq!(reads.spread().await, BTreeSet::from([THIRD]), "every new connection, from the first on");
    }
    kept.goes_on().await;
    kill(&pair, &third, THIRD);
    kept.ends().await;
    let waiting = tokio::spawn(strict.open());
    let on_primary = falling_back.open().await;
    assert_eq!(on_primary.node, primary, "it falls back");
    assert_eq!(falling_back.spread().await, BTreeSet::from([primary]));
    assert!(!waiting.is_finished(), "without a fallback the primary serves no reads");

    pair.ask("/v1/resume", json!({})).await;
    let served = waiting.await.expect("the one that waited");
    assert_ne!(served.node, primary);
    pair.shows("three nodes again", |seen| well(seen, 2)).await;
    for reads in [falling_back, strict] {
        reads.spreads_over(&[second, THIRD]).await;
    }
    on_primary.goes_on().await;

    // Whoever is promoted leaves the pool with its sessions; the other one keeps its own.
    let (one, other) = (strict.session_with(second).await, strict.session_with(THIRD).await);
    kill(&pair, &third, primary);
    let moved = |seen: &Snapshot| primary_of(seen).is_some_and(|name| name != primary);
    let seen = pair.shows("another primary", moved).await;
    let (promoted, other) = if primary_of(&seen) == Some(second) { (one, other) } else { (other, one) };
    let (new, stays) = (promoted.node, other.node);
    promoted.ends().await;
    pair.shows("three nodes, one of them back", |seen| well(seen, 2)).await;
    for reads in [falling_back, strict] {
        reads.spreads_over(&[primary, stays]).await;
    }
    other.goes_on().await;
    writer.goes_on().await;
    let (acknowledged, nodes) =
        (writer.finish().await, [&pair.hosts[0].node, &pair.hosts[1].node, &third.0.node]);
    let node = nodes.into_iter().find(|node| node.name == new).expect("the new primary");
    assert_eq!(crate::fixture::missing(node, &acknowledged).await, 0, "acknowledged rows are missing");
}

/// The app servers that an endpoint leads new connections to, as the leader shows it.
fn pool(seen: &Snapshot, member: &str) -> Vec<NodeId> {
    let endpoint =
        seen.endpoints.iter().find(|one| one.name.as_str() == "all" && one.member.as_str() == member);
    let targets = endpoint.map(|one| one.traffic.targets.as_slice()).unwrap_or_default();
    targets.iter().filter(|target| target.serving).map(|target| target.node.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_of_apps_shrinks_without_a_failed_request_and_grows_again() {
    let [alpha, beta, pooled] = free_ports();
    let mut apps = [App::start(alpha, NAMES[0]), App::start(beta, NAMES[1])];
    let health = [apps[0].health(), apps[1].health()];
    // One is enough: nobody orders it, and each member's would follow by itself.
    let all = format!(
        "[[endpoint]]\nname = \"all\"\ntarget = \"app\"\nmode = \"active-active\"\nlisten = \"127.0.0.1:{pooled}\"\n"
    );
    let pair = LivePair::wished(&Wish::default().apps(health).more([all, String::new()])).await;
    let writer = pair.write().await;
    let url = format!("http://127.0.0.1:{pooled}/");
    let new_connections = || reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let ask =
        async |client: &reqwest::Client| client.get(&url).send().await?.error_for_status()?.text().await;
    let spread = async || {
        let client = new_connections();
        let mut names = BTreeSet::new();
        for _ in 0..LOOKS {
            names.insert(ask(&client).await.expect("no request fails"));
        }
        names
    };
    let spreads_over = async |names: &[&str]| {
        let wanted: BTreeSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let what = format!("requests spread over {names:?}");
        until(&what, || async { (spread().await == wanted).then_some(()) }).await;
    };
    spreads_over(&NAMES).await;
    // A client that keeps its connection, with the app that is about to die.
    let keeps = || reqwest::Client::builder().no_proxy().build().unwrap();
    let kept = until("a connection with the first app", || async {
        let client = keeps();
        (ask(&client).await.ok()? == NAMES[0]).then_some(client)
    })
    .await;

    apps[0].kill().await;
    // At once, before anybody has noticed by a probe: who takes no connection is passed over.
    assert_eq!(spread().await, BTreeSet::from([NAMES[1].to_owned()]));
    let mut failed = 0;
    for _ in 0..LOOKS {
        match ask(&kept).await {
            Ok(name) => assert_eq!(name, NAMES[1]),
            Err(_) => failed += 1,
        }
    }
    assert!(failed <= 1, "{failed} requests failed after the first");
    let first = NAMES[0];
    pair.shows("a pool of one", |seen| pool(seen, first).iter().map(NodeId::as_str).eq([NAMES[1]])).await;
    assert_eq!(spread().await, BTreeSet::from([NAMES[1].to_owned()]));

    apps[0].start_again();
    spreads_over(&NAMES).await;
    pair.shows("a pool of two", |seen| pool(seen, first).len() == 2).await;
    pair.shows("all is well", |seen| is_whole(seen) && status_of(seen, first).app.is_some()).await;
    pair.ends(writer, 0).await;
}
