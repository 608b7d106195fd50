//! Who may be promoted, and who is best. Every "no" is a sentence.

use std::cmp::Reverse;

use super::{case::Case, floors, health, notes, rescue, sync_set};
use crate::model::{AgentFacts, Durability, Hold, Intent, Lsn, NodeId, ReplayState, Server, Standby};

/// What forbids promoting `node` in whatever way the pen is taken. Positions are not judged here.
pub(super) fn why_not(case: &Case<'_>, intent: &Intent, node: &NodeId) -> Result<(), String> {
    if !intent.attended {
        return Err("the member beside the primary was stopped in order; start it again".into());
    }
    // What a person has decided is told first: that the primary does not confirm such a node only follows from it.
    if case.heard(node).is_some_and(|agent| agent.no_failover) {
        return Err("it is configured never to be promoted".into());
    }
    if intent.drained.contains(node) {
        return Err("a person drained it".into());
    }
    if !intent.promotable.contains(node) {
        return Err("the primary has not confirmed yet that it may be promoted".into());
    }
    let agent = case.heard(node).ok_or("its member is not heard")?;
    if let Some(said) = agent.access.refusal(case.now)
        && !matches!(agent.server.value, Server::Standby(_))
    {
        return Err(format!("its PostgreSQL refuses the login of its own agent: {said}"));
    }
    let standby = standby_of(agent)?;
    let silent = case.now.since(agent.server.at);
    if silent > case.policy.hang {
        return Err(format!("its PostgreSQL has not answered for {silent:.1?}"));
    }
    if agent.promise.is_none() {
        return Err("it has no promise file".into());
    }
    if health::foreign(case, intent, agent) {
        return Err("its data belongs to another system".into());
    }
    if agent.strayed.is_some() {
        return Err("it left recovery without an order, and follows nobody yet".into());
    }
    if let Some(moved) = &agent.access.moved {
        return Err(format!("its data directory was {moved}"));
    }
    if agent.unfinished.is_some() {
        return Err("a rewind or clone of it has not ended".into());
    }
    if agent.is_full() {
        return Err("its disk is full, and a promotion writes new WAL".into());
    }
    if let Some(delay) = agent.hindrances.iter().find(|one| one.delays()) {
        return Err(format!("its replay is delayed by {} = {}", delay.setting, delay.value));
    }
    if standby.replay == ReplayState::PausedByPerson {
        return Err("its replay is paused by a person".into());
    }
    if !intent.settled {
        return Err("where the last primary left its timeline is not recorded yet".into());
    }
    if intent.switch.is_some_and(|switch| !standby.history.contains(&switch)) {
        return Err("its timeline history lacks the present primary's switch".into());
    }
    if intent.switch.is_some_and(|switch| standby.flushed < switch.at) {
        // Promoted there, its history would be one that nobody else could be rewound to.
        return Err("it has not received what the present primary began with".into());
    }
    if !intent.sync.is_empty() && !intent.in_sync(node) {
        return Err("it is not in the sync set".into());
    }
    if let Some(reason) = floors::forbids(case, intent, node, agent, standby) {
        return Err(reason);
    }
    if rescue::may_bring(case, intent, node) {
        return Ok(());
    }
    affordable(case, intent, node, standby.flushed)
}

/// Whether its promotion would lose no more than is allowed, as it stands. A rescue that brought everything is believed: the
/// last reading of the old primary may have been within a record that it never completed.
pub(super) fn affordable(case: &Case<'_>, intent: &Intent, node: &NodeId, lsn: Lsn) -> Result<(), String> {
    if is_judged(case, intent, node) { within_loss(case, intent, lsn) } else { Ok(()) }
}

/// True if what a promotion of `node` would lose decides whether it may be.
pub(super) fn is_judged(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    let promised = !intent.sync.is_empty() || intent.durability != Durability::Async;
    !promised && !rescue::has(case, intent, node)
}

fn standby_of(agent: &AgentFacts) -> Result<&Standby, String> {
    match &agent.server.value {
        Server::Standby(standby) => Ok(standby),
        Server::Primary(_) => Err("it is not a standby".into()),
        Server::Down(_) => Err("its PostgreSQL is down".into()),
        Server::Starting => Err("its PostgreSQL does not answer yet".into()),
        Server::Unknown => Err("its PostgreSQL was not looked at yet".into()),
    }
}

/// What this very standby lacks of what the primary is known to have had: the live RPO is about the best one, which may be
/// lost too.
fn within_loss(case: &Case<'_>, intent: &Intent, flushed: Lsn) -> Result<(), String> {
    let limit = case.policy.max_data_loss;
    match furthest(case, intent).map(|primary| primary.bytes_since(flushed)) {
        Some(bytes) if bytes <= limit => Ok(()),
        Some(bytes) => Err(format!("{bytes} bytes would be lost; max_data_loss is {limit}")),
        None => Err("how much would be lost is not known".into()),
    }
}

/// How far the primary is known to have come, by whoever heard most of it: this member, whoever declared it or the vacancy, or
/// the primary's own agent with its last renewal. Each of them may have been cut off from it long before the others.
fn furthest(case: &Case<'_>, intent: &Intent) -> Option<Lsn> {
    let of = intent.primary.as_ref().or(intent.previous.as_ref());
    let lease = case.view.lease.last.as_ref().filter(|last| Some(&last.value.node) == of);
    let noted = notes::of_primary(case, intent).map(|at| at.lsn);
    let declared = intent.primary_floor.map(|at| at.lsn);
    let renewed = lease.and_then(|last| last.value.reached);
    reached(case).max(intent.reached).max(renewed).max(noted).max(declared)
}

/// How far the primary is known to be, where what would be lost with it is known.
pub(super) fn reached(case: &Case<'_>) -> Option<Lsn> {
    case.view.rpo.as_ref().filter(|rpo| rpo.bytes.is_some()).map(|rpo| rpo.primary)
}

/// Says that nobody can be promoted, and why. A standby whose replay was paused for a proof that will not come replays on: it may
/// lack nothing but that.
pub(super) fn hold(case: &mut Case<'_>, intent: &Intent, reasons: Vec<(NodeId, String)>) {
    case.hold(Hold::NoCandidate { reasons });
    if !case.declares() {
        sync_set::resume_replay(case, intent);
    }
}

/// Everybody but `but`, with what forbids promoting them.
pub(super) fn survey(
    case: &Case<'_>,
    intent: &Intent,
    but: Option<&NodeId>,
) -> (Vec<NodeId>, Vec<(NodeId, String)>) {
    let (mut possible, mut refused) = (Vec::new(), Vec::new());
    for node in case.others(but) {
        match why_not(case, intent, node) {
            Ok(()) => possible.push(node.clone()),
            Err(reason) => refused.push((node.clone(), reason)),
        }
    }
    (possible, refused)
}

/// The position at which a node was recruited under the intent's epoch: it stands still.
pub(super) fn recruited_at(case: &Case<'_>, intent: &Intent, node: &NodeId) -> Option<Lsn> {
    match &case.heard(node)?.server.value {
        Server::Standby(standby)
            if standby.recruited.is_some_and(|stamp| stamp.same_epoch(intent.stamp())) =>
        {
            Some(standby.replayed)
        }
        _ => None,
    }
}

/// The most advanced of these; between equals the one of the higher priority, then the first name, so that the answer is
/// one answer.
pub(super) fn best<'s>(case: &Case<'_>, standing: &'s [(NodeId, Lsn)]) -> Option<&'s (NodeId, Lsn)> {
    standing.iter().max_by_key(|(node, lsn)| (*lsn, priority(case, node), Reverse(node)))
}

/// What its configuration says.
pub(super) fn priority(case: &Case<'_>, node: &NodeId) -> usize {
    case.view.agent(node).map_or(0, |agent| agent.priority)
}
