//! What can be read without the token.

use std::time::Duration;

use locum::{
    api::names,
    model::{Incident, IncidentKind, Snapshot},
};
use reqwest::{Method, StatusCode};

use super::console::{Fake, Port, incident, pair};

fn with_incidents() -> Fake {
    let mut fake = Fake::new(pair());
    fake.incidents = Ok(vec![
        incident("20261122-084030-e2", IncidentKind::Failover, 900),
        incident("20261122-084130-e3", IncidentKind::Switchover, 120),
        incident("20261122-084230-e4", IncidentKind::Failover, 150),
    ]);
    fake
}

#[tokio::test]
async fn status_is_the_snapshot_with_ages_that_go_on() {
    let port = Port::of_a_pair().await;
    let (code, body) = port.get("/v1/status").await;
    assert_eq!(code, StatusCode::OK);
    let shown: Snapshot = serde_json::from_value(body).expect("a snapshot");
    let mut expected = pair();
    assert!(shown.nodes[0].heard_ms > expected.nodes[0].heard_ms);
    for (node, other) in expected.nodes.iter_mut().zip(&shown.nodes) {
        node.heard_ms = other.heard_ms;
    }
    expected.rpo.as_mut().expect("known").as_of_ms = shown.rpo.as_ref().expect("known").as_of_ms;
    assert_eq!(shown, expected);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (_, later) = port.get("/v1/status").await;
    assert!(later["nodes"][0]["heard_ms"].as_f64() >= Some(shown.nodes[0].heard_ms + 20.0));
}

#[tokio::test]
async fn incidents_are_listed_and_found() {
    let port = Port::open(with_incidents()).await;
    let (_, body) = port.get("/v1/incidents?last=2").await;
    let ids: Vec<_> = body["incidents"].as_array().expect("a list").iter().map(|i| &i["id"]).collect();
    assert_eq!(ids, ["20261122-084130-e3", "20261122-084230-e4"]);
    let (code, body) = port.get("/v1/incidents/20261122-084030-e2").await;
    assert_eq!(
        (code, &body["rto_ms"], &body["verdict"]["rto"]),
        (StatusCode::OK, &900.0.into(), &"met".into())
    );
    let whole: f64 = body["phases"].as_array().expect("a list").iter().filter_map(|p| p["ms"].as_f64()).sum();
    assert!((whole - 900.0).abs() < 1.0);
    let stored: Incident = serde_json::from_value(body).expect("as it was stored");
    assert_eq!(stored, incident("20261122-084030-e2", IncidentKind::Failover, 900));
    assert_eq!(port.get("/v1/incidents/none").await.0, StatusCode::NOT_FOUND);
    for wrong in ["last=0", "last=1001", "last=-1", "last=x", "first=1"] {
        let (code, body) = port.get(&format!("/v1/incidents?{wrong}")).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{wrong}: {body}");
        assert!(body["error"].as_str().is_some_and(|said| said.contains(&wrong[..4])), "{wrong}: {body}");
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_said_so() {
    let mut fake = Fake::new(pair());
    fake.incidents = Err("no route to host".into());
    let port = Port::open(fake).await;
    let (code, body) = port.get("/v1/incidents").await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body["error"].as_str().is_some_and(|said| said.contains("no route to host")));
    assert_eq!(port.get("/v1/status").await.0, StatusCode::OK);
    let response = port.request(Method::GET, "/metrics").send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK, "metrics do without");
}

#[tokio::test]
async fn rpo_and_explain_show_their_part() {
    let port = Port::of_a_pair().await;
    let (_, body) = port.get("/v1/rpo").await;
    assert_eq!((&body["rpo"]["bytes"], &body["node"]), (&4096.into(), &"a".into()));
    assert!(body["rpo"]["as_of_ms"].as_f64() >= Some(40.0));
    let (_, body) = port.get("/v1/explain").await;
    assert_eq!(body["plan"][0], "all is well");
    assert_eq!((&body["findings"][0]["finding"], &body["leader"]), (&"app_down".into(), &"a".into()));
    port.fake.publish(|shown| shown.rpo = None);
    assert!(port.get("/v1/rpo").await.1["rpo"].is_null(), "not known is not 0");
}

#[tokio::test]
async fn sessions_are_listed_only_while_this_node_hands_over() {
    let port = Port::of_a_pair().await;
    let (code, body) = port.get("/v1/sessions").await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    assert!(body["error"].as_str().is_some_and(|said| said.contains("nothing is being handed over")));
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_answered_in_json() {
    let port = Port::of_a_pair().await;
    for path in ["/v1/nothing", "/v2", "/primary/x", "/peer/facts"] {
        let (code, body) = port.get(path).await;
        assert_eq!(code, StatusCode::NOT_FOUND, "{path}");
        assert!(body["error"].as_str().is_some_and(|said| said.contains(path)), "{body}");
    }
    let (code, body) = port.get("/v1/pause").await;
    assert_eq!(code, StatusCode::METHOD_NOT_ALLOWED);
    assert!(body["error"].is_string());
}

async fn page(port: &Port) -> String {
    let response = port.request(Method::GET, "/metrics").send().await.expect("an answer");
    assert!(
        response.headers()["content-type"]
            .to_str()
            .expect("text")
            .starts_with("application/openmetrics-text")
    );
    response.text().await.expect("text")
}

/// The sample of exactly this name and these labels.
fn sample(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap_or_else(|_| panic!("{series} is {value}")))
}

#[tokio::test]
async fn metrics_can_be_parsed_and_say_what_the_snapshot_says() {
    let port = Port::open(with_incidents()).await;
    let page = page(&port).await;
    assert!(page.ends_with("# EOF\n"));
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let name = series.split('{').next().expect("a name").trim_end_matches("_total");
        assert!(names::ALL.iter().any(|metric| metric.name == name), "not in the list: {name}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert_eq!(
            page.lines().filter(|other| other.starts_with(&format!("{series} "))).count(),
            1,
            "{series}"
        );
    }
    for (series, value) in [
        ("locum_rpo_bytes", 4096.0),
        ("locum_rpo_seconds", 0.25),
        ("locum_rpo_acknowledged_is_safe", 1.0),
        (r#"locum_primary{node="a"}"#, 1.0),
        (r#"locum_primary{node="b"}"#, 0.0),
        ("locum_leader", 1.0),
        ("locum_epoch", 4.0),
        ("locum_findings", 1.0),
        (r#"locum_finding{finding="app_down",node="b",member="",endpoint=""}"#, 1.0),
        (r#"locum_endpoint_open_connections{endpoint="db",member="a"}"#, 7.0),
        (r#"locum_endpoint_held_connections{endpoint="db",member="a"}"#, 2.0),
        (r#"locum_incidents_total{kind="failover"}"#, 2.0),
        (r#"locum_incidents_total{kind="restart"}"#, 0.0),
        (r#"locum_last_rto_seconds{kind="failover"}"#, 0.15),
        (r#"locum_last_rto_seconds{kind="switchover"}"#, 0.12),
    ] {
        assert_eq!(sample(&page, series), Some(value), "{series} in\n{page}");
    }
    assert!(sample(&page, "locum_rpo_age_seconds") >= Some(0.04));
}

#[tokio::test]
async fn what_is_not_known_has_no_sample() {
    let port = Port::of_a_pair().await;
    port.fake.publish(|shown| {
        shown.rpo.as_mut().expect("known").bytes = None;
        (shown.nodes[1].lag_bytes, shown.intent) = (None, None);
    });
    let page = page(&port).await;
    assert_eq!(sample(&page, "locum_rpo_bytes"), None);
    assert_eq!(sample(&page, "locum_epoch"), None);
    assert_eq!(sample(&page, r#"locum_node_lag_bytes{node="b"}"#), None);
    assert_eq!(sample(&page, r#"locum_node_lag_bytes{node="a"}"#), Some(0.0));
}
