//! The command line against a member that is made up: what it asks, what it prints, how it exits.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt,
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
    AppStatus, ClusterName, Durability, EndpointKind, EndpointStatus, Epoch, Finding, FindingText,
    Incarnation, Intent, Lsn, Mode, NodeId, NodeStatus, Operation, OperationState, Role, RpoStatus, Snapshot,
    Stamp, Timeline,
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

#[test]
fn status_shows_the_cluster_on_one_page() {
    let fake = Fake::start(HashMap::from([("GET /v1/status", vec![status()])]));
    let (code, out, err) = Config::new(&fake.address).run(&["status"]);
    let expected = "\
cluster        orders, as seoul sees it at 2026-11-22 08:45:00 UTC
leader         seoul
primary        busan, serving (epoch 2, sync)
live RPO       1,208 B, 0.9 ms of work (as of 61 ms ago, against seoul)
               of acknowledged commits: nothing

 node   PostgreSQL        position     lag  to replay  app server  heard
 busan  primary, serving  2:0/3000148    -          -  active      12 ms ago
 seoul  standby, sync     2:0/3000148  0 B      128 B  ready       34 ms ago

 endpoint  listens at      leads to             new connections  open  waiting
 db@busan  127.0.0.1:6432  PostgreSQL of busan  get through         4        0

findings       none
last incident  20261122-084030-e2 at 2026-11-22 08:40:30 UTC: failover seoul → busan, RTO 143 ms (met)
";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));
    let (code, out, _) = Config::new(&fake.address).run(&["status", "--json"]);
    assert_eq!(code, 0);
    assert_eq!(serde_json::from_str::<Snapshot>(&out).unwrap(), snapshot());
    fake.stop();
}

#[test]
fn status_exits_with_1_when_nobody_serves() {
    let mut down = snapshot();
    down.nodes[0].serving = false;
    down.nodes[0].role = Role::Down;
    down.nodes[0].error = Some("start: out of disk space".into());
    down.findings = vec![FindingText {
        finding: Finding::PrimaryCrashed { node: node("busan") },
        text: "the postmaster of primary busan died".into(),
    }];
    down.rpo = None;
    let fake =
        Fake::start(HashMap::from([("GET /v1/status", vec![(200, serde_json::to_value(down).unwrap())])]));
    let (code, out, _) = Config::new(&fake.address).run(&["status"]);
    assert_eq!(code, 1);
    for part in [
        "busan, NOT serving",
        "unknown: never read",
        "busan: last error: start: out of disk space",
        "the postmaster of primary busan died",
    ] {
        assert!(out.contains(part), "expected {part:?} in {out}");
    }
    fake.stop();
}

#[test]
fn status_watch_goes_on_until_it_is_told_to_stop() {
    let fake = Fake::start(HashMap::from([("GET /v1/status", vec![status()])]));
    let config = Config::new(&fake.address);
    let mut child = config.command(&["status", "--watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        assert!(serde_json::from_str::<Snapshot>(&lines.next().unwrap().unwrap()).is_ok());
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    fake.stop();
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let fake = Fake::start(HashMap::from([("GET /v1/status", vec![status()])]));
    let config = Config::new(&fake.address);
    let mut child = config
        .command(&["status", "--watch", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
    fake.stop();
}

#[test]
fn explain_shows_findings_and_plan() {
    let body = json!({ "node": "seoul", "leader": "seoul", "findings": [], "plan": ["all is well"] });
    let fake = Fake::start(HashMap::from([("GET /v1/explain", vec![(200, body.clone())])]));
    let (code, out, _) = Config::new(&fake.address).run(&["explain"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("seoul leads") && out.contains("- nothing\n") && out.contains("- all is well\n"),
        "{out}"
    );
    let (_, out, _) = Config::new(&fake.address).run(&["explain", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), body);
    fake.stop();
}

#[test]
fn report_prints_what_is_stored() {
    let incident = serde_json::to_value(super::report::crash()).unwrap();
    let answer = vec![(200, json!({ "incidents": [incident] }))];
    let fake = Fake::start(HashMap::from([
        ("GET /v1/incidents?last=20", answer.clone()),
        ("GET /v1/incidents?last=1000", answer.clone()),
        ("GET /v1/incidents?last=1", answer),
    ]));
    let config = Config::new(&fake.address);
    let (code, out, _) = config.run(&["report"]);
    assert_eq!(code, 0);
    assert!(out.contains("Primary seoul failed, and busan took over. Service was gone for 143 ms."), "{out}");
    assert!(!out.contains('\u{1b}'), "no colour in a file");
    for arguments in [&["report", "--json"][..], &["report", "--format", "json", "--last", "1"]] {
        let (_, out, _) = config.run(arguments);
        let json: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["incidents"][0]["rto_ms"], 143.2);
    }
    let (_, out, _) = config.run(&["report", "--since", "2026-11-23"]);
    assert_eq!(out, "No incidents.\n");
    fake.stop();
}

#[test]
fn a_switchover_asks_and_nobody_can_answer_here() {
    let fake = Fake::start(HashMap::from([("GET /v1/status", vec![status()])]));
    let (code, out, err) = Config::new(&fake.address).run(&["switchover"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("Add --yes"), "{err}");
    assert_eq!(fake.seen(), [], "nothing was even asked");
    fake.stop();
}

#[test]
fn a_switchover_shows_its_phases_and_ends_with_the_report() {
    use OperationState::{Done, Pending, Running};
    let steps = vec![operation(Pending, 0), operation(Running, 3), operation(Running, 6), operation(Done, 9)];
    let fake = Fake::start(HashMap::from([(SWITCHOVER, accepted()), (OPERATION, steps.clone())]));
    let (code, out, err) = Config::new(&fake.address).run(&["switchover", "--to", "busan", "--yes"]);
    assert_eq!(code, 0, "{err}");
    let marks: Vec<_> = err.lines().map(|line| line.split('+').next().unwrap_or_default().trim()).collect();
    let expected = [
        "onset",
        "suspected",
        "confirmed",
        "fenced",
        "chosen",
        "promoted",
        "repointed",
        "verified",
        "app ready",
    ];
    assert_eq!(marks, expected, "each once, in order");
    assert!(out.contains("handed over from seoul to busan, as planned"), "{out}");
    assert_eq!(fake.seen()[0], (SWITCHOVER.into(), r#"{"at":null,"dry_run":false,"to":"busan"}"#.into()));
    fake.stop();

    let fake = Fake::start(HashMap::from([(SWITCHOVER, accepted()), (OPERATION, steps)]));
    let (code, out, err) = Config::new(&fake.address).run(&["switchover", "--yes", "--json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!((&json["state"], &json["incident"]["rto_ms"]), (&json!("done"), &json!(143.2)));
    fake.stop();
}

#[test]
fn a_refused_switchover_exits_with_1_and_says_why() {
    let fake = Fake::start(HashMap::from([
        (SWITCHOVER, accepted()),
        (OPERATION, vec![operation(OperationState::Refused, 0)]),
    ]));
    let (code, out, err) = Config::new(&fake.address).run(&["switchover", "--yes"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("standby seoul does not stream") && err.contains("Nothing was changed."), "{err}");
    fake.stop();
}

#[test]
fn a_switchover_that_does_not_end_exits_with_3_and_says_how_to_find_out() {
    let fake = Fake::start(HashMap::from([
        (SWITCHOVER, accepted()),
        (OPERATION, vec![operation(OperationState::Running, 2)]),
    ]));
    let (code, _, err) = Config::new(&fake.address).run(&["switchover", "--yes", "--timeout", "300ms"]);
    assert_eq!(code, 3);
    assert!(err.contains("timed out after 300ms") && err.contains("/v1/operations/op-1"), "{err}");
    fake.stop();
}

#[test]
fn a_switchover_need_not_be_waited_for() {
    let fake = Fake::start(HashMap::from([(SWITCHOVER, accepted())]));
    let (code, out, _) = Config::new(&fake.address).run(&["switchover", "--yes", "--no-wait"]);
    assert_eq!(code, 0);
    assert!(out.contains("op-1"), "{out}");
    assert_eq!(fake.seen().len(), 1);
    fake.stop();
}

#[test]
fn a_switchover_can_be_scheduled_and_cancelled() {
    let scheduled = (
        200,
        json!({ "id": "op-1", "kind": "switchover", "state": "scheduled", "messages": [], "incident": null }),
    );
    let cancelled =
        (200, json!({ "id": "op-1", "kind": "cancel", "state": "done", "messages": [], "incident": null }));
    let answers = HashMap::from([
        (SWITCHOVER, accepted()),
        ("POST /v1/switchover/cancel", accepted()),
        (OPERATION, vec![scheduled, cancelled]),
    ]);
    let fake = Fake::start(answers);
    let config = Config::new(&fake.address);
    let (code, out, _) = config.run(&["switchover", "--at", "2026-12-01T03:00:00+01:00", "--yes"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("Scheduled for 2026-12-01T02:00:00Z as operation op-1") && out.contains("--cancel"),
        "{out}"
    );
    assert!(fake.seen()[0].1.contains(r#""at":"2026-12-01T02:00:00Z""#), "{:?}", fake.seen());
    let (code, out, _) = config.run(&["switchover", "--cancel"]);
    assert_eq!((code, out.as_str()), (0, "The scheduled switchover is cancelled.\n"));
    for wrong in [&["--at", "tomorrow"][..], &["--at", "2026-12-01T03:00:00"], &["--cancel", "--to", "busan"]]
    {
        let (code, _, err) = config.run(&[&["switchover"], wrong].concat());
        assert_eq!(code, 2, "{wrong:?}: {err}");
    }
    fake.stop();
}

#[test]
fn a_dry_run_lists_every_blocker_and_changes_nothing() {
    let blocked = (200, json!({ "blockers": ["standby busan does not stream", "paused"] }));
    let fake = Fake::start(HashMap::from([(SWITCHOVER, vec![blocked, (200, json!({ "blockers": [] }))])]));
    let config = Config::new(&fake.address);
    let (code, out, err) = config.run(&["switchover", "--dry-run"]);
    assert_eq!((code, out.as_str()), (1, ""));
    for part in ["- standby busan does not stream", "- paused", "Nothing was changed."] {
        assert!(err.contains(part), "{err}");
    }
    let (code, out, _) = config.run(&["switchover", "--dry-run", "--to", "busan"]);
    assert_eq!(code, 0);
    assert!(out.contains("Nothing stands in the way of a switchover to busan."), "{out}");
    assert!(fake.seen().iter().all(|(_, body)| body.contains("\"dry_run\":true")));
    fake.stop();
}

#[test]
fn a_member_that_does_not_lead_is_left_for_the_leader() {
    let leader = Fake::start(HashMap::from([
        (SWITCHOVER, accepted()),
        (OPERATION, vec![operation(OperationState::Done, 9)]),
    ]));
    let away = json!({ "error": "this member does not lead; the leader is busan", "leader": "busan", "leader_address": leader.address });
    let other = Fake::start(HashMap::from([(SWITCHOVER, vec![(409, away.clone())])]));
    let (code, _, err) = Config::new(&other.address).run(&["switchover", "--yes"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(other.seen().len(), 1);
    leader.stop();
    // Two members that point at each other are not followed for ever.
    let sockets = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap().to_string());
    let [first, second] = std::array::from_fn(|at| {
        let back = json!({ "error": "x", "leader": "busan", "leader_address": addresses[1 - at] });
        Fake::start_on(sockets[at].try_clone().unwrap(), HashMap::from([(SWITCHOVER, vec![(409, back)])]))
    });
    let (code, _, err) = Config::new(&first.address).run(&["switchover", "--yes"]);
    assert_eq!(code, 1);
    assert!(err.contains("leadership is moving"), "{err}");
    first.stop();
    second.stop();
    let lost = (
        409,
        json!({ "error": "this member does not lead; the leader is not known", "leader": null, "leader_address": null }),
    );
    // One that is being elected is waited for.
    let fake = Fake::start(HashMap::from([
        (SWITCHOVER, [vec![lost.clone()], accepted()].concat()),
        (OPERATION, vec![operation(OperationState::Done, 9)]),
    ]));
    let (code, _, err) = Config::new(&fake.address).run(&["switchover", "--yes"]);
    let asked = fake.seen().iter().filter(|(call, _)| call == SWITCHOVER).count();
    assert_eq!((code, asked), (0, 2), "{err}");
    fake.stop();
    let fake = Fake::start(HashMap::from([(SWITCHOVER, vec![lost])]));
    let (code, _, err) = Config::new(&fake.address).run(&["switchover", "--yes"]);
    assert_eq!(code, 1);
    assert!(err.contains("the leader is not known") && err.contains("Nothing was changed"), "{err}");
    fake.stop();
    other.stop();
}

#[test]
fn a_wrong_or_missing_token_is_told_with_its_file() {
    let fake = Fake::start(HashMap::from([(SWITCHOVER, accepted())]));
    let config = Config::new(&fake.address);
    fs::write(config.0.path().join("token"), "another-token-that-is-wrong").unwrap();
    let (code, _, err) = config.run(&["switchover", "--yes"]);
    assert_eq!(code, 1);
    assert!(err.contains("refuses (401)") && err.contains("/token;"), "{err}");
    fs::remove_file(config.0.path().join("token")).unwrap();
    let (code, _, err) = config.run(&["pause", "--api", &fake.address]);
    // Whether paused is read first, and needs no token.
    assert_eq!(code, 1, "{err}");
    let (code, _, err) = config.run(&["switchover", "--yes"]);
    assert_eq!(code, 1);
    assert!(err.contains("control calls need the token") && err.contains("--token-file"), "{err}");
    fake.stop();
}

#[test]
fn pause_and_resume_say_what_is_in_force() {
    let fake = Fake::start(HashMap::from([
        ("GET /v1/status", vec![status()]),
        ("POST /v1/pause", vec![(200, json!({ "blockers": [] })), accepted()[0].clone()]),
        ("POST /v1/resume", accepted()),
        (OPERATION, vec![operation(OperationState::Done, 0)]),
    ]));
    let config = Config::new(&fake.address);
    for (arguments, expected) in [
        (&["pause", "--dry-run"][..], "It would suspend automatic action. Nothing was changed.\n"),
        (&["pause"], "Automatic action is suspended: nothing is promoted until `locum resume`.\n"),
        (&["resume", "--yes"], "Automatic action is on again.\n"),
    ] {
        let (code, out, err) = config.run(arguments);
        assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""), "{arguments:?}");
    }
    fake.stop();
}

const REJOIN: &str = "POST /v1/rejoin";

fn rejoin(state: OperationState, message: &str) -> (u16, Value) {
    let (code, mut answer) = operation(state, 0);
    answer["kind"] = json!("rejoin");
    answer["messages"] = json!([message]);
    answer["incident"] = Value::Null;
    (code, answer)
}

#[test]
fn a_rejoin_tells_what_is_done_and_how_it_ended() {
    let free = || (200, json!({ "blockers": [] }));
    let ended = vec![
        rejoin(OperationState::Running, "cloning: 18 % of 1024 MB, 52 MB/s, 16s left"),
        rejoin(OperationState::Done, "busan was cloned anew and streams from seoul"),
    ];
    let fake = Fake::start(HashMap::from([
        ("GET /v1/status", vec![status()]),
        (REJOIN, vec![free(), free(), accepted()[0].clone()]),
        (OPERATION, ended),
    ]));
    let config = Config::new(&fake.address);
    let (code, out, err) = config.run(&["rejoin", "busan", "--from-scratch", "--dry-run"]);
    assert!(
        code == 0 && out.contains("would be cloned") && out.contains("Nothing was changed"),
        "{out}{err}"
    );
    let (code, out, err) = config.run(&["rejoin", "busan", "--from-scratch"]);
    assert!(code == 1 && out.is_empty() && err.contains("Add --yes"), "nobody can be asked: {err}");
    let (code, out, err) = config.run(&["rejoin", "busan", "--from-scratch", "--yes"]);
    assert_eq!((code, out.as_str()), (0, "Done.\n"), "{err}");
    assert!(err.contains("52 MB/s") && err.contains("streams from seoul"), "{err}");
    fake.stop();
}

#[test]
fn a_rejoin_that_is_refused_or_fails_says_why() {
    let fake = Fake::start(HashMap::from([
        (REJOIN, vec![(200, json!({ "blockers": ["busan is the primary"] })), accepted()[0].clone()]),
        (OPERATION, vec![rejoin(OperationState::Failed, "clone failed: No space left on device")]),
    ]));
    let config = Config::new(&fake.address);
    let (code, out, err) = config.run(&["rejoin", "busan"]);
    assert!(code == 1 && out.is_empty() && err.contains("busan is the primary"), "{err}");
    let (code, _, err) = config.run(&["rejoin", "busan", "--yes"]);
    assert!(code == 1 && err.contains("the rejoin was given up") && err.contains("No space left"), "{err}");
    fake.stop();
}
