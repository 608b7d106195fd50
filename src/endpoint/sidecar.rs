//! What a proxy beside an app does with what members show: the rule of `locum endpoint`. Pure: no I/O, no clock.
//!
//! Nobody orders it, and no failover waits for it: it takes what any member shows as an order of the intent's stamp, and
//! its routing table refuses what is older. So it does no harm that the fence and the right to serve would not stop: at
//! worst it leads to a server that is gone. What a member does not know changes nothing: the last target stays.

use crate::model::{EndpointKind, Intent, NodeStatus, RouteOrder, Snapshot, Stamp};

/// What `snapshot` asks of an endpoint of this kind whose last stamp is `last`. None: nothing new.
#[must_use]
pub fn order(snapshot: &Snapshot, kind: EndpointKind, last: Stamp) -> Option<(Stamp, RouteOrder)> {
    let intent = snapshot.intent.as_ref().filter(|intent| intent.stamp() >= last)?;
    let order = match kind {
        EndpointKind::Primary => primary(snapshot, intent, last),
        EndpointKind::App => app(snapshot, intent),
        // They follow no order at all: see `balance`.
        EndpointKind::Standbys | EndpointKind::Apps => None,
    };
    Some((intent.stamp(), order?))
}

fn node<'a>(snapshot: &'a Snapshot, name: &crate::model::NodeId) -> Option<&'a NodeStatus> {
    snapshot.nodes.iter().find(|node| node.node == *name)
}

fn primary(snapshot: &Snapshot, intent: &Intent, last: Stamp) -> Option<RouteOrder> {
    let Some(name) = &intent.primary else { return Some(RouteOrder::Cut) };
    // In a switchover after the checkpoint, which may take long. Else the leader has its reasons, such as a server that was
    // started in its place and has yet to prove its sync names.
    if snapshot.holds_clients() {
        return Some(RouteOrder::Hold);
    }
    let status = node(snapshot, name)?;
    match &status.database {
        Some(address) if status.serving => {
            Some(RouteOrder::Point { node: name.clone(), address: address.clone() })
        }
        // Declared, and not there yet. In the epoch that was led there already, it is only not heard.
        _ => (!last.same_epoch(intent.stamp())).then_some(RouteOrder::Hold),
    }
}

fn app(snapshot: &Snapshot, intent: &Intent) -> Option<RouteOrder> {
    let name = intent.app.as_ref()?;
    let address = node(snapshot, name)?.app.as_ref()?.address.clone();
    Some(RouteOrder::Point { node: name.clone(), address })
}

#[cfg(test)]
#[path = "sidecar_tests.rs"]
mod tests;
