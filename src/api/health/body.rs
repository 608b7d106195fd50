//! What a health path says beside its code: the fields that Patroni's users look for, and ours under `locum`.

use serde::Serialize;

use super::super::feed::Current;
use crate::model::{ClusterName, Epoch, NodeId, NodeStatus, Role, Timeline};

/// The body of every health path.
#[derive(Debug, Serialize)]
pub(super) struct Body {
    /// `running`, `starting`, `stopped`, `unknown`, or `absent`: the host has no PostgreSQL.
    state: &'static str,
    /// `primary`, `replica`, or null while there is none.
    role: Option<&'static str>,
    timeline: Option<Timeline>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xlog: Option<Positions>,
    #[serde(skip_serializing_if = "is_false")]
    sync_standby: bool,
    #[serde(skip_serializing_if = "is_false")]
    pause: bool,
    locum: Ours,
}

/// WAL positions, as numbers of bytes.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Positions {
    Primary { location: u64 },
    Replica { received_location: u64, replayed_location: Option<u64> },
}

#[derive(Debug, Serialize)]
struct Ours {
    cluster: ClusterName,
    node: NodeId,
    epoch: Option<Epoch>,
    serving: bool,
    streaming: bool,
    lag_bytes: Option<u64>,
    /// Age of the agent's facts.
    heard_ms: Option<f64>,
    /// Why the answer is no.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Body {
    pub(super) fn of(current: &Current, reason: Option<String>) -> Self {
        let snapshot = &current.snapshot;
        let node = snapshot.nodes.iter().find(|status| status.node == snapshot.node);
        let role = node.map_or(Role::Unknown, |status| status.role);
        Self {
            state: match role {
                Role::Primary | Role::Standby => "running",
                Role::Starting => "starting",
                Role::Down => "stopped",
                Role::Unknown => "unknown",
                Role::None => "absent",
            },
            role: match role {
                Role::Primary => Some("primary"),
                Role::Standby => Some("replica"),
                Role::Starting | Role::Down | Role::Unknown | Role::None => None,
            },
            timeline: node.and_then(|status| status.timeline),
            xlog: node.and_then(|status| positions(role, status)),
            sync_standby: role == Role::Standby && node.is_some_and(|status| status.sync),
            pause: snapshot.intent.as_ref().is_some_and(|intent| intent.paused),
            locum: Ours {
                cluster: snapshot.cluster.clone(),
                node: snapshot.node.clone(),
                epoch: snapshot.intent.as_ref().map(|intent| intent.epoch),
                serving: node.is_some_and(|status| status.serving),
                streaming: node.is_some_and(|status| status.streaming),
                lag_bytes: node.and_then(|status| status.lag_bytes),
                heard_ms: node.map(|status| status.heard_ms + current.age.as_secs_f64() * 1000.0),
                reason,
            },
        }
    }
}

fn positions(role: Role, status: &NodeStatus) -> Option<Positions> {
    let flushed = status.lsn?.0;
    match role {
        Role::Primary => Some(Positions::Primary { location: flushed }),
        Role::Standby => Some(Positions::Replica {
            received_location: flushed,
            replayed_location: status.replay_bytes.map(|behind| flushed.saturating_sub(behind)),
        }),
        Role::Starting | Role::Down | Role::Unknown | Role::None => None,
    }
}
