//! WAL rescue between two agents: what only the dead primary's disk has is on the new primary.

use std::{
    os::unix::fs::FileExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use locum::{
    model::{Command, Lsn, Reply, Server},
    ports::WalAsk,
};

use super::agent_fixture::{Node, Pair, is_down, pair, promote, signal, stamp};

fn rescue(from: &Node) -> Command {
    Command::Rescue { from: from.id.clone(), within: Duration::from_secs(10) }
}

/// The walsender of a primary, by its command line.
fn walsender(node: &Node) -> i32 {
    let is_it = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("walsender")
    };
    node.family().into_iter().find(is_it).expect("a walsender")
}

/// Rows that only the primary has: what its sender does not send is in no buffer either. Returns how many there are.
async fn behind(pair: &Pair, rows: u32) -> String {
    pair.a.ask("CREATE TABLE t (n int PRIMARY KEY, filler text)").await;
    let created = pair.a.ask("SELECT pg_current_wal_flush_lsn()").await.parse::<Lsn>().unwrap();
    pair.b
        .until("the table", |f| super::agent_fixture::standby(f).is_some_and(|s| s.replayed >= created))
        .await;
    signal(walsender(&pair.a), "STOP");
    let insert = format!("INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, {rows}) n");
    pair.a.ask(&insert).await;
    pair.a.ask("SELECT count(*) FROM t").await
}

/// The postmaster dies, and its agent ends the rest under epoch 2. Waits for the end of its WAL.
async fn dies(pair: &Pair) -> Lsn {
    signal(pair.a.postmaster(), "KILL");
    pair.a.until("its end", is_down).await;
    pair.a.done(stamp(2, 6), Command::Fence).await;
    let end = |f: &locum::model::AgentFacts| match &f.server.value {
        Server::Down(down) => down.wal_end,
        _ => None,
    };
    end(&pair.a.until("the end of its WAL", |f| end(f).is_some()).await).unwrap()
}

async fn rescued_and_promoted(rows: u32) -> Duration {
    let pair = pair().await;
    let written = behind(&pair, rows).await;
    let end = dies(&pair).await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    let before = pair.b.standby();
    assert!(before.replayed < end, "it lacks nothing, and nothing is tested");
    let begun = Instant::now();
    pair.b.done(stamp(2, 6), rescue(&pair.a)).await;
    let took = begun.elapsed();
    let after = pair.b.standby();
    assert_eq!((after.replayed, after.recruited), (end, Some(stamp(2, 6))));
    let rescued = pair.b.agent.facts().rescued.unwrap();
    assert_eq!((rescued.bytes, &rescued.from), (end.bytes_since(before.replayed), &pair.a.id));
    // Repeated, as by a new leader: nothing moves.
    pair.b.done(stamp(2, 6), rescue(&pair.a)).await;
    assert_eq!(pair.b.standby().replayed, end);
    // Made before the promotion: its checkpoint leaves the segment that the old primary begins to stream with.
    let slots = vec![pair.a.id.slot()];
    pair.b.done(stamp(2, 7), Command::Promote { names: vec![], slots: slots.clone(), floor: None }).await;
    assert_eq!(pair.b.ask("SELECT slot_name FROM pg_replication_slots").await, slots[0]);
    assert_eq!(pair.b.ask("SELECT count(*) FROM t").await, written);
    assert_eq!(pair.b.primary().switch.unwrap().at, end, "the old primary can follow as it is");
    // Too late: it is refused, and changes nothing.
    assert!(matches!(pair.b.agent.order(stamp(2, 6), rescue(&pair.a)).await, Reply::Refused(_)));
    assert!(matches!(pair.b.agent.order(stamp(2, 7), rescue(&pair.a)).await, Reply::Refused(_)));
    eprintln!("{} bytes rescued in {took:?}", rescued.bytes);
    // It lost nothing, so it streams without a rewind.
    pair.b.done(stamp(2, 9), Command::KeepSlots(slots)).await;
    pair.a.done(stamp(2, 9), Command::Follow(pair.b.upstream_for(&pair.a))).await;
    pair.a.until("a stream", |f| super::agent_fixture::standby(f).is_some_and(|s| s.streaming)).await;
    assert_eq!(pair.a.ask("SELECT count(*) FROM t").await, written);
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_dead_primary_has_is_rescued() {
    rescued_and_promoted(4_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_goes_on_across_segments() {
    rescued_and_promoted(250_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missing_and_nothing_is_written() {
    let pair = pair().await;
    let end = dies(&pair).await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    let lacks = end.bytes_since(pair.b.standby().replayed);
    pair.b.done(stamp(2, 6), rescue(&pair.a)).await;
    assert_eq!(pair.b.agent.facts().rescued.unwrap().bytes, lacks);
    assert_eq!(pair.b.standby().replayed, end);
}

/// A pipe that nobody writes to: whoever opens it to read waits, as on a disk that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_primarys_disk_that_hangs_is_not_waited_for() {
    let pair = pair().await;
    behind(&pair, 4_000).await;
    dies(&pair).await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    let before = pair.b.standby();
    let wal = segment(&pair.a, before.replayed);
    std::fs::rename(&wal, wal.with_extension("away")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &wal, 0o666.into()).unwrap();
    let within = Duration::from_millis(300);
    let command = Command::Rescue { from: pair.a.id.clone(), within };
    let reply = pair.b.agent.order(stamp(2, 6), command).await;
    assert!(matches!(&reply, Reply::Failed(why) if why.contains("did not come within")), "{reply:?}");
    let after = pair.b.standby();
    assert_eq!((after.replayed, after.recruited), (before.replayed, before.recruited));
    pair.b.done(stamp(2, 7), promote()).await;
    assert_eq!(pair.b.ask("SELECT count(*) FROM t").await, "0");
    // The hung read lets go of what a later fence needs.
    pair.a.done(stamp(3, 8), Command::Fence).await;
    // Whoever still waits there goes on.
    std::fs::OpenOptions::new().read(true).write(true).open(&wal).unwrap();
}

/// The rest of a segment that was left by a switch is blank.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_stands_behind_a_switch_is_rescued() {
    let pair = pair().await;
    let switched = pair.a.ask("SELECT pg_switch_wal()").await.parse::<Lsn>().unwrap();
    let at = Lsn(switched.0.next_multiple_of(16 << 20));
    pair.b.until("the switch", |f| super::agent_fixture::standby(f).is_some_and(|s| s.replayed >= at)).await;
    signal(walsender(&pair.a), "STOP");
    pair.a.ask("CREATE TABLE t (n int)").await;
    let end = dies(&pair).await;
    assert!(end > at, "nothing was written after the switch");
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    pair.b.done(stamp(2, 6), rescue(&pair.a)).await;
    assert_eq!(pair.b.standby().replayed, end);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_goes_on_behind_switches() {
    let pair = pair().await;
    behind(&pair, 100).await;
    for n in 0..3 {
        pair.a.ask("SELECT pg_switch_wal()").await;
        pair.a.ask(&format!("INSERT INTO t VALUES (-{n})")).await;
    }
    let written = pair.a.ask("SELECT count(*) FROM t").await;
    let end = dies(&pair).await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    pair.b.done(stamp(2, 6), rescue(&pair.a)).await;
    assert_eq!(pair.b.standby().replayed, end);
    pair.b.done(stamp(2, 7), promote()).await;
    assert_eq!(pair.b.ask("SELECT count(*) FROM t").await, written);
}

fn ask(pair: &Pair, epoch: u64, from: Lsn, timeline: u32) -> WalAsk {
    let system = pair.a.agent.facts().system.unwrap();
    let timeline = locum::model::Timeline(timeline);
    WalAsk { stamp: stamp(epoch, 6), system, timeline, segment: 16 << 20, from }
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_is_handed_out_only_while_the_fence_stands() {
    let pair = pair().await;
    let here = |lsn: Lsn| Lsn(lsn.0 - lsn.0 % 8192);
    let at = here(pair.a.primary().flushed);
    // The position may be where a page is still to begin.
    pair.a.ask("CREATE TABLE filled (n int)").await;
    let agent = &pair.a.agent;
    assert!(agent.wal(ask(&pair, 2, at, 1)).await.is_err(), "it runs");
    signal(pair.a.postmaster(), "KILL");
    pair.a.until("its end", is_down).await;
    assert!(agent.wal(ask(&pair, 2, at, 1)).await.is_err(), "it is down, but not fenced");
    pair.a.done(stamp(2, 6), Command::Fence).await;
    assert!(agent.wal(ask(&pair, 3, at, 1)).await.is_err(), "fenced under an earlier epoch");
    assert!(!agent.wal(ask(&pair, 2, at, 1)).await.unwrap().is_empty());
    assert!(agent.wal(ask(&pair, 2, at, 2)).await.unwrap().is_empty(), "it has none of that timeline");
    assert!(agent.wal(ask(&pair, 2, Lsn(at.0 + 8), 1)).await.is_err(), "no page begins there");
    let foreign = WalAsk { system: locum::model::SystemId(5), ..ask(&pair, 2, at, 1) };
    assert!(agent.wal(foreign).await.is_err());
    let later = pair.a.cfg.data_dir.join("pg_wal/0000000200000000000000FF");
    std::fs::write(&later, "").unwrap();
    assert!(agent.wal(ask(&pair, 2, at, 1)).await.is_err(), "it had left that timeline");
    std::fs::remove_file(later).unwrap();
    // Declared again: from its start on nothing more is handed out.
    pair.a.done(stamp(3, 7), Command::Serve { floor: None }).await;
    assert!(agent.wal(ask(&pair, 2, at, 1)).await.is_err() && agent.wal(ask(&pair, 3, at, 1)).await.is_err());
}

/// The segment file of a position, of the first timeline.
fn segment(node: &Node, at: Lsn) -> PathBuf {
    let number = at.0 / (16 << 20);
    node.cfg.data_dir.join(format!("pg_wal/00000001{:08X}{:08X}", number >> 8, number & 0xFF))
}

fn spoil(path: &std::path::Path, offset: u64, with: &[u8]) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(with, offset).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_page_ends_the_copy_and_the_standby_is_whole() {
    let pair = pair().await;
    behind(&pair, 4_000).await;
    let end = dies(&pair).await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    let before = pair.b.standby().replayed;
    // A page in the middle that was never written, and half of the one before it.
    let hole = (before.0 + (end.0 - before.0) / 2) / 8192 * 8192;
    spoil(&segment(&pair.a, Lsn(hole)), hole % (16 << 20) - 4096, &[0; 4096 + 8192]);
    pair.b.done(stamp(2, 6), rescue(&pair.a)).await;
    let reached = pair.b.standby().replayed;
    assert!(reached > before && reached.0 <= hole, "{before} {reached} {}", Lsn(hole));
    pair.b.done(stamp(2, 7), promote()).await;
    assert_eq!(pair.b.ask("SELECT count(*) FROM t").await, "0", "its transaction never ended");
    pair.b.ask("INSERT INTO t VALUES (-1, '')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_history_gives_nothing() {
    let pair = pair().await;
    behind(&pair, 4_000).await;
    dies(&pair).await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    let before = pair.b.standby();
    // One byte of what both should have in common.
    let common = before.replayed.0 - 1;
    spoil(&segment(&pair.a, Lsn(common)), common % (16 << 20) - 20, b"?");
    let own = std::fs::read(segment(&pair.b, before.replayed)).unwrap();
    let reply = pair.b.agent.order(stamp(2, 6), rescue(&pair.a)).await;
    assert!(matches!(&reply, Reply::Refused(why) if why.contains("is not what")), "{reply:?}");
    assert!(own == std::fs::read(segment(&pair.b, before.replayed)).unwrap(), "something was written");
    let after = pair.b.standby();
    assert_eq!((after.replayed, after.recruited), (before.replayed, before.recruited));
    assert_eq!(pair.b.agent.facts().rescued, None);
    pair.b.done(stamp(2, 7), promote()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_killed_in_mid_rescue_leave_a_standby_that_can_be_rescued_and_promoted() {
    let mut pair = pair().await;
    let written = behind(&pair, 250_000).await;
    let end = dies(&pair).await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    let order = {
        let (agent, command) = (pair.b.agent.clone(), rescue(&pair.a));
        async move { agent.order(stamp(2, 6), command).await }
    };
    let order = tokio::spawn(order);
    // The attest is taken back before the first byte is written.
    pair.b.until("pages", |f| super::agent_fixture::standby(f).is_some_and(|s| s.recruited.is_none())).await;
    pair.a.restart_agent().await;
    let reply = order.await.unwrap();
    assert_ne!(reply, Reply::Done, "the other agent was killed too late, and nothing is tested");
    let part = pair.b.standby();
    assert!(part.recruited.is_some() && part.replayed < end, "{part:?}");
    assert_eq!(pair.b.agent.facts().rescued, None);
    // A new agent attests nothing that it did not do.
    let refused = pair.b.agent.order(stamp(2, 6), rescue(&pair.a)).await;
    assert!(matches!(refused, Reply::Failed(_)), "{refused:?}");
    pair.a.until("its end", is_down).await;
    pair.a.done(stamp(2, 6), Command::Fence).await;
    // The standby's own agent is killed as well, and finds its recruit again.
    pair.b.restart_agent().await;
    pair.b
        .until("its recruit", |f| super::agent_fixture::standby(f).is_some_and(|s| s.recruited.is_some()))
        .await;
    pair.b.done(stamp(2, 6), rescue(&pair.a)).await;
    assert_eq!(pair.b.standby().replayed, end);
    pair.b.done(stamp(2, 7), promote()).await;
    assert_eq!(pair.b.ask("SELECT count(*) FROM t").await, written);
}
