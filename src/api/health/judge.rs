//! The rules of the health paths: a pure function of the snapshot and its age.
//!
//! When in doubt, a node is *not* what was asked for: a load balancer that finds no primary makes clients wait, one
//! that finds two lets them diverge. So:
//! * A snapshot older than [`STALE`], or an agent not heard for as long, confirms nothing: 503, except `/liveness`.
//! * A store that does not answer takes no right to serve away. `serving` already says whether the right holds without
//!   it, and nobody is declared primary unless this node's agent promised to stop. But what the store would have told
//!   is not known then: who is in the sync set (`/sync`), and whom lag is measured against (`lag`). Those are 503.
//! * Lag counts only against the declared primary, and only while that one was heard within [`STALE`].

use std::time::Duration;

use super::super::feed::Current;
use crate::model::{NodeStatus, Role, Snapshot};

/// A snapshot or a node older than this says nothing about now. Too short: a busy moment takes a node out of the load
/// balancer. Too long: clients are sent to what is not there.
const STALE: Duration = Duration::from_secs(3);
/// A controller that has published nothing for so long is not alive. Longer than `STALE`: who asks this restarts the
/// process.
const DEAD: Duration = Duration::from_secs(10);

/// What a path asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Does it take writes, by right?
    Primary,
    /// Can it be read from, as a standby?
    Replica,
    /// Can it be read from?
    ReadOnly,
    /// Is it a standby that has every acknowledged commit?
    Sync,
    /// Is it a standby outside the sync set?
    Async,
    /// Is PostgreSQL up?
    Health,
    /// Does the member's controller work?
    Liveness,
    /// Does the node do its part?
    Readiness,
}

impl Check {
    /// `lag` narrows it.
    pub(super) const fn takes_lag(self) -> bool {
        matches!(self, Self::Replica | Self::ReadOnly | Self::Async)
    }
}

/// Whether the answer is yes; if not, why, in a sentence.
pub(super) fn judge(check: Check, most_lag: Option<u64>, current: &Current) -> Result<(), String> {
    let snapshot = &*current.snapshot;
    if check == Check::Liveness {
        return alive(current.age);
    }
    let node = known(snapshot, current.age)?;
    match check {
        Check::Liveness => alive(current.age),
        Check::Primary => serves(node),
        Check::Replica => streams(node).and_then(|()| lag(snapshot, node, most_lag, current.age)),
        Check::ReadOnly | Check::Readiness if serves(node).is_ok() => Ok(()),
        Check::ReadOnly => streams(node).and_then(|()| lag(snapshot, node, most_lag, current.age)),
        Check::Readiness => streams(node),
        Check::Sync => streams(node).and_then(|()| in_sync(snapshot, node)),
        Check::Async if node.sync => Err("it is in the sync set".into()),
        Check::Async => streams(node).and_then(|()| lag(snapshot, node, most_lag, current.age)),
        Check::Health => up(node),
    }
}

fn alive(age: Duration) -> Result<(), String> {
    if age <= DEAD { Ok(()) } else { Err(format!("the controller has published nothing for {age:.1?}")) }
}

/// The entry of this node, if it is young enough to say anything.
fn known(snapshot: &Snapshot, age: Duration) -> Result<&NodeStatus, String> {
    let Some(node) = snapshot.nodes.iter().find(|status| status.node == snapshot.node) else {
        return Err("nothing is known of this node yet".into());
    };
    if age > STALE {
        Err(format!("the controller has published nothing for {age:.1?}"))
    } else if !heard(node, age) {
        Err(format!("nothing was heard from its agent for {:.0} ms", node.heard_ms))
    } else {
        Ok(node)
    }
}

/// Whether a node was heard within `STALE`. An age that is no number is no proof of youth.
fn heard(node: &NodeStatus, age: Duration) -> bool {
    node.heard_ms + age.as_secs_f64() * 1000.0 <= STALE.as_secs_f64() * 1000.0
}

fn serves(node: &NodeStatus) -> Result<(), String> {
    match node.role {
        Role::Primary if node.serving => Ok(()),
        Role::Primary => {
            Err("it is out of recovery, but not the serving primary of the current epoch".into())
        }
        other => Err(format!("it is not a primary but {}", word(other))),
    }
}

fn streams(node: &NodeStatus) -> Result<(), String> {
    match node.role {
        Role::Standby if node.streaming => Ok(()),
        Role::Standby => Err("it is a standby that does not stream".into()),
        other => Err(format!("it is not a standby but {}", word(other))),
    }
}

fn in_sync(snapshot: &Snapshot, node: &NodeStatus) -> Result<(), String> {
    match &snapshot.store_error {
        _ if !node.sync => Err("it is not in the sync set".into()),
        Some(error) => Err(format!("the sync set is not known: {error}")),
        None => Ok(()),
    }
}

fn lag(snapshot: &Snapshot, node: &NodeStatus, most: Option<u64>, age: Duration) -> Result<(), String> {
    let Some(most) = most else { return Ok(()) };
    if let Some(error) = &snapshot.store_error {
        return Err(format!("lag is not known, because the primary is not: {error}"));
    }
    let primary = snapshot.intent.as_ref().and_then(|intent| intent.primary.as_ref());
    let primary = snapshot.nodes.iter().find(|status| Some(&status.node) == primary);
    match (primary.is_some_and(|primary| heard(primary, age)), node.lag_bytes) {
        (true, Some(lag)) if lag <= most => Ok(()),
        (true, Some(lag)) => Err(format!("it lacks {lag} bytes, more than {most}")),
        (true, None) => Err("lag is not known".into()),
        (false, _) => Err("lag is not known: there is no primary that was heard of late".into()),
    }
}

fn up(node: &NodeStatus) -> Result<(), String> {
    match node.role {
        Role::Primary | Role::Standby => Ok(()),
        other @ (Role::Starting | Role::Down | Role::Unknown | Role::None) => {
            Err(format!("PostgreSQL is {}", word(other)))
        }
    }
}

const fn word(role: Role) -> &'static str {
    match role {
        Role::Primary => "a primary",
        Role::Standby => "a standby",
        Role::Starting => "starting",
        Role::Down => "down",
        Role::Unknown => "not known",
        Role::None => "absent",
    }
}
