//! What is known of a node's app server.

use serde::{Deserialize, Serialize};

use super::Mono;

/// The app server of one node, as its health path answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppFacts {
    /// Where clients' connections go when this app is active, `host:port`.
    pub address: String,
    /// True if the last probe answered 2xx within its deadline.
    pub healthy: bool,
    /// When a probe last succeeded.
    pub last_ok: Option<Mono>,
    /// Since when every probe has failed; None while healthy.
    pub failing_since: Option<Mono>,
    /// What the last failed probe said.
    pub error: Option<String>,
}
