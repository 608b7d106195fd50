//! A webhook: somebody is told by a signed POST where clients are to be led, and does it (DNS, a cloud's routes).
//!
//! The body is JSON. `Locum-Signature: sha256=` is followed by the HMAC-SHA256 of the body, byte for byte, under the key in
//! `secret_file`, in hexadecimal. The body carries the time and the stamp: a receiver refuses what is too old, or whose
//! stamp is lower than the last one it took. It may come more than once, and from every member that has the endpoint in its
//! configuration. An answer of 2xx confirms it.

use std::{fs, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use serde::Serialize;

use super::{Driver, Surroundings, Task, Wish};
use crate::{
    config,
    model::{ClusterName, EndpointKind, EndpointName, NodeId, Stamp},
    ports::Clock,
};

/// How much of what it answers is kept for people.
const SAID: usize = 200;

pub(super) struct Hook {
    client: reqwest::Client,
    url: reqwest::Url,
    secret_file: PathBuf,
    clock: Arc<dyn Clock>,
    cluster: ClusterName,
    member: NodeId,
    endpoint: EndpointName,
    kind: EndpointKind,
}

/// What is sent. Fields may be added; none is renamed or taken away.
#[derive(Serialize)]
struct Body<'a> {
    event: &'static str,
    cluster: &'a ClusterName,
    endpoint: &'a EndpointName,
    target: EndpointKind,
    node: &'a NodeId,
    address: &'a str,
    stamp: Stamp,
    member: &'a NodeId,
    time: String,
}

impl Hook {
    pub(super) fn new(
        settings: &config::Webhook,
        config: &config::Driven,
        around: &Surroundings<'_>,
    ) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .timeout(config.timeout)
            // The signature is for who is named here, and for nobody else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("prepare the webhook of endpoint {}: {error}", config.name))?;
        Ok(Self {
            client,
            url: settings.url.clone(),
            secret_file: settings.secret_file.clone(),
            clock: Arc::clone(&around.clock),
            cluster: around.cluster.clone(),
            member: around.node.clone(),
            endpoint: config.name.clone(),
            kind: config.target,
        })
    }
}

/// The value of `Locum-Signature` for a body under a key.
#[must_use]
pub fn signature(key: &[u8], body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    let tag = ring::hmac::sign(&key, body);
    tag.as_ref().iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

#[async_trait]
impl Driver for Hook {
    fn shows(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    async fn carry_out(&self, task: &Task) -> Result<(), String> {
        let Wish::Lead { node, address } = &task.wish else { return Ok(()) };
        let secret = fs::read(&self.secret_file).map_err(|error| {
            format!("read the key of the webhook, {}: {error}", self.secret_file.display())
        })?;
        let body = Body {
            event: "repoint",
            cluster: &self.cluster,
            endpoint: &self.endpoint,
            target: self.kind,
            node,
            address,
            stamp: task.stamp,
            member: &self.member,
            time: self.clock.wall().to_string(),
        };
        let body = serde_json::to_vec(&body).map_err(|error| format!("write the webhook's body: {error}"))?;
        let signature = signature(secret.trim_ascii(), &body);
        let request = self.client.post(self.url.clone()).header("Content-Type", "application/json");
        let answer = request.header("Locum-Signature", signature).body(body).send().await;
        // A URL may hold what is secret.
        let told = |error: reqwest::Error| format!("webhook: {}", config::chain(&error.without_url()));
        let answer = answer.map_err(told)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let said = answer.text().await.unwrap_or_default();
        let said: String = said.trim().chars().filter(|letter| !letter.is_control()).take(SAID).collect();
        Err(format!("webhook: it answered {status}: {said}"))
    }
}
