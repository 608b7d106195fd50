//! Trouble on the standby alone: the primary stays what it is, and the mode decides what commits promise meanwhile.

use std::fs;

use locum::model::{IncidentKind, Snapshot};

use crate::{
    fixture::until,
    pair::{LivePair, Wish, Writer, child, family, finds, plan_of, primary_of, send, status_of},
};

/// Whoever leads is the other member soon after one has died.
const QUICK_LEADER: &str = "policy.leader_ttl=1s";

fn sync_of(snapshot: &Snapshot) -> usize {
    snapshot.intent.as_ref().map_or(0, |intent| intent.sync.len())
}

/// Kills a node's member and its whole PostgreSQL: nobody starts it again until the test does.
fn kill_host(pair: &mut LivePair, name: &str) {
    let host = pair.host_mut(name);
    host.member.kill();
    family(&host.node.config.data_dir).into_iter().for_each(|pid| send(pid, "KILL"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_startup_process_of_the_standby_is_no_failover() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    let standby = pair.other(pair.primary().await).node.name;
    let replays = child(&pair.host(standby).node.config.data_dir, "startup");
    send(replays, "STOP");
    let behind = |s: &Snapshot| status_of(s, standby).replay_bytes.is_some_and(|bytes| bytes > 10_000);
    pair.shows("a replay that stays behind", behind).await;
    // Its disk has every commit all the same: nobody has to wait.
    writer.goes_on().await;
    assert_eq!(sync_of(&pair.shows("a leader", |_| true).await), 1);
    send(replays, "CONT");
    pair.shows("a replay that catches up", |s| status_of(s, standby).replay_bytes < Some(10_000)).await;
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_wal_receiver_is_no_failover_and_lets_writes_resume() {
    // That standby is connected for all that PostgreSQL knows; `hang` is for how long commits wait for it.
    let pair = LivePair::wished(&Wish::default().set("policy.hang=2s")).await;
    let writer = pair.write().await;
    let standby = pair.other(pair.primary().await).node.name;
    let receiver = child(&pair.host(standby).node.config.data_dir, "walreceiver");
    send(receiver, "STOP");
    pair.shows("nothing is promised", |s| sync_of(s) == 0 && finds(s, "exposed")).await;
    writer.goes_on().await;
    send(receiver, "CONT");
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_standby_lets_writes_resume() {
    let mut pair = LivePair::wished(&Wish::default().set(QUICK_LEADER)).await;
    let primary = pair.primary().await;
    let standby = pair.other(primary).node.name;
    let writer = Writer::start(&[pair.host(primary).database]).await;
    kill_host(&mut pair, standby);
    writer.goes_on().await;
    let alone = pair.shows("nothing is promised", |s| sync_of(s) == 0 && finds(s, "exposed")).await;
    assert_eq!(primary_of(&alone), Some(primary));
    writer.goes_on().await;
    pair.host_mut(standby).member.start();
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_runs_without_its_data_directory_leaves_the_set_until_it_is_back() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    let standby = pair.other(pair.primary().await).node.name;
    let data = pair.host(standby).node.config.data_dir.clone();
    let away = data.with_extension("away");
    fs::rename(&data, &away).unwrap();
    let named = |s: &Snapshot| finds(s, "directory_moved") && finds(s, "exposed") && sync_of(s) == 0;
    pair.shows("a standby that nobody waits for", named).await;
    writer.goes_on().await;
    fs::rename(&away, &data).unwrap();
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_strict_mode_writes_wait_until_the_standby_is_back() {
    let wish = Wish::durability("sync-strict").set(QUICK_LEADER);
    let mut pair = LivePair::wished(&wish).await;
    let primary = pair.primary().await;
    let standby = pair.other(primary).node.name;
    let writer = Writer::start(&[pair.host(primary).database]).await;
    kill_host(&mut pair, standby);
    let waits = "SELECT count(*) FROM pg_stat_activity \
                 WHERE application_name = 'writer' AND wait_event = 'SyncRep'";
    pair.host(primary).node.becomes(waits, "1").await;
    let before = writer.acks().len();
    // Far longer than any mode but this one would wait.
    let silent = |s: &Snapshot| status_of(s, standby).heard_ms > 2_500.0 && finds(s, "standby_unreachable");
    let seen = pair.shows("a standby that is missed for long", silent).await;
    assert_eq!((primary_of(&seen), sync_of(&seen)), (Some(primary), 1));
    assert_eq!(writer.acks().len(), before, "acknowledged without a standby");
    assert_eq!(pair.host(primary).node.ask(waits).await, "1");
    pair.host_mut(standby).member.start();
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_paused_by_a_person_is_flagged_and_not_promoted() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    let primary = pair.primary().await;
    let standby = &pair.other(primary).node;
    standby.ask("SELECT pg_wal_replay_pause()").await;
    pair.shows("a flag", |s| finds(s, "replay_paused")).await;
    send(family(&pair.host(primary).node.config.data_dir)[0], "KILL");
    let restart = |s: &Snapshot| {
        let now = s.incident.as_ref().or(s.last_incident.as_ref());
        now.is_some_and(|incident| incident.kind == IncidentKind::Restart)
    };
    pair.shows("a start in place", restart).await;
    writer.goes_on().await;
    let seen = pair.shows("a leader", |_| true).await;
    assert_eq!(primary_of(&seen), Some(primary), "{}", plan_of(&seen));
    let paused = "SELECT pg_get_wal_replay_pause_state()";
    assert_eq!(standby.ask(paused).await, "paused", "what a person paused stays paused");
    standby.ask("SELECT pg_wal_replay_resume()").await;
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_crashes_is_started_again() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    let standby = &pair.other(pair.primary().await).node;
    let killed = family(&standby.config.data_dir)[0];
    send(killed, "KILL");
    until("another postmaster", || async {
        let found = standby.instance.find().await.ok().flatten()?;
        (found.pid().cast_signed() != killed).then_some(())
    })
    .await;
    writer.goes_on().await;
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slot_of_a_standby_that_stays_away_is_given_up_and_it_comes_home_by_a_clone() {
    let wish = Wish::default().set(QUICK_LEADER).set("policy.max_slot_wal=32MiB");
    let mut pair = LivePair::wished(&wish).await;
    let primary = pair.primary().await;
    let standby = pair.other(primary).node.name;
    let writer = Writer::start(&[pair.host(primary).database]).await;
    kill_host(&mut pair, standby);
    pair.shows("nothing is promised", |s| sync_of(s) == 0 && !finds(s, "slot_given_up")).await;
    let node = &pair.host(primary).node;
    let slot = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'locum_{standby}'");
    assert_eq!(node.ask(&slot).await, "1");
    let much =
        "SELECT count(pg_logical_emit_message(false, '', repeat('x', 1000000))) FROM generate_series(1, 40)";
    node.ask(much).await;
    pair.shows("the slot given up", |s| finds(s, "slot_given_up")).await;
    node.becomes(&slot, "0").await;
    // Several segments are needed until what nothing holds any more is recycled.
    node.ask(much).await;
    node.ask("CHECKPOINT").await;
    pair.host_mut(standby).member.start();
    pair.shows("a slot of its own again", |s| !finds(s, "slot_given_up")).await;
    pair.ends(writer, 0).await;
}
