//! A clone is copied from a standby where there is one, whatever becomes of that one on the way.

use locum::model::Snapshot;

use crate::{
    pair::{LivePair, THIRD, Third, Wish, Writer, family, joined, primary_of, send, status_of, well},
    plain::locum,
};

/// So slow that a copy of an empty cluster takes seconds: there is time to look at it, and to break it.
const SLOW: &str = "postgres.clone_max_rate=6MiB";

/// Base backups that a server sends at this moment.
const BACKUPS: &str = "SELECT count(*) FROM pg_stat_replication WHERE state = 'backup'";

/// A pair under load, and a third node whose copy is under way, from the standby.
async fn copying() -> (LivePair, Third, Writer) {
    let (pair, mut third) = joined(&Wish::default().set(SLOW)).await;
    locum(&["node", "add", "--yes"], &pair.config_file(THIRD)).expect(0, &["Next: `locum run"]);
    let writer = pair.write().await;
    third.0.member.start();
    let primary = pair.primary().await;
    let standby = pair.other(primary);
    let said = format!("cloning from {}: ", standby.node.name);
    pair.shows("a copy of the standby", |seen| job(seen).starts_with(&said) && job(seen).contains(" % of "))
        .await;
    assert_eq!(standby.node.ask(BACKUPS).await, "1");
    assert_eq!(pair.host(primary).node.ask(BACKUPS).await, "0", "the primary is left to its clients");
    (pair, third, writer)
}

fn job(snapshot: &Snapshot) -> &str {
    let third = snapshot.nodes.iter().find(|status| status.node.as_str() == THIRD);
    third.and_then(|status| status.job.as_deref()).unwrap_or_default()
}

/// The third node streams, and has everything that was acknowledged.
async fn has_everything(pair: &LivePair, third: &Third, writer: Writer) {
    let seen = pair.shows("three nodes, well", |seen| well(seen, 2)).await;
    assert!(status_of(&seen, THIRD).streaming, "{seen:#?}");
    writer.goes_on().await;
    let acknowledged = writer.finish().await;
    crate::fixture::until("everything on the third node", || async {
        (crate::fixture::missing(&third.0.node, &acknowledged).await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joins_is_copied_from_the_standby_and_follows_the_primary() {
    let (pair, third, writer) = copying().await;
    has_everything(&pair, &third, writer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_standby_dies_under_the_copy_the_primary_is_copied() {
    let (pair, third, writer) = copying().await;
    let primary = pair.primary().await;
    send(family(&pair.other(primary).node.config.data_dir)[0], "KILL");
    pair.shows("a copy of the primary", |seen| job(seen).starts_with("cloning: ")).await;
    has_everything(&pair, &third, writer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_promoted_under_the_copy_leaves_nobody_behind() {
    let (pair, third, writer) = copying().await;
    let old = pair.primary().await;
    send(family(&pair.host(old).node.config.data_dir)[0], "KILL");
    pair.shows("a new primary", |seen| primary_of(seen).is_some_and(|now| now != old)).await;
    has_everything(&pair, &third, writer).await;
}
