//! The one decision path: what is known in, what to do out.
//!
//! [`plan`] is pure and deterministic: no I/O, no async, no clock, no randomness, no logging. What it must remember
//! it returns as [`Memory`]. A failover is no script but a checklist against the stored intent: each call returns
//! the lines that are unticked and may be done now, so a controller that dies half-way is replaced by one that reads
//! the same checklist.

mod access;
mod alone;
mod app;
mod bootstrap;
mod candidate;
mod case;
mod copy_source;
mod crash;
mod cut_off;
mod disbelief;
mod divergence;
mod establish;
mod fastest;
#[cfg(test)]
pub(crate) mod fixture;
mod floors;
mod health;
mod notes;
#[cfg(test)]
mod properties;
mod rejoin;
mod rejoin_asked;
mod requests;
mod rescue;
mod scheduled;
mod service;
mod slots;
mod switchover;
mod sync_set;
#[cfg(test)]
mod tests;
mod vacancy;

use std::collections::BTreeMap;

use crate::model::{
    Cause, Epoch, Finding, Hold, Lsn, Mono, NodeId, Policy, RequestKind, Step, Version, View,
};

/// What a plan must remember from one call to the next: in, out, never hidden in a timer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Since when each finding has stood.
    pub since: BTreeMap<Finding, Mono>,
    /// Since when each standby that lacks WAL has flushed no more of it, and how far it had come.
    pub stalled: BTreeMap<NodeId, (Lsn, Mono)>,
    /// How far each standby had come, and when it last came further: who still receives WAL of a silent primary.
    pub advanced: BTreeMap<NodeId, (Lsn, Mono)>,
    /// When the declared primary crashed, in which epoch.
    pub crashes: Crashes,
    /// The rejoin that a person asked for, by its operation, once what had failed on the node before was forgotten.
    pub rejoin: Option<String>,
    /// When the switchover under way was first seen, by its operation.
    pub handover: Option<(String, Mono)>,
    /// When the WAL rescue of an epoch was first ordered.
    pub rescue: Option<(Epoch, Mono)>,
    /// The proof of the names up to which a member of the sync set has flushed: clients may see what the primary has.
    pub confirmed: Option<(Version, Lsn)>,
}

/// The crashes of declared primaries within the flap window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crashes {
    /// When each was seen, oldest first.
    pub at: Vec<(Epoch, Mono)>,
    /// The one that is down since the last of them: a crash is counted once.
    pub down: Option<NodeId>,
}

/// What to do now, and why nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Steps that may all be begun now, side by side. At most one of them declares.
    pub steps: Vec<Step>,
    /// Named problems.
    pub findings: Vec<Finding>,
    /// Why it does not do what somebody might expect.
    pub holds: Vec<Hold>,
    /// Why the declaration among the steps ends a primary's epoch, with the evidence.
    pub cause: Option<Cause>,
    /// Why it is not known whether the candidate that is declared among the steps has everything that was acknowledged.
    pub doubt: Option<String>,
    /// When what the cause names was first noticed.
    pub suspected: Option<Mono>,
    /// To be handed in next time.
    pub memory: Memory,
}

/// Decides what to do now.
#[must_use]
pub fn plan(view: &View, memory: &Memory, policy: &Policy, now: Mono) -> Plan {
    let mut case = case::Case::new(view, memory, policy, now);
    decide(&mut case);
    case.finish()
}

/// Everything that stands in the way of a request now; empty: nothing. Changes nothing.
#[must_use]
pub fn blockers(view: &View, policy: &Policy, now: Mono, kind: &RequestKind) -> Vec<String> {
    let refused = match kind {
        RequestKind::Switchover { to } => switchover::admit(view, policy, now, to.as_ref()).err(),
        RequestKind::Schedule { to, at } => scheduled::admit(view, to.as_ref(), *at).err(),
        RequestKind::Cancel => match &view.intent {
            Some(intent) if intent.scheduled.is_some() => None,
            _ => Some(vec!["no switchover is scheduled".to_owned()]),
        },
        RequestKind::Rejoin { node, from_scratch } => {
            rejoin_asked::admit(view, policy, now, node, *from_scratch).err()
        }
        RequestKind::Drain { .. } | RequestKind::Restore { .. } | RequestKind::Remove { .. } => {
            service::admit(view, policy, now, kind).err()
        }
        RequestKind::Pause | RequestKind::Resume | RequestKind::AcceptStore => None,
    };
    refused.unwrap_or_default()
}

/// What would be done if the postmaster of the primary died now, and how long each way is estimated to take. Empty: nobody
/// serves.
#[must_use]
pub fn if_it_crashed(view: &View, policy: &Policy, now: Mono) -> Vec<String> {
    let memory = Memory::default();
    crash::forecast(&case::Case::new(view, &memory, policy, now))
}

fn decide(case: &mut case::Case<'_>) {
    if case.view.store_error.is_some() {
        case.find(Finding::StoreLost);
    }
    if disbelief::plan(case, case.view.intent.as_ref()) {
        return;
    }
    access::find(case);
    let Some(intent) = case.view.intent.clone() else {
        return bootstrap::plan(case);
    };
    if service::is_removed(case, &intent) {
        return;
    }
    service::find(case, &intent);
    health::find_all(case, &intent);
    alone::attend(case, &intent);
    if !case.view.leading {
        alone::plan(case, &intent);
        return case.hold(Hold::NotLeader);
    }
    if requests::plan(case, &intent) {
        return;
    }
    if scheduled::plan(case, &intent) {
        return;
    }
    if intent.paused {
        case.find(Finding::Paused);
        return case.hold(Hold::Paused);
    }
    match &intent.primary {
        None => vacancy::plan(case, &intent),
        Some(primary) => establish::plan(case, &intent, primary),
    }
    case.hold_if_idle(Hold::AllWell);
}
