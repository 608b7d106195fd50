//! Recruit and promote: what was acknowledged is there.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use locum::model::{AgentFacts, ClientLook, Command, Reply};

use super::agent_fixture::{Node, is_down, pair, primary, promote, signal, stamp, standby};

/// Whoever leads acts on the very first word of a recruit: the position that goes with it must be where it stands.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_word_of_a_recruit_has_the_position_at_which_it_stands() {
    let pair = pair().await;
    pair.a.ask("CREATE TABLE rows (writer int, n int, PRIMARY KEY (writer, n))").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write(&pair.a, 0, Arc::clone(&stop)).await;
    let agent = Arc::clone(&pair.b.agent);
    let mut changes = agent.changes();
    let first = tokio::spawn(async move {
        loop {
            let facts = agent.facts();
            if let Some(recruit) = standby(&facts).filter(|standby| standby.recruited.is_some()) {
                return recruit.clone();
            }
            changes.changed().await.expect("the agent runs");
        }
    });
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    let first = first.await.expect("a recruit");
    stop.store(true, Ordering::Relaxed);
    assert!(!writer.await.expect("rows").is_empty());
    let stands = pair.b.ask("SELECT pg_last_wal_replay_lsn()").await;
    assert_eq!((first.replayed.to_string(), first.streaming), (stands, false));
}

/// Writes numbered rows and keeps what was acknowledged, until the connection ends or nobody wants more.
async fn write(node: &Node, writer: i32, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<BTreeSet<i32>> {
    let client = node.sql().await;
    tokio::spawn(async move {
        let mut acknowledged = BTreeSet::new();
        for n in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let insert = format!("INSERT INTO rows VALUES ({writer}, {n})");
            match tokio::time::timeout(Duration::from_secs(2), client.batch_execute(&insert)).await {
                Ok(Ok(())) => acknowledged.insert(n),
                _ => break,
            };
        }
        acknowledged
    })
}

async fn held(node: &Node, writer: i32) -> BTreeSet<i32> {
    let rows = node.sql().await.query("SELECT n FROM rows WHERE writer = $1", &[&writer]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn recruit_and_promote_under_writers_lose_nothing() {
    let pair = pair().await;
    pair.a.ask("CREATE TABLE rows (writer int, n int, PRIMARY KEY (writer, n))").await;
    pair.in_sync(1, 5).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..4 {
        writers.push(write(&pair.a, writer, Arc::clone(&stop)).await);
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    // The old primary lives on: the standby alone takes the pen.
    let begun = Instant::now();
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    let recruited = begun.elapsed();
    let seen = pair.b.standby();
    assert_eq!(seen.recruited, Some(stamp(2, 6)));
    assert!(!seen.streaming && seen.upstream.is_none());
    let begun = Instant::now();
    pair.b.done(stamp(2, 7), promote()).await;
    eprintln!("recruit {recruited:?}, promote {:?}", begun.elapsed());
    stop.store(true, Ordering::Relaxed);
    let mut total = 0;
    for (writer, task) in (0..).zip(writers) {
        let acknowledged = task.await.unwrap();
        total += acknowledged.len();
        let held = held(&pair.b, writer).await;
        let lost: Vec<_> = acknowledged.difference(&held).collect();
        assert!(lost.is_empty(), "writer {writer} lost {lost:?}");
    }
    assert!(total > 100, "{total} rows");
    let facts = pair.b.agent.facts();
    assert_eq!(facts.primary_since, Some(stamp(2, 7)));
    let primary = pair.b.primary();
    assert!(primary.writable && primary.names == Some(Vec::new()));
    assert!(primary.switch.is_some_and(|s| s.at >= seen.replayed));
    let behind = |f: &locum::model::AgentFacts| {
        super::agent_fixture::primary(f).is_some_and(|p| p.checkpoint_timeline == p.timeline)
    };
    pair.b.until("a checkpoint on the new timeline", behind).await;
    // Repeated, as by a new leader: it is so already.
    pair.b.done(stamp(2, 8), promote()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_primary_is_replaced_at_once() {
    let pair = pair().await;
    pair.in_sync(1, 5).await;
    signal(pair.a.postmaster(), "KILL");
    pair.a.until("its end", is_down).await;
    let begun = Instant::now();
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    let recruited = begun.elapsed();
    pair.b.done(stamp(2, 7), promote()).await;
    let took = begun.elapsed();
    eprintln!("after a crash: recruit {recruited:?}, both {took:?}");
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streaming_standby_is_not_promoted() {
    let pair = pair().await;
    let reply = pair.b.agent.order(stamp(2, 6), promote()).await;
    assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
    assert!(standby(&pair.b.agent.facts()).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handover_needs_no_rewind() {
    let pair = pair().await;
    pair.in_sync(1, 5).await;
    pair.a.done(stamp(1, 6), Command::Checkpoint).await;
    assert_eq!(pair.a.primary().checkpointed, Some(stamp(1, 6).version));
    pair.a.done(stamp(1, 7), Command::Stop).await;
    let facts = pair
        .a
        .until(
            "a WAL end",
            |f| matches!(&f.server.value, locum::model::Server::Down(down) if down.wal_end.is_some()),
        )
        .await;
    let locum::model::Server::Down(down) = &facts.server.value else { panic!("{facts:#?}") };
    assert!(!down.crashed && down.fenced == Some(stamp(1, 7)));
    let (end, control) = (down.wal_end.unwrap(), down.control.unwrap());
    pair.b.until("all of it", |f| standby(f).is_some_and(|s| s.replayed >= end && !s.streaming)).await;
    assert!(end > control.checkpoint);
    let begun = Instant::now();
    pair.b.done(stamp(2, 8), promote()).await;
    eprintln!("promote in a hand-over {:?}", begun.elapsed());
    pair.b.done(stamp(2, 9), Command::KeepSlots(vec![pair.a.id.slot()])).await;
    pair.a.done(stamp(2, 9), Command::Follow(pair.b.upstream_for(&pair.a))).await;
    pair.a.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
    assert_eq!(pair.a.standby().upstream, Some(pair.b.upstream_for(&pair.a)));
    assert_eq!(
        pair.a.ask("SELECT count(*) FROM pg_replication_slots").await,
        "0",
        "it would keep WAL for ever"
    );
}

/// What PostgreSQL leaves of a promotion that broke off: the signal is gone, and no timeline has begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_whose_promotion_broke_off_begins_a_timeline_of_its_own() {
    let pair = pair().await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    pair.a.done(stamp(2, 6), Command::Fence).await;
    pair.b.done(stamp(2, 7), Command::Fence).await;
    std::fs::remove_file(pair.b.cfg.data_dir.join("standby.signal")).expect("removed");
    pair.b.done(stamp(2, 8), Command::Serve { floor: None }).await;
    pair.b.until("a standby", |f| standby(f).is_some()).await;
    pair.b.done(stamp(2, 9), Command::Promote { names: vec![], slots: vec![], floor: None }).await;
    let timeline = pair.b.ask("SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)").await;
    assert_eq!(timeline, "00000002");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recruit_stays_cut_when_its_server_is_started_again() {
    let pair = pair().await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    pair.b.done(stamp(2, 7), Command::Fence).await;
    let started = super::agent_fixture::program("pg_ctl")
        .args(["-D", pair.b.cfg.data_dir.to_str().unwrap(), "-W", "-l", "/dev/null", "-o"])
        .arg(pair.b.cfg.options.join(" "))
        .arg("start")
        .status();
    assert!(started.unwrap().success());
    pair.b.until("a standby", |f| standby(f).is_some()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!pair.b.standby().streaming);
    assert_eq!(pair.a.ask("SELECT count(*) FROM pg_stat_replication").await, "0");
    // Led to a primary of the epoch, it streams again.
    pair.b.done(stamp(2, 8), Command::Follow(pair.a.upstream_for(&pair.b))).await;
    pair.b.until("a stream", |f| standby(f).is_some_and(|s| s.streaming && s.recruited.is_none())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoint_behind_a_promotion_is_tried_again_until_it_is_done() {
    let pair = pair().await;
    // Enough to write that PostgreSQL's own checkpoint, which takes its time, lasts for minutes.
    pair.a.ask("CREATE TABLE wide AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)").await;
    let end = pair.a.ask("SELECT pg_current_wal_lsn()").await.parse().expect("a position");
    pair.b.until("all of it", |f| standby(f).is_some_and(|standby| standby.replayed >= end)).await;
    pair.b.done(stamp(2, 1), Command::Recruit).await;
    let hba = pair.b.cfg.data_dir.join("pg_hba.conf");
    let before = fs::read_to_string(&hba).expect("pg_hba.conf");
    // Its agent goes on with the connections that it has; the checkpoint is asked for over another one.
    fs::write(&hba, "local all all reject\nhost all all all reject\n").expect("nobody is let in");
    signal(pair.b.postmaster(), "HUP");
    let is_shut = |f: &AgentFacts| {
        f.access.client.as_ref().is_some_and(|seen| matches!(seen.value, ClientLook::Refused { .. }))
    };
    pair.b.until("a refused login", is_shut).await;
    pair.b.done(stamp(2, 2), promote()).await;
    assert_ne!(pair.b.primary().checkpoint_timeline, pair.b.primary().timeline);
    fs::write(&hba, before).expect("everybody is let in");
    signal(pair.b.postmaster(), "HUP");
    let is_written =
        |f: &AgentFacts| primary(f).is_some_and(|p| p.timeline.0 == 2 && p.checkpoint_timeline == p.timeline);
    pair.b.until("the checkpoint of its timeline", is_written).await;
}
