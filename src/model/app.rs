//! What is known of a node's app server.

use serde::{Deserialize, Serialize};

use super::Mono;

/// The app server of one node, as its health probe found it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppFacts {
    /// Where clients' connections go when this app is active, `host:port`.
    pub address: String,
    /// True if the last probe found it well, within its deadline.
    pub healthy: bool,
    /// How the last probe failed; None while healthy, and before the first probe.
    #[serde(default)]
    pub failure: Option<AppFailure>,
    /// When a probe last succeeded.
    pub last_ok: Option<Mono>,
    /// Since when every probe has failed; None while healthy.
    pub failing_since: Option<Mono>,
    /// What the last failed probe said.
    pub error: Option<String>,
    /// Its member can start it, so it need not run until it is wanted. False also for a while after a start that failed.
    #[serde(default)]
    pub startable: bool,
    /// It is being started: until that has had its time, that it is not well says nothing.
    #[serde(default)]
    pub starting: bool,
}

/// How a health probe of an app server failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppFailure {
    /// It took no connection: its process has ended.
    Refuses,
    /// It did not answer in time: it may be alive and stuck.
    Hangs,
    /// It answered that it is not well, as one does that waits for its database.
    Unwell,
}
