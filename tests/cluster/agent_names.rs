//! Names are proven in force only when they are.

use std::fs;

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
    pair.a.done(stamp(1, 6), Command::Serve { floor: None }).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn names_are_not_written_where_the_server_does_not_run() {
    let pair = pair().await;
    pair.in_sync(1, 5).await;
    let data = &pair.a.cfg.data_dir;
    let (away, conf) = (data.with_extension("away"), data.join("postgresql.auto.conf"));
    fs::rename(data, &away).expect("moved");
    fs::create_dir(data).expect("another one");
    fs::write(&conf, "").expect("its settings");
    let reply = pair.a.agent.order(stamp(1, 6), Command::SetNames(Vec::new())).await;
    let said = |why: &String| why.contains("its data directory was moved to");
    assert!(matches!(&reply, Reply::Failed(why) if said(why)), "{reply:?}");
    assert_eq!(fs::read_to_string(&conf).expect("its settings"), "");
    assert_eq!(pair.a.primary().names, Some(vec![pair.b.agent.facts().standby_name]));
    pair.a.until("what became of it", |f| f.access.moved.is_some()).await;
    fs::remove_dir_all(data).expect("removed");
    fs::rename(&away, data).expect("moved back");
    pair.a.until("that it is back", |f| f.access.moved.is_none()).await;
    pair.a.done(stamp(1, 6), Command::SetNames(Vec::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_the_next_reload_would_end_are_written_before_they_are_proven() {
    let pair = pair().await;
    pair.in_sync(1, 5).await;
    let conf = pair.a.cfg.data_dir.join("postgresql.auto.conf");
    let text = fs::read_to_string(&conf).expect("settings");
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("synchronous_standby")).collect();
    fs::write(&conf, without.join("\n") + "\n").expect("without names");
    pair.b.done(stamp(1, 6), Command::PauseReplay).await;
    pair.a.done(stamp(1, 6), Command::ProveNames).await;
    pair.b.done(stamp(1, 6), Command::ResumeReplay).await;
    let name = pair.b.agent.facts().standby_name.0;
    assert!(fs::read_to_string(&conf).expect("settings").contains(&name));
}
