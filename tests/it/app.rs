//! The app server of a host, against real servers and programs: its health, and the commands that make it active.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use locum::{
    app::{Database, Probe, Server, follow_database},
    clock::SystemClock,
    config::{self, Health},
    model::{AppFacts, AppFailure, Durability, Epoch, Incarnation, Intent, NodeId, Snapshot, Stamp, Version},
    ports::Clock,
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
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
    Probe::start(&config(health, interval, limit), Arc::new(SystemClock))
}

fn config(health: Health, interval: Duration, timeout: Duration) -> config::App {
    let (commands, database_file) = (config::Commands::default(), None);
    config::App { health, address: "127.0.0.1:1".into(), interval, timeout, commands, database_file }
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

/// A program that writes its name, and what it is told, into `log`.
fn script(folder: &std::path::Path, name: &str, then: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    let line = format!(
        "echo {name} $LOCUM_NODE $LOCUM_EPOCH $LOCUM_PRIMARY $PGHOST:$PGPORT >>{0}/log",
        folder.display()
    );
    std::fs::write(&path, format!("#!/bin/sh\n{line}\n{then}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn log(folder: &std::path::Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// What a member shows when this node is the primary of that epoch.
fn shown(epoch: u64, primary: &str) -> Snapshot {
    let (node, database) = (NodeId::new(primary).unwrap(), format!("[::1]:{}", 5400 + epoch));
    let intent = Intent::first(Incarnation(1), Epoch(epoch), node, Durability::Sync);
    serde_json::from_value(json!({
        "cluster": "orders", "node": "seoul", "at": "2026-01-01T00:00:00Z", "leader": null, "store_error": null,
        "intent": intent, "endpoints": [], "rpo": null, "findings": [], "plan": [], "incident": null,
        "last_incident": null, "operations": [],
        "nodes": [{
            "node": primary, "database": database, "heard_ms": 1.0, "role": "primary", "serving": true, "sync": false,
            "streaming": false, "timeline": null, "lsn": null, "lag_bytes": null, "replay_bytes": null,
            "promise": null, "job": null, "error": null, "app": null,
        }],
    }))
    .unwrap()
}

#[tokio::test]
async fn a_cold_app_is_started_and_told_where_its_database_is_and_stopped_when_another_serves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (_app, address) = App::start(200, MANY).await;
    // Well once there is the file that its start makes.
    let mood = path.join("runs");
    let check = script(path, "check", &format!("test -e {}", mood.display()));
    let commands = config::Commands {
        start: Some(script(path, "start", &format!("touch {}", mood.display()))),
        stop: Some(script(path, "stop", &format!("rm -f {}", mood.display()))),
        promote: Some(script(path, "promote", "")),
        timeout: DEADLINE,
    };
    let database_file = Some(path.join("database.env"));
    let config = config::App {
        commands,
        address,
        database_file: database_file.clone(),
        ..config(Health::Command(check), Duration::from_millis(10), DEADLINE)
    };
    let server = Server::open(&config, &NodeId::new("seoul").unwrap(), Arc::new(SystemClock));
    assert!(server.facts().startable && !server.facts().starting);
    let (show, shows) = watch::channel(Arc::new(shown(3, "busan")));
    let told = server.database();
    tokio::spawn(async move { follow_database(database_file.as_deref(), None, shows, told).await });
    let lines = |first: &str| {
        let all = log(path);
        all.lines().filter(|line| line.starts_with(first)).map(str::to_owned).collect::<Vec<_>>()
    };

    let stamp = |epoch| Stamp { incarnation: Incarnation(1), epoch: Epoch(epoch), version: Version(9) };
    server.activate(stamp(3)).await.unwrap();
    assert_eq!(lines("start"), ["start seoul 3 busan ::1:5403"]);
    assert_eq!(lines("promote"), ["promote seoul 3 busan ::1:5403"]);
    eventually(|| server.facts().healthy).await;
    assert!(!server.facts().starting, "what was well once has been started");
    let file = std::fs::read_to_string(path.join("database.env")).unwrap();
    for line in ["LOCUM_CLUSTER=orders", "LOCUM_PRIMARY_ADDRESS=[::1]:5403", "PGHOST=::1", "PGPORT=5403"] {
        assert!(file.lines().any(|each| each == line), "{file}");
    }

    // The database moves: it is told where to, and not started again. Nothing is run before that is known.
    let later = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.go_on(stamp(4)).await }
    });
    show.send_replace(Arc::new(shown(4, "seoul")));
    later.await.unwrap().unwrap();
    assert_eq!(lines("promote")[1..], ["promote seoul 4 seoul ::1:5404"]);
    assert_eq!(lines("start").len(), 1);

    server.rest().await.unwrap();
    eventually(|| server.facts().failing_since.is_some()).await;
    assert!(server.facts().startable && !server.facts().starting);
}

#[tokio::test]
async fn a_start_that_fails_is_told_and_counts_against_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(Health::Tcp("127.0.0.1:1".into()), Duration::from_millis(10), DEADLINE);
    config.commands.start = Some(script(folder.path(), "start", "echo 'no such unit' >&2; exit 5"));
    config.commands.timeout = DEADLINE;
    let server = Server::open(&config, &NodeId::new("seoul").unwrap(), Arc::new(SystemClock));
    server.database().send_replace(Database::of(&shown(3, "busan"), None));
    let stamp = Stamp { incarnation: Incarnation(1), epoch: Epoch(3), version: Version(9) };
    let why = server.activate(stamp).await.unwrap_err();
    assert!(why.contains("no such unit"), "{why}");
    assert!(!server.facts().startable && !server.facts().starting);
}

#[test]
fn an_app_is_led_through_the_endpoint_of_its_own_host() {
    let connect = |through: &str| {
        let database = Database::of(&shown(3, "busan"), Some(through.parse().unwrap())).unwrap();
        let variables = database.variables();
        let of = |name| variables.iter().find(|(known, _)| *known == name).unwrap().1.clone();
        (of("PGHOST"), of("PGPORT"))
    };
    assert_eq!(connect("0.0.0.0:6432"), ("127.0.0.1".into(), "6432".into()));
    assert_eq!(connect("[::]:6432"), ("::1".into(), "6432".into()));
    assert_eq!(connect("10.0.0.7:6432"), ("10.0.0.7".into(), "6432".into()));
}
