//! What a member's public API says, and what it is asked.

use std::time::Duration;

use locum::model::Snapshot;
use serde_json::Value;

/// How long an answer may take before the question is asked again.
const ANSWER: Duration = Duration::from_secs(2);

/// One member's API.
#[derive(Clone)]
pub(crate) struct Api {
    client: reqwest::Client,
    url: String,
}

/// How a test's cluster ended.
pub(crate) struct Ended {
    /// The last snapshot.
    pub(crate) snapshot: Snapshot,
    /// How many acknowledged rows the surviving primary lacks.
    pub(crate) missing: usize,
}

impl Api {
    pub(super) fn new(port: u16) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER).build().expect("an HTTP client");
        Self { client, url: format!("http://127.0.0.1:{port}") }
    }

    /// The cluster as this member shows it; None if it does not answer.
    pub(crate) async fn status(&self) -> Option<Snapshot> {
        let answer = self.client.get(format!("{}/v1/status", self.url)).send().await.ok()?;
        answer.json().await.ok()
    }

    /// A path's answer.
    pub(crate) async fn get(&self, path: &str) -> Option<(u16, Value)> {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }

    /// A path's answer that is no JSON.
    pub(crate) async fn text(&self, path: &str) -> Option<String> {
        self.client.get(format!("{}{path}", self.url)).send().await.ok()?.text().await.ok()
    }

    /// A control call's answer.
    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Option<(u16, Value)> {
        let mut request = self.client.post(format!("{}{path}", self.url)).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.unwrap_or_default()))
    }
}
