//! Which targets a balanced endpoint may lead to, and which one is next. Pure: no I/O, no clock, no connections.
//!
//! Nobody orders these endpoints: each follows what its own member sees, since two of them that see different things do
//! no harm. Rules:
//! * a lag counts only while both are young, the standby's facts and those of the node that *serves* as the primary of
//!   the present epoch (SAFETY: lag against a primary that is none says nothing); without such a primary no standby
//!   gets new connections;
//! * a node that a person drained gets no new connections;
//! * a node that leaves the set keeps its connections, unless it is known to be no standby any more: a reader that is a
//!   little late is better off than one that is cut. Of a node that is not heard nothing is known; where it is gone,
//!   the kernel ends its connections.

use std::collections::BTreeSet;

use super::routing::Target;
use crate::{
    config::Balance,
    model::{NodeId, NodeStatus, Role, Snapshot},
};

/// Facts older than this are not acted on, in milliseconds. Members report ten times a second.
const YOUNG_MS: f64 = 1_000.0;

/// What a target that has just come (back) gets of its full share, and what it has in the end.
const EASED: u64 = 10;
const FULL: u64 = 100;
/// How long it takes until then, in milliseconds: caches are cold.
const EASE_MS: u64 = 10_000;

/// Which targets there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// New connections go to these.
    pub serve: Vec<Target>,
    /// Connections to these go on; all others are cut.
    pub keep: BTreeSet<NodeId>,
}

/// The standbys that lack at most `max_lag` bytes; without any the primary, if `fallback` says so.
#[must_use]
pub fn standbys(snapshot: &Snapshot, max_lag: u64, fallback: bool) -> Offer {
    let young = |node: &&NodeStatus| node.heard_ms <= YOUNG_MS;
    let primary = snapshot.nodes.iter().filter(young).find(|node| node.serving);
    let drained = |node: &NodeId| snapshot.intent.as_ref().is_some_and(|now| now.drained.contains(node));
    let close = |node: &&NodeStatus| {
        let lag = node.lag_bytes.zip(node.replay_bytes).map(|(lag, replay)| lag.saturating_add(replay));
        node.role == Role::Standby
            && node.streaming
            && !drained(&node.node)
            && primary.is_some_and(|primary| primary.timeline == node.timeline)
            && lag.is_some_and(|lag| lag <= max_lag)
    };
    let target =
        |node: &NodeStatus| Some(Target { node: node.node.clone(), address: node.database.clone()? });
    let mut serve: Vec<Target> =
        snapshot.nodes.iter().filter(young).filter(close).filter_map(target).collect();
    if serve.is_empty() && fallback {
        serve.extend(primary.and_then(target));
    }
    let stays = |node: &&NodeStatus| match node.role {
        Role::Standby | Role::Starting | Role::Unknown => true,
        Role::Primary => fallback && node.serving,
        Role::Down | Role::None => false,
    };
    let keep = snapshot.nodes.iter().filter(stays).map(|node| node.node.clone()).collect();
    Offer { serve, keep }
}

/// Every app server that is healthy.
#[must_use]
pub fn apps(snapshot: &Snapshot) -> Offer {
    let mut offer = Offer::default();
    for node in &snapshot.nodes {
        let Some(app) = &node.app else { continue };
        if app.healthy && node.heard_ms <= YOUNG_MS {
            offer.serve.push(Target { node: node.node.clone(), address: app.address.clone() });
        }
        offer.keep.insert(node.node.clone());
    }
    offer
}

/// One target, as it is when somebody has to be led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// How long it has been well, in milliseconds.
    pub well_ms: u64,
    /// It took no connection when it was last tried.
    pub refusing: bool,
    /// Connections that are open to it.
    pub open: u64,
    /// How far behind its share it is. Kept from one choice to the next.
    pub credit: i64,
}

impl Seat {
    fn weight(&self) -> u64 {
        EASED + (FULL - EASED) * self.well_ms.min(EASE_MS) / EASE_MS
    }
}

/// The one that is next. One that refuses is chosen only if all do. None: there is none.
#[must_use]
pub fn next(balance: Balance, seats: &mut [Seat]) -> Option<usize> {
    let all_refuse = seats.iter().all(|seat| seat.refusing);
    let may = |seat: &Seat| all_refuse || !seat.refusing;
    let chosen = match balance {
        // Smooth weighted round robin: everybody gains its weight, who has most is taken and pays for all.
        Balance::RoundRobin => {
            let mut total = 0;
            for seat in seats.iter_mut().filter(|seat| may(seat)) {
                let weight = i64::try_from(seat.weight()).unwrap_or(i64::MAX);
                seat.credit += weight;
                total += weight;
            }
            let candidates = seats.iter_mut().enumerate().filter(|(_, seat)| may(seat));
            // The first of equals, which `max_by_key` is not.
            let (index, seat) = candidates.rev().max_by_key(|(_, seat)| seat.credit)?;
            seat.credit -= total;
            index
        }
        Balance::LeastConnections => {
            let candidates = seats.iter().enumerate().filter(|(_, seat)| may(seat));
            candidates.min_by_key(|(_, seat)| (seat.open + 1) * FULL / seat.weight())?.0
        }
    };
    Some(chosen)
}

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;
