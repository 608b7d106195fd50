//! A crowd loses its connections at once and comes back at once: everybody waits at the endpoint, and everybody is served.

use locum::model::{EndpointStatus, Snapshot};
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::{Client, Error, NoTls};

use crate::pair::{LivePair, Wish, Writer, family, primary_of, send};

/// As many as may wait at an endpoint where nobody says otherwise (`max_held`).
const CROWD: usize = 1_000;
/// The crowd, the members' own sessions, and a few more.
const SERVER: &str = "max_connections = 1050\n";
/// What a process needs for a crowd: two descriptors for each, and some.
const DESCRIPTORS: u64 = 4_000;

/// This process may open as much as the crowd needs, and so may those that it starts.
fn raise_the_limit_of_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < DESCRIPTORS) {
        limit.current = Some(DESCRIPTORS);
        setrlimit(Resource::Nofile, limit).expect("a higher limit of open files");
    }
}

/// A session and what ends with its connection.
struct Session {
    client: Client,
    connection: JoinHandle<Result<(), Error>>,
}

impl Session {
    /// Tries once.
    async fn open(port: u16) -> Result<Self, Error> {
        let at = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
        let (client, connection) = tokio_postgres::connect(&at, NoTls).await?;
        Ok(Self { client, connection: tokio::spawn(connection) })
    }

    /// The port of the server that is behind the endpoint.
    async fn server(&self) -> Result<String, Error> {
        Ok(self.client.query_one("SELECT current_setting('port')", &[]).await?.get(0))
    }

    /// Waits until the connection is lost, and comes back at once. Tries once.
    async fn comes_back(self, port: u16) -> Result<(Self, String), Error> {
        let _lost = self.connection.await;
        let session = Self::open(port).await?;
        let server = session.server().await?;
        Ok((session, server))
    }
}

/// The endpoint of a member, as the leader shows it.
fn endpoint<'a>(seen: &'a Snapshot, member: &str) -> &'a EndpointStatus {
    seen.endpoints.iter().find(|one| one.member.as_str() == member).expect("its endpoint")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_that_come_back_at_once_are_held_and_then_served() {
    raise_the_limit_of_open_files();
    // They wait here for as long as the test looks at them.
    let patient = "hold = \"120s\"\n".to_owned();
    let pair = LivePair::wished(&Wish::default().server(SERVER).more([patient.clone(), patient])).await;
    let old = pair.primary().await;
    let new = pair.other(old);
    // At the other endpoint: one more here would be one too many.
    let writer = Writer::start(&[pair.host(old).database]).await;
    let port = new.database;
    let mut arriving = JoinSet::new();
    for _ in 0..CROWD {
        arriving.spawn(async move {
            let session = Session::open(port).await?;
            session.server().await?;
            Ok::<_, Error>(session)
        });
    }
    let sessions: Vec<_> = arriving.join_all().await.into_iter().map(|opened| opened.unwrap()).collect();
    let before = pair.shows("the crowd", |seen| endpoint(seen, new.node.name).open == CROWD as u64).await;
    let before = endpoint(&before, new.node.name).clone();

    // Nobody takes over before all of them wait: that is what the pause is for.
    pair.over(&pair.ask("/v1/pause", json!({})).await).await;
    let mut crowd = JoinSet::new();
    for session in sessions {
        crowd.spawn(session.comes_back(port));
    }
    send(family(&pair.host(old).node.config.data_dir)[0], "KILL");
    pair.shows("all of them waiting", |seen| endpoint(seen, new.node.name).held == CROWD as u64).await;
    pair.ask("/v1/resume", json!({})).await;
    pair.shows("another primary", |seen| primary_of(seen) == Some(new.node.name)).await;
    let served: Vec<_> = crowd.join_all().await;
    let refused: Vec<_> = served.iter().filter_map(|client| client.as_ref().err()).collect();
    assert!(refused.is_empty(), "{} clients were refused; the first: {:?}", refused.len(), refused[0]);
    let expected = new.node.port.to_string();
    assert!(served.iter().flatten().all(|(_, server)| *server == expected), "the old primary answered");

    // The endpoint counted the same: its facts, the metrics, and the record of the incident.
    let seen = pair.whole(1).await;
    let after = endpoint(&seen, new.node.name);
    assert_eq!((after.open, after.held), (CROWD as u64, 0));
    assert_eq!((after.held_total - before.held_total, after.refused_total), (CROWD as u64, 0));
    let page = new.api.text("/metrics").await.expect("the metrics");
    for (name, value) in [
        ("locum_endpoint_served_after_waiting_connections_total", after.held_total),
        ("locum_endpoint_refused_connections_total", 0),
        ("locum_endpoint_held_connections", 0),
    ] {
        let labels = format!("{name}{{endpoint=\"db\",member=\"{}\"}} ", new.node.name);
        let found = page.lines().find_map(|line| line.strip_prefix(&labels)?.parse::<f64>().ok());
        assert_eq!(found, Some(value as f64), "{labels}in {page}");
    }
    let incident = seen.last_incident.unwrap();
    // The writer at the other endpoint waited, too.
    assert!(incident.connections_held >= CROWD as u64, "{incident:#?}");
    assert_eq!(incident.connections_refused, 0, "{incident:#?}");
    drop(served);
    pair.ends(writer, 1).await;
}
