//! The command line against a member that is made up: what it asks, what it prints, how it exits.

mod control;
mod show;
mod switchover;

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
};
use locum::model::{
    AppStatus, ClusterName, Durability, EndpointKind, EndpointStatus, Epoch, Incarnation, Intent, Lsn, Mode,
    NodeId, NodeStatus, Operation, OperationState, Role, RpoStatus, Snapshot, Stamp, Timeline,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// What a path answers, one after the other; the last one again and again.
type Answers = HashMap<&'static str, Vec<(u16, Value)>>;

/// A member that answers as it was told to.
struct Fake {
    address: String,
    seen: Arc<Mutex<Vec<(String, String)>>>,
    runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<Answers>>,
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

impl Fake {
    fn start(answers: Answers) -> Self {
        Self::start_on(std::net::TcpListener::bind("127.0.0.1:0").unwrap(), answers)
    }

    fn start_on(listener: std::net::TcpListener, answers: Answers) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Script { answers: Arc::new(Mutex::new(answers)), seen: Arc::clone(&seen) };
        let address = runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let app = Router::new().fallback(answer).with_state(script);
            tokio::spawn(async move { axum::serve(listener, app).await });
            address
        });
        Self { address, seen, runtime }
    }

    fn seen(&self) -> Vec<(String, String)> {
        self.seen.lock().unwrap().clone()
    }

    fn stop(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

async fn answer(
    State(script): State<Script>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, axum::Json<Value>) {
    let call = format!("{method} {uri}");
    script.seen.lock().unwrap().push((call.clone(), String::from_utf8_lossy(&body).into_owned()));
    let token = headers.get("authorization").and_then(|value| value.to_str().ok());
    if method == Method::POST && token != Some(&format!("Bearer {TOKEN}")) {
        return (
            StatusCode::UNAUTHORIZED,
            axum::Json(json!({ "error": "the token is not the one of this cluster" })),
        );
    }
    let mut answers = script.answers.lock().unwrap();
    let Some(list) = answers.get_mut(call.as_str()) else {
        return (StatusCode::NOT_FOUND, axum::Json(json!({ "error": format!("no {call} here") })));
    };
    let (status, body) = if list.len() > 1 { list.remove(0) } else { list[0].clone() };
    (StatusCode::from_u16(status).unwrap(), axum::Json(body))
}

/// A configuration that leads to an address.
struct Config(TempDir);

impl Config {
    fn new(address: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        fs::write(&token, TOKEN).unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!("[api]\nlisten = \"{address}\"\ntoken_file = \"{}\"\n", token.display());
        fs::write(dir.path().join("locum.toml"), text).unwrap();
        Self(dir)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = locum(arguments);
        command.arg("-c").arg(self.0.path().join("locum.toml"));
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        told(self.command(arguments).output().unwrap())
    }
}

fn locum(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn member(name: &str, role: Role) -> NodeStatus {
    let primary = role == Role::Primary;
    // From JSON, so that fields that are added later need no change here.
    serde_json::from_value(json!({
        "node": name, "heard_ms": if primary { 12.0 } else { 34.0 }, "role": role, "serving": primary,
        "sync": !primary, "streaming": !primary, "timeline": Timeline(2), "lsn": Lsn(0x0300_0148),
        "lag_bytes": if primary { None } else { Some(0) }, "replay_bytes": if primary { None } else { Some(128) },
        "promise": null, "job": null, "error": null,
        "app": AppStatus { address: "127.0.0.1:8081".into(), healthy: true, active: primary, startable: false, starting: false, error: None },
    }))
    .unwrap()
}

fn snapshot() -> Snapshot {
    let first = Intent::first(Incarnation(1), Epoch(2), node("busan"), Durability::Sync);
    Snapshot {
        cluster: ClusterName::new("orders").unwrap(),
        node: node("seoul"),
        at: "2026-11-22T08:45:00Z".parse().unwrap(),
        leader: Some(node("seoul")),
        store_error: None,
        intent: Some(first),
        nodes: vec![member("busan", Role::Primary), member("seoul", Role::Standby)],
        endpoints: vec![EndpointStatus {
            member: node("busan"),
            name: "db".parse().unwrap(),
            kind: EndpointKind::Primary,
            listen: "127.0.0.1:6432".into(),
            target: Some(node("busan")),
            mode: Mode::Open,
            open: 4,
            held: 0,
            stamp: Stamp::default(),
            driver: locum::model::Driver::Proxy,
            problem: None,
            cut_total: 0,
            held_total: 0,
            refused_total: 0,
            traffic: locum::model::Traffic::default(),
        }],
        rpo: Some(RpoStatus {
            bytes: Some(1_208),
            ms: Some(0.9),
            as_of_ms: 61.0,
            at_most_bytes: None,
            acknowledged_is_safe: true,
            standby: Some(node("seoul")),
        }),
        findings: Vec::new(),
        plan: vec!["all is well".into()],
        incident: None,
        last_incident: Some(super::report::crash()),
        if_it_crashed: Vec::new(),
        operations: Vec::new(),
    }
}

fn status() -> (u16, Value) {
    (200, serde_json::to_value(snapshot()).unwrap())
}

fn operation(state: OperationState, marks: usize) -> (u16, Value) {
    let mut incident = super::report::crash();
    incident.kind = locum::model::IncidentKind::Switchover;
    incident.marks.truncate(marks);
    let messages = match state {
        OperationState::Refused => vec!["standby seoul does not stream".into()],
        _ => Vec::new(),
    };
    let operation = Operation {
        id: "op-1".into(),
        kind: "switchover".into(),
        state,
        messages,
        incident: (state != OperationState::Refused).then_some(incident),
    };
    (200, serde_json::to_value(operation).unwrap())
}

const SWITCHOVER: &str = "POST /v1/switchover";
const OPERATION: &str = "GET /v1/operations/op-1";

fn accepted() -> Vec<(u16, Value)> {
    vec![(202, json!({ "operation": "op-1" }))]
}

#[test]
fn wrong_usage_exits_with_2_and_help_with_0() {
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["status", "--frob"],
        &["switchover", "--to", "Seoul!"],
        &["report", "--last", "0"],
        &["demo", "--scenario", "earthquake"],
        &["report", "--since", "yesterday"],
        &["status", "--api", "ftp://x"],
    ] {
        let (code, out, err) = told(locum(arguments).output().unwrap());
        assert_eq!(code, 2, "{arguments:?}: {out}{err}");
        assert!(!err.is_empty() && out.is_empty(), "{arguments:?}: stdout is data: {out}");
    }
    for verb in ["run", "demo", "status", "explain", "switchover", "pause", "resume", "report"] {
        let (code, out, _) = told(locum(&[verb, "--help"]).output().unwrap());
        assert_eq!(code, 0);
        assert!(out.contains("Example"), "{verb} shows how it is used: {out}");
        assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    }
    let (code, out, _) = told(locum(&["--help"]).output().unwrap());
    assert_eq!(code, 0);
    for part in ["switchover", "Exit codes", "locum demo"] {
        assert!(out.contains(part), "{out}");
    }
}

#[test]
fn a_member_that_is_not_there_is_told_with_the_address() {
    // Bound and let go: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = Config::new(&address);
    for verb in [
        &["status"][..],
        &["explain"],
        &["report"],
        &["switchover", "--yes"],
        &["switchover", "--dry-run"],
        &["pause"],
    ] {
        let (code, out, err) = config.run(verb);
        assert_eq!((code, out.as_str()), (1, ""), "{verb:?}: {err}");
        for part in [address.as_str(), "no member answers", "Nothing was changed", "--api"] {
            assert!(err.contains(part), "{verb:?}: expected {part:?} in {err}");
        }
    }
}

#[test]
fn a_missing_configuration_is_told_with_the_way_out() {
    let (code, _, err) = told(locum(&["status", "-c", "/nonexistent/locum.toml"]).output().unwrap());
    assert_eq!(code, 1);
    assert!(err.contains("/nonexistent/locum.toml cannot be read") && err.contains("--api URL"), "{err}");
}

#[test]
fn something_else_on_the_port_is_told() {
    let fake = Fake::start(HashMap::from([("GET /v1/status", vec![(200, json!({ "hello": "world" }))])]));
    let (code, _, err) = told(locum(&["status", "--api", &fake.address]).output().unwrap());
    assert_eq!(code, 1);
    assert!(err.contains("is not understood"), "{err}");
    fake.stop();
}
