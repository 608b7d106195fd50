//! Where the log of a crashed server ends.

use locum::model::{Lsn, Timeline};

use crate::fixture::{Node, Pair, SOON, Writers, until};

#[tokio::test]
async fn the_end_of_wal_is_where_recovery_ends_and_not_before_what_was_flushed() {
    // Small segments, so that some runs end in another one than the last checkpoint's.
    let node = Node::new("alpha");
    node.init(1).await;
    node.start().await;
    node.ask("CREATE TABLE t (id bigint PRIMARY KEY)").await;
    for round in 0..8 {
        let writers = Writers::start(&node, 4, round * 1_000_000).await;
        if round % 2 == 1 {
            node.ask("SELECT pg_logical_emit_message(true, 'test', repeat('x', 2500000))").await;
        }
        let flushed: Lsn = node.ask("SELECT pg_current_wal_flush_lsn()").await.parse().unwrap();
        node.instance.kill_all(None).await.unwrap();
        writers.finish().await;

        let control = node.instance.control().await.unwrap();
        assert_eq!(node.instance.wal_timeline().await.unwrap(), control.timeline);
        let end = node.instance.wal_end(control.timeline, control.redo).await.unwrap();
        assert!(end >= flushed, "{end} {flushed}");
        node.start().await;
        // Recovery ends with a checkpoint record right behind the last valid one, but for a page's header.
        let after = node.instance.control().await.unwrap();
        let gap = after.checkpoint.0.checked_sub(end.0);
        assert!(gap.is_some_and(|gap| gap <= 40), "round {round}: {end} {}", after.checkpoint);
    }
}

#[tokio::test]
async fn a_clean_stop_ends_right_behind_its_checkpoint() {
    let node = Node::new("alpha");
    node.init(16).await;
    let postmaster = node.start().await;
    node.instance.stop_fast(&postmaster, SOON).await.unwrap();
    let control = node.instance.control().await.unwrap();
    let end = node.instance.wal_end(control.timeline, control.checkpoint).await.unwrap();
    assert!(end > control.checkpoint && end.bytes_since(control.checkpoint) < 200, "{end}");
    assert_eq!(node.instance.wal_end(control.timeline, end).await.unwrap(), end);
    let nothing = node.instance.lost(control.timeline, end).await.unwrap();
    assert_eq!((nothing.bytes, nothing.transactions), (0, 0));
    assert!(node.instance.wal_end(Timeline(7), end).await.is_err());
}

#[tokio::test]
async fn a_switch_of_segments_takes_the_rest_of_its_segment() {
    let node = Node::new("alpha");
    node.init(1).await;
    node.start().await;
    node.ask("CREATE TABLE t ()").await;
    let switched: Lsn = node.ask("SELECT pg_switch_wal()").await.parse().unwrap();
    node.instance.kill_all(None).await.unwrap();
    let control = node.instance.control().await.unwrap();
    let end = node.instance.wal_end(control.timeline, control.redo).await.unwrap();
    assert!(end >= Lsn(switched.0.next_multiple_of(1 << 20)), "{end} {switched}");
}

#[tokio::test]
async fn a_primary_that_crashes_right_after_its_promotion_is_known_by_its_new_timeline() {
    let pair = Pair::with_segments(1).await;
    pair.primary.instance.kill_all(None).await.unwrap();
    let standby = pair.standby.instance.find().await.unwrap().unwrap();
    let write = async {
        until("a write", || async {
            pair.standby.try_connect().await?.batch_execute("INSERT INTO t VALUES (1)").await.ok()
        })
        .await;
    };
    locum::postgres::promote(&pair.standby.instance, &standby, write, SOON).await.unwrap();
    let flushed: Lsn = pair.standby.ask("SELECT pg_current_wal_flush_lsn()").await.parse().unwrap();
    pair.standby.instance.kill_all(None).await.unwrap();

    let instance = &pair.standby.instance;
    assert_eq!(instance.wal_timeline().await.unwrap(), Timeline(2));
    let history = instance.history(Timeline(2)).await.unwrap();
    assert_eq!((history.len(), history[0].timeline), (1, Timeline(1)));
    let control = instance.control().await.unwrap();
    assert!(instance.wal_end(Timeline(2), control.redo).await.unwrap() >= flushed);
}
