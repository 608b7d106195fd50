//! `on_crash = "fastest"`: both ways are estimated, said, and the sooner one is taken. And a primary that crashes again and
//! again.

use std::time::Duration;

use locum::model::{Incident, IncidentKind, Snapshot};
use tokio::time::Instant;

use crate::{
    fixture::until,
    pair::{LivePair, Wish, child, family, finds, plan_of, primary_of, send, status_of},
};

const FASTEST: &str = "policy.on_crash=fastest";

/// Writes so many MiB of WAL on a node, in full page images and rows, and syncs them.
async fn write_wal(pair: &LivePair, name: &str, mib: u32) {
    let session = pair.host(name).node.connect().await;
    session.batch_execute("CREATE TABLE IF NOT EXISTS bulk (x text)").await.unwrap();
    for _ in 0..mib.div_ceil(8) {
        let rows = "INSERT INTO bulk SELECT repeat('x', 1000) FROM generate_series(1, 7700)";
        session.batch_execute(rows).await.unwrap();
    }
}

async fn no_checkpoints(pair: &LivePair, name: &str) {
    let node = &pair.host(name).node;
    node.ask("ALTER SYSTEM SET max_wal_size = '4GB'").await;
    node.ask("ALTER SYSTEM SET checkpoint_timeout = '1d'").await;
    node.ask("SELECT pg_reload_conf()").await;
}

fn kills(pair: &LivePair, name: &str) {
    send(family(&pair.host(name).node.config.data_dir)[0], "KILL");
}

fn ended(snapshot: &Snapshot, kind: IncidentKind) -> Option<&Incident> {
    let now = snapshot.incident.as_ref().or(snapshot.last_incident.as_ref());
    now.filter(|incident| incident.kind == kind && incident.rto_ms().is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_much_to_recover_the_fastest_way_is_a_promotion() {
    let pair = LivePair::wished(&Wish::default().set(FASTEST)).await;
    let old = pair.primary().await;
    no_checkpoints(&pair, old).await;
    write_wal(&pair, old, 160).await;
    let told = |s: &Snapshot| {
        let said = s.if_it_crashed.join("; ");
        said.contains("as a standby replayed it") && said.contains("so a standby would be promoted")
    };
    let before = pair
        .shows("a forecast of a promotion", |s| told(s) && s.rpo.as_ref().is_some_and(|r| r.bytes == Some(0)))
        .await;
    eprintln!("{:#?}", before.if_it_crashed);
    let writer = pair.write().await;
    kills(&pair, old);
    let seen = pair.shows("a failover", |s| ended(s, IncidentKind::Failover).is_some()).await;
    let incident = ended(&seen, IncidentKind::Failover).unwrap();
    let evidence = incident.cause.evidence.join("; ");
    eprintln!("RTO {:?} ms; {evidence}", incident.rto_ms());
    assert!(evidence.contains(&format!("{old} started in its place would serve in about")), "{evidence}");
    assert!(evidence.contains("promoted would serve in about"), "{evidence}");
    pair.ends(writer, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_standby_far_behind_the_fastest_way_is_a_start_in_place() {
    let pair = LivePair::wished(&Wish::default().set(FASTEST)).await;
    let primary = pair.primary().await;
    let standby = pair.other(primary).node.name;
    let replays = child(&pair.host(standby).node.config.data_dir, "startup");
    send(replays, "STOP");
    write_wal(&pair, primary, 160).await;
    pair.host(primary).node.ask("CHECKPOINT").await;
    let told = |s: &Snapshot| {
        let behind = status_of(s, standby).replay_bytes > Some(128 << 20);
        behind && s.if_it_crashed.join("; ").contains("so it would be started in its place")
    };
    let before = pair.shows("a forecast of a start in place", told).await;
    eprintln!("{:#?}", before.if_it_crashed);
    let writer = pair.write().await;
    kills(&pair, primary);
    let restarted = |s: &Snapshot| {
        s.incident.as_ref().or(s.last_incident.as_ref()).is_some_and(|i| i.kind == IncidentKind::Restart)
    };
    pair.shows("a start in place", restarted).await;
    // The proof of the names needs a standby that replays.
    send(replays, "CONT");
    let seen = pair.shows("service", |s| ended(s, IncidentKind::Restart).is_some()).await;
    let incident = ended(&seen, IncidentKind::Restart).unwrap();
    eprintln!("RTO {:?} ms; {:?}", incident.rto_ms(), incident.cause.evidence);
    assert_eq!(primary_of(&seen), Some(primary));
    pair.ends(writer, 0).await;
}

/// Waits until a node serves again, then kills its postmaster.
async fn crash(pair: &LivePair, name: &str) {
    pair.whole_again(name).await;
    kills(pair, name);
    pair.shows("its end", |s| !status_of(s, name).serving).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_crashes_again_and_again_fails_over_once_and_then_holds() {
    let wish = Wish::default().set("policy.on_crash=restart").set("policy.max_failovers=2");
    let pair = LivePair::wished(&wish).await;
    let writer = pair.write().await;
    let first = pair.primary().await;
    let second = pair.other(first).node.name;
    for _ in 0..3 {
        crash(&pair, first).await;
    }
    let seen = pair.shows("another primary", |s| primary_of(s) == Some(second)).await;
    assert!(finds(&seen, "crash_loop") || seen.intent.is_some_and(|intent| intent.epoch.0 == 2));
    for _ in 0..3 {
        crash(&pair, second).await;
    }
    let began = Instant::now();
    let held =
        pair.shows("a hold that names the loop", |s| plan_of(s).contains("crashes again and again")).await;
    assert!(finds(&held, "crash_loop"), "{:?}", held.findings);
    assert_eq!(primary_of(&held), Some(second), "it does not go back and forth");
    // It is tried again all the same, but not at once.
    pair.whole_again(second).await;
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());
    pair.ends(writer, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_cannot_start_is_tried_with_pauses_until_it_can() {
    let wish = Wish::default().set("policy.on_crash=restart");
    let mut pair = LivePair::wished(&wish).await;
    let writer = pair.write().await;
    let primary = pair.primary().await;
    let standby = pair.other(primary).node.name;
    // Nobody can take over.
    let standby_dir = pair.host(standby).node.config.data_dir.clone();
    pair.host_mut(standby).member.kill();
    family(&standby_dir).into_iter().for_each(|pid| send(pid, "KILL"));
    pair.shows("a lost standby", |s| finds(s, "standby_unreachable")).await;
    // The folder of the WAL cannot be used, as on a disk that is gone.
    let data_dir = pair.host(primary).node.config.data_dir.clone();
    let (wal, away) = (data_dir.join("pg_wal"), data_dir.with_file_name("pg_wal.away"));
    let postmaster = family(&data_dir)[0];
    send(postmaster, "STOP");
    std::fs::rename(&wal, &away).unwrap();
    family(&data_dir).into_iter().rev().for_each(|pid| send(pid, "KILL"));
    let why = |s: &Snapshot| status_of(s, primary).error.clone().unwrap_or_default();
    pair.shows("why it does not start", |s| why(s).contains("pg_wal")).await;
    let tries = |pair: &LivePair| pair.host(primary).member.log().matches("step failed step=Serve").count();
    let (before, began) = (tries(&pair), Instant::now());
    until("several tries", || async { (tries(&pair) >= before + 4).then_some(()) }).await;
    // 50 ms doubled with each, up to 5 s.
    assert!(began.elapsed() > Duration::from_millis(700), "a hot loop: {:?}", began.elapsed());
    assert!(pair.shows("a hold", |s| plan_of(s).contains("nobody can be promoted")).await.findings.len() > 1);
    std::fs::rename(&away, &wal).unwrap();
    pair.shows("service", |s| status_of(s, primary).serving).await;
    pair.host_mut(standby).member.start();
    pair.ends(writer, 0).await;
}

/// How many MiB of WAL there are to be replayed where that is measured.
const REPLAYED: &str = "TEST_RECOVERY_MIB";

fn replayed_mib() -> u64 {
    std::env::var(REPLAYED).map_or(1024, |mib| mib.parse().expect("a number"))
}

/// What the WAL is of.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// New pages, one after the other.
    Bulk,
    /// Small rows with an index whose pages are met at random.
    Scattered,
    /// Changes of rows all over a table.
    Changes,
}

impl Load {
    const ALL: [Self; 3] = [Self::Bulk, Self::Scattered, Self::Changes];

    const fn table(self) -> &'static str {
        match self {
            Self::Bulk => "CREATE TABLE IF NOT EXISTS bulk (x text)",
            Self::Scattered => {
                "CREATE TABLE IF NOT EXISTS scattered AS \
                 SELECT gen_random_uuid()::text AS x FROM generate_series(1, 1000000); \
                 CREATE INDEX IF NOT EXISTS scattered_x ON scattered (x)"
            }
            Self::Changes => {
                "CREATE TABLE IF NOT EXISTS changed AS \
                 SELECT i, repeat('x', 100) AS x, 0 AS n FROM generate_series(1, 500000) i; \
                 CREATE INDEX IF NOT EXISTS changed_i ON changed (i)"
            }
        }
    }

    const fn rows(self) -> &'static str {
        match self {
            Self::Bulk => "INSERT INTO bulk SELECT repeat('x', 1000) FROM generate_series(1, 7700)",
            Self::Scattered => {
                "INSERT INTO scattered SELECT gen_random_uuid() FROM generate_series(1, 20000)"
            }
            Self::Changes => {
                "UPDATE changed SET n = n + 1 \
                 WHERE i IN (SELECT (random() * 500000)::int FROM generate_series(1, 10000))"
            }
        }
    }

    /// It takes long to write what is not in bulk.
    fn mib(self) -> u64 {
        if matches!(self, Self::Bulk) { replayed_mib() } else { replayed_mib() / 4 }
    }

    /// Writes that much after a checkpoint.
    async fn writes(self, pair: &LivePair, name: &str) {
        let node = &pair.host(name).node;
        let session = node.connect().await;
        session.batch_execute(self.table()).await.unwrap();
        session.batch_execute("CHECKPOINT").await.unwrap();
        let written =
            "SELECT trunc((pg_current_wal_insert_lsn() - redo_lsn) / 1048576) FROM pg_control_checkpoint()";
        while node.ask(written).await.parse::<u64>().unwrap() < self.mib() {
            session.batch_execute(self.rows()).await.unwrap();
        }
    }
}

/// What a sentence of the forecast says: seconds, MiB to be replayed, MiB replayed in a second.
fn estimate(said: &str) -> (f64, f64, f64) {
    let word = |before: &str| said.split_once(before).unwrap().1.split(' ').next().unwrap().to_owned();
    let took = word("in about ");
    let seconds = match took.strip_suffix("ms") {
        Some(ms) => ms.parse::<f64>().unwrap() / 1000.0,
        None => took.strip_suffix('s').unwrap().parse().unwrap(),
    };
    let number = |text: String| text.split('/').next().unwrap().parse().unwrap();
    (seconds, number(word(" (")), number(word("replay at ")))
}

/// Kills the primary, waits for what follows, and prints it beside what was said of it.
async fn measured(pair: &LivePair, what: &str, name: &str, said: &str, kind: IncidentKind) -> f64 {
    let (estimated, mib, rate) = estimate(said);
    let before = pair.leader().await.and_then(|seen| seen.last_incident).map(|incident| incident.id);
    kills(pair, name);
    let over = |s: &Snapshot| ended(s, kind).is_some_and(|incident| Some(&incident.id) != before.as_ref());
    let seen = pair.shows("service", over).await;
    let took = ended(&seen, kind).and_then(Incident::rto_ms).unwrap() / 1000.0;
    let log = std::fs::read_to_string(pair.host(name).node.instance.log_file()).unwrap_or_default();
    let redo = log.lines().rev().find_map(|line| line.split_once("elapsed: ")).map(|(_, redo)| redo);
    println!(
        "{what}: {mib:.0} MiB at {rate:.0} MiB/s: {estimated:.1} s said, {took:.1} s taken, {:.2} of it; redo {redo:?}",
        took / estimated
    );
    took / estimated
}

/// Waits until the standby has replayed all that the primary wrote.
async fn replayed(pair: &LivePair, primary: &str, standby: &str) {
    let written = pair.host(primary).node.ask("SELECT pg_current_wal_insert_lsn()").await;
    let there = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
    pair.host(standby).node.becomes(&there, "t").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for some minutes"]
async fn what_is_said_of_a_start_in_place_is_what_it_takes() {
    let pair = LivePair::wished(&Wish::default().set("policy.on_crash=restart")).await;
    let primary = pair.primary().await;
    let standby = pair.other(primary).node.name;
    no_checkpoints(&pair, primary).await;
    for load in Load::ALL {
        load.writes(&pair, primary).await;
        replayed(&pair, primary, standby).await;
        pair.whole_again(primary).await;
        let told = |s: &Snapshot| {
            let said = s.if_it_crashed.first().filter(|said| said.contains("as a standby replayed it"));
            said.is_some_and(|said| estimate(said).1 >= 0.95 * load.mib() as f64)
        };
        let said = pair.shows("a forecast", told).await.if_it_crashed.swap_remove(0);
        measured(&pair, &format!("start, {load:?}"), primary, &said, IncidentKind::Restart).await;
        pair.whole_again(primary).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for some minutes"]
async fn what_is_said_of_a_promotion_is_what_it_takes() {
    let pair = LivePair::wished(&Wish::default().set("policy.on_crash=failover")).await;
    for load in Load::ALL {
        let old = pair.primary().await;
        let standby = pair.other(old).node.name;
        no_checkpoints(&pair, old).await;
        // As much of the same kind was replayed before.
        load.writes(&pair, old).await;
        replayed(&pair, old, standby).await;
        let replays = child(&pair.host(standby).node.config.data_dir, "startup");
        send(replays, "STOP");
        load.writes(&pair, old).await;
        let told = |s: &Snapshot| {
            let said = s.if_it_crashed.get(1).filter(|said| said.contains("replay at"));
            said.is_some_and(|said| estimate(said).1 >= 0.95 * load.mib() as f64)
        };
        let said = pair.shows("a forecast", told).await.if_it_crashed.swap_remove(1);
        send(replays, "CONT");
        measured(&pair, &format!("promotion, {load:?}"), old, &said, IncidentKind::Failover).await;
        pair.whole_again(standby).await;
    }
}
