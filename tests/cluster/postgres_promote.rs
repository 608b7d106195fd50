//! Promotion while the receiver has only just died, again and again.

use std::time::Duration;

use locum::postgres::{Rewound, promote};
use tokio::time::Instant;

use crate::fixture::{Node, Pair, SOON, until};

/// Resolves with the first acknowledged write.
async fn writable(node: &Node, id: i64) {
    until("a write", || async {
        let client = node.try_connect().await?;
        client.batch_execute(&format!("INSERT INTO t VALUES ({id})")).await.ok()
    })
    .await;
}

#[tokio::test]
async fn no_promotion_sleeps_out_the_retry_interval_and_each_old_primary_comes_back_by_rewind() {
    let mut pair = Pair::new().await;
    let mut took = Vec::new();
    for round in 0..10 {
        let old = pair.primary.instance.find().await.unwrap();
        let new = pair.standby.instance.find().await.unwrap().unwrap();
        pair.primary.instance.kill_all(old.as_ref()).await.unwrap();
        let began = Instant::now();
        promote(&pair.standby.instance, &new, writable(&pair.standby, round), SOON).await.unwrap();
        took.push(began.elapsed());

        // `pg_rewind` believes the control file, which learns of the new timeline with a checkpoint.
        pair = pair.swapped();
        pair.primary.ask("CHECKPOINT").await;
        pair.primary.slot(pair.standby.name).await;
        let rewound = pair.standby.instance.rewind(&pair.primary.source(), |_| ()).await.unwrap();
        assert_eq!(rewound, Rewound::Done);
        pair.standby.follow(&pair.primary).await;
        pair.standby.start().await;
        pair.streams().await;
    }
    took.sort();
    println!("promotion, request to first commit, of 10: {took:?}");
    // `wal_retrieve_retry_interval` is 5 s by default.
    assert!(took.iter().all(|took| *took < Duration::from_secs(4)), "{took:?}");
    assert_eq!(pair.primary.ask("SELECT count(*) FROM t").await, "10");
}
