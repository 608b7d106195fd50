//! Planned hand-overs: nothing is lost, nothing needs a rewind, and until the end everything can be taken back.

use std::process::Command;

use locum::model::{IncidentKind, OperationState, Snapshot};
use serde_json::json;

use crate::{
    fixture::{Node, missing, until},
    pair::{
        Failures, LivePair, THIRD, Wish, child, family, finds, is_parked, joined, primary_of, send, session,
        status_of, well,
    },
    plain::locum,
};

fn hands_over(snapshot: &Snapshot) -> bool {
    snapshot.intent.as_ref().is_some_and(|intent| intent.handover.is_some())
}

/// Opens a transaction on the primary, straight and over its Unix socket, which a hand-over has to wait for.
async fn transaction(node: &Node) -> tokio_postgres::Client {
    let session = node.connect().await;
    session.batch_execute("BEGIN; INSERT INTO t VALUES (-1)").await.unwrap();
    session
}

/// Asks for a hand-over to that node, which must be refused: what was said.
async fn refused(pair: &LivePair, to: &str) -> String {
    let operation = pair.over(&pair.ask("/v1/switchover", json!({ "to": to })).await).await;
    assert_eq!(operation.state, OperationState::Refused, "{operation:?}");
    operation.messages.join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_loses_nothing_and_needs_no_rewind() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    for promotions in 1..=2 {
        let old = pair.primary().await;
        let operation = pair.ask("/v1/switchover", json!({})).await;
        assert_eq!(pair.over(&operation).await.state, OperationState::Done);
        writer.goes_on().await;
        let seen = pair.whole(promotions).await;
        assert_ne!(primary_of(&seen), Some(old));
        let incident = seen.last_incident.unwrap();
        assert_eq!(incident.kind, IncidentKind::Switchover);
        assert!(incident.rto_ms().is_some() && incident.abandoned.is_none(), "{incident:#?}");
        // What it cost is counted.
        assert!(incident.longest_gap_ms.is_some_and(|gap| gap > 0.0), "{incident:#?}");
        assert_eq!(incident.connections_refused, 0, "{incident:#?}");
    }
    // Each of the two clients may have lost its session each time: its server was stopped. Nobody was refused a new one.
    let Failures { refused, lost } = writer.failures();
    assert!(refused == 0 && lost <= 2 * 2, "{refused} refused, {lost} lost");
    for host in &pair.hosts {
        let log = host.member.log();
        assert!(!log.contains("command=\"rewind\"") && !log.contains("command=\"clone\""), "{log}");
    }
    pair.ends(writer, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_lists_every_blocker_and_changes_nothing() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    let primary = pair.primary().await;
    let before = pair.shows("a leader", |_| true).await.intent;
    assert_eq!(pair.blockers(pair.other(primary).node.name).await, Vec::<String>::new());
    let said = pair.blockers(primary).await.join("\n");
    assert!(said.contains("is the primary already"), "{said}");
    assert_eq!(pair.shows("a leader", |_| true).await.intent, before, "a dry run changed something");

    let paused = pair.ask("/v1/pause", json!({})).await;
    assert_eq!(pair.over(&paused).await.state, OperationState::Done);
    let said = pair.blockers(primary).await.join("\n");
    assert!(said.contains("paused") && said.contains("is the primary already"), "not all blockers: {said}");
    let typed = Command::new(env!("CARGO_BIN_EXE_locum"))
        .args(["switchover", "--dry-run", "-c"])
        .arg(pair.config_file(primary))
        .output()
        .unwrap();
    let said = [typed.stdout, typed.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(typed.status.code() == Some(1) && said.contains("paused"), "{:?} {said}", typed.status);
    let refused = pair.over(&pair.ask("/v1/switchover", json!({})).await).await;
    assert_eq!(refused.state, OperationState::Refused);
    assert!(refused.messages.iter().any(|said| said.contains("paused")), "{refused:?}");
    let resumed = pair.ask("/v1/resume", json!({})).await;
    assert_eq!(pair.over(&resumed).await.state, OperationState::Done);
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_came_over_a_unix_socket_is_waited_for_too() {
    let pair = LivePair::wished(&Wish::default().set("policy.drain=10s")).await;
    let old = pair.host(pair.primary().await);
    let idle = session(old.database).await;
    let open = transaction(&old.node).await;
    let operation = pair.ask("/v1/switchover", json!({})).await;
    is_parked(&idle).await;
    open.batch_execute("COMMIT").await.expect("who is within one goes on");
    assert_eq!(pair.over(&operation).await.state, OperationState::Done);
    pair.whole(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_dies_in_mid_switchover_rolls_it_back() {
    let pair = LivePair::wished(&Wish::default().set("policy.drain=10s")).await;
    let writer = pair.write().await;
    let old = pair.primary().await;
    let open = transaction(&pair.host(old).node).await;
    let operation = pair.ask("/v1/switchover", json!({})).await;
    pair.shows("a hand-over", hands_over).await;
    send(family(&pair.other(old).node.config.data_dir)[0], "KILL");
    let ended = pair.over(&operation).await;
    assert_eq!(ended.state, OperationState::Failed, "{ended:?}");
    writer.goes_on().await;
    open.batch_execute("COMMIT").await.expect("nothing was taken from the one who was waited for");
    let seen = pair.whole(0).await;
    assert_eq!(primary_of(&seen), Some(old));
    assert!(seen.last_incident.unwrap().abandoned.is_some());
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_freezes_in_mid_switchover_rolls_it_back() {
    // A fast shutdown waits for its standbys: it is helped along after some seconds, and the limit takes it back.
    let wish = Wish::default().set("policy.handover=3s").set("policy.hang=30s");
    let pair = LivePair::wished(&wish).await;
    let writer = pair.write().await;
    let old = pair.primary().await;
    let open = transaction(&pair.host(old).node).await;
    let operation = pair.ask("/v1/switchover", json!({})).await;
    pair.shows("a hand-over", hands_over).await;
    let frozen = family(&pair.other(old).node.config.data_dir);
    frozen.iter().for_each(|pid| send(*pid, "STOP"));
    let ended = pair.over(&operation).await;
    assert_eq!(ended.state, OperationState::Failed, "{ended:?}");
    writer.goes_on().await;
    drop(open);
    frozen.iter().for_each(|pid| send(*pid, "CONT"));
    pair.ends(writer, 0).await;
}

const SLOT_ALONE: &str = "logical_slot_alone";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logical_slot_that_would_be_lost_is_named_and_refuses_a_switchover() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    let old = pair.primary().await;
    let node = &pair.host(old).node;
    node.ask("SELECT pg_create_logical_replication_slot('reader', 'pgoutput')").await;
    pair.shows("the slot", |seen| finds(seen, SLOT_ALONE)).await;
    let refused = pair.over(&pair.ask("/v1/switchover", json!({})).await).await;
    assert_eq!(refused.state, OperationState::Refused, "{refused:?}");
    assert!(format!("{refused:?}").contains("logical slots reader"), "{refused:?}");
    node.ask("SELECT pg_drop_replication_slot('reader')").await;
    pair.shows("no slot", |seen| !finds(seen, SLOT_ALONE)).await;
    assert_eq!(pair.over(&pair.ask("/v1/switchover", json!({})).await).await.state, OperationState::Done);
    pair.ends(writer, 1).await;
}

/// More than the test's writers write meanwhile.
const MAX_LAG: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_to_a_standby_that_lags_is_refused_until_it_has_caught_up() {
    let pair = LivePair::wished(&Wish::default().set(&format!("policy.max_switchover_lag={MAX_LAG}"))).await;
    let writer = pair.write().await;
    let old = pair.primary().await;
    let standby = pair.other(old);
    let name = standby.node.name;
    // It receives everything, and replays nothing.
    let startup = child(&standby.node.config.data_dir, "startup");
    send(startup, "STOP");
    let much = format!("SELECT pg_logical_emit_message(true, 'much', repeat('x', {}))", 2 * MAX_LAG);
    pair.host(old).node.ask(&much).await;
    pair.shows("a standby that lags", |s| status_of(s, name).replay_bytes.is_some_and(|lag| lag > MAX_LAG))
        .await;
    for said in [pair.blockers(name).await.join("\n"), refused(&pair, name).await] {
        let limit = format!("bytes behind; max_switchover_lag is {MAX_LAG}");
        assert!(said.contains(&format!("{name}: it lags ")) && said.contains(&limit), "{said}");
    }
    assert_eq!(pair.primary().await, old);
    send(startup, "CONT");
    pair.hand_over(name).await;
    pair.ends(writer, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_goes_to_the_node_that_is_named_unless_that_may_not_be_promoted() {
    let (pair, mut third) = joined(&Wish::default()).await;
    third.0.member.set.push("postgres.no_failover=true".to_owned());
    locum(&["node", "add", "--yes"], &pair.config_file(THIRD)).expect(0, &["Next: `locum run"]);
    third.0.member.start();
    // It is waited for by nobody, then.
    let streams = |seen: &Snapshot| seen.nodes.iter().any(|one| one.node.as_str() == THIRD && one.streaming);
    pair.shows("three nodes, well", |seen| well(seen, 1) && streams(seen)).await;
    let writer = pair.write().await;
    let first = pair.primary().await;
    let second = pair.other(first).node.name;
    let reason = "gamma: it is configured never to be promoted";
    until("the only reason", || async { (pair.blockers(THIRD).await == [reason]).then_some(()) }).await;
    let said = refused(&pair, THIRD).await;
    assert!(said.contains(reason), "{said}");
    assert_eq!(pair.primary().await, first);

    third.0.member.terminate().await;
    third.0.member.set.pop();
    third.0.member.start();
    // By name it would be the other one's turn.
    for to in [THIRD, second] {
        pair.hand_over(to).await;
        let seen = pair.shows("three nodes, well", |seen| well(seen, 2)).await;
        assert_eq!(primary_of(&seen), Some(to));
    }
    writer.goes_on().await;
    let acknowledged = writer.finish().await;
    assert_eq!(missing(&pair.host(second).node, &acknowledged).await, 0, "acknowledged rows are missing");
}

/// PostgreSQL 17's failover slots.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logical_slot_that_the_server_can_carry_over_survives_a_switchover() {
    let pair = LivePair::new().await;
    let old = pair.primary().await;
    let node = &pair.host(old).node;
    if node.ask("SELECT current_setting('server_version_num')::int >= 170000").await != "t" {
        println!("not tested here: this server cannot");
        return;
    }
    let writer = pair.write().await;
    for host in &pair.hosts {
        for setting in ["sync_replication_slots", "hot_standby_feedback"] {
            host.node.ask(&format!("ALTER SYSTEM SET {setting} = on")).await;
        }
        host.node.ask("SELECT pg_reload_conf()").await;
    }
    node.ask("SELECT pg_create_logical_replication_slot('reader', 'pgoutput', false, false, true)").await;
    // Its own position has to be one that the standby has, too: it moves on when somebody reads.
    let other = &pair.other(old).node;
    until("the slot in step", || async {
        node.ask("SELECT pg_replication_slot_advance('reader', pg_current_wal_flush_lsn())").await;
        let ready = "SELECT synced AND NOT temporary FROM pg_replication_slots WHERE slot_name = 'reader'";
        (other.ask(ready).await == "t").then_some(())
    })
    .await;
    pair.shows("a slot that is safe", |seen| !finds(seen, SLOT_ALONE)).await;
    assert_eq!(pair.over(&pair.ask("/v1/switchover", json!({})).await).await.state, OperationState::Done);
    assert_eq!(other.ask("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'reader'").await, "1");
    pair.ends(writer, 1).await;
}
