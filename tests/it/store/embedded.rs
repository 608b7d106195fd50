//! What is particular to the store in a file: it lasts, it is private, and it does not block for ever.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use locum::{
    ports::{Revision, Store, StoreError},
    store::Embedded,
};

use super::{Stopped, committed, put, put_under, value};

fn open(path: &Path) -> Embedded {
    Embedded::open(path).expect("open")
}

fn refusal(result: Result<impl Sized, StoreError>) -> String {
    match result {
        Err(StoreError::Refused(why)) => why,
        Err(other) => panic!("not refused: {other}"),
        Ok(_) => panic!("not refused"),
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_reopening() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store.db");
    let store = open(&path);
    let lease = store.grant(Duration::from_secs(60)).await.expect("grant");
    let revision = committed(&store, vec![], vec![put("a", "1"), put_under("b", "2", lease)]).await;
    drop(store);
    let store = open(&path);
    assert_eq!(value(&store, "a").await.as_deref(), Some("1"));
    assert!(store.renew(lease).await.expect("renew"), "a lease outlives whoever holds it");
    assert!(committed(&store, vec![], vec![put("a", "2")]).await > revision);
}

#[tokio::test]
async fn the_file_and_what_lies_beside_it_are_their_owners_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(&folder.path().join("store.db"));
    committed(&store, vec![], vec![put("a", "1")]).await;
    let mut names = Vec::new();
    for file in fs::read_dir(folder.path()).expect("folder") {
        let file = file.expect("file");
        assert_eq!(file.metadata().expect("metadata").permissions().mode() & 0o777, 0o600, "{file:?}");
        names.push(file.file_name().into_string().expect("name"));
    }
    names.sort();
    assert_eq!(names, ["store.db", "store.db-shm", "store.db-wal"], "no draft is left");
}

#[tokio::test]
async fn a_process_stuck_in_a_write_makes_others_busy_and_not_hang() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store.db");
    let store = open(&path);
    let revision = committed(&store, vec![], vec![put("a", "1")]).await;
    let stuck = rusqlite::Connection::open(&path).expect("open");
    stuck.execute_batch("BEGIN IMMEDIATE; UPDATE kv SET value = 'half'").expect("begin");

    let write = tokio::time::timeout(Duration::from_secs(5), store.commit(vec![], vec![put("a", "2")]));
    let error = write.await.expect("an answer").expect_err("busy");
    assert!(matches!(&error, StoreError::Busy(why) if why.contains("store.db")), "{error}");
    assert_eq!(value(&store, "a").await.as_deref(), Some("1"), "readers need not wait");
    let renewed = store.renew(locum::ports::LeaseId(1)).await;
    assert!(matches!(renewed, Err(StoreError::Busy(_))), "{renewed:?}");

    drop(stuck);
    assert_eq!(committed(&store, vec![], vec![put("a", "2")]).await, Revision(revision.0 + 1));
}

#[tokio::test]
async fn nobody_sees_a_leader_gone_while_a_write_of_its_is_under_way() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store.db");
    let (clock, ttl) = (Stopped::at(Duration::from_secs(100)), Duration::from_secs(3));
    let store = Embedded::with_clock(&path, clock.clone()).expect("open");
    let lease = store.grant(ttl).await.expect("grant");
    let since = committed(&store, vec![], vec![put_under("leader", "a", lease)]).await;
    // The leader froze within a transaction that its lease still allowed.
    let leader = rusqlite::Connection::open(&path).expect("open");
    let half =
        "BEGIN IMMEDIATE; INSERT INTO kv VALUES ('intent', 'a', 2, 2, NULL); UPDATE meta SET revision = 2";
    leader.execute_batch(half).expect("begin");
    let mut waiting = store.changed("", since);
    let quiet = tokio::time::timeout(Duration::from_millis(200), &mut waiting).await;
    assert!(quiet.is_err(), "nothing that counts has changed: {quiet:?}");
    clock.advance(ttl);
    let seen = store.get("leader").await;
    assert!(matches!(seen, Err(StoreError::Busy(_))), "{seen:?}");
    let waited = tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("an answer");
    assert!(matches!(waited, Err(StoreError::Busy(_))), "{waited:?}");
    leader.execute_batch("COMMIT").expect("commit");
    assert_eq!(value(&store, "leader").await, None);
    assert_eq!(value(&store, "intent").await.as_deref(), Some("a"), "it came before");
}

#[tokio::test]
async fn a_file_that_was_replaced_is_written_no_more() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store.db");
    let store = open(&path);
    committed(&store, vec![], vec![put("a", "1")]).await;
    for file in ["store.db", "store.db-wal", "store.db-shm"] {
        fs::remove_file(folder.path().join(file)).expect("remove");
    }
    let why = refusal(store.commit(vec![], vec![put("a", "2")]).await);
    assert!(why.contains("store.db was removed or replaced while in use"), "{why}");
    let second = open(&path);
    refusal(store.get("a").await);
    assert_eq!(value(&second, "a").await, None);
}

#[tokio::test]
async fn a_foreign_file_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("mine.db");
    let mine = rusqlite::Connection::open(&path).expect("open");
    mine.execute_batch("CREATE TABLE kv (mine)").expect("create");
    drop(mine);
    let before = fs::read(&path).expect("read");
    let why = refusal(Embedded::open(&path));
    assert!(why.contains("mine.db is not a Locum store"), "{why}");
    assert_eq!(fs::read(&path).expect("read"), before);
    assert!(refusal(Embedded::open(folder.path())).contains(&folder.path().display().to_string()));
}

#[tokio::test]
async fn many_who_open_a_new_file_at_once_all_get_the_same_one() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().expect("folder");
        let path = Arc::new(folder.path().join("store.db"));
        let openers: Vec<_> = (0..6)
            .map(|_| {
                let path = Arc::clone(&path);
                std::thread::spawn(move || open(&path))
            })
            .collect();
        let stores: Vec<Embedded> = openers.into_iter().map(|o| o.join().expect("opened")).collect();
        committed(&stores[0], vec![], vec![put("a", "1")]).await;
        for store in &stores {
            assert_eq!(value(store, "a").await.as_deref(), Some("1"));
        }
    }
}

#[tokio::test]
async fn a_write_of_the_same_process_wakes_without_waiting_for_the_next_look() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(&folder.path().join("store.db"));
    let mut at_once = 0;
    for _ in 0..20 {
        let since = committed(&store, vec![], vec![put("a", "")]).await;
        let mut waiting = store.changed("", since);
        let early = tokio::time::timeout(Duration::from_millis(5), &mut waiting).await;
        assert!(early.is_err(), "{early:?}");
        let next = committed(&store, vec![], vec![put("a", "")]).await;
        // A look would come some 40 ms from now.
        if let Ok(woken) = tokio::time::timeout(Duration::from_millis(10), waiting).await {
            assert_eq!(woken.expect("changed"), next);
            at_once += 1;
        }
    }
    assert!(at_once >= 5, "{at_once} of 20; a crowded machine may miss some");
}

#[tokio::test]
async fn a_lease_of_before_the_machine_restarted_runs_its_length_again() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store.db");
    let ttl = Duration::from_secs(3);
    let store = Embedded::with_clock(&path, Stopped::at(Duration::from_secs(1_000_000))).expect("open");
    let lease = store.grant(ttl).await.expect("grant");
    committed(&store, vec![], vec![put_under("leader", "a", lease)]).await;
    drop(store);
    let clock = Stopped::at(Duration::from_secs(20));
    let store = Embedded::with_clock(&path, clock.clone()).expect("open");
    assert_eq!(value(&store, "leader").await.as_deref(), Some("a"));
    clock.advance(ttl);
    assert_eq!(value(&store, "leader").await, None, "not a million seconds from now");
}

#[tokio::test]
async fn giving_up_on_a_write_does_not_disturb_the_next() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(&folder.path().join("store.db"));
    for n in 0..20 {
        let write = store.commit(vec![], vec![put("dropped", &n.to_string())]);
        let _ = tokio::time::timeout(Duration::from_micros(50 * n), write).await;
        committed(&store, vec![], vec![put("kept", &n.to_string())]).await;
        assert_eq!(value(&store, "kept").await, Some(n.to_string()));
    }
}

/// Prints what a commit and the idle wait cost on this machine.
/// `cargo test --test it store::embedded::costs -- --ignored --nocapture`
#[tokio::test]
#[ignore = "measures, asserts nothing"]
async fn costs() {
    let folder = tempfile::tempdir_in(".").expect("folder");
    let store = Arc::new(open(&folder.path().join("store.db")));
    let mut times = Vec::new();
    for n in 0..300 {
        let start = tokio::time::Instant::now();
        committed(&*store, vec![], vec![put("a", &n.to_string().repeat(300))]).await;
        times.push(start.elapsed());
    }
    times.sort();
    println!("commit: median {:?}, p99 {:?}, max {:?}", times[150], times[296], times[299]);
    let mut times = Vec::new();
    for _ in 0..1000 {
        let start = tokio::time::Instant::now();
        value(&*store, "a").await;
        times.push(start.elapsed());
    }
    times.sort();
    println!("read: median {:?}, p99 {:?}", times[500], times[990]);
    let busy = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let before = busy();
    let _ = tokio::time::timeout(Duration::from_secs(10), store.changed("", Revision(10_000))).await;
    println!("idle wait: {:.3} % of a core", (busy() - before) * 10.0);
}
