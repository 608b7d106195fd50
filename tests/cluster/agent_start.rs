//! A standby that starts and lacks WAL: it is waited for as long as something gets done, and stands in nobody's way. And a primary
//! that lacks what it was ordered to start with.

use std::{fs, sync::Arc, time::Duration};

use locum::model::{AgentFacts, Command, Lsn, Reply, Server, WalPosition};

use super::agent_fixture::{Pair, is_down, pair, signal, stamp, standby};

/// The standby is down and lacks WAL that only the primary has, and the primary is gone.
async fn lacks_wal(pair: &Pair) {
    pair.b.done(stamp(1, 5), Command::Fence).await;
    pair.a.ask("CREATE TABLE rows (n int)").await;
    signal(pair.a.postmaster(), "KILL");
    pair.a.until("its end", is_down).await;
    for entry in fs::read_dir(pair.b.cfg.data_dir.join("pg_wal")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn starts(facts: &AgentFacts) -> bool {
    facts.server.value == Server::Starting
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_waits_for_wal_is_ended_and_said_to_have_failed() {
    let mut pair = pair().await;
    pair.b.cfg.start_timeout = Duration::from_secs(4);
    pair.b.restart_agent().await;
    lacks_wal(&pair).await;
    let reply = pair.b.agent.order(stamp(1, 6), Command::Follow(pair.a.upstream_for(&pair.b))).await;
    assert!(matches!(&reply, Reply::Failed(why) if why.contains("next to nothing for 4s")), "{reply:?}");
    let facts = pair.b.until("its end", is_down).await;
    assert_eq!(facts.failed.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), ["follow"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_a_later_epoch_does_not_wait_for_one_that_cannot_end() {
    let pair = pair().await;
    lacks_wal(&pair).await;
    let order = |epoch: u64| {
        let (agent, upstream) = (Arc::clone(&pair.b.agent), pair.a.upstream_for(&pair.b));
        tokio::spawn(async move { agent.order(stamp(epoch, 6), Command::Follow(upstream)).await })
    };
    let first = order(1);
    pair.b.until("a start", starts).await;
    let second = order(2);
    let soon = Duration::from_secs(20);
    let ended = tokio::time::timeout(soon, first).await.expect("it stands in nobody's way").unwrap();
    assert_eq!(ended, Reply::Done);
    assert!(starts(&pair.b.agent.facts()), "it still lacks what it lacked");
    pair.a.done(stamp(2, 6), Command::Serve { floor: None }).await;
    assert_eq!(tokio::time::timeout(soon, second).await.expect("an end").unwrap(), Reply::Done);
    pair.b.until("a stream", |facts| standby(facts).is_some_and(|standby| standby.streaming)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_whose_disk_lacks_what_its_start_was_ordered_with_is_not_started() {
    let mut pair = pair().await;
    signal(pair.a.postmaster(), "KILL");
    pair.a.until("its end", is_down).await;
    // Nobody saw it serve in this life, so its disk may be an older one.
    pair.a.restart_agent().await;
    let end = |facts: &AgentFacts| match &facts.server.value {
        Server::Down(down) => down.wal().map(|wal| wal.position()),
        _ => None,
    };
    let facts = pair.a.until("the end of its WAL", |facts| end(facts).is_some()).await;
    let has = end(&facts).expect("read");
    let beyond = WalPosition { lsn: Lsn(has.lsn.0 + (1 << 20)), ..has };
    let reply = pair.a.agent.order(stamp(1, 9), Command::Serve { floor: Some(beyond) }).await;
    assert!(matches!(&reply, Reply::Refused(why) if why.contains("went back in time")), "{reply:?}");
    assert!(is_down(&pair.a.agent.facts()));
    pair.a.done(stamp(1, 9), Command::Serve { floor: Some(has) }).await;
}
