//! What every back end must do, run against each, through two handles where it can have two.

use std::{sync::Arc, time::Duration};

use locum::{
    ports::{Guard, Outcome, Revision, Store, StoreError, Write},
    store::{Embedded, Memory},
};
use proptest::prelude::*;

use super::{Stopped, absent, committed, etcd::server::Cluster, put, put_under, value};

const TTL: Duration = Duration::from_secs(3);
/// etcd's leases run in real time: the shortest that it grants …
const REAL_TTL: Duration = Duration::from_secs(2);
/// … which it ends so late at most, on a busy machine.
const LATE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_micros(1);
/// No answer takes so long unless something is broken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for a watcher that wakes too early to be caught.
const QUIET: Duration = Duration::from_millis(200);

/// One store behind two handles, as two members have it, and the time of its leases.
pub(super) struct Bench {
    pub(super) one: Arc<dyn Store>,
    pub(super) two: Arc<dyn Store>,
    time: Time,
    _keep: Keep,
}

/// What a store lives in.
enum Keep {
    Nothing,
    Folder { _folder: tempfile::TempDir },
    Server { _server: Cluster },
}

/// How leases run out.
enum Time {
    /// When it is said, to the tick.
    Told(Arc<Stopped>),
    /// By waiting.
    Real,
}

impl Bench {
    /// How long leases are given for here.
    pub(super) fn ttl(&self) -> Duration {
        match self.time {
            Time::Told(_) => TTL,
            Time::Real => REAL_TTL,
        }
    }

    async fn passes(&self, told: Duration, real: Duration) {
        match &self.time {
            Time::Told(clock) => clock.advance(told),
            Time::Real => tokio::time::sleep(real).await,
        }
    }

    /// All but the last moment of a lease's length passes; in real time half of it, for a busy machine.
    pub(super) async fn almost(&self) {
        self.passes(TTL - TICK, REAL_TTL / 2).await;
    }

    /// What [`Bench::almost`] left.
    async fn the_rest(&self) {
        self.passes(TICK, REAL_TTL / 2 + LATE).await;
    }

    /// A lease's length passes, and more where it is not known to the tick.
    pub(super) async fn runs_out(&self) {
        self.passes(TTL, REAL_TTL + LATE).await;
    }

    /// A bit more than half of it passes.
    pub(super) async fn half(&self) {
        self.passes(TTL / 2 + TICK, REAL_TTL / 2 + REAL_TTL / 20).await;
    }

    /// The rest of it passes after [`Bench::half`].
    pub(super) async fn other_half(&self) {
        self.passes(TTL / 2, REAL_TTL / 2 + LATE).await;
    }

    /// Ages pass, where they cost nothing.
    pub(super) async fn ages(&self) {
        self.passes(Duration::from_secs(1_000_000), Duration::ZERO).await;
    }
}

pub(super) fn memory() -> Bench {
    let clock = Stopped::at(Duration::from_secs(100));
    let store = Arc::new(Memory::new(clock.clone()));
    Bench { one: store.clone(), two: store, time: Time::Told(clock), _keep: Keep::Nothing }
}

pub(super) fn embedded() -> Bench {
    let clock = Stopped::at(Duration::from_secs(100));
    let folder = tempfile::tempdir().expect("folder");
    let open = || {
        let path = folder.path().join("store.db");
        Arc::new(Embedded::with_clock(&path, clock.clone()).expect("open"))
    };
    let (one, two) = (open(), open());
    Bench { one, two, time: Time::Told(clock), _keep: Keep::Folder { _folder: folder } }
}

pub(super) async fn etcd() -> Bench {
    let server = Cluster::one().await;
    let (one, two) = (Arc::new(server.store()), Arc::new(server.store()));
    Bench { one, two, time: Time::Real, _keep: Keep::Server { _server: server } }
}

macro_rules! contract {
    ($($fact:ident)*) => {
        mod on_memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $fact() { super::$fact(super::memory()).await; })*
        }
        mod on_embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $fact() { super::$fact(super::embedded()).await; })*
        }
        mod on_etcd {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $fact() { super::$fact(super::etcd().await).await; })*
        }
    };
}

contract! {
    what_one_writes_the_other_reads
    a_guard_that_fails_writes_nothing_at_all
    the_guard_absent_holds_only_without_the_key
    the_guard_modified_refuses_a_stale_basis
    the_guard_holds_goes_by_the_value
    the_guard_created_outlives_changes_but_not_deletion
    revisions_grow_with_every_change_and_only_then
    writes_of_one_transaction_happen_in_order
    a_list_has_exactly_the_prefix_in_order
    a_lease_ends_with_its_length_and_never_before
    a_renewed_lease_counts_from_its_renewal
    a_lease_that_is_gone_cannot_be_renewed
    a_revoked_lease_takes_its_keys_along
    a_put_without_lease_frees_the_key_of_its_lease
    nothing_is_put_under_a_lease_that_is_gone
    a_key_that_ran_out_guards_nothing
    a_wait_ends_with_a_change_of_either_handle
    a_wait_never_ends_early
    a_wait_ends_when_a_lease_runs_out
    of_those_who_swap_at_once_exactly_one_wins
    of_those_who_create_at_once_exactly_one_wins
    a_reader_never_sees_half_a_transaction
}

async fn what_one_writes_the_other_reads(b: Bench) {
    assert_eq!(b.two.get("a").await.expect("get"), None);
    let revision = committed(&*b.one, vec![], vec![put("a", "1")]).await;
    let entry = b.two.get("a").await.expect("get").expect("there");
    assert_eq!((entry.key.as_str(), entry.value.as_str()), ("a", "1"));
    assert_eq!((entry.created, entry.modified), (revision, revision));
}

async fn a_guard_that_fails_writes_nothing_at_all(b: Bench) {
    let revision = committed(&*b.one, vec![], vec![put("a", "1")]).await;
    let guards = vec![Guard::Modified("a".into(), revision), absent("b"), absent("a")];
    let writes = vec![put("b", "2"), Write::Delete("a".into()), put("c", "3")];
    assert_eq!(b.two.commit(guards, writes).await.expect("commit"), Outcome::GuardFailed);
    let left = b.one.list("").await.expect("list");
    assert_eq!(left.iter().map(|e| (e.key.as_str(), e.modified)).collect::<Vec<_>>(), [("a", revision)]);
}

async fn the_guard_absent_holds_only_without_the_key(b: Bench) {
    committed(&*b.one, vec![absent("a")], vec![put("a", "1")]).await;
    let again = b.two.commit(vec![absent("a")], vec![put("a", "2")]).await.expect("commit");
    assert_eq!(again, Outcome::GuardFailed);
    committed(&*b.two, vec![], vec![Write::Delete("a".into())]).await;
    committed(&*b.one, vec![absent("a")], vec![put("a", "3")]).await;
}

async fn the_guard_modified_refuses_a_stale_basis(b: Bench) {
    let basis = |revision| vec![Guard::Modified("a".into(), revision)];
    let first = committed(&*b.one, vec![], vec![put("a", "1")]).await;
    let second = committed(&*b.two, basis(first), vec![put("a", "2")]).await;
    let stale = b.one.commit(basis(first), vec![put("a", "3")]).await.expect("commit");
    assert_eq!(stale, Outcome::GuardFailed);
    committed(&*b.one, basis(second), vec![put("a", "4")]).await;
    let missing = b.one.commit(vec![Guard::Modified("b".into(), Revision(0))], vec![put("b", "")]).await;
    assert_eq!(missing.expect("commit"), Outcome::GuardFailed);
}

async fn the_guard_holds_goes_by_the_value(b: Bench) {
    let holds = |value: &str| vec![Guard::Holds("a".into(), value.into())];
    let missing = b.one.commit(holds(""), vec![put("b", "")]).await;
    assert_eq!(missing.expect("commit"), Outcome::GuardFailed, "there is no such key");
    committed(&*b.one, vec![], vec![put("a", "1")]).await;
    committed(&*b.two, holds("1"), vec![put("a", "2")]).await;
    let stale = b.one.commit(holds("1"), vec![put("a", "3")]).await.expect("commit");
    assert_eq!(stale, Outcome::GuardFailed);
    committed(&*b.two, holds("2"), vec![put("a", "1")]).await;
    committed(&*b.one, holds("1"), vec![put("b", "the value is back, whatever the revision")]).await;
}

async fn the_guard_created_outlives_changes_but_not_deletion(b: Bench) {
    let born = committed(&*b.one, vec![], vec![put("a", "1")]).await;
    let guard = || vec![Guard::Created("a".into(), born)];
    let changed = committed(&*b.two, guard(), vec![put("a", "2")]).await;
    committed(&*b.one, guard(), vec![put("x", "while it lives")]).await;
    let modified = b.one.commit(vec![Guard::Created("a".into(), changed)], vec![put("x", "")]).await;
    assert_eq!(modified.expect("commit"), Outcome::GuardFailed, "a change does not create");

    committed(&*b.two, vec![], vec![Write::Delete("a".into())]).await;
    assert_eq!(b.one.commit(guard(), vec![put("x", "")]).await.expect("commit"), Outcome::GuardFailed);
    let reborn = committed(&*b.two, vec![absent("a")], vec![put("a", "2")]).await;
    assert_eq!(b.one.commit(guard(), vec![put("x", "")]).await.expect("commit"), Outcome::GuardFailed);
    committed(&*b.one, vec![Guard::Created("a".into(), reborn)], vec![put("x", "")]).await;
}

async fn revisions_grow_with_every_change_and_only_then(b: Bench) {
    let mut last = Revision(0);
    for round in 0..20 {
        let store = if round % 2 == 0 { &b.one } else { &b.two };
        let now = committed(&**store, vec![], vec![put("a", "same"), put("b", "same")]).await;
        assert!(now > last);
        last = now;
    }
    let deleted = committed(&*b.one, vec![], vec![Write::Delete("a".into())]).await;
    assert!(deleted > last);
    let nothing = committed(&*b.two, vec![], vec![Write::Delete("a".into())]).await;
    assert_eq!(nothing, deleted, "nothing was there to delete");
    let lease = b.one.grant(b.ttl()).await.expect("grant");
    assert!(b.one.renew(lease).await.expect("renew"));
    b.one.revoke(lease).await.expect("revoke");
    assert_eq!(committed(&*b.two, vec![], vec![]).await, deleted, "a lease without keys changes none");
}

async fn writes_of_one_transaction_happen_in_order(b: Bench) {
    let born = committed(&*b.one, vec![], vec![put("a", "1")]).await;
    let writes = vec![put("a", "2"), put("a", "3"), put("b", ""), Write::Delete("b".into())];
    let revision = committed(&*b.one, vec![], writes).await;
    let entry = b.two.get("a").await.expect("get").expect("there");
    assert_eq!((entry.value.as_str(), entry.created, entry.modified), ("3", born, revision));
    assert!(revision > born && value(&*b.two, "b").await.is_none());
}

/// etcd takes one write of a key in a transaction, and refuses these; nothing of Locum's needs them.
async fn a_key_deleted_and_put_in_one_transaction_is_created_anew(b: Bench) {
    let born = committed(&*b.one, vec![], vec![put("a", "1")]).await;
    let writes = vec![put("a", "2"), Write::Delete("a".into()), put("a", "3"), put("b", "")];
    let revision = committed(&*b.one, vec![], [writes, vec![Write::Delete("b".into())]].concat()).await;
    let entry = b.two.get("a").await.expect("get").expect("there");
    assert_eq!((entry.value.as_str(), entry.created, entry.modified), ("3", revision, revision));
    assert!(revision > born && value(&*b.two, "b").await.is_none());
}

#[tokio::test]
async fn a_key_is_created_anew_within_a_transaction_on_memory_and_embedded() {
    a_key_deleted_and_put_in_one_transaction_is_created_anew(memory()).await;
    a_key_deleted_and_put_in_one_transaction_is_created_anew(embedded()).await;
}

async fn a_list_has_exactly_the_prefix_in_order(b: Bench) {
    let keys =
        ["/a/10", "/a/2", "/a/", "/a", "/b/1", "/a0", "/A/1", "/a/%", "/a/_", "/a/é", "/a/\u{10FFFF}", "/"];
    committed(&*b.one, vec![], keys.iter().map(|key| put(key, "")).collect()).await;
    for prefix in ["/a/", "/a", "", "/a/1", "/a/%", "zzz"] {
        let mut expected: Vec<&str> = keys.iter().copied().filter(|key| key.starts_with(prefix)).collect();
        expected.sort_unstable();
        let listed = b.two.list(prefix).await.expect("list");
        assert_eq!(listed.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), expected, "{prefix:?}");
    }
}

async fn a_lease_ends_with_its_length_and_never_before(b: Bench) {
    let lease = b.one.grant(b.ttl()).await.expect("grant");
    committed(&*b.one, vec![], vec![put_under("leader", "a", lease), put("stays", "")]).await;
    b.almost().await;
    assert_eq!(value(&*b.two, "leader").await.as_deref(), Some("a"), "one tick early");
    b.the_rest().await;
    assert_eq!(value(&*b.two, "leader").await, None);
    let left = b.one.list("").await.expect("list");
    assert_eq!(left.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["stays"]);
}

async fn a_renewed_lease_counts_from_its_renewal(b: Bench) {
    let lease = b.one.grant(b.ttl()).await.expect("grant");
    let born = committed(&*b.one, vec![], vec![put_under("leader", "a", lease)]).await;
    for _ in 0..5 {
        b.almost().await;
        assert!(b.one.renew(lease).await.expect("renew"));
    }
    let entry = b.two.get("leader").await.expect("get").expect("there");
    assert_eq!((entry.created, entry.modified), (born, born), "a renewal changes no key");
    b.runs_out().await;
    assert_eq!(value(&*b.two, "leader").await, None);
}

async fn a_lease_that_is_gone_cannot_be_renewed(b: Bench) {
    let lease = b.one.grant(b.ttl()).await.expect("grant");
    b.runs_out().await;
    assert!(!b.one.renew(lease).await.expect("renew"), "ran out, and nobody looked meanwhile");
    assert!(!b.two.renew(lease).await.expect("renew"));
    let lease = b.one.grant(b.ttl()).await.expect("grant");
    b.two.revoke(lease).await.expect("revoke");
    assert!(!b.one.renew(lease).await.expect("renew"));
    b.one.revoke(lease).await.expect("revoking what is gone does no harm");
}

async fn a_revoked_lease_takes_its_keys_along(b: Bench) {
    let (mine, other) =
        (b.one.grant(b.ttl()).await.expect("grant"), b.two.grant(b.ttl()).await.expect("grant"));
    assert_ne!(mine, other);
    let writes = vec![put_under("a", "", mine), put_under("b", "", other), put_under("c", "", mine)];
    let before = committed(&*b.one, vec![], writes).await;
    b.one.revoke(mine).await.expect("revoke");
    let left = b.two.list("").await.expect("list");
    assert_eq!(left.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(committed(&*b.two, vec![], vec![]).await > before);
}

async fn a_put_without_lease_frees_the_key_of_its_lease(b: Bench) {
    let lease = b.one.grant(b.ttl()).await.expect("grant");
    committed(&*b.one, vec![], vec![put_under("a", "1", lease)]).await;
    committed(&*b.two, vec![], vec![put("a", "2")]).await;
    b.runs_out().await;
    assert_eq!(value(&*b.one, "a").await.as_deref(), Some("2"));
}

async fn nothing_is_put_under_a_lease_that_is_gone(b: Bench) {
    let lease = b.one.grant(b.ttl()).await.expect("grant");
    b.runs_out().await;
    let refused = b.one.commit(vec![], vec![put("x", ""), put_under("a", "", lease)]).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert!(b.two.list("").await.expect("list").is_empty());
}

async fn a_key_that_ran_out_guards_nothing(b: Bench) {
    let lease = b.one.grant(b.ttl()).await.expect("grant");
    let born = committed(&*b.one, vec![], vec![put_under("leader", "a", lease)]).await;
    b.runs_out().await;
    let late = b.one.commit(vec![Guard::Created("leader".into(), born)], vec![put("intent", "late")]).await;
    assert_eq!(late.expect("commit"), Outcome::GuardFailed);
    committed(&*b.two, vec![absent("leader")], vec![put("leader", "b")]).await;
}

async fn wait(store: &Arc<dyn Store>, since: Revision) -> Revision {
    tokio::time::timeout(PATIENCE, store.changed("", since)).await.expect("it wakes").expect("changed")
}

async fn a_wait_ends_with_a_change_of_either_handle(b: Bench) {
    let start = committed(&*b.one, vec![], vec![put("a", "")]).await;
    assert_eq!(wait(&b.two, Revision(0)).await, start, "at once, when it has changed already");
    for writer in [&b.one, &b.two] {
        let since = committed(&**writer, vec![], vec![put("a", "")]).await;
        let waiting = tokio::spawn({
            let store = Arc::clone(&b.two);
            async move { wait(&store, since).await }
        });
        let next = committed(&**writer, vec![], vec![put("a", "")]).await;
        assert_eq!(waiting.await.expect("joined"), next);
    }
}

async fn a_wait_never_ends_early(b: Bench) {
    let since = committed(&*b.one, vec![], vec![put("a", "")]).await;
    let lease = b.one.grant(b.ttl()).await.expect("grant");
    let waiting = tokio::spawn({
        let store = Arc::clone(&b.two);
        async move { wait(&store, since).await }
    });
    let failed = b.one.commit(vec![absent("a")], vec![put("a", "")]).await.expect("commit");
    assert_eq!(failed, Outcome::GuardFailed);
    assert!(b.two.renew(lease).await.expect("renew"));
    tokio::time::sleep(QUIET).await;
    assert!(!waiting.is_finished(), "nothing has changed");
    let next = committed(&*b.one, vec![], vec![put("a", "")]).await;
    assert_eq!(waiting.await.expect("joined"), next);
}

async fn a_wait_ends_when_a_lease_runs_out(b: Bench) {
    let lease = b.one.grant(b.ttl()).await.expect("grant");
    let since = committed(&*b.one, vec![], vec![put_under("leader", "a", lease)]).await;
    let waiting = tokio::spawn({
        let store = Arc::clone(&b.two);
        async move { wait(&store, since).await }
    });
    b.runs_out().await;
    assert!(waiting.await.expect("joined") > since);
    assert_eq!(value(&*b.two, "leader").await, None);
}

async fn of_those_who_swap_at_once_exactly_one_wins(b: Bench) {
    committed(&*b.one, vec![], vec![put("n", "0")]).await;
    for round in 0..40 {
        let basis = b.one.get("n").await.expect("get").expect("there").modified;
        let swap = |racer: usize| {
            let store = Arc::clone(if racer.is_multiple_of(2) { &b.one } else { &b.two });
            tokio::spawn(async move {
                let guard = Guard::Modified("n".into(), basis);
                let write = put("n", &racer.to_string());
                (racer, patiently(|| store.commit(vec![guard.clone()], vec![write.clone()])).await)
            })
        };
        let racers: Vec<_> = (0..6).map(swap).collect();
        let mut winners = Vec::new();
        for racer in racers {
            if let (racer, Outcome::Committed(_)) = racer.await.expect("joined") {
                winners.push(racer.to_string());
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        assert_eq!(value(&*b.two, "n").await.as_ref(), winners.first());
    }
}

async fn of_those_who_create_at_once_exactly_one_wins(b: Bench) {
    for round in 0..40 {
        let key = format!("leader/{round}");
        let create = |racer: usize| {
            let store = Arc::clone(if racer.is_multiple_of(2) { &b.one } else { &b.two });
            let key = key.clone();
            tokio::spawn(async move {
                patiently(|| store.commit(vec![absent(&key)], vec![put(&key, &racer.to_string())])).await
            })
        };
        let mut won = 0;
        for racer in (0..6).map(create).collect::<Vec<_>>() {
            won += usize::from(matches!(racer.await.expect("joined"), Outcome::Committed(_)));
        }
        assert_eq!(won, 1, "round {round}");
    }
}

async fn a_reader_never_sees_half_a_transaction(b: Bench) {
    let writer = tokio::spawn({
        let store = Arc::clone(&b.one);
        async move {
            for n in 0..100 {
                let n = n.to_string();
                committed(&*store, vec![], vec![put("pair/a", &n), put("pair/b", &n)]).await;
            }
        }
    });
    let mut last = Revision(0);
    while !writer.is_finished() {
        let pair = b.two.list("pair/").await.expect("list");
        let Some(first) = pair.first() else { continue };
        assert!(
            pair.len() == 2 && pair.iter().all(|e| e.value == first.value && e.modified == first.modified)
        );
        assert!(first.modified >= last, "reads never go back");
        last = first.modified;
    }
    writer.await.expect("joined");
}

/// Busy is for trying again: on a crowded machine another handle may keep the lock for long.
async fn patiently<F>(mut commit: impl FnMut() -> F) -> Outcome
where
    F: Future<Output = Result<Outcome, StoreError>>,
{
    loop {
        match commit().await {
            Ok(outcome) => return outcome,
            Err(StoreError::Busy(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// A step of a random history.
#[derive(Clone, Debug)]
enum Act {
    Commit { second: bool, guards: Vec<(u8, u8, i64)>, writes: Vec<(u8, u8, u8)> },
    Grant(u8),
    Renew(u8),
    Revoke(u8),
    Advance(u16),
}

fn act() -> impl Strategy<Value = Act> {
    let commit = (any::<bool>(), vec((0..3u8, 0..4u8, 0..12i64), 0..3), vec((0..4u8, 0..4u8, 0..4u8), 0..4))
        .prop_map(|(second, guards, writes)| Act::Commit { second, guards, writes });
    prop_oneof![
        6 => commit,
        1 => (1..6u8).prop_map(Act::Grant),
        1 => (0..4u8).prop_map(Act::Renew),
        1 => (0..4u8).prop_map(Act::Revoke),
        2 => (1..4_000u16).prop_map(Act::Advance),
    ]
}

use proptest::collection::vec;

/// Both back ends, driven alike.
struct Pair {
    benches: [Bench; 2],
    leases: Vec<[locum::ports::LeaseId; 2]>,
}

impl Pair {
    async fn step(&mut self, act: &Act) {
        let lease =
            |pick: u8| (!self.leases.is_empty()).then(|| self.leases[pick as usize % self.leases.len()]);
        let mut results = Vec::new();
        let mut granted = Vec::new();
        for (side, b) in self.benches.iter().enumerate() {
            results.push(match act {
                Act::Commit { second, guards, writes } => {
                    let guards = guards.iter().map(|(kind, key, at)| {
                        let (key, at) = (format!("k{key}"), Revision(*at));
                        [
                            Guard::Absent(key.clone()),
                            Guard::Created(key.clone(), at),
                            Guard::Modified(key, at),
                        ][*kind as usize]
                            .clone()
                    });
                    let writes = writes.iter().map(|(kind, key, pick)| {
                        let key = format!("k{key}");
                        let under = lease(*pick).filter(|_| *kind == 3).map(|pair| pair[side]);
                        match kind {
                            0 => Write::Delete(key),
                            _ => Write::Put { key, value: pick.to_string(), lease: under },
                        }
                    });
                    let store = if *second { &b.two } else { &b.one };
                    let outcome = store.commit(guards.collect(), writes.collect()).await;
                    outcome.map_or_else(|_| "refused".to_owned(), |outcome| format!("{outcome:?}"))
                }
                Act::Grant(seconds) => {
                    granted.push(b.one.grant(Duration::from_secs((*seconds).into())).await.expect("grant"));
                    String::new()
                }
                Act::Renew(pick) => match lease(*pick) {
                    Some(pair) => b.two.renew(pair[side]).await.expect("renew").to_string(),
                    None => String::new(),
                },
                Act::Revoke(pick) => {
                    if let Some(pair) = lease(*pick) {
                        b.one.revoke(pair[side]).await.expect("revoke");
                    }
                    String::new()
                }
                Act::Advance(ms) => {
                    let passed = Duration::from_millis((*ms).into());
                    b.passes(passed, passed).await;
                    String::new()
                }
            });
        }
        if let [memory, embedded] = granted[..] {
            self.leases.push([memory, embedded]);
        }
        assert_eq!(results[0], results[1], "{act:?}");
        let [memory, embedded] = &self.benches;
        assert_eq!(memory.two.list("").await.expect("list"), embedded.two.list("").await.expect("list"));
    }
}

/// Goes through a history on both.
fn same_history(acts: &[Act]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let mut pair = Pair { benches: [memory(), embedded()], leases: Vec::new() };
        for act in acts {
            pair.step(act).await;
        }
    });
}

/// Random histories seldom get here.
#[test]
fn leases_that_run_out_together_end_with_one_revision_on_both() {
    let put_under = |key, lease| Act::Commit { second: false, guards: vec![], writes: vec![(3, key, lease)] };
    let put = Act::Commit { second: true, guards: vec![], writes: vec![(1, 2, 0)] };
    same_history(&[Act::Grant(1), Act::Grant(1), put_under(0, 0), put_under(1, 1), Act::Advance(1_000), put]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn both_back_ends_tell_the_same_history(acts in vec(act(), 1..40)) {
        same_history(&acts);
    }
}
