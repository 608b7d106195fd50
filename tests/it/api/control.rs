//! Control calls: who may, what is refused, and what reaches the controller.

use locum::model::{Operation, OperationState, RequestKind};
use reqwest::{Method, StatusCode};

use super::console::{Fake, Port, TOKEN, answer, node, pair};

const CALLS: [&str; 4] = ["/v1/switchover", "/v1/pause", "/v1/resume", "/v1/rejoin"];

#[tokio::test]
async fn without_the_right_token_nothing_is_submitted() {
    let port = Port::of_a_pair().await;
    let credentials =
        [None, Some("Bearer "), Some("Bearer open"), Some("Bearer open-sesame2"), Some("Basic open-sesame")];
    for path in CALLS {
        for credential in credentials {
            let mut request = port.request(Method::POST, path).body("{}");
            if let Some(credential) = credential {
                request = request.header("authorization", credential);
            }
            let response = request.send().await.expect("an answer");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            let (code, body) = answer(response).await;
            assert_eq!(code, StatusCode::UNAUTHORIZED, "{path} {credential:?}");
            assert!(body["error"].as_str().is_some_and(|error| error.contains("token")), "{body}");
            assert!(!body.to_string().contains(TOKEN), "the token is not told");
        }
    }
    assert_eq!(port.fake.submitted(), []);
}

#[tokio::test]
async fn with_the_token_each_call_reaches_the_controller() {
    let port = Port::of_a_pair().await;
    for (number, (path, body, kind)) in [
        ("/v1/switchover", r#"{"to": "b"}"#, RequestKind::Switchover { to: Some(node("b")) }),
        ("/v1/switchover", r#"{"to": null, "dry_run": false}"#, RequestKind::Switchover { to: None }),
        ("/v1/switchover", "", RequestKind::Switchover { to: None }),
        (
            "/v1/switchover",
            r#"{"to": "b", "at": "2026-12-01T03:00:00+01:00"}"#,
            RequestKind::Schedule {
                to: Some(node("b")),
                at: "2026-12-01T02:00:00Z".parse().expect("a time"),
            },
        ),
        ("/v1/switchover/cancel", "", RequestKind::Cancel),
        ("/v1/pause", "{}", RequestKind::Pause),
        ("/v1/rejoin", r#"{"node": "b"}"#, RequestKind::Rejoin { node: node("b"), from_scratch: false }),
        (
            "/v1/rejoin",
            r#"{"node": "b", "from_scratch": true}"#,
            RequestKind::Rejoin { node: node("b"), from_scratch: true },
        ),
        ("/v1/resume", "", RequestKind::Resume),
    ]
    .into_iter()
    .enumerate()
    {
        let (code, said) = port.post(path, body).await;
        assert_eq!(code, StatusCode::ACCEPTED, "{path} {body}: {said}");
        assert_eq!(said["operation"], format!("op-{}", number + 1));
        assert_eq!(port.fake.submitted().last(), Some(&kind), "{path} {body}");
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_used_is_refused_with_the_field() {
    let port = Port::of_a_pair().await;
    for (path, body, code, said) in [
        ("/v1/switchover", "{", 400, "body"),
        ("/v1/switchover", "[]x", 400, "body"),
        ("/v1/switchover", r#"{"target": "b"}"#, 422, "target"),
        ("/v1/switchover", r#"{"to": 3}"#, 422, "to"),
        ("/v1/switchover", r#"{"to": "B!"}"#, 422, "to"),
        ("/v1/switchover", r#"{"to": "nobody"}"#, 422, "to: there is no node nobody; there are a, b"),
        ("/v1/switchover", r#"{"dry_run": "yes"}"#, 422, "dry_run"),
        ("/v1/switchover", r#"{"at": "tomorrow"}"#, 422, "at"),
        ("/v1/switchover", r#"{"at": "2026-12-01T03:00:00"}"#, 422, "at"),
        ("/v1/switchover/cancel", r#"{"to": "b"}"#, 422, "to"),
        ("/v1/pause", r#"{"to": "b"}"#, 422, "to"),
        ("/v1/resume", "null", 422, "body"),
        ("/v1/rejoin", "{}", 422, "node: say which node"),
        ("/v1/rejoin", r#"{"node": "nobody"}"#, 422, "node: there is no node nobody; there are a, b"),
        ("/v1/rejoin", r#"{"node": "b", "scratch": true}"#, 422, "scratch"),
    ] {
        let (status, answer) = port.post(path, body).await;
        assert_eq!(status.as_u16(), code, "{path} {body}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(said)), "{body}: {answer}");
    }
    let (code, _) = port.post("/v1/pause", &" ".repeat(17 << 10)).await;
    assert_eq!(code, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(port.fake.submitted(), []);
}

#[tokio::test]
async fn a_dry_run_lists_blockers_and_changes_nothing() {
    let mut fake = Fake::new(pair());
    fake.blockers = vec!["standby b lacks 20 MiB".into()];
    let port = Port::open(fake).await;
    let (code, body) = port.post("/v1/switchover", r#"{"to": "b", "dry_run": true}"#).await;
    assert_eq!((code, &body["blockers"][0]), (StatusCode::OK, &"standby b lacks 20 MiB".into()));
    let (code, body) = port.post("/v1/rejoin", r#"{"node": "b", "dry_run": true}"#).await;
    assert_eq!((code, &body["blockers"][0]), (StatusCode::OK, &"standby b lacks 20 MiB".into()));
    let (code, body) = port.post("/v1/pause", r#"{"dry_run": true}"#).await;
    assert_eq!((code, &body["blockers"]), (StatusCode::OK, &serde_json::json!([])));
    assert_eq!(port.fake.submitted(), []);
}

#[tokio::test]
async fn a_member_that_does_not_lead_names_the_one_that_does() {
    let port = Port::of_a_pair().await;
    for (leader, address) in [(Some("b"), Some("b.example:8008")), (Some("w"), None), (None, None)] {
        port.fake.publish(|shown| shown.leader = leader.map(node));
        for body in ["{}", r#"{"dry_run": true}"#] {
            for path in CALLS {
                let body = if path == "/v1/rejoin" { r#"{"node": "b"}"# } else { body };
                let (code, said) = port.post(path, body).await;
                assert_eq!(code, StatusCode::CONFLICT, "{path} {body}: {said}");
                assert_eq!(said["leader"].as_str(), leader);
                assert_eq!(said["leader_address"].as_str(), address);
            }
        }
    }
    assert_eq!(port.fake.submitted(), []);
}

#[tokio::test]
async fn a_second_request_of_a_kind_is_told_to_wait() {
    let mut fake = Fake::new(pair());
    fake.busy = true;
    let port = Port::open(fake).await;
    let (code, body) = port.post("/v1/switchover", "{}").await;
    assert_eq!((code, &body["error"]), (StatusCode::TOO_MANY_REQUESTS, &"a switchover is under way".into()));
}

#[tokio::test]
async fn an_operation_is_found_even_if_it_shows_up_only_now() {
    let port = Port::of_a_pair().await;
    let mut publish = std::pin::pin!(async {
        // Whether this comes before or after the question, the answer is the same.
        tokio::task::yield_now().await;
        port.fake.publish(|shown| {
            shown.operations.push(Operation {
                id: "op-9".into(),
                kind: "switchover".into(),
                state: OperationState::Running,
                messages: vec!["draining".into()],
                incident: None,
            });
        });
    });
    let ((code, body), ()) = tokio::join!(port.get("/v1/operations/op-9"), &mut publish);
    assert_eq!((code, &body["state"]), (StatusCode::OK, &"running".into()));
    let (code, body) = port.get("/v1/operations/op-10").await;
    assert_eq!((code, &body["leader"]), (StatusCode::NOT_FOUND, &"a".into()));
}
