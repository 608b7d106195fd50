//! Whether the cluster is as it should be, judged from what a member shows. Pure.

use crate::model::{Durability, EndpointKind, Mode, NodeId, NodeStatus, Role, Snapshot};

/// A member that was not heard for longer than this is not well.
const HEARD_MS: f64 = 1_000.0;
/// How many endpoints the demo has: one for the database and one for the app on each host.
const ENDPOINTS: usize = 4;

/// What stands in the way of breaking something; empty: nothing. Faults are put in only while all is well, because
/// a second fault on top of an unhealed first one shows nothing.
pub(crate) fn obstacles(snapshot: &Snapshot, hosts: usize) -> Vec<String> {
    let mut found = Vec::new();
    if snapshot.leader.is_none() {
        found.push("no leader is elected".to_owned());
    }
    if let Some(error) = &snapshot.store_error {
        found.push(format!("the store does not answer: {error}"));
    }
    if let Some(incident) = &snapshot.incident {
        found.push(format!("incident {} is open", incident.id));
    }
    let Some(intent) = &snapshot.intent else {
        found.push("no cluster is declared yet".to_owned());
        return found;
    };
    let Some(primary) = &intent.primary else {
        found.push("no primary is declared".to_owned());
        return found;
    };
    if intent.handover.is_some() {
        found.push("a switchover is under way".to_owned());
    }
    if intent.durability != Durability::Async {
        let safe = snapshot.rpo.as_ref().is_some_and(|rpo| rpo.acknowledged_is_safe);
        if intent.sync.is_empty() || intent.sync != intent.sync_next || !safe {
            found.push("commits do not wait for a standby yet".to_owned());
        }
    }
    if snapshot.nodes.len() < hosts {
        found.push(format!("{} of {hosts} members have reported", snapshot.nodes.len()));
    }
    found.extend(snapshot.nodes.iter().filter_map(|node| node_obstacle(node, primary)));
    found.extend(endpoint_obstacles(snapshot, primary));
    found
}

fn node_obstacle(status: &NodeStatus, primary: &NodeId) -> Option<String> {
    let node = &status.node;
    if status.heard_ms > HEARD_MS {
        return Some(format!("{node} was not heard for {:.0} ms", status.heard_ms));
    }
    if let Some(app) = status.app.as_ref().filter(|app| !app.healthy) {
        let why = app.error.as_deref().unwrap_or("no answer yet");
        return Some(format!("the app server of {node} is not healthy: {why}"));
    }
    match status.role {
        Role::Primary if node == primary => {
            (!status.serving).then(|| format!("{node} is not allowed to serve yet"))
        }
        Role::Standby if node != primary => {
            (!status.streaming).then(|| format!("{node} does not stream from {primary} yet"))
        }
        role => {
            let job = status.job.as_deref().map(|job| format!(", {job}")).unwrap_or_default();
            let error = status.error.as_deref().map(|error| format!(" ({error})")).unwrap_or_default();
            Some(format!("{node} is {}{job}{error}", word(role)))
        }
    }
}

fn endpoint_obstacles(snapshot: &Snapshot, primary: &NodeId) -> Vec<String> {
    let mut found = Vec::new();
    if snapshot.endpoints.len() < ENDPOINTS {
        found.push(format!("{} of {ENDPOINTS} endpoints have reported", snapshot.endpoints.len()));
    }
    for endpoint in &snapshot.endpoints {
        let wanted = match endpoint.kind {
            EndpointKind::Primary => Some(primary),
            // Nobody orders these: they follow what is well.
            EndpointKind::Standbys | EndpointKind::Apps => continue,
            EndpointKind::App => snapshot.intent.as_ref().and_then(|intent| intent.app.as_ref()),
        };
        if endpoint.mode != Mode::Open || endpoint.target.as_ref() != wanted || wanted.is_none() {
            found.push(format!("endpoint {} of {} is not open yet", endpoint.name, endpoint.member));
        }
    }
    found
}

/// A role as people say it.
pub(crate) const fn word(role: Role) -> &'static str {
    match role {
        Role::Primary => "a primary",
        Role::Standby => "a standby",
        Role::Starting => "starting",
        Role::Down => "down",
        Role::Unknown => "not known",
        Role::None => "without PostgreSQL",
    }
}
