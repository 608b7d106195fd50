//! Health paths, by table: every path against every kind of node.

use locum::model::{NodeStatus, Role, Snapshot};
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::console::{DEADLINE, Fake, Port, node, pair, status};

const PATHS: [&str; 13] = [
    "/",
    "/primary",
    "/read-write",
    "/leader",
    "/master",
    "/replica",
    "/read-only",
    "/sync",
    "/synchronous",
    "/async",
    "/health",
    "/liveness",
    "/readiness",
];
const PRIMARY: &[&str] = &["/", "/primary", "/read-write", "/leader", "/master"];

/// What is shown by the member whose node is like this, beside a healthy primary `p` unless it is one itself.
fn shown_by(own: NodeStatus) -> Snapshot {
    let mut snapshot = pair();
    let other = if own.serving { status("s", Role::Standby) } else { status("p", Role::Primary) };
    let primary = if own.serving { own.node.clone() } else { other.node.clone() };
    if let Some(intent) = &mut snapshot.intent {
        intent.primary = Some(primary);
    }
    snapshot.node = own.node.clone();
    snapshot.nodes = vec![own, other];
    snapshot
}

fn changed(role: Role, change: impl FnOnce(&mut NodeStatus)) -> Snapshot {
    let mut own = status("a", role);
    change(&mut own);
    shown_by(own)
}

async fn ok_paths(port: &Port, snapshot: Snapshot) -> Vec<&'static str> {
    port.fake.publish(|shown| *shown = snapshot);
    let mut ok = Vec::new();
    for path in PATHS {
        let (code, body) = port.get(path).await;
        match code {
            StatusCode::OK => ok.push(path),
            StatusCode::SERVICE_UNAVAILABLE => {
                assert!(body["locum"]["reason"].is_string(), "{path} says why not: {body}");
            }
            other => panic!("{path}: {other}"),
        }
    }
    ok
}

#[tokio::test]
async fn every_path_answers_by_role() {
    let port = Port::of_a_pair().await;
    let primary = [PRIMARY, &["/read-only", "/health", "/liveness", "/readiness"]].concat();
    let sync = ["/replica", "/read-only", "/sync", "/synchronous", "/health", "/liveness", "/readiness"];
    let not_sync = ["/replica", "/read-only", "/async", "/health", "/liveness", "/readiness"];
    let up = ["/health", "/liveness"];
    let down = ["/liveness"];
    let table: [(&str, Snapshot, &[&str]); 13] = [
        ("a serving primary", changed(Role::Primary, |_| ()), &primary),
        ("one without the right to serve", changed(Role::Primary, |n| n.serving = false), &up),
        ("a sync standby", changed(Role::Standby, |_| ()), &sync),
        ("an async standby", changed(Role::Standby, |n| n.sync = false), &not_sync),
        ("a standby that does not stream", changed(Role::Standby, |n| n.streaming = false), &up),
        // What a mistake elsewhere would claim: a path never believes `serving` of what is no primary.
        (
            "a standby said to serve",
            changed(Role::Standby, |n| (n.serving, n.streaming) = (true, false)),
            &up,
        ),
        ("starting", changed(Role::Starting, |_| ()), &down),
        ("down", changed(Role::Down, |_| ()), &down),
        ("not known", changed(Role::Unknown, |_| ()), &down),
        ("no PostgreSQL", changed(Role::None, |_| ()), &down),
        ("a primary long silent", changed(Role::Primary, |n| n.heard_ms = 3001.0), &down),
        ("an age that is no number", changed(Role::Primary, |n| n.heard_ms = f64::NAN), &down),
        ("not in its own list", Snapshot { nodes: Vec::new(), ..pair() }, &down),
    ];
    for (what, snapshot, expected) in table {
        let mut ok = ok_paths(&port, snapshot).await;
        let mut expected = expected.to_vec();
        ok.sort_unstable();
        expected.sort_unstable();
        assert_eq!(ok, expected, "{what}");
    }
}

#[tokio::test]
async fn without_the_store_a_primary_serves_and_nobody_is_known_to_be_sync() {
    let port = Port::of_a_pair().await;
    let outage = |mut snapshot: Snapshot| {
        snapshot.store_error = Some("store cannot be reached".into());
        snapshot
    };
    let ok = ok_paths(&port, outage(changed(Role::Primary, |_| ()))).await;
    assert!(PRIMARY.iter().all(|path| ok.contains(path)));
    let ok = ok_paths(&port, outage(changed(Role::Standby, |_| ()))).await;
    assert!(ok.contains(&"/replica") && !ok.contains(&"/sync") && !ok.contains(&"/async"));
    assert_eq!(port.get("/replica?lag=1GB").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn lag_is_held_against_the_limit() {
    let port = Port::of_a_pair().await;
    let behind = |bytes| changed(Role::Standby, |own| (own.sync, own.lag_bytes) = (false, bytes));
    let table = [
        (behind(Some(16 << 20)), "16MB", 200),
        (behind(Some(16 << 20)), "16777216", 200),
        (behind(Some((16 << 20) + 1)), "16MB", 503),
        (behind(Some(0)), "0", 200),
        (behind(Some(1)), "0", 503),
        (behind(None), "1TB", 503),
    ];
    for (snapshot, lag, code) in table {
        port.fake.publish(|shown| *shown = snapshot);
        for path in ["/replica", "/async", "/read-only"] {
            let (status, body) = port.get(&format!("{path}?lag={lag}")).await;
            assert_eq!(status.as_u16(), code, "{path} {lag}: {body}");
        }
    }
}

#[tokio::test]
async fn lag_counts_against_a_primary_that_is_declared_and_was_heard() {
    let port = Port::of_a_pair().await;
    let mut silent = changed(Role::Standby, |_| ());
    silent.nodes[1].heard_ms = 10_000.0;
    let mut vacant = changed(Role::Standby, |_| ());
    vacant.intent.as_mut().expect("an intent").primary = None;
    for snapshot in [silent, vacant] {
        port.fake.publish(|shown| *shown = snapshot);
        assert_eq!(port.get("/replica?lag=1GB").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(port.get("/replica").await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_parameter_that_is_not_understood_is_refused_and_named() {
    let port = Port::of_a_pair().await;
    for (path, field) in [
        ("/replica?lag=16XB", "lag"),
        ("/replica?lag=", "lag"),
        ("/replica?tag_zone=x", "tag_zone"),
        ("/primary?lag=1", "lag"),
    ] {
        let (code, body) = port.get(path).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{path}");
        assert!(body["error"].as_str().is_some_and(|error| error.starts_with(field)), "{path}: {body}");
    }
}

#[tokio::test]
async fn head_and_options_answer_like_get() {
    let port = Port::of_a_pair().await;
    for (path, code) in [("/primary", 200), ("/", 200), ("/replica", 503), ("/liveness", 200)] {
        for method in [Method::HEAD, Method::OPTIONS] {
            let response = port.request(method.clone(), path).send().await.expect("an answer");
            assert_eq!(response.status().as_u16(), code, "{method} {path}");
            let body = response.bytes().await.expect("a body");
            assert_eq!(body.is_empty(), method == Method::HEAD, "{method} {path}");
        }
        let response = port.request(Method::DELETE, path).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test]
async fn an_old_http_check_of_haproxy_is_answered() {
    let port = Port::of_a_pair().await;
    let mut stream = tokio::net::TcpStream::connect(port.address).await.expect("a connection");
    stream.write_all(b"OPTIONS /primary HTTP/1.0\r\n\r\n").await.expect("written");
    let mut said = String::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut said)).await;
    read.expect("it closes the connection").expect("text");
    assert!(said.starts_with("HTTP/1.0 200 OK\r\n"), "{said}");
}

#[tokio::test]
async fn the_body_has_what_patronis_users_look_for() {
    let port = Port::of_a_pair().await;
    let (_, body) = port.get("/primary").await;
    assert_eq!((&body["state"], &body["role"]), (&"running".into(), &"primary".into()));
    assert_eq!((&body["timeline"], &body["xlog"]["location"]), (&3.into(), &0x0300_0060.into()));
    assert_eq!(body["locum"]["epoch"], 4);
    port.fake.publish(|shown| shown.node = node("b"));
    let (_, body) = port.get("/replica").await;
    assert_eq!((&body["role"], &body["sync_standby"]), (&"replica".into(), &true.into()));
    assert_eq!(body["xlog"]["received_location"], 0x0300_0060);
    assert_eq!(body["xlog"]["replayed_location"], 0x0300_0000);
}

#[tokio::test]
async fn a_port_that_is_told_to_stop_stops_with_streams_open() {
    let mut port = Port::open(Fake::new(pair())).await;
    let stream = port.request(Method::GET, "/v1/events").send().await.expect("an answer");
    drop(port.stop.take());
    tokio::time::timeout(DEADLINE, stream.bytes()).await.expect("the stream ends").expect("in order");
    let served = tokio::time::timeout(DEADLINE, port.served).await.expect("it returns");
    assert!(served.expect("no panic").is_ok());
}
