//! Members come and go; PostgreSQL and its sessions do not notice. Leaders die; others go on.

use crate::{
    fixture::until,
    pair::{LivePair, Wish, family, primary_of, send, status_of},
};

/// Whoever leads is the other member soon after one has died.
const QUICK_LEADER: &str = "policy.leader_ttl=1s";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_restart_one_by_one_without_interruption() {
    let mut pair = LivePair::wished(&Wish::default().set(QUICK_LEADER)).await;
    let primary = pair.primary().await;
    let session = pair.host(primary).node.connect().await;
    let postmasters = pair.hosts.each_ref().map(|host| family(&host.node.config.data_dir)[0]);
    let writer = pair.write().await;
    for order in ["in order", "killed"] {
        for name in crate::pair::NAMES {
            let member = &mut pair.host_mut(name).member;
            match order {
                "killed" => member.kill(),
                _ => member.terminate().await,
            }
            session.batch_execute("SELECT 1").await.expect("a session that nobody cut");
            pair.host_mut(name).member.start();
            until("the member answers", || async { pair.host(name).api.status().await }).await;
            pair.whole(0).await;
        }
    }
    session.batch_execute("SELECT 1").await.expect("a session that nobody cut");
    assert_eq!(pair.hosts.each_ref().map(|host| family(&host.node.config.data_dir)[0]), postmasters);
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_succeeded_and_nothing_else_happens() {
    let mut pair = LivePair::wished(&Wish::default().set(QUICK_LEADER)).await;
    let writer = pair.write().await;
    let leader = pair.shows("a leader", |_| true).await.node;
    pair.host_mut(leader.as_str()).member.kill();
    let other = pair.other(leader.as_str()).node.name;
    pair.shows("the other one leads", |s| s.node.as_str() == other).await;
    pair.host_mut(leader.as_str()).member.start();
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_successor_of_a_leader_that_died_with_the_primary_fails_over() {
    let mut pair = LivePair::wished(&Wish::default().set(QUICK_LEADER)).await;
    let writer = pair.write().await;
    let old = pair.primary().await;
    // Only the member beside the primary can lead now.
    let standby = pair.other(old).member.pid();
    send(standby, "STOP");
    pair.shows("the primary's member leads", |s| s.node.as_str() == old).await;
    let host = pair.host_mut(old);
    let server = family(&host.node.config.data_dir);
    host.member.kill();
    server.into_iter().for_each(|pid| send(pid, "KILL"));
    send(standby, "CONT");
    pair.shows("another primary", |s| {
        primary_of(s).is_some_and(|name| name != old && status_of(s, name).serving)
    })
    .await;
    pair.host_mut(old).member.start();
    pair.ends(writer, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_restarted_in_a_failover_ends_in_one_primary() {
    let mut pair = LivePair::wished(&Wish::default().set(QUICK_LEADER)).await;
    let writer = pair.write().await;
    let old = pair.primary().await;
    let leader = pair.shows("a leader", |_| true).await.node;
    send(family(&pair.host(old).node.config.data_dir)[0], "KILL");
    let member = &mut pair.host_mut(leader.as_str()).member;
    member.kill();
    member.start();
    writer.goes_on().await;
    // How far the leader had come is a matter of milliseconds; that there is one history is not.
    let settled = pair.shows("all is well", crate::pair::is_whole).await;
    let promotions = settled.intent.unwrap().epoch.0 - 1;
    assert!(promotions <= 2, "{promotions} promotions for one failure");
    let primary = &pair.host(pair.primary().await).node;
    let timeline: u64 = primary.ask("SELECT timeline_id FROM pg_control_checkpoint()").await.parse().unwrap();
    assert!(timeline <= 1 + promotions, "PostgreSQL was promoted more often than the intent says");
    let acknowledged = writer.finish().await;
    assert_eq!(crate::fixture::missing(primary, &acknowledged).await, 0);
}
