//! Leadership over a store that fails, hangs, and comes back.

use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;

use super::*;
use crate::{
    clock::SystemClock,
    model::{ClusterName, Mono},
    ports::{Entry, Guard, LeaseId, Outcome, Store, Write},
    store::Memory,
};

/// Long enough that a busy machine tells four fifths of it from all of it.
const TTL: Duration = Duration::from_secs(3);
/// Nothing here takes so long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the store does with the next calls.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Mood {
    Well,
    Failing,
    Hanging,
}

/// A store in a mood.
struct Moody {
    store: Memory,
    mood: AtomicU8,
}

impl Moody {
    fn new() -> Arc<Self> {
        Arc::new(Self { store: Memory::new(Arc::new(SystemClock)), mood: AtomicU8::new(Mood::Well as u8) })
    }

    fn turns(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    async fn answer<T>(&self, of: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let mood = self.mood.load(Ordering::SeqCst);
        if mood == Mood::Failing as u8 {
            return Err(StoreError::Outage("in the test".to_owned()));
        }
        if mood == Mood::Hanging as u8 {
            return std::future::pending().await;
        }
        of.await
    }
}

#[async_trait]
impl Store for Moody {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.answer(self.store.get(key)).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.answer(self.store.list(prefix)).await
    }
    async fn commit(&self, guards: Vec<Guard>, writes: Vec<Write>) -> Result<Outcome, StoreError> {
        self.answer(self.store.commit(guards, writes)).await
    }
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.answer(self.store.grant(ttl)).await
    }
    async fn renew(&self, lease: LeaseId) -> Result<bool, StoreError> {
        self.answer(self.store.renew(lease)).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.answer(self.store.revoke(lease)).await
    }
    async fn changed(&self, prefix: &str, since: Revision) -> Result<Revision, StoreError> {
        self.answer(self.store.changed(prefix, since)).await
    }
}

/// A candidate on a store, and what it tells.
struct Bench {
    store: Arc<Moody>,
    told: mpsc::Receiver<Event>,
    resign: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("good name")
}

fn records(store: &Arc<Moody>) -> Records {
    Records::new(store.clone(), ClusterName::new("shop").expect("good name"))
}

impl Bench {
    fn start(store: Arc<Moody>, ttl: Duration) -> Self {
        let registration = Registration {
            node: node("a"),
            api_address: "127.0.0.1:1".into(),
            peer_address: "127.0.0.1:2".into(),
            version: "0".into(),
        };
        let records = records(&store);
        let candidate =
            Candidate { node: node("a"), registration, records, ttl, clock: Arc::new(SystemClock) };
        let (events, told) = mpsc::channel(16);
        let (resign, wish) = watch::channel(false);
        Self { store, told, resign, task: tokio::spawn(candidate.run(events, wish)) }
    }

    /// The next leadership it tells, or its end.
    async fn next(&mut self) -> Option<Leading> {
        match timeout(PATIENCE, self.told.recv()).await.expect("it tells") {
            Some(Event::Leads(leading)) => leading,
            _ => panic!("it tells of leadership only"),
        }
    }

    /// Waits for the end of its leadership, and returns until when it could last be believed, and when that was told.
    async fn end(&mut self, leading: &Leading) -> (Mono, Mono) {
        let mut until = leading.until;
        while let Some(renewed) = self.next().await {
            until = renewed.until;
        }
        (until, SystemClock.now())
    }

    async fn key_is_there(&self) -> bool {
        self.store.store.get("/locum/shop/leader").await.expect("get").is_some()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ends_in_time(mood: Mood) {
    let mut b = Bench::start(Moody::new(), TTL);
    let first = b.next().await.expect("it leads");
    // Once more, so that it is a renewal that counts.
    let renewed = b.next().await.expect("it leads");
    assert!(renewed.until > first.until);
    b.store.turns(mood);
    let (last, told) = b.end(&renewed).await;
    assert!(b.key_is_there().await, "nobody could have taken it yet");
    assert!(told.plus(Duration::from_millis(50)) >= last, "not before it had to");
    assert!(told.since(last) < TTL / 5, "told {:?} after it stopped to count", told.since(last));

    // And it leads again once the store is back, even if its own former key is in the way until it runs out.
    b.store.turns(Mood::Well);
    assert!(b.next().await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_ends_leadership_before_the_lease_can_be_taken() {
    ends_in_time(Mood::Hanging).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_ends_leadership_before_the_lease_can_be_taken() {
    ends_in_time(Mood::Failing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_outlasts_an_outage_is_led_on_with() {
    let ttl = Duration::from_secs(1);
    let mut b = Bench::start(Moody::new(), ttl);
    let leading = b.next().await.expect("it leads");
    b.store.turns(Mood::Failing);
    // As etcd does when its leader changes.
    let lasting = tokio::spawn({
        let (store, lease) = (b.store.clone(), leading.leadership.lease);
        async move {
            loop {
                assert!(store.store.renew(lease).await.expect("renew"));
                tokio::time::sleep(ttl / 10).await;
            }
        }
    });
    b.end(&leading).await;
    b.store.turns(Mood::Well);
    let again = b.next().await.expect("it leads on");
    lasting.abort();
    assert_eq!(again.leadership, leading.leadership);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_failure_is_outlasted() {
    let mut b = Bench::start(Moody::new(), TTL);
    let first = b.next().await.expect("it leads");
    b.store.turns(Mood::Failing);
    // Beyond the next renewal, short of the end.
    tokio::time::sleep(TTL / 2).await;
    b.store.turns(Mood::Well);
    let renewed = b.next().await.expect("it goes on");
    assert!(renewed.until > first.until);
    assert_eq!(renewed.leadership, first.leadership);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_resigns_is_followed_at_once() {
    let store = Moody::new();
    // So long that whoever waits for the time, and not for the news, is caught.
    let ttl = Duration::from_secs(60);
    let others = records(&store);
    let other = others.campaign(&node("b"), ttl).await.expect("campaign").expect("nobody leads");
    let mut b = Bench::start(store, ttl);
    // Until it has tried in vain: it registers first.
    timeout(PATIENCE, async {
        while others.members().await.expect("members").is_empty() {
            others.changed(Revision::default()).await.expect("changed");
        }
    })
    .await
    .expect("it registers");
    let before = SystemClock.now();
    others.resign(other).await.expect("resign");
    assert!(b.next().await.is_some());
    let gap = SystemClock.now().since(before);
    assert!(gap < ttl / LOOKS / 10, "followed after {gap:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_resigned_leaves_the_turn_to_others() {
    let ttl = Duration::from_secs(1);
    let mut b = Bench::start(Moody::new(), ttl);
    let leading = b.next().await.expect("it leads");
    b.resign.send_replace(true);
    let (_, told) = b.end(&leading).await;
    assert!(!b.key_is_there().await);
    b.resign.send_replace(false);
    assert!(b.next().await.is_some(), "nobody else wanted to");
    assert!(SystemClock.now().since(told).as_secs_f64() > 1.8, "it left two lengths to them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_taken_away_ends_leadership() {
    let mut b = Bench::start(Moody::new(), TTL);
    let leading = b.next().await.expect("it leads");
    b.store.store.revoke(leading.leadership.lease).await.expect("revoke");
    let (until, told) = b.end(&leading).await;
    assert!(told < until, "it need not wait for its time to pass");
    assert!(b.next().await.is_some(), "and it tries anew");
}
