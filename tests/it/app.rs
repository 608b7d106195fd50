//! The app server's health probe, against real servers and programs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use locum::{
    app::Probe,
    clock::SystemClock,
    config::{self, Health},
    model::{AppFacts, AppFailure},
    ports::Clock,
};
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
    let url = format!("http://{address}/healthz").parse().unwrap();
    asked(Health::Http { url, status: None, body: None }, interval, limit)
}

fn asked(health: Health, interval: Duration, limit: Duration) -> Probe {
    let config = config::App { health, address: "127.0.0.1:1".into(), interval, timeout: limit };
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
    assert_eq!(facts.failure, Some(AppFailure::Refuses));
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
async fn an_answer_may_have_to_have_one_status_and_to_contain_a_text() {
    let (app, address) = App::start(204, MANY).await;
    let url: reqwest::Url = format!("http://{address}/healthz").parse().unwrap();
    let often = Duration::from_millis(10);
    let probe = asked(Health::Http { url: url.clone(), status: Some(503), body: None }, often, DEADLINE);
    let facts = until(&probe, |facts| facts.failing_since.is_some()).await;
    assert_eq!((facts.failure, facts.healthy), (Some(AppFailure::Unwell), false), "{facts:?}");
    app.status.store(503, Ordering::SeqCst);
    until(&probe, |facts| facts.healthy && facts.failure.is_none()).await;

    let said = Router::new().route("/", get(async || format!("{}ready", "-".repeat(5000))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: reqwest::Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, said).await });
    let wants = |body: &str| Health::Http { url: url.clone(), status: None, body: Some(body.into()) };
    until(&asked(wants("-ready"), often, DEADLINE), |facts| facts.healthy).await;
    let facts = until(&asked(wants("steady"), often, DEADLINE), |facts| facts.failing_since.is_some()).await;
    assert!(facts.error.as_ref().unwrap().contains("steady"), "{facts:?}");
}

#[tokio::test]
async fn a_connection_may_be_all_that_is_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let probe = asked(Health::Tcp(address), Duration::from_millis(10), DEADLINE);
    until(&probe, |facts| facts.healthy).await;
    drop(listener);
    until(&probe, |facts| facts.failure == Some(AppFailure::Refuses)).await;
}

#[tokio::test]
async fn a_program_may_tell_and_one_that_hangs_is_killed_with_what_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let (program, mood, pid) = (dir.path().join("check"), dir.path().join("mood"), dir.path().join("pid"));
    // Not written in place: a program that is open for writing cannot be run.
    let script = format!(
        "#!/bin/sh\ncase $(cat {0}) in well) exit 0;; ill) echo 'no coffee' >&2; exit 3;; esac\nsleep 1000 & echo $! >{1}.new; mv {1}.new {1}; wait\n",
        mood.display(),
        pid.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(&mood, "well").unwrap();
    let probe = asked(Health::Command(program), Duration::from_millis(10), Duration::from_secs(2));
    until(&probe, |facts| facts.healthy).await;
    std::fs::write(&mood, "ill").unwrap();
    let facts = until(&probe, |facts| facts.failure == Some(AppFailure::Unwell)).await;
    assert!(facts.error.as_ref().unwrap().contains("no coffee"), "{facts:?}");
    std::fs::write(&mood, "stuck").unwrap();
    let facts = until(&probe, |facts| facts.failure == Some(AppFailure::Hangs)).await;
    assert!(facts.error.as_ref().unwrap().contains("no answer within"), "{facts:?}");
    drop(probe);
    let begun = std::fs::read_to_string(&pid).unwrap().trim().to_owned();
    eventually(|| {
        // Ended, or a zombie that nobody has waited for yet.
        let stat = std::fs::read_to_string(format!("/proc/{begun}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    })
    .await;
}
