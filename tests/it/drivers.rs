//! Endpoints that a webhook or a program brings about: told, signed, bounded, retried, and nobody waits for them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use locum::{
    clock::SystemClock,
    config::{self, DrivenBy},
    endpoint::{Driven, Surroundings, signature},
    model::{
        ClusterName, EndpointFacts, EndpointKind, EndpointName, Epoch, Incarnation, Mode, NodeId, Reply,
        RouteOrder, Stamp, Version,
    },
    ports::Endpoint,
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

const DEADLINE: Duration = Duration::from_secs(20);
const SECRET: &str = "a key that only two know";

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn stamp(epoch: u64) -> Stamp {
    Stamp { incarnation: Incarnation(1), epoch: Epoch(epoch), version: Version(epoch) }
}

fn point(name: &str) -> RouteOrder {
    RouteOrder::Point { node: node(name), address: format!("{name}:5432") }
}

fn open(by: DrivenBy, timeout: Duration, give_up: Duration, folder: &Path) -> Arc<Driven> {
    let name = EndpointName::new("dns").unwrap();
    let config = config::Driven { name, target: EndpointKind::Primary, timeout, give_up, by };
    let around = Surroundings {
        cluster: &ClusterName::new("orders").unwrap(),
        node: &node("seoul"),
        state_dir: folder,
        may_serve: Arc::new(|| true),
        app: None,
        clock: Arc::new(SystemClock),
    };
    Driven::open(&config, &around).unwrap()
}

async fn until(endpoint: &Driven, wanted: impl Fn(&EndpointFacts) -> bool) -> EndpointFacts {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let facts = endpoint.facts();
        if wanted(&facts) {
            return facts;
        }
        assert!(Instant::now() < deadline, "not in time: {facts:#?}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn confirmed(facts: &EndpointFacts) -> bool {
    facts.repoint.as_ref().is_some_and(|repoint| repoint.confirmed.is_some())
}

/// A signature and the body that came with it.
type Told = (String, Vec<u8>);

/// A receiver: what it answers to each request in turn (the last for all that follow), and what it was told.
#[derive(Clone)]
struct Receiver {
    answers: Arc<Mutex<Vec<u16>>>,
    told: Arc<Mutex<Vec<Told>>>,
}

/// Takes the request and never answers.
const HANGS: u16 = 0;

async fn receive(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(&'static str, &'static str); 1], String) {
    let signed = headers.get("Locum-Signature").unwrap().to_str().unwrap().to_owned();
    receiver.told.lock().unwrap().push((signed, body.to_vec()));
    let answer = {
        let mut answers = receiver.answers.lock().unwrap();
        if answers.len() > 1 { answers.remove(0) } else { answers[0] }
    };
    if answer == HANGS {
        std::future::pending::<()>().await;
    }
    (
        StatusCode::from_u16(answer).unwrap(),
        [("Location", "/elsewhere")],
        format!("no such zone{}", ".".repeat(10_000)),
    )
}

impl Receiver {
    async fn start(answers: &[u16]) -> (Self, String) {
        let receiver = Self { answers: Arc::new(Mutex::new(answers.to_vec())), told: Arc::default() };
        // Whoever follows a redirection is told that all is well.
        let elsewhere = post(|| async { StatusCode::OK });
        let app = Router::new().route("/hook", post(receive)).route("/elsewhere", elsewhere);
        let app = app.with_state(receiver.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?token=hidden", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (receiver, url)
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }
}

fn webhook(url: &str, folder: &Path) -> DrivenBy {
    let secret_file = folder.join("secret");
    fs::write(&secret_file, format!("{SECRET}\n")).unwrap();
    DrivenBy::Webhook(config::Webhook { url: url.parse().unwrap(), secret_file })
}

#[test]
fn a_signature_is_the_one_that_everybody_else_computes() {
    // RFC 4231, test case 2.
    let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(signature(b"Jefe", b"what do ya want for nothing?"), expected);
}

#[tokio::test]
async fn a_webhook_that_answers_500_is_told_again_and_then_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, url) = Receiver::start(&[500, 503, 204]).await;
    let hook = open(webhook(&url, folder.path()), DEADLINE, DEADLINE, folder.path());
    assert_eq!(hook.order(stamp(2), point("busan")), Reply::Done);
    let facts = until(&hook, confirmed).await;
    assert_eq!((facts.mode, facts.stamp, facts.problem), (Mode::Open, stamp(2), None));
    let told = receiver.told();
    assert_eq!(told.len(), 3);
    for (signed, body) in &told {
        assert_eq!(*signed, signature(SECRET.as_bytes(), body));
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!((&body["cluster"], &body["endpoint"]), (&"orders".into(), &"dns".into()));
        assert_eq!((&body["node"], &body["address"]), (&"busan".into(), &"busan:5432".into()));
        assert_eq!(body["stamp"]["epoch"], 2);
        assert!(body["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }
    // What is stale, and what was done, is not told.
    assert!(matches!(hook.order(stamp(1), point("jeju")), Reply::Refused(_)));
    assert_eq!(hook.order(stamp(2), point("busan")), Reply::Done);
    assert_eq!(hook.order(stamp(3), RouteOrder::Cut), Reply::Done);
    assert_eq!(hook.order(stamp(4), point("jeju")), Reply::Done);
    until(&hook, |facts| confirmed(facts) && facts.stamp == stamp(4)).await;
    assert_eq!(receiver.told().len(), 4);
}

#[tokio::test]
async fn a_webhook_that_hangs_is_given_up_and_told_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, url) = Receiver::start(&[HANGS]).await;
    let (timeout, give_up) = (Duration::from_millis(100), Duration::from_millis(400));
    let hook = open(webhook(&url, folder.path()), timeout, give_up, folder.path());
    // It is taken at once, whoever hangs.
    assert_eq!(hook.order(stamp(2), point("busan")), Reply::Done);
    assert_eq!(hook.facts().mode, Mode::Open);
    let facts = until(&hook, |facts| facts.repoint.as_ref().is_some_and(|repoint| repoint.given_up)).await;
    let problem = facts.problem.clone().unwrap();
    assert!(!problem.contains("hidden") && !facts.listen.contains("hidden"), "{problem} {}", facts.listen);
    assert!(receiver.told().len() >= 2, "it was tried once only");
    // A later order is not held up by it.
    receiver.answers.lock().unwrap()[0] = 200;
    hook.order(stamp(3), point("jeju"));
    until(&hook, |facts| confirmed(facts) && facts.problem.is_none()).await;
}

#[tokio::test]
async fn an_answer_that_refuses_is_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let (_receiver, url) = Receiver::start(&[404]).await;
    let hook = open(webhook(&url, folder.path()), DEADLINE, DEADLINE, folder.path());
    hook.order(stamp(2), point("busan"));
    let facts = until(&hook, |facts| facts.problem.is_some()).await;
    let problem = facts.problem.unwrap();
    assert!(problem.contains("404") && problem.contains("no such zone"), "{problem}");
    assert!(problem.len() < 1000, "{}", problem.len());
}

#[tokio::test]
async fn a_webhook_that_leads_elsewhere_is_not_followed_and_has_confirmed_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_receiver, url) = Receiver::start(&[307]).await;
    let hook = open(webhook(&url, folder.path()), DEADLINE, DEADLINE, folder.path());
    hook.order(stamp(2), point("busan"));
    let facts = until(&hook, |facts| facts.problem.is_some() || confirmed(facts)).await;
    assert!(facts.problem.as_ref().is_some_and(|problem| problem.contains("307")), "{facts:?}");
}

fn script(folder: &Path, text: &str) -> DrivenBy {
    let path = folder.join("repoint");
    fs::write(&path, format!("#!/bin/sh\ncd {}\n{text}\n", folder.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    DrivenBy::Exec(path)
}

#[tokio::test]
async fn a_program_is_run_with_what_it_has_to_know() {
    let folder = tempfile::tempdir().unwrap();
    let by = script(folder.path(), "env | grep ^LOCUM_ | sort > seen");
    let exec = open(by, DEADLINE, DEADLINE, folder.path());
    exec.order(stamp(7), point("busan"));
    until(&exec, confirmed).await;
    let seen = fs::read_to_string(folder.path().join("seen")).unwrap();
    let expected = "LOCUM_ADDRESS=busan:5432\nLOCUM_CLUSTER=orders\nLOCUM_ENDPOINT=dns\nLOCUM_EPOCH=7\n\
                    LOCUM_INCARNATION=1\nLOCUM_MEMBER=seoul\nLOCUM_NODE=busan\nLOCUM_TARGET=primary\nLOCUM_VERSION=7\n";
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_it_began_and_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[ -e once ] && exit 0\ntouch once\nsleep 3600 &\necho $! > child\nwait";
    let exec = open(script(folder.path(), text), Duration::from_secs(1), DEADLINE, folder.path());
    exec.order(stamp(2), point("busan"));
    until(&exec, confirmed).await;
    let child = fs::read_to_string(folder.path().join("child")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    let ended = stat.is_empty() || stat.contains(") Z ");
    assert!(ended, "it goes on: {stat}");
}

#[tokio::test]
async fn a_program_that_fails_is_quoted_however_much_it_says_and_leaves_behind() {
    let folder = tempfile::tempdir().unwrap();
    let text = "echo no route >&2; head -c 1000000 /dev/zero | tr '\\0' x >&2; sleep 5 & exit 3";
    let exec = open(script(folder.path(), text), Duration::from_secs(4), DEADLINE, folder.path());
    exec.order(stamp(2), point("busan"));
    let facts = until(&exec, |facts| facts.problem.is_some()).await;
    let problem = facts.problem.unwrap();
    assert!(problem.contains("no route") && problem.contains("exit status: 3"), "{problem}");
    assert!(problem.len() < 1000, "{}", problem.len());
}
