//! A switchover: asked for, refused, timed out, scheduled, tried dry.

use std::collections::HashMap;

use locum::model::OperationState;
use serde_json::{Value, json};

use super::{Config, Fake, OPERATION, SWITCHOVER, accepted, operation, status};

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
