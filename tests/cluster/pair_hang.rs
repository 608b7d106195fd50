//! The primary does not die, it stops moving. What it would still have said when it goes on must never be heard.

use tokio::time::timeout;

use crate::{
    fixture::SOON,
    pair::{LivePair, Wish, family, finds, primary_of, send},
};

/// A row that is sent straight to the old primary while it is stopped.
const STRAY: i64 = -1;

fn impatient() -> Wish {
    Wish::default().set("policy.hang=1s")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_primary_is_replaced_and_acknowledges_nothing_when_continued() {
    let pair = LivePair::wished(&impatient()).await;
    let writer = pair.write().await;
    let old = pair.primary().await;
    let session = pair.host(old).node.connect().await;
    let frozen = family(&pair.host(old).node.config.data_dir);
    frozen.iter().for_each(|pid| send(*pid, "STOP"));
    let stray =
        tokio::spawn(async move { session.batch_execute(&format!("INSERT INTO t VALUES ({STRAY})")).await });
    pair.shows("another primary", |s| primary_of(s).is_some_and(|name| name != old)).await;
    frozen.iter().for_each(|pid| send(*pid, "CONT"));
    let told = timeout(SOON, stray).await.expect("an end of the session").unwrap();
    assert!(told.is_err(), "the old primary acknowledged a commit after it was replaced");
    writer.goes_on().await;
    let incident = pair.whole(1).await.last_incident.unwrap();
    assert!(incident.cause.summary.contains("hangs"), "{:?}", incident.cause);
    let there = format!("SELECT count(*) FROM t WHERE id = {STRAY}");
    assert_eq!(pair.host(pair.primary().await).node.ask(&there).await, "0");
    pair.ends(writer, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_whose_postmaster_alone_is_stopped_is_replaced() {
    let pair = LivePair::wished(&impatient()).await;
    let writer = pair.write().await;
    let old = pair.primary().await;
    // Sessions that are open go on committing; nobody can open another.
    send(family(&pair.host(old).node.config.data_dir)[0], "STOP");
    pair.shows("another primary", |s| primary_of(s).is_some_and(|name| name != old)).await;
    writer.goes_on().await;
    assert!(!finds(&pair.whole(1).await, "split_brain"));
    pair.ends(writer, 1).await;
}
