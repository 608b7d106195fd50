//! `locum endpoint`: a proxy without a member follows what members show.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::future::join_all;
use locum::model::{OperationState, Snapshot};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    fixture::{free_ports, until},
    pair::{LivePair, Wish, Writer, family, is_parked, primary_of, send, session},
    plain::told,
};

/// How long an answer may take that is to come.
const SOON: Duration = Duration::from_secs(2);

/// A running one. Dropping it kills it.
struct Sidecar(Child);

impl Sidecar {
    /// Listens at `port` and follows the members with these public ports.
    fn start(port: u16, members: &[u16]) -> Self {
        Self::with(port, members, &[])
    }

    fn with(port: u16, members: &[u16], more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
        command.args(["endpoint", "--listen", &format!("127.0.0.1:{port}")]).args(more);
        for member in members {
            command.args(["--member", &format!("http://127.0.0.1:{member}")]);
        }
        Self(command.stdin(Stdio::null()).spawn().expect("locum endpoint"))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _collected = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_follows_a_failover_and_a_switchover_and_carries_on_while_no_member_is_heard() {
    let mut pair = LivePair::wished(&Wish::durability("async")).await;
    let first = pair.primary().await;
    let second = pair.other(first).node.name;
    let [both, one] = free_ports();
    let members = [pair.host(first).public, pair.host(second).public];
    let sidecar = Sidecar::start(both, &members);
    // It knows a single member, which will be gone.
    let _lonely = Sidecar::start(one, &[pair.host(first).public]);
    let writer = Writer::start(&[both, one]).await;

    send(family(&pair.host(first).node.config.data_dir)[0], "KILL");
    pair.shows("another primary", |s| primary_of(s) == Some(second)).await;
    writer.goes_on().await;
    pair.whole(1).await;
    pair.hand_over(first).await;
    writer.goes_on().await;
    pair.whole(2).await;

    // Back on the second one, so that the first one's member can go without its server.
    pair.hand_over(second).await;
    pair.whole(3).await;
    writer.goes_on().await;
    pair.host_mut(first).member.kill();
    writer.goes_on().await;
    pair.host_mut(first).member.start();
    // Told to stop, it ends in order; the other one's clients go on.
    send(sidecar.0.id().cast_signed(), "TERM");
    let rows = writer.finish().await;
    assert!(rows.len() > 100);
    let writer = Writer::start(&[one]).await;
    let ended = pair.ends(writer, 3).await;
    assert_eq!(primary_of(&ended), Some(second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_switchover_who_is_between_two_transactions_begins_no_other_one() {
    let pair = LivePair::wished(&Wish::default().set("policy.drain=10s")).await;
    let first = pair.primary().await;
    let second = pair.other(first).node.name;
    let [port] = free_ports();
    let _sidecar = Sidecar::start(port, &[pair.host(second).public, pair.host(first).public]);
    let writer = pair.write().await;
    let (idle, busy) = (session(port).await, session(port).await);
    busy.batch_execute("BEGIN; CREATE TABLE work (n int)").await.expect("it has begun");
    let operation = pair.ask("/v1/switchover", serde_json::json!({})).await;
    is_parked(&idle).await;
    busy.batch_execute("INSERT INTO work VALUES (1); COMMIT").await.expect("who is within one goes on");
    assert_eq!(pair.over(&operation).await.state, OperationState::Done);
    let rows = session(port).await.query("SELECT n FROM work", &[]).await.expect("rows");
    assert_eq!(rows.len(), 1);
    pair.ends(writer, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_stops_nothing_before_it_has_parked_and_waits_for_it_no_longer_than_the_drain() {
    const DRAIN: Duration = Duration::from_secs(6);
    let pair = LivePair::wished(&Wish::default().set("policy.drain=6s")).await;
    let first = pair.primary().await;
    let second = pair.other(first).node.name;
    let [port] = free_ports();
    let sidecar = Sidecar::start(port, &[pair.host(second).public, pair.host(first).public]);
    for (thaws, to) in [(true, second), (false, first)] {
        until("the primary", async || (in_recovery(port, SOON).await == Some(false)).then_some(())).await;
        // All sessions are between two transactions, and the proxy could let this one begin another at any time.
        let idle = session(port).await;
        idle.simple_query("SELECT 1").await.expect("an answer");
        let pid = sidecar.0.id().cast_signed();
        send(pid, "STOP");
        let began = Instant::now();
        let operation = pair.ask("/v1/switchover", serde_json::json!({ "to": to })).await;
        pair.shows("clients that are held", |s| s.holds_clients()).await;
        if thaws {
            let early =
                timeout(DRAIN / 3, pair.shows("another primary", |s| primary_of(s) == Some(to))).await;
            assert!(early.is_err(), "its sessions were not parked when the old primary was stopped");
            send(pid, "CONT");
        }
        assert_eq!(pair.over(&operation).await.state, OperationState::Done);
        let took = began.elapsed();
        send(pid, "CONT");
        assert_eq!(took < DRAIN, thaws, "{took:?}");
        pair.whole(if thaws { 1 } else { 2 }).await;
    }
}

/// How far one client's transaction came.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// Not even its beginning was answered.
    Nowhere,
    /// It was begun, and its end never answered.
    Torn,
    Through,
}

async fn transaction(client: &tokio_postgres::Client, takes: Duration) -> Came {
    if client.batch_execute("BEGIN; INSERT INTO steps VALUES (1)").await.is_err() {
        return Came::Nowhere;
    }
    sleep(takes).await;
    if client.batch_execute("COMMIT").await.is_ok() { Came::Through } else { Came::Torn }
}

/// Clients that are all between two transactions at the same moment, and begin the next ones a moment later: who stops the
/// server as soon as nobody is within one tears some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_switchover_clients_in_step_have_no_transaction_torn() {
    let pair = LivePair::wished(&Wish::default().set("policy.drain=10s")).await;
    let first = pair.primary().await;
    let second = pair.other(first).node.name;
    let [port] = free_ports();
    let _sidecar = Sidecar::start(port, &[pair.host(second).public, pair.host(first).public]);
    until("the primary", async || (in_recovery(port, SOON).await == Some(false)).then_some(())).await;
    session(port).await.batch_execute("CREATE TABLE steps (n int)").await.expect("a table");
    let mut came = Vec::new();
    for to in [second, first, second] {
        let clients = join_all((0..8).map(|_| session(port))).await;
        let before = came.len();
        // In step, until they are cut: each is, once, when its server is gone.
        let steps = async {
            while came[before..].iter().all(|one| *one == Came::Through) {
                // Another time each, so that the stop would meet every moment of a transaction.
                let takes = Duration::from_millis(3 + came.len() as u64 % 7 * 3);
                came.extend(join_all(clients.iter().map(|client| transaction(client, takes))).await);
                sleep(Duration::from_millis(2)).await;
            }
        };
        let over = async {
            let operation = pair.ask("/v1/switchover", serde_json::json!({ "to": to })).await;
            pair.over(&operation).await
        };
        let (over, ()) = timeout(SOON * 30, async { tokio::join!(over, steps) }).await.expect("they are cut");
        assert_eq!(over.state, OperationState::Done);
        pair.whole_again(to).await;
    }
    let through = came.iter().filter(|one| **one == Came::Through).count();
    let torn = came.iter().filter(|one| **one == Came::Torn).count();
    println!(
        "{through} transactions through, {torn} torn, {} clients cut between two",
        came.len() - through - torn
    );
    assert_eq!(torn, 0);
    assert!(through >= 24, "{through}");
}

/// Whether the server that a port leads to is in recovery. None: nobody answered for so long.
async fn in_recovery(port: u16, patience: Duration) -> Option<bool> {
    let ask = async {
        let to = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
        let (client, connection) = tokio_postgres::connect(&to, tokio_postgres::NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client.query_one("SELECT pg_is_in_recovery()", &[]).await.ok()?.get(0))
    };
    timeout(patience, ask).await.ok().flatten()
}

/// A member that shows for ever what it has once seen.
async fn stuck_member(snapshot: &Snapshot) -> u16 {
    let event = format!("data: {}\n\n", serde_json::to_string(snapshot).unwrap());
    let events = async move || {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<String, std::convert::Infallible>>(1);
        sender.send(Ok(event.clone())).await.unwrap();
        // It goes on, and shows nothing new.
        tokio::spawn(async move { sender.closed().await });
        axum::body::Body::from_stream(futures_util::stream::unfold(receiver, async |mut receiver| {
            Some((receiver.recv().await?, receiver))
        }))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = axum::Router::new().route("/v1/events", axum::routing::get(events));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_remembers_over_a_restart_how_new_what_it_followed_was() {
    let pair = LivePair::wished(&Wish::durability("async")).await;
    let first = pair.primary().await;
    let second = pair.other(first).node.name;
    let before = pair.whole(0).await;
    let folder = tempfile::tempdir().unwrap();
    let state = ["--state-dir", folder.path().to_str().unwrap()];
    let members = [pair.host(first).public, pair.host(second).public];
    let [port, forgetful] = free_ports();
    let sidecar = Sidecar::with(port, &members, &state);
    pair.hand_over(second).await;
    pair.whole(1).await;
    until("the new primary", async || (in_recovery(port, SOON).await == Some(false)).then_some(())).await;
    let later = format!("\"epoch\":{}", before.intent.as_ref().unwrap().epoch.0 + 1);
    let kept = || fs::read_to_string(folder.path().join("remembered.json")).unwrap_or_default();
    until("what it remembers", async || kept().contains(&later).then_some(())).await;
    drop(sidecar);

    // All that it hears now is from before.
    let stuck = stuck_member(&before).await;
    let _forgetful = Sidecar::start(forgetful, &[stuck]);
    let _remembers = Sidecar::with(port, &[stuck], &state);
    until("the old primary", async || (in_recovery(forgetful, SOON).await == Some(true)).then_some(())).await;
    assert_eq!(
        in_recovery(port, Duration::from_secs(1)).await,
        None,
        "it follows what is older than it knows"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_balances_over_standbys_by_what_any_member_sees() {
    let mut pair = LivePair::new().await;
    let primary = pair.primary().await;
    let standby = pair.other(primary).node.name;
    let [strict, fallback] = free_ports();
    let members = [pair.host(primary).public, pair.host(standby).public];
    let _strict = Sidecar::with(strict, &members, &["--target", "standbys"]);
    let falls_back = ["--target", "standbys", "--fallback", "--max-lag", "64KiB"];
    let _fallback = Sidecar::with(fallback, &members, &falls_back);
    until("the standby", async || (in_recovery(strict, SOON).await == Some(true)).then_some(())).await;
    // The member that it went by is gone: another one tells.
    pair.host_mut(primary).member.kill();
    until("the standby", async || (in_recovery(strict, SOON).await == Some(true)).then_some(())).await;
    pair.host_mut(primary).member.start();
    pair.whole(0).await;
    pair.host(standby).node.ask("SELECT pg_wal_replay_pause()").await;
    pair.host(primary).node.ask("CREATE TABLE big AS SELECT generate_series(1, 10000)").await;
    until("the primary", async || (in_recovery(fallback, SOON).await == Some(false)).then_some(())).await;
    pair.host(standby).node.ask("SELECT pg_wal_replay_resume()").await;
    until("the standby", async || (in_recovery(fallback, SOON).await == Some(true)).then_some(())).await;
}

#[test]
fn wrong_use_is_told_with_the_way_out() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
        told(command.arg("endpoint").args(arguments).stdin(Stdio::null()).output().unwrap())
    };
    run(&[]).expect(2, &["--member"]);
    run(&["--member", "no url at all"]).expect(2, &["is not the URL of an API", "http://10.0.0.1:8008"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    run(&["--member", "127.0.0.1:1", "--listen", &at]).expect(1, &["is in use by another process"]);
}
