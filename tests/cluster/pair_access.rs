//! Whom the servers let in, and what clients may see there.

use std::{fs, time::Duration};

use tokio::time::{Instant, timeout};

use crate::{
    fixture::{Node, SOON, until},
    pair::{LivePair, Wish, child, family, finds, plan_of, primary_of, send, session, status_of},
};

const READ_ONLY: &str = "default_transaction_read_only";

fn kills(pair: &LivePair, name: &str) {
    send(family(&pair.host(name).node.config.data_dir)[0], "KILL");
}

async fn reloads(node: &Node) {
    send(family(&node.config.data_dir)[0], "HUP");
}

/// What the findings say, in one text.
fn said(snapshot: &locum::model::Snapshot) -> String {
    snapshot.findings.iter().map(|found| found.text.as_str()).collect::<Vec<_>>().join("; ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_on_which_clients_cannot_write_is_named_and_is_not_what_a_crash_leads_to() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    let primary = pair.primary().await;
    let standby = &pair.other(primary).node;
    standby.ask(&format!("ALTER SYSTEM SET {READ_ONLY} = on")).await;
    reloads(standby).await;
    let seen = pair.shows("a finding", |s| finds(s, "read_only")).await;
    assert!(said(&seen).contains(READ_ONLY) && said(&seen).contains(standby.name), "{}", said(&seen));
    let blockers = pair.blockers(standby.name).await.join("; ");
    assert!(blockers.contains(READ_ONLY), "{blockers}");
    kills(&pair, primary);
    pair.shows("its end", |s| !status_of(s, primary).serving).await;
    writer.goes_on().await;
    assert_eq!(primary_of(&pair.whole(0).await), Some(primary));
    // Taken back, everything is as it was.
    standby.ask(&format!("ALTER SYSTEM RESET {READ_ONLY}")).await;
    reloads(standby).await;
    pair.shows("no such finding", |s| !finds(s, "read_only")).await;
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_whose_database_is_read_only_is_declared_and_the_setting_is_named() {
    let mut pair = LivePair::prepared(&Wish::default()).await;
    let alpha = &pair.hosts[0].node;
    alpha.ask(&format!("ALTER DATABASE postgres SET {READ_ONLY} = on")).await;
    for host in &mut pair.hosts {
        host.member.start();
    }
    let seen = pair.shows("a finding", |s| primary_of(s) == Some("alpha") && finds(s, "read_only")).await;
    assert!(said(&seen).contains("ALTER DATABASE postgres"), "{}", said(&seen));
    let failed = || {
        pair.hosts.iter().any(|host| {
            let log = host.member.log();
            log.lines().any(|line| line.contains("commit through") && line.contains(READ_ONLY))
        })
    };
    until("a proof that fails with the setting's name", || async { failed().then_some(()) }).await;
    assert!(seen.incident.is_none() || !seen.incident.unwrap().closed, "service is not proven");
    let alpha = &pair.hosts[0].node;
    let session = alpha.connect().await;
    for statement in [format!("SET {READ_ONLY} = off"), format!("ALTER DATABASE postgres RESET {READ_ONLY}")]
    {
        session.batch_execute(&statement).await.unwrap();
    }
    // The role's own setting is another place of the same.
    alpha.ask(&format!("ALTER ROLE replicator SET {READ_ONLY} = on")).await;
    pair.shows("the role is named", |s| said(s).contains("ALTER ROLE replicator")).await;
    alpha.ask(&format!("ALTER ROLE replicator RESET {READ_ONLY}")).await;
    pair.shows("no such finding", |s| !finds(s, "read_only")).await;
    pair.whole(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_refuses_its_agents_login_is_a_finding_and_neither_a_hang_nor_a_failover() {
    let wish = Wish::default().set("policy.hang=1s").set("policy.detect=5s");
    let mut pair = LivePair::wished(&wish).await;
    let writer = pair.write().await;
    let primary = pair.primary().await;
    let hba = pair.host(primary).node.config.data_dir.join("pg_hba.conf");
    let before = fs::read_to_string(&hba).unwrap();
    fs::write(&hba, format!("local all postgres reject\n{before}")).unwrap();
    reloads(&pair.host(primary).node).await;
    // The kept connection still answers: the refusal is told by the probe alone.
    let seen = pair.shows("a finding", |s| finds(s, "login_refused")).await;
    assert!(said(&seen).contains("pg_hba.conf rejects connection"), "{}", said(&seen));
    let host = pair.host_mut(primary);
    host.member.kill();
    host.member.start();
    pair.shows("a hold", |s| plan_of(s).contains("is no hang")).await;
    // Longer than a server that does not answer would be waited for, which is five times `hang`.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) {
        let seen = pair.shows("a leader", |_| true).await;
        assert_eq!(primary_of(&seen), Some(primary), "{:?}", seen.incident);
        assert!(!finds(&seen, "no_right_to_serve"), "its lease goes on: {}", said(&seen));
        writer.goes_on().await;
    }
    fs::write(&hba, before).unwrap();
    reloads(&pair.host(primary).node).await;
    pair.shows("the end of it", |s| !finds(s, "login_refused") && status_of(s, primary).serving).await;
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_start_in_place_clients_see_nothing_that_no_standby_has() {
    for mode in ["sync-strict", "sync"] {
        // In sync the wait would end with `write_wait`, and the set with it.
        let wish = Wish::durability(mode).set("policy.on_crash=restart").set("policy.write_wait=1h");
        let pair = LivePair::wished(&wish).await;
        let primary = pair.primary().await;
        let standby = pair.other(primary).node.name;
        // The path of the WAL is cut: what is sent from now on arrives in no standby.
        let receiver = child(&pair.host(standby).node.config.data_dir, "walreceiver");
        send(receiver, "STOP");
        let row = pair.host(primary).node.connect().await;
        let waits = tokio::spawn(async move { row.batch_execute("INSERT INTO t VALUES (-1)").await });
        let waiting =
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'INSERT%'";
        pair.host(primary).node.becomes(waiting, "t").await;
        kills(&pair, primary);
        let _lost = timeout(SOON, waits).await.expect("its session ends").unwrap();
        let count = "SELECT count(*) FROM t WHERE id = -1";
        let port = pair.host(standby).database;
        let reads = tokio::spawn(async move {
            let client = session(port).await;
            let rows = client.query_one(count, &[]).await.expect("an answer");
            rows.get::<_, i64>(0)
        });
        pair.shows("why clients wait", |s| plan_of(s).contains("a failover would take back")).await;
        assert_eq!(pair.host(primary).node.ask(count).await, "1", "{mode}: it is there");
        assert_eq!(pair.host(standby).node.ask(count).await, "0", "{mode}: and on no standby");
        assert!(!reads.is_finished(), "{mode}: a client has seen what a failover would take back");
        send(receiver, "CONT");
        assert_eq!(timeout(SOON, reads).await.expect("service").unwrap(), 1);
        assert_eq!(pair.host(standby).node.ask("SELECT pg_is_in_recovery()").await, "t");
        pair.host(standby).node.becomes(count, "1").await;
        pair.whole(0).await;
    }
}
