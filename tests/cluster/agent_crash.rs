//! What an agent sees of a server that ends or hangs, and what a fence leaves.

use std::time::{Duration, Instant};

use locum::{
    clock::SystemClock,
    model::{Command, ControlState, Down, Server, Stamp},
    ports::Clock,
};

use super::agent_fixture::{is_down, pair, primary, signal, stamp};

fn down(server: &Server) -> Down {
    match server {
        Server::Down(down) => down.clone(),
        other => panic!("not down: {other:#?}"),
    }
}

/// None of these runs code of PostgreSQL any more. One whose memory the kernel is still taking apart does not count.
fn gone(family: &[i32]) {
    for pid in family {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
        let runs = exe.is_ok_and(|exe| exe.ends_with("postgres"));
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        assert!(!runs, "{pid} is left: {stat:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postmaster_is_told_at_once_and_its_orphans_are_ended() {
    let pair = pair().await;
    let mut changes = pair.a.agent.changes();
    changes.mark_unchanged();
    let family = pair.a.family();
    let clock = SystemClock;
    let killed = clock.now();
    signal(family[0], "KILL");
    let facts = loop {
        changes.changed().await.unwrap();
        let facts = pair.a.agent.facts();
        if is_down(&facts) {
            break facts;
        }
    };
    let told = clock.now();
    let woken = down(&facts.server.value).since.unwrap();
    eprintln!("killed → pidfd {:.2} ms → facts {:.2} ms", woken.ms_since(killed), told.ms_since(woken));
    let seen = down(&facts.server.value);
    assert!(seen.crashed && seen.since.is_some() && seen.fenced.is_none());
    let facts = pair
        .a
        .until("a WAL end", |f| matches!(&f.server.value, Server::Down(d) if d.wal_end.is_some()))
        .await;
    let seen = down(&facts.server.value);
    assert_eq!(seen.control.map(|c| c.state), Some(ControlState::Other));
    gone(&family);
    // The standby holds everything up to there, give or take what was never sent.
    assert!(seen.wal_end.unwrap() >= pair.b.standby().flushed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_by_somebody_else_is_no_crash() {
    let pair = pair().await;
    signal(pair.a.postmaster(), "INT");
    let facts = pair.a.until("its end", is_down).await;
    let seen = down(&facts.server.value);
    assert!(!seen.crashed && seen.since.is_some());
    let facts = pair
        .a
        .until("a control file", |f| matches!(&f.server.value, Server::Down(d) if d.wal_end.is_some()))
        .await;
    assert_eq!(down(&facts.server.value).control.map(|c| c.state), Some(ControlState::ShutDown));
    // It is left down, and starts again only when told to.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(is_down(&pair.a.agent.facts()));
    pair.a.done(stamp(1, 9), Command::Serve { floor: None }).await;
    assert!(pair.a.primary().writable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_ends_everything_and_attests_it_also_when_frozen() {
    let pair = pair().await;
    let family = pair.a.family();
    family.iter().for_each(|pid| signal(*pid, "STOP"));
    pair.a.done(stamp(2, 5), Command::Fence).await;
    let seen = down(&pair.a.agent.facts().server.value);
    assert_eq!((seen.fenced, seen.crashed), (Some(stamp(2, 5)), false));
    gone(&family);
    // Again, under a later version: attested anew.
    pair.a.done(stamp(2, 6), Command::Fence).await;
    assert_eq!(down(&pair.a.agent.facts().server.value).fenced, Some(stamp(2, 6)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_after_a_crash_still_tells_of_the_crash() {
    let pair = pair().await;
    signal(pair.a.postmaster(), "KILL");
    pair.a.until("its end", is_down).await;
    pair.a.done(stamp(2, 5), Command::Fence).await;
    let seen = down(&pair.a.agent.facts().server.value);
    assert_eq!((seen.fenced, seen.crashed), (Some(stamp(2, 5)), true));
}

async fn hangs(frozen: impl Fn(&super::agent_fixture::Node) -> Vec<i32>) {
    let pair = pair().await;
    pair.a.until("a probe", |f| primary(f).is_some_and(|p| p.probe.last_ok.is_some())).await;
    let before = pair.a.primary().probe.last_ok;
    let pids = frozen(&pair.a);
    let begun = Instant::now();
    pids.iter().for_each(|pid| signal(*pid, "STOP"));
    let facts = pair
        .a
        .until("a failing probe", |f| primary(f).is_some_and(|p| p.probe.failing_since.is_some()))
        .await;
    let took = begun.elapsed();
    eprintln!("frozen → failing: {took:?}");
    let probe = primary(&facts).unwrap().probe;
    assert!(probe.failing_since >= before && probe.error.is_some());
    assert!(took < Duration::from_secs(3), "{took:?}");
    pids.iter().for_each(|pid| signal(*pid, "CONT"));
    pair.a.until("a good probe", |f| primary(f).is_some_and(|p| p.probe.failing_since.is_none())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_frozen_as_a_whole_fails_its_probes() {
    hangs(super::agent_fixture::Node::family).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_postmaster_fails_the_probes_though_kept_connections_answer() {
    hangs(|node| vec![node.postmaster()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_attaches_to_a_server_that_runs() {
    let mut pair = pair().await;
    let before: Option<Stamp> = pair.a.agent.facts().promise;
    pair.a.restart_agent().await;
    let facts = pair.a.until("a primary", |f| primary(f).is_some()).await;
    assert_eq!(facts.promise, before);
    assert!(facts.primary_since.is_some());
}

/// Run alone: `cargo test --release --test cluster costs_little -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures this whole process, so nothing else may run in it"]
async fn watching_an_idle_pair_costs_little() {
    let pair = pair().await;
    let used = || {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<u64> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|f| f.parse().unwrap())
            .collect();
        fields.iter().sum::<u64>()
    };
    let (ticks, lsn) = (used(), pair.a.primary().flushed);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let spent = used() - ticks;
    let written = pair.a.primary().flushed.bytes_since(lsn);
    eprintln!("two agents, 20 s: {spent} ticks of 10 ms; {written} bytes of WAL");
    assert!(spent < 80, "{spent} ticks: more than 2 % of a core each");
}

/// Ordered at once, before what the dead server left was read.
#[tokio::test(flavor = "multi_thread")]
async fn how_fast_a_start_in_place_recovers_is_measured() {
    let pair = pair().await;
    pair.a.ask("CREATE TABLE rows (x text)").await;
    let insert = "INSERT INTO rows SELECT repeat('x', 1000) FROM generate_series(1, 30000)";
    for _ in 0..3 {
        pair.a.ask(insert).await;
    }
    assert_eq!(pair.a.agent.facts().recovery_rate, None);
    let killed = Instant::now();
    signal(pair.a.postmaster(), "KILL");
    pair.a.until("its end", is_down).await;
    pair.a.done(stamp(1, 9), Command::Serve { floor: None }).await;
    let least = (64 << 20) as f64 / killed.elapsed().as_secs_f64();
    let rate = pair.a.agent.facts().recovery_rate.expect("a rate");
    assert!(rate as f64 > least, "{rate} bytes a second, and it took {:?}", killed.elapsed());
}
