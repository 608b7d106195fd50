//! The event stream.

use std::time::Duration;

use locum::model::{Role, Snapshot};
use reqwest::{Method, Response, StatusCode};
use tokio::time::timeout;

use super::console::{DEADLINE, Port, node};

struct Events {
    response: Response,
    buffer: String,
}

impl Events {
    async fn open(port: &Port) -> Self {
        let response = port.request(Method::GET, "/v1/events").send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: String::new() }
    }

    /// The data of the next event; None if none comes within `wait`.
    async fn next(&mut self, wait: Duration) -> Option<Snapshot> {
        timeout(wait, async {
            loop {
                if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    self.buffer = rest;
                    if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                        assert!(event.lines().any(|line| line == "event: status"));
                        return serde_json::from_str(data).expect("a snapshot");
                    }
                    continue;
                }
                let chunk = self.response.chunk().await.expect("no break").expect("no end");
                self.buffer.push_str(std::str::from_utf8(&chunk).expect("text"));
            }
        })
        .await
        .ok()
    }
}

#[tokio::test]
async fn one_event_at_once_and_one_for_every_change_that_matters() {
    let port = Port::of_a_pair().await;
    let mut events = Events::open(&port).await;
    let first = events.next(DEADLINE).await.expect("one at once");
    assert_eq!(first.leader, Some(node("a")));
    // What changes all the time is no event; it comes with the next that is one.
    port.fake.publish(|shown| {
        shown.nodes[0].heard_ms = 99.0;
        shown.nodes[1].lag_bytes = Some(512);
        shown.endpoints[0].open = 8;
        shown.endpoints[0].traffic.last_gap_us = Some(7);
        shown.plan = vec!["acts in 1.9s".into()];
        shown.rpo = None;
    });
    assert_eq!(events.next(Duration::from_millis(50)).await, None);
    port.fake.publish(|shown| shown.nodes[0].role = Role::Down);
    let second = events.next(DEADLINE).await.expect("a change");
    assert_eq!((second.nodes[0].role, second.nodes[1].lag_bytes), (Role::Down, Some(512)));
    port.fake.publish(|shown| shown.leader = None);
    assert_eq!(events.next(DEADLINE).await.expect("a change").leader, None);
}

#[tokio::test]
async fn streams_are_bounded_and_given_back() {
    let port = Port::of_a_pair().await;
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(Events::open(&port).await);
    }
    assert_eq!(port.get("/v1/events").await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(port.get("/primary").await.0, StatusCode::OK, "the rest goes on");
    open.clear();
    let freed = async {
        loop {
            // A closed stream is noticed when something is to be written to it, or read from it.
            let response = port.request(Method::GET, "/v1/events").send().await.expect("an answer");
            if response.status() == StatusCode::OK {
                return;
            }
        }
    };
    timeout(DEADLINE, freed).await.expect("a place becomes free");
}
