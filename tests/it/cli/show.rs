//! What status, explain and report print of what the member answers.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _},
    process::Stdio,
};

use locum::model::{Finding, FindingText, Role, Snapshot};
use serde_json::{Value, json};

use super::{Config, Fake, node, snapshot, status};

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
    let incident = serde_json::to_value(crate::report::crash()).unwrap();
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
