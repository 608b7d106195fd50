//! The app server's health probe, against a real HTTP server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use locum::{app::Probe, clock::SystemClock, config, model::AppFacts, ports::Clock};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

const DEADLINE: Duration = Duration::from_secs(10);

/// An app server that answers as it is told, once it may.
struct App {
    status: AtomicU16,
    asked: AtomicU64,
    /// A permit for each answer.
    may_answer: Semaphore,
}

impl App {
    async fn start(status: u16, answers: usize) -> (Arc<Self>, String) {
        let app = Arc::new(Self {
            status: AtomicU16::new(status),
            asked: AtomicU64::new(0),
            may_answer: Semaphore::new(answers),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().route("/healthz", get(Self::answer)).with_state(Arc::clone(&app));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (app, address)
    }

    async fn answer(State(app): State<Arc<Self>>) -> StatusCode {
        app.asked.fetch_add(1, Ordering::SeqCst);
        app.may_answer.acquire().await.unwrap().forget();
        StatusCode::from_u16(app.status.load(Ordering::SeqCst)).unwrap()
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

fn probe(address: &str, interval: Duration, limit: Duration) -> Probe {
    let config = config::App {
        health: format!("http://{address}/healthz"),
        address: address.to_owned(),
        interval,
        timeout: limit,
    };
    Probe::start(&config, Arc::new(SystemClock))
}

async fn until(probe: &Probe, condition: impl Fn(&AppFacts) -> bool) -> AppFacts {
    let mut changes = probe.changes();
    let wait = async {
        loop {
            let facts = probe.facts();
            if condition(&facts) {
                return facts;
            }
            changes.changed().await.unwrap();
        }
    };
    timeout(DEADLINE, wait).await.expect("the condition comes true, and is announced")
}

async fn eventually(condition: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "the condition comes true");
        sleep(Duration::from_millis(2)).await;
    }
}

const MANY: usize = 1_000_000;
const SELDOM: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn any_2xx_is_healthy_and_all_else_is_not() {
    let (app, address) = App::start(204, MANY).await;
    let probe = probe(&address, Duration::from_millis(10), DEADLINE);
    let facts = until(&probe, |facts| facts.healthy).await;
    assert!(facts.last_ok.is_some() && facts.failing_since.is_none());
    for status in [302, 404, 503] {
        app.status.store(status, Ordering::SeqCst);
        let facts = until(&probe, |facts| !facts.healthy).await;
        assert!(facts.error.unwrap().contains(&status.to_string()));
        app.status.store(200, Ordering::SeqCst);
        until(&probe, |facts| facts.healthy && facts.failing_since.is_none()).await;
    }
}

#[tokio::test]
async fn failing_since_is_the_start_of_the_first_failing_probe() {
    let (app, address) = App::start(200, 1).await;
    let limit = Duration::from_millis(300);
    let probe = probe(&address, SELDOM, limit);
    until(&probe, |facts| facts.healthy).await;
    let before = SystemClock.now();
    probe.now();
    let failing = until(&probe, |facts| !facts.healthy).await;
    let noticed = SystemClock.now();
    let since = failing.failing_since.unwrap();
    assert!(since >= before, "it began when it was asked for");
    assert!(noticed.since(since) >= limit, "not when its deadline had passed");
    let asked = app.asked();
    eventually(|| app.asked() > asked + 1).await;
    assert_eq!(probe.facts().failing_since, Some(since), "later failures do not move it");
}

#[tokio::test]
async fn a_failing_app_is_asked_often_and_its_recovery_noticed_at_once() {
    let (app, address) = App::start(503, MANY).await;
    let probe = probe(&address, SELDOM, DEADLINE);
    until(&probe, |facts| facts.failing_since.is_some()).await;
    app.status.store(200, Ordering::SeqCst);
    until(&probe, |facts| facts.healthy).await;
}

#[tokio::test]
async fn an_app_that_does_not_listen_is_unhealthy_and_the_cause_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let probe = probe(&address, SELDOM, DEADLINE);
    let facts = until(&probe, |facts| facts.failing_since.is_some()).await;
    assert!(!facts.healthy && facts.last_ok.is_none());
    assert!(facts.error.as_ref().unwrap().contains("refused"), "{facts:?}");
}

#[tokio::test]
async fn a_request_during_a_probe_makes_one_more_directly_after_it() {
    let (app, address) = App::start(200, 0).await;
    let probe = probe(&address, SELDOM, DEADLINE);
    eventually(|| app.asked() == 1).await;
    for _ in 0..5 {
        probe.now();
    }
    app.may_answer.add_permits(1);
    eventually(|| app.asked() == 2).await;
    app.may_answer.add_permits(10);
    until(&probe, |facts| facts.healthy).await;
    // A third would follow directly, if five requests were more than one.
    assert!(
        timeout(Duration::from_millis(100), async { eventually(|| app.asked() > 2).await }).await.is_err()
    );
}

#[tokio::test]
async fn a_health_address_that_is_none_is_reported_and_not_a_crash() {
    let config = config::App {
        health: "no address".into(),
        address: "127.0.0.1:1".into(),
        interval: SELDOM,
        timeout: DEADLINE,
    };
    let probe = Probe::start(&config, Arc::new(SystemClock));
    let facts = until(&probe, |facts| facts.failing_since.is_some()).await;
    assert!(!facts.healthy && facts.error.is_some());
}
