//! Names are proven in force only when they are.

use locum::model::{Command, ReplayState, Reply};

use super::agent_fixture::{pair, primary, stamp, standby};

#[tokio::test(flavor = "multi_thread")]
async fn names_are_proven_by_a_commit_that_waits() {
    let pair = pair().await;
    pair.in_sync(1, 5).await;
    let seen = pair.a.primary();
    let (version, at) = seen.names_proven.expect("proven");
    assert_eq!(version, stamp(1, 5).version);
    assert!(at <= seen.flushed);
    assert_eq!(seen.names, Some(vec![pair.b.agent.facts().standby_name]));
    assert_eq!(pair.b.standby().replay, ReplayState::Running);
    pair.a
        .until("a sync sender", |f| {
            primary(f).is_some_and(|p| p.senders.iter().any(|s| s.sync && s.streaming))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_in_force_are_not_proven() {
    let pair = pair().await;
    let name = pair.b.agent.facts().standby_name;
    pair.a.done(stamp(1, 5), Command::SetNames(vec![name])).await;
    // Replay goes on, so no commit is seen waiting long enough; and without names none waits at all.
    pair.a.done(stamp(1, 6), Command::SetNames(Vec::new())).await;
    pair.a.done(stamp(1, 6), Command::ProveNames).await;
    assert_eq!(pair.a.primary().names_proven.map(|(v, _)| v), Some(stamp(1, 6).version));
    // Somebody else's setting is not taken for ours.
    pair.a.ask("ALTER SYSTEM SET synchronous_standby_names = '*'").await;
    pair.a.ask("SELECT pg_reload_conf()").await;
    pair.a.until("other names", |f| primary(f).is_some_and(|p| p.names.is_none())).await;
    let reply = pair.a.agent.order(stamp(1, 7), Command::ProveNames).await;
    assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_primary_voids_the_proof() {
    let pair = pair().await;
    pair.in_sync(1, 5).await;
    super::agent_fixture::signal(pair.a.postmaster(), "KILL");
    pair.a.until("its end", super::agent_fixture::is_down).await;
    pair.a.done(stamp(1, 6), Command::Serve).await;
    assert_eq!(pair.a.primary().names_proven, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_pause_is_told_apart_and_left_alone() {
    let pair = pair().await;
    pair.b.ask("SELECT pg_wal_replay_pause()").await;
    pair.b.until("a pause", |f| standby(f).is_some_and(|s| s.replay == ReplayState::PausedByPerson)).await;
    for command in [Command::Recruit, Command::PauseReplay, Command::ResumeReplay] {
        let reply = pair.b.agent.order(stamp(1, 5), command).await;
        assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
    }
    assert!(pair.b.standby().streaming, "nothing was done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recruit_undoes_the_pause_of_a_proof() {
    let pair = pair().await;
    pair.b.done(stamp(1, 5), Command::PauseReplay).await;
    assert_eq!(pair.b.standby().replay, ReplayState::PausedForProof(stamp(1, 5)));
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    assert_eq!(pair.b.standby().replay, ReplayState::Running);
    assert_eq!(pair.b.standby().recruited, Some(stamp(2, 6)));
}
