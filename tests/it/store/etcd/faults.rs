//! Members that fall silent, die, are slow, are cut off, compacted or wiped.

use std::{sync::Arc, time::Duration};

use locum::{
    ports::{Guard, Outcome, Revision, Store, StoreError},
    store::Etcd,
};
use rustix::process::Signal;

use super::{
    super::{absent, committed, put, put_under, value},
    proxy::{Network, Weather},
    server::{Cluster, Watch, store},
};

/// No call takes longer; see `store::etcd::calls`.
const CALL: Duration = Duration::from_secs(3);
/// What the machine may add to any time.
const SLACK: Duration = Duration::from_secs(2);
/// An election of etcd's with its default timeouts, on a busy machine.
const ELECTION: Duration = Duration::from_secs(15);

fn waiting(
    store: &Arc<Etcd>,
    prefix: &'static str,
    since: Revision,
) -> tokio::task::JoinHandle<Result<Revision, StoreError>> {
    let store = Arc::clone(store);
    tokio::spawn(async move { store.changed(prefix, since).await })
}

async fn joined(
    waiting: tokio::task::JoinHandle<Result<Revision, StoreError>>,
) -> Result<Revision, StoreError> {
    tokio::time::timeout(ELECTION, waiting).await.expect("it wakes").expect("joined")
}

/// Writes `key` until a change of it was told by a watch that stands, so that what follows finds it standing.
async fn watched(store: &Arc<Etcd>, key: &'static str) -> Revision {
    // The first wait ends by itself once it knows the present.
    joined(waiting(store, key, Revision(0))).await.expect("changed");
    let first = raise(store, key, "first").await;
    joined(waiting(store, key, Revision(first.0 - 1))).await.expect("changed");
    let news = waiting(store, key, first);
    let second = raise(store, key, "second").await;
    assert_eq!(joined(news).await.expect("changed"), second);
    second
}

/// Tries until it is made, as whoever must write does; what is unknown is read first.
async fn raise(store: &Etcd, key: &str, to: &str) -> Revision {
    let watch = Watch::start();
    loop {
        assert!(watch.elapsed() < ELECTION, "no write got through");
        let Ok(entry) = store.get(key).await else { continue };
        if let Some(entry) = &entry
            && entry.value == to
        {
            return entry.modified;
        }
        let guard =
            entry.map_or_else(|| absent(key), |entry| Guard::Modified(key.to_owned(), entry.modified));
        if let Ok(Outcome::Committed(revision)) = store.commit(vec![guard], vec![put(key, to)]).await {
            return revision;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_falls_silent_costs_one_call_a_moment() {
    let cluster = Cluster::three().await;
    cluster.let_lead(1).await;
    let store = Arc::new(cluster.store());
    let first = watched(&store, "n").await;
    let news = waiting(&store, "n", first);

    cluster.members[0].signal(Signal::STOP);
    let watch = Watch::start();
    let second = committed(&*store, vec![Guard::Modified("n".into(), first)], vec![put("n", "2")]).await;
    let write = watch.elapsed();
    assert_eq!(joined(news).await.expect("changed"), second);
    let woken = watch.elapsed();
    let watch = Watch::start();
    committed(&*store, vec![Guard::Modified("n".into(), second)], vec![put("n", "3")]).await;
    let next = watch.elapsed();
    println!("silent follower: write {write:?}, a waiter woken after {woken:?}, the next write {next:?}");
    assert!(write < CALL && next < CALL && woken < CALL);

    // Another store that asks the silent one first, without a connection.
    let fresh = cluster.store();
    let watch = Watch::start();
    assert_eq!(value(&fresh, "n").await.as_deref(), Some("3"));
    let read = watch.elapsed();
    let lease = fresh.grant(Duration::from_secs(5)).await.expect("grant");
    assert!(fresh.renew(lease).await.expect("renew"));
    println!("silent follower: first read of a new store {read:?}");
    assert!(read < CALL);
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_vanish_cost_one_call_a_moment() {
    let cluster = Cluster::three().await;
    let network = Network::before(cluster.members[0].port).await;
    let mut endpoints = cluster.endpoints();
    endpoints[0].clone_from(&network.url);
    let store = Arc::new(store(endpoints));
    let mut last = committed(&*store, vec![absent("n")], vec![put("n", "")]).await;
    network.turns(Weather::Silent);
    let watch = Watch::start();
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        let one = Watch::start();
        last =
            committed(&*store, vec![Guard::Modified("n".into(), last)], vec![put("n", &n.to_string())]).await;
        slowest = slowest.max(one.elapsed());
    }
    println!("packets vanish: 20 writes in {:?}, the slowest {slowest:?}", watch.elapsed());
    assert!(slowest < CALL);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_done_twice_waits_and_is_told_as_unknown() {
    let cluster = Cluster::three().await;
    let network = Network::before(cluster.members[0].port).await;
    let mut endpoints = cluster.endpoints();
    endpoints[0].clone_from(&network.url);
    let store = store(endpoints);
    committed(&store, vec![absent("n")], vec![put("n", "")]).await;
    network.turns(Weather::Silent);
    let watch = Watch::start();
    let unknown = store.commit(vec![], vec![put("n", "once")]).await;
    assert!(matches!(unknown, Err(StoreError::Outage(_))), "{unknown:?}");
    assert!(watch.elapsed() < CALL + SLACK);
    let watch = Watch::start();
    committed(&store, vec![], vec![put("n", "once more")]).await;
    println!("unguarded write after a silent endpoint: the next one takes {:?}", watch.elapsed());
    assert!(watch.elapsed() < CALL, "the next one begins elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_found_and_not_made_twice() {
    let cluster = Cluster::three().await;
    let network = Network::before(cluster.members[0].port).await;
    let mut endpoints = cluster.endpoints();
    endpoints[0].clone_from(&network.url);
    let store = store(endpoints);
    let first = committed(&store, vec![absent("n")], vec![put("n", "1"), put("other", "1")]).await;
    network.turns(Weather::Deaf);
    let writes = vec![put("n", "2"), put("other", "2")];
    let second = committed(&store, vec![Guard::Modified("n".into(), first)], writes).await;
    let entry = store.get("n").await.expect("get").expect("there");
    assert_eq!((entry.modified, second.0), (second, first.0 + 1), "made once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_etcd_is_slow_and_right() {
    let cluster = Cluster::one().await;
    let network = Network::before(cluster.members[0].port).await;
    let store = store(vec![network.url.clone()]);
    let mut last = committed(&store, vec![absent("n")], vec![put("n", "")]).await;
    network.turns(Weather::Slow(Duration::from_millis(700)));
    for n in 0..3 {
        let stale = store.commit(vec![absent("n")], vec![put("n", "stale")]).await;
        assert!(!matches!(stale, Ok(Outcome::Committed(_))), "{stale:?}");
        let next =
            committed(&store, vec![Guard::Modified("n".into(), last)], vec![put("n", &n.to_string())]).await;
        assert_eq!(next.0, last.0 + 1, "made once");
        last = next;
    }
    network.turns(Weather::Slow(Duration::from_secs(60)));
    let watch = Watch::start();
    let late = store.get("n").await;
    assert!(matches!(late, Err(StoreError::Outage(_))), "{late:?}");
    assert!(watch.elapsed() < CALL + SLACK, "a call ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_and_watches_go_on_when_etcds_leader_is_killed() {
    let mut cluster = Cluster::three().await;
    cluster.let_lead(0).await;
    let store = Arc::new(cluster.store());
    let first = watched(&store, "n").await;
    let news = waiting(&store, "n", first);
    cluster.members[0].kill();
    let watch = Watch::start();
    let second = raise(&store, "n", "2").await;
    println!("etcd's leader killed: a write is through after {:?}", watch.elapsed());
    // It may be woken for the outage first; then it looks, and waits again.
    let woken = match joined(news).await {
        Err(StoreError::Outage(_)) => joined(waiting(&store, "n", first)).await,
        other => other,
    };
    println!("etcd's leader killed: a waiter has the news after {:?}", watch.elapsed());
    assert_eq!(woken.expect("changed"), second);

    cluster.members[0].start();
    let leader = cluster.leader().await.expect("a leader");
    cluster.members[leader].signal(Signal::STOP);
    let watch = Watch::start();
    raise(&store, "n", "3").await;
    println!("etcd's leader frozen: a write is through after {:?}", watch.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_outlasts_the_loss_of_etcds_leader() {
    let mut cluster = Cluster::three().await;
    cluster.let_lead(0).await;
    let store = cluster.store();
    let lease = store.grant(Duration::from_secs(3)).await.expect("grant");
    committed(&store, vec![absent("leader")], vec![put_under("leader", "seoul", lease)]).await;
    cluster.members[0].kill();
    let watch = Watch::start();
    let (mut last, mut gap) = (Duration::ZERO, Duration::ZERO);
    while watch.elapsed() < Duration::from_secs(6) {
        match store.renew(lease).await {
            Ok(renewed) => {
                assert!(renewed, "the lease was lost {:?} after the loss", watch.elapsed());
                gap = gap.max(watch.elapsed() - last);
                last = watch.elapsed();
            }
            Err(error) => println!("renew: {error} after {:?}", watch.elapsed()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("etcd's leader killed: no renewal for {gap:?} at the longest");
    assert_eq!(value(&store, "leader").await.as_deref(), Some("seoul"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_killed_is_not_noticed() {
    let mut cluster = Cluster::three().await;
    cluster.let_lead(2).await;
    let store = Arc::new(cluster.store());
    let first = watched(&store, "n").await;
    let news = waiting(&store, "n", first);
    cluster.members[0].kill();
    let watch = Watch::start();
    let second = raise(&store, "n", "2").await;
    println!("follower killed: a write is through after {:?}", watch.elapsed());
    assert_eq!(joined(news).await.expect("changed"), second);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_calls_and_waits_end_with_an_error() {
    let mut cluster = Cluster::three().await;
    let store = Arc::new(cluster.store());
    let first = watched(&store, "n").await;
    let news = waiting(&store, "n", first);
    cluster.members[0].kill();
    cluster.members[1].kill();
    let watch = Watch::start();
    let failed = store.commit(vec![Guard::Modified("n".into(), first)], vec![put("n", "2")]).await;
    println!("no majority: {failed:?} after {:?}", watch.elapsed());
    assert!(matches!(failed, Err(StoreError::Outage(_) | StoreError::Busy(_))), "{failed:?}");
    assert!(watch.elapsed() < CALL + SLACK);
    let told = joined(news).await;
    println!("no majority: who waits is told {told:?} after {:?}", watch.elapsed());
    assert!(matches!(told, Err(StoreError::Outage(_))), "{told:?}");
    cluster.members[0].start();
    let watch = Watch::start();
    let second = raise(&store, "n", "3").await;
    println!("majority is back: a write is through after {:?}", watch.elapsed());
    loop {
        // The watches come back with pauses of their own.
        match joined(waiting(&store, "n", first)).await {
            Ok(seen) => break assert_eq!(seen, second),
            Err(error) => println!("still: {error}"),
        }
        assert!(watch.elapsed() < ELECTION);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_its_connection_and_a_compaction() {
    let cluster = Cluster::one().await;
    let network = Network::before(cluster.members[0].port).await;
    let watching = Arc::new(store(vec![network.url.clone()]));
    let direct = cluster.store();
    let first = committed(&direct, vec![], vec![put("n", "1")]).await;
    let news = waiting(&watching, "n", first);
    // Until it watches: a first change is told.
    let second = committed(&direct, vec![], vec![put("n", "2")]).await;
    assert_eq!(joined(news).await.expect("changed"), second);

    let news = waiting(&watching, "n", second);
    network.turns(Weather::Broken);
    let third = committed(&direct, vec![], vec![put("n", "3")]).await;
    let last = committed(&direct, vec![], vec![put("unrelated", "")]).await;
    cluster.members[0].client().await.compact(last.0, None).await.expect("compact");
    network.turns(Weather::Fair);
    let mut told = joined(news).await;
    let watch = Watch::start();
    while let Err(error) = told {
        println!("woken to look: {error}");
        assert!(watch.elapsed() < ELECTION);
        told = joined(waiting(&watching, "n", second)).await;
    }
    assert!(told.expect("changed") >= third, "what was compacted is not missed");

    // And it goes on from there.
    let news = waiting(&watching, "n", last);
    let fourth = committed(&direct, vec![], vec![put("n", "4")]).await;
    assert_eq!(joined(news).await.expect("changed"), fourth);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_elsewhere_wakes_nobody() {
    let cluster = Cluster::one().await;
    let store = Arc::new(cluster.store());
    let first = committed(&*store, vec![], vec![put("/locum/shop/intent", "")]).await;
    // A first wait may end early: it finds out what the present is.
    assert_eq!(joined(waiting(&store, "/locum/shop/", Revision(0))).await.expect("changed"), first);
    let news = waiting(&store, "/locum/shop/", first);
    for _ in 0..20 {
        committed(&*store, vec![], vec![put("/locum/shop.lease", "")]).await;
    }
    assert!(!news.is_finished());
    let next = committed(&*store, vec![], vec![put("/locum/shop/intent", "")]).await;
    assert_eq!(joined(news).await.expect("changed"), next);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_wiped_while_running_is_told_and_gone_on_with() {
    let mut cluster = Cluster::one().await;
    let store = Arc::new(cluster.store());
    for n in 0..50 {
        committed(&*store, vec![], vec![put("n", &n.to_string())]).await;
    }
    let last = watched(&store, "n").await;
    let news = waiting(&store, "n", last);
    cluster.members[0].wipe();
    cluster.members[0].start();
    let watch = Watch::start();
    // First the outage, then, once it is back, that it is another.
    let mut told = joined(news).await;
    loop {
        println!("told {told:?} after {:?}", watch.elapsed());
        match told {
            Err(StoreError::Refused(why)) => {
                assert!(why.contains("went back"), "{why}");
                break;
            }
            Err(_) => {}
            Ok(revision) => panic!("a revision of the former store: {revision:?}"),
        }
        assert!(watch.elapsed() < ELECTION * 2);
        told = joined(waiting(&store, "n", last)).await;
    }
    assert_eq!(value(&*store, "n").await, None);
    let now = joined(waiting(&store, "n", Revision(0))).await.expect("changed");
    let news = waiting(&store, "n", now);
    let next = committed(&*store, vec![], vec![put("n", "anew")]).await;
    assert_eq!(joined(news).await.expect("changed"), next);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_not_deleted_and_put_in_one_transaction() {
    let cluster = Cluster::one().await;
    let store = cluster.store();
    committed(&store, vec![], vec![put("a", "1")]).await;
    let both = vec![locum::ports::Write::Delete("a".into()), put("a", "2")];
    let refused = store.commit(vec![], both).await;
    assert!(matches!(&refused, Err(StoreError::Refused(why)) if why.contains('a')), "{refused:?}");
    assert_eq!(value(&store, "a").await.as_deref(), Some("1"));
}
