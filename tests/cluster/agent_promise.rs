//! An agent keeps its word.

use locum::{
    agent::AgentError,
    model::{Command, NodeId, ReplayState, Reply, Server},
};

use super::agent_fixture::{
    folder, initdb, is_down, pair, primary, promote, settings, signal, stamp, standby,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_order_is_refused_and_nothing_is_done() {
    let pair = pair().await;
    pair.a.done(stamp(5, 1), Command::SetNames(Vec::new())).await;
    let reply = pair.a.agent.order(stamp(4, 99), Command::Fence).await;
    let Reply::Refused(why) = reply else { panic!("{reply:?}") };
    assert!(why.contains("1.4.99") && why.contains("1.5.1"), "{why}");
    let reply = pair.a.agent.order(stamp(5, 0), Command::Fence).await;
    assert!(matches!(reply, Reply::Refused(_)), "a late message of the same epoch: {reply:?}");
    assert!(primary(&pair.a.agent.facts()).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_outlives_the_agent() {
    let mut pair = pair().await;
    pair.b.done(stamp(7, 3), Command::Recruit).await;
    let name = pair.b.agent.facts().standby_name;
    pair.b.restart_agent().await;
    assert_eq!(pair.b.agent.facts().promise, Some(stamp(7, 3)));
    assert_eq!(pair.b.agent.facts().standby_name, name);
    let reply = pair.b.agent.order(stamp(7, 2), Command::Follow(pair.a.upstream_for(&pair.b))).await;
    assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
    // It stays cut, and says so again once it has looked.
    let facts = pair.b.until("its recruit", |f| standby(f).is_some_and(|s| s.recruited.is_some())).await;
    assert_eq!(standby(&facts).unwrap().recruited, Some(stamp(7, 3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_promise_is_not_zero_and_is_not_promoted() {
    let mut pair = pair().await;
    pair.b.agent.stop().await;
    std::fs::remove_file(pair.b.state_dir.join("promise.json")).unwrap();
    pair.b.restart_agent().await;
    pair.b.until("a standby", |f| standby(f).is_some()).await;
    assert_eq!(pair.b.agent.facts().promise, None);
    let reply = pair.b.agent.order(stamp(2, 1), promote()).await;
    assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
    assert_eq!(pair.b.agent.facts().promise, None, "a refused order leaves no promise");
}

/// The store here grants whatever its agent promised last: like one that was put back from a copy of that time.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_had_run_out_is_not_taken_against_the_word_of_another() {
    let mut pair = pair().await;
    pair.a.done(stamp(1, 2), Command::Admit(vec![pair.b.id.clone()])).await;
    pair.b.done(stamp(2, 1), Command::Recruit).await;
    pair.a.restart_agent().await;
    pair.a.until("its server", |f| primary(f).is_some()).await;
    pair.a.granted(3).await;
    assert_eq!(pair.a.agent.facts().serves_until, None, "{} promised a later epoch", pair.b.id);
    // Nobody has to answer: a store that is alone with this primary is believed.
    pair.b.agent.stop().await;
    pair.b.agent =
        super::agent_fixture::start(&pair.b.cfg, &pair.b.id, &pair.b.state_dir.with_extension("new"));
    pair.a.until("its right", |f| f.serves_until.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_for_a_proof_is_known_as_that_by_the_next_agent_whatever_it_is_told_first() {
    let mut pair = pair().await;
    pair.b.done(stamp(1, 3), Command::PauseReplay).await;
    let family = pair.b.family();
    family.iter().for_each(|pid| signal(*pid, "STOP"));
    pair.b.restart_agent().await;
    pair.b.until("a server that does not answer", |f| matches!(f.server.value, Server::Starting)).await;
    let (agent, upstream) = (std::sync::Arc::clone(&pair.b.agent), pair.a.upstream_for(&pair.b));
    let follow = tokio::spawn(async move { agent.order(stamp(1, 4), Command::Follow(upstream)).await });
    pair.b.until("a wait for it", |f| f.job.is_some()).await;
    family.iter().for_each(|pid| signal(*pid, "CONT"));
    let facts = pair.b.until("a standby", |f| standby(f).is_some()).await;
    assert_eq!(follow.await.unwrap(), Reply::Done);
    assert_eq!(standby(&facts).unwrap().replay, ReplayState::PausedForProof(stamp(1, 3)));
    pair.b.done(stamp(1, 4), Command::ResumeReplay).await;
    assert_eq!(pair.b.standby().replay, ReplayState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_for_no_time_binds_nobody() {
    let pair = pair().await;
    let before = pair.b.agent.facts();
    let promise = before.promise.expect("a promise");
    assert!(pair.b.agent.vouch(stamp(promise.epoch.0 + 1, 1), std::time::Duration::ZERO).await);
    assert!(!pair.b.agent.vouch(stamp(promise.epoch.0 - 1, 1), std::time::Duration::ZERO).await);
    let after = pair.b.agent.facts();
    assert_eq!((after.promise, after.vouched_until), (before.promise, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_data_directory_is_not_touched() {
    let dir = folder();
    initdb(&dir.path().join("a"));
    initdb(&dir.path().join("other"));
    let (cfg, state) = settings(dir.path(), "a");
    let id = NodeId::new("a").unwrap();
    {
        let agent = super::agent_fixture::start(&cfg, &id, &state);
        let mut changes = agent.changes();
        while !is_down(&agent.facts()) {
            changes.changed().await.unwrap();
        }
        assert_eq!(agent.order(stamp(1, 1), Command::Fence).await, Reply::Done);
        agent.stop().await;
    }
    let mut foreign = cfg.clone();
    foreign.data_dir = dir.path().join("other");
    let until = std::time::Instant::now() + super::agent_fixture::SOON;
    let error = loop {
        match super::agent_fixture::try_start(&foreign, &id, &state) {
            Err(AgentError::StateInUse { .. }) if std::time::Instant::now() < until => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            Err(error) => break error,
            Ok(_) => panic!("it took another system's data"),
        }
    };
    assert!(matches!(error, AgentError::ForeignSystem { .. }), "{error}");
    assert!(error.to_string().contains("nothing was touched"), "{error}");
}
