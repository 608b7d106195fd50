//! The old primary comes back, and what it gave up is counted and kept.

use locum::model::{Command, Reply};

use super::agent_fixture::{is_down, pair, primary, signal, stamp, standby};

#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_is_rewound_and_its_lost_tail_is_told() {
    let pair = pair().await;
    pair.a.ask("CREATE TABLE rows (n int)").await;
    // b is cut; what a writes from now on is lost.
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    for n in 0..5 {
        pair.a.ask(&format!("INSERT INTO rows VALUES ({n})")).await;
    }
    pair.a.done(stamp(2, 6), Command::Fence).await;
    pair.b.done(stamp(2, 7), Command::Promote(vec![])).await;
    let on_new =
        |f: &locum::model::AgentFacts| primary(f).is_some_and(|p| p.checkpoint_timeline == p.timeline);
    pair.b.until("a checkpoint on the new timeline", on_new).await;
    let switch = pair.b.primary().switch;
    pair.b.done(stamp(2, 8), Command::KeepSlots(vec![pair.a.id.slot()])).await;
    pair.a.done(stamp(2, 8), Command::Rewind(pair.b.upstream_for(&pair.a), switch)).await;
    let facts = pair.a.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
    let lost = facts.lost.expect("a lost tail");
    assert_eq!((lost.under, lost.transactions, Some(lost.from)), (stamp(2, 8), 5, switch.map(|s| s.at)));
    assert!(lost.bytes > 0 && std::path::Path::new(&lost.salvage.unwrap()).is_dir());
    assert_eq!((facts.unfinished, facts.failed.len(), facts.job), (None, 0, None));
    pair.b.ask("INSERT INTO rows VALUES (100)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_gets_a_name_of_its_own() {
    let pair = pair().await;
    let before = pair.b.agent.facts().standby_name;
    pair.b.done(stamp(1, 5), Command::Fence).await;
    pair.b.done(stamp(1, 6), Command::Clone(pair.a.upstream_for(&pair.b), None)).await;
    let facts = pair.b.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
    assert_ne!(facts.standby_name, before);
    pair.a
        .until("its name", |f| {
            primary(f).is_some_and(|p| p.senders.iter().any(|s| s.name == facts.standby_name))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_that_did_not_end_is_never_started() {
    let pair = pair().await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    signal(pair.a.postmaster(), "KILL");
    pair.a.until("its end", is_down).await;
    // Nobody listens there: the rewind fails.
    let mut nowhere = pair.b.upstream_for(&pair.a);
    nowhere.address = format!("127.0.0.1:{}", super::agent_fixture::free_port());
    let reply = pair.a.agent.order(stamp(2, 7), Command::Rewind(nowhere, None)).await;
    assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
    let facts = pair.a.agent.facts();
    assert_eq!(facts.unfinished, Some(locum::model::Unfinished::Rewind));
    assert_eq!(facts.failed.len(), 1);
    for command in [Command::Serve, Command::Follow(pair.b.upstream_for(&pair.a))] {
        let reply = pair.a.agent.order(stamp(2, 8), command).await;
        assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
    }
    assert!(is_down(&pair.a.agent.facts()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_does_not_wait_for_a_clone() {
    let pair = pair().await;
    pair.b.done(stamp(1, 5), Command::Fence).await;
    // An address that swallows everything: the clone waits.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut upstream = pair.a.upstream_for(&pair.b);
    upstream.address = silent.local_addr().unwrap().to_string();
    let agent = std::sync::Arc::clone(&pair.b.agent);
    let clone = tokio::spawn(async move { agent.order(stamp(1, 6), Command::Clone(upstream, None)).await });
    pair.b.until("a job", |f| f.job.is_some()).await;
    let begun = std::time::Instant::now();
    pair.b.done(stamp(1, 7), Command::Fence).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
    let reply = clone.await.unwrap();
    assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
}
