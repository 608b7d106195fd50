//! What operators ask for, and who may ask.

use std::time::Duration;

use locum::model::OperationState;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_calls_need_the_token() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    let before = pair.shows("a leader", |_| true).await.intent;
    for host in &pair.hosts {
        for path in ["/v1/switchover", "/v1/pause", "/v1/resume"] {
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
