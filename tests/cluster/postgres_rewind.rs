//! A primary that went on after the other was promoted: what it lost is counted and kept, then it is rewound.

use std::{fs, sync::Mutex};

use locum::{
    model::{NodeId, Stamp, Switch, Timeline},
    postgres::{RewindError, Rewound, Tail, promote},
};

use crate::fixture::{Node, Pair, SOON, until};

/// Two primaries: the first has gone on alone, the second was promoted and has rows of its own.
async fn parted() -> Pair {
    let pair = Pair::with_segments(1).await;
    pair.standby.instance.set(&[("primary_conninfo", "")]).await.unwrap();
    let standby = pair.standby.instance.find().await.unwrap().unwrap();
    standby.reload().unwrap();
    pair.primary.becomes("SELECT count(*) FROM pg_stat_replication", "0").await;
    let write = until("a write", || async {
        pair.standby.try_connect().await?.batch_execute("INSERT INTO t VALUES (-1)").await.ok()
    });
    promote(&pair.standby.instance, &standby, write, SOON).await.unwrap();
    pair.standby.ask("CHECKPOINT").await;
    pair
}

fn tail(id: &str, switch: Switch) -> Tail<'_> {
    Tail {
        id,
        node: NodeId::new("alpha").unwrap(),
        under: Stamp::default(),
        timeline: switch.timeline,
        from: switch.at,
        made_at: "2026-11-26T12:00:00Z".parse().unwrap(),
        names: None,
    }
}

#[tokio::test]
async fn the_lost_tail_is_counted_exactly_and_salvaged_and_the_rest_rewound() {
    let pair = parted().await;
    let alone = pair.primary.connect().await;
    for id in 0..37 {
        alone.batch_execute(&format!("INSERT INTO t VALUES ({id})")).await.unwrap();
    }
    alone
        .batch_execute(
            "BEGIN; INSERT INTO t VALUES (100), (101); UPDATE t SET id = 102 WHERE id = 101; COMMIT",
        )
        .await
        .unwrap();
    alone
        .batch_execute("BEGIN; INSERT INTO t VALUES (103); ROLLBACK; DELETE FROM t WHERE id < 7")
        .await
        .unwrap();
    for _ in 0..3 {
        alone.batch_execute("SELECT pg_logical_emit_message(true, 'locum', 'x')").await.unwrap();
    }
    alone.batch_execute("SELECT pg_logical_emit_message(true, 'test', repeat('x', 3000000))").await.unwrap();
    // Its own settings must survive the rewind, which would bring the other's.
    pair.primary.instance.set(&[("work_mem", "7MB")]).await.unwrap();
    pair.primary.instance.kill_all(None).await.unwrap();

    let switch = pair.standby.instance.history(Timeline(2)).await.unwrap()[0];
    let old = &pair.primary.instance;
    let end = old.wal_end(switch.timeline, switch.at).await.unwrap();
    let lost = old.lost(switch.timeline, switch.at).await.unwrap();
    // 37 single rows, one of two rows, the deletion (the rollback is none), the large message.
    assert_eq!((lost.transactions, lost.probes), (40, 3), "{lost:?}");
    assert_eq!((lost.inserted, lost.updated, lost.deleted), (39, 1, 7), "{lost:?}");
    assert_eq!((lost.end, lost.bytes), (end, end.bytes_since(switch.at)));
    assert!(lost.first_commit < lost.last_commit && lost.first_commit.is_some());

    for _ in 0..2 {
        let salvaged = old.salvage(&tail("incident-1", switch)).await.unwrap();
        assert_eq!((&salvaged.tail, &salvaged.left_out), (&lost, &None));
        assert_eq!(salvaged.dir, pair.primary.state_dir.join("salvage/incident-1"));
        let manifest = fs::read_to_string(salvaged.dir.join("MANIFEST")).unwrap();
        let segments =
            manifest.lines().filter(|line| line.starts_with("00000001") && line.contains(" 1048576 "));
        assert!(segments.count() >= 3, "{manifest}");
        let listing = fs::read_to_string(salvaged.dir.join("listing.txt")).unwrap();
        assert_eq!(listing.lines().filter(|line| line.contains("desc: COMMIT")).count(), 43);
    }
    assert!(old.salvage(&tail("../x", switch)).await.is_err());

    pair.standby.slot(pair.primary.name).await;
    let said = Mutex::new(Vec::new());
    let note = |line: &str| said.lock().unwrap().push(line.to_owned());
    assert_eq!(old.rewind(&pair.standby.source(), note).await.unwrap(), Rewound::Done);
    assert!(said.lock().unwrap().iter().any(|line| line.contains('%')), "{said:?}");
    assert_eq!(old.get("work_mem").await.unwrap().as_deref(), Some("7MB"));
    assert!(old.has_standby_signal().await.unwrap());
    assert!(!pair.primary.state_dir.join("kept").exists());

    pair.primary.follow(&pair.standby).await;
    pair.primary.start().await;
    let pair = pair.swapped();
    pair.streams().await;
    assert_eq!(pair.standby.ask("SELECT count(*) FROM t").await, "1");
}

#[tokio::test]
async fn a_running_server_and_another_system_are_not_rewound() {
    let (node, stranger) = (Node::new("alpha"), Node::new("gamma"));
    for node in [&node, &stranger] {
        node.init(16).await;
        node.start().await;
        node.ask("CREATE ROLE replicator SUPERUSER LOGIN").await;
    }
    let running = node.instance.rewind(&stranger.source(), |_| ()).await;
    assert!(matches!(running, Err(RewindError::Failed(_))), "{running:?}");
    node.instance.kill_all(None).await.unwrap();
    let other = node.instance.rewind(&stranger.source(), |_| ()).await;
    assert!(matches!(other, Err(RewindError::Impossible(_))), "{other:?}");
    assert!(
        node.instance.has_standby_signal().await.unwrap(),
        "it was recovered, and could come up as a primary"
    );
    assert!(!node.state_dir.join("kept").exists());

    stranger.instance.kill_all(None).await.unwrap();
    let gone = node.instance.rewind(&stranger.source(), |_| ()).await;
    assert!(matches!(gone, Err(RewindError::Failed(_))), "{gone:?}");
}
