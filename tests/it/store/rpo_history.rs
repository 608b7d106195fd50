//! The history of the live RPO, and that anybody can read it with SQL.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use locum::{
    model::{LiveRpo, Lsn, Mono, NodeId, Objectives},
    ports::StoreError,
    store::{Embedded, RpoHistory},
};

const OBJECTIVES: Objectives = Objectives { rto_ms: 5_000.0, rpo_ms: 100.0 };

fn live(bytes: Option<u64>, ms: Option<f64>) -> LiveRpo {
    let standby = bytes.map(|_| (NodeId::new("b").expect("good name"), Lsn(0)));
    LiveRpo {
        as_of: Mono(0),
        bytes,
        ms,
        primary: Lsn(0),
        standby,
        acknowledged_is_safe: false,
        write_rate: 0.0,
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time") + SignedDuration::from_millis(ms)
}

#[tokio::test]
async fn seconds_add_up_to_minutes_with_their_percentiles() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("rpo.db");
    let history = RpoHistory::open(&path).expect("open");
    // Two minutes, ten samples a second: second n has n bytes at risk at worst, for 10 n milliseconds.
    for sample in 0..1_200_i64 {
        let worst = if sample % 10 == 3 { u64::try_from(sample / 10 % 60).expect("small") } else { 0 };
        #[expect(clippy::cast_precision_loss, reason = "below 60")]
        history.note(at(sample * 100), &live(Some(worst), Some(worst as f64 * 10.0)), &OBJECTIVES);
    }
    let minutes = history.query(at(0)).await.expect("query");
    assert_eq!(minutes.len(), 2);
    for minute in &minutes {
        let (bytes, ms) = (minute.bytes.expect("known"), minute.ms.expect("known"));
        assert_eq!((bytes.p50, bytes.p95, bytes.p99, bytes.max), (29, 56, 59, 59));
        assert_eq!((ms.p50, ms.p95, ms.p99, ms.max), (290.0, 560.0, 590.0, 590.0));
        // Seconds 11 to 59 were beyond 100 ms in one sample of ten.
        assert_eq!((minute.seconds, minute.unknown_ms, minute.breach_ms), (60, 0, 4_900));
    }
    assert_eq!(history.query(at(60_000)).await.expect("query"), minutes[1..]);

    let sql = rusqlite::Connection::open(&path).expect("open");
    let seconds: (i64, i64) = sql
        .query_row("SELECT count(*), max(bytes_max) FROM rpo_second", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .expect("query");
    assert_eq!(seconds, (120, 59));
}

#[tokio::test]
async fn what_comes_later_for_a_second_is_added_to_it() {
    let folder = tempfile::tempdir().expect("folder");
    let history = RpoHistory::open(&folder.path().join("rpo.db")).expect("open");
    for (bytes, ms) in [(None, None), (Some(7), Some(1.0)), (None, None), (Some(3), Some(200.0))] {
        history.note(at(0), &live(bytes, ms), &OBJECTIVES);
        history.flush().await.expect("flush");
    }
    let minutes = history.query(at(0)).await.expect("query");
    let [minute] = &minutes[..] else { panic!("{minutes:?}") };
    assert_eq!((minute.bytes.expect("known").max, minute.ms.expect("known").max), (7, 200.0));
    assert_eq!((minute.seconds, minute.unknown_ms, minute.breach_ms), (1, 500, 750));
}

#[tokio::test]
async fn unknown_is_not_zero_and_safe_commits_are_no_breach() {
    let folder = tempfile::tempdir().expect("folder");
    let history = RpoHistory::open(&folder.path().join("rpo.db")).expect("open");
    history.note(at(0), &live(None, None), &OBJECTIVES);
    let safe = LiveRpo { acknowledged_is_safe: true, ..live(Some(9), Some(9_000.0)) };
    history.note(at(60_000), &safe, &OBJECTIVES);
    let minutes = history.query(at(0)).await.expect("query");
    assert_eq!((minutes[0].bytes, minutes[0].unknown_ms, minutes[0].breach_ms), (None, 1_000, 1_000));
    assert_eq!((minutes[1].unknown_ms, minutes[1].breach_ms), (0, 0));
}

#[tokio::test]
async fn samples_reach_the_file_without_anybody_asking() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("rpo.db");
    let history = RpoHistory::open(&path).expect("open");
    for second in 0..25 {
        history.note(at(second * 1_000), &live(Some(1), Some(1.0)), &OBJECTIVES);
    }
    let sql = rusqlite::Connection::open(&path).expect("open");
    let count = || sql.query_row("SELECT count(*) FROM rpo_second", [], |row| row.get::<_, i64>(0));
    let written = async |least| {
        let there = async {
            while count().expect("count") < least {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), there).await.expect("written");
    };
    written(11).await;
    drop(history);
    written(25).await;
}

#[tokio::test]
async fn a_history_is_not_taken_for_a_store() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("rpo.db");
    drop(RpoHistory::open(&path).expect("open"));
    assert!(
        matches!(Embedded::open(&path), Err(StoreError::Refused(why)) if why.contains("not a Locum store"))
    );
}
