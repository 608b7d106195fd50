//! Whom a control call goes to and with which token; pause and resume; a rejoin.

use std::{collections::HashMap, fs};

use locum::model::OperationState;
use serde_json::{Value, json};

use super::{Config, Fake, OPERATION, SWITCHOVER, accepted, operation, status};

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
