//! What operators ask for, and who may ask.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use locum::model::{IncidentKind, OperationState, Snapshot};
use serde_json::json;

use crate::pair::{LivePair, family, finds, plan_of, primary_of, send};

/// For how long a paused cluster is watched doing nothing: far longer than a failover takes.
const WATCHED: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_paused_a_dead_primary_is_only_a_finding_and_resume_acts() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    let old = pair.primary().await;
    let paused = pair.ask("/v1/pause", json!({})).await;
    assert_eq!(pair.over(&paused).await.state, OperationState::Done);
    writer.goes_on().await;
    send(family(&pair.host(old).node.config.data_dir)[0], "KILL");
    let found = |s: &locum::model::Snapshot| finds(s, "primary_crashed") && finds(s, "paused");
    let first = pair.shows("two findings", found).await;
    let later =
        pair.shows("time passes", |s| s.at.duration_since(first.at) >= WATCHED.try_into().unwrap()).await;
    assert!(found(&later) && plan_of(&later).contains("resume"), "{}", plan_of(&later));
    assert_eq!((primary_of(&later), &later.intent), (Some(old), &first.intent), "something was done");
    assert!(pair.host(old).node.instance.find().await.unwrap().is_none(), "it was started");

    pair.ask("/v1/resume", json!({})).await;
    pair.shows("another primary", |s| primary_of(s).is_some_and(|name| name != old)).await;
    pair.ends(writer, 1).await;
}

/// Where an operation stands, as whoever leads says.
fn stands(snapshot: &Snapshot, operation: &str, state: OperationState) -> bool {
    snapshot.operations.iter().any(|each| each.id == operation && each.state == state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_switchover_begins_at_its_time_whoever_leads_and_not_when_it_was_cancelled() {
    let mut pair = LivePair::new().await;
    let writer = pair.write().await;
    let (old, new) = (pair.primary().await, pair.other(pair.primary().await).node.name);
    let soon = |seconds| (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string();

    let cancelled = pair.ask("/v1/switchover", json!({ "to": new, "at": soon(600) })).await;
    pair.shows("it is scheduled", |s| stands(s, &cancelled, OperationState::Scheduled)).await;
    let again = pair.ask("/v1/switchover", json!({ "at": soon(700) })).await;
    let refused = pair.over(&again).await;
    assert_eq!(refused.state, OperationState::Refused);
    assert!(refused.messages[0].contains("scheduled for"), "{:?}", refused.messages);
    let cancel = pair.ask("/v1/switchover/cancel", json!({})).await;
    assert_eq!(pair.over(&cancel).await.state, OperationState::Done);
    let seen = pair.shows("it is cancelled", |s| stands(s, &cancelled, OperationState::Refused)).await;
    assert_eq!(seen.intent.unwrap().scheduled, None);

    let at = Timestamp::now() + SignedDuration::from_secs(8);
    let operation = pair.ask("/v1/switchover", json!({ "to": new, "at": at.to_string() })).await;
    let seen = pair.shows("it is scheduled", |s| stands(s, &operation, OperationState::Scheduled)).await;
    // Whoever took it is gone: the next leader goes on with it.
    let leader = seen.leader.unwrap().as_str().to_owned();
    pair.host_mut(&leader).member.kill();
    pair.host_mut(&leader).member.start();
    let moved = pair.shows("the other primary", |s| primary_of(s) == Some(new)).await;
    assert!(moved.at >= at, "it began before its time");
    let seen = pair.whole(1).await;
    let incident = seen.last_incident.unwrap();
    assert_eq!((incident.kind, incident.operation), (IncidentKind::Switchover, Some(operation)));
    assert!(incident.started_at >= at, "{} before {at}", incident.started_at);
    assert_ne!(primary_of(&pair.ends(writer, 1).await), Some(old));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_calls_need_the_token() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    let before = pair.shows("a leader", |_| true).await.intent;
    for host in &pair.hosts {
        for path in ["/v1/switchover", "/v1/switchover/cancel", "/v1/pause", "/v1/resume"] {
            for token in [None, Some(""), Some("0123456789abcdef0123456789abcdeF")] {
                let (code, said) = host.api.post(path, token, &json!({})).await.unwrap();
                assert_eq!(code, 401, "{path} with {token:?}: {said}");
            }
        }
        let (code, _) = host.api.get("/v1/status").await.unwrap();
        assert_eq!(code, 200, "reading needs none");
    }
    assert_eq!(pair.shows("a leader", |_| true).await.intent, before, "something was done");
    pair.ends(writer, 0).await;
}
