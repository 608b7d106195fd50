//! A planned hand-over: checkpoint, hold new connections, drain, clean stop, proof that the standby has the shutdown
//! checkpoint, declare. Until the declaration everything can be taken back, and is when the standby fails.

use std::cmp::Reverse;

use super::{Memory, access, candidate, case::Case, requests, sync_set, vacancy};
use crate::model::{
    Cause, Command, Control, ControlState, Down, EndpointKind, Hold, Intent, Mode, Mono, NodeId, Policy,
    Primary, RouteOrder, Server, Standby, Step, View,
};

/// To whom a switchover would go, or every reason why it cannot.
pub(super) fn admit(
    view: &View,
    policy: &Policy,
    now: Mono,
    to: Option<&NodeId>,
) -> Result<NodeId, Vec<String>> {
    let memory = Memory::default();
    let case = Case::new(view, &memory, policy, now);
    let Some(intent) = &view.intent else { return Err(vec!["no cluster is declared yet".into()]) };
    let mut blockers = general_blockers(&case, intent);
    let Some(primary) = &intent.primary else {
        blockers.push("a failover is under way".into());
        return Err(blockers);
    };
    let others = case.others(Some(primary));
    let named: Vec<&NodeId> = others.iter().copied().filter(|node| to.is_none_or(|to| *node == to)).collect();
    if let Some(to) = to.filter(|to| *to == primary) {
        blockers.push(format!("{to} is the primary already"));
    } else if named.is_empty() {
        blockers.push(to.map_or("there is no other node".into(), |to| format!("there is no node {to}")));
    }
    let mut reasons = Vec::new();
    let fit: Vec<&NodeId> = named
        .into_iter()
        .filter(|node| match unfit(&case, intent, node) {
            None => true,
            Some(reason) => {
                reasons.push(format!("{node}: {reason}"));
                false
            }
        })
        .collect();
    // It will have everything, whoever it is.
    match fit.into_iter().max_by_key(|node| (candidate::priority(&case, node), Reverse(*node))) {
        Some(node) if blockers.is_empty() => Ok(node.clone()),
        Some(_) => Err(blockers),
        None => Err(blockers.into_iter().chain(reasons).collect()),
    }
}

fn general_blockers(case: &Case<'_>, intent: &Intent) -> Vec<String> {
    let mut blockers = requests::blockers(case, intent);
    if intent.sync != intent.sync_next {
        blockers.push("the sync set is changing at this moment; try again in a second".into());
    }
    if let Some(primary) = &intent.primary
        && !matches!(super::health::of_primary(case, intent, primary), super::health::Health::Good(_))
    {
        blockers.push(format!("the primary {primary} is not well; a switchover needs it"));
    }
    if !case.view.verified.is_some_and(|stamp| stamp.same_epoch(intent.stamp())) {
        blockers.push("no commit through the endpoint has succeeded in this epoch yet".into());
    }
    blockers
}

/// Why a node cannot take over now.
fn unfit(case: &Case<'_>, intent: &Intent, node: &NodeId) -> Option<String> {
    // A hand-over loses nothing, so what a failover to it would lose is no reason.
    let lossless = Intent { durability: crate::model::Durability::Sync, ..intent.clone() };
    if let Err(reason) = candidate::why_not(case, &lossless, node) {
        return Some(reason);
    }
    let name = &case.view.agent(node)?.standby_name;
    if intent.rejoin.as_ref().is_some_and(|asked| asked.wants_clone(node, name)) {
        return Some("it is about to be cloned, as an operator asked".into());
    }
    if let Some(reason) = access::why_no_service(case, node) {
        return Some(reason);
    }
    let standby = standby(case, node)?;
    if !standby.streaming {
        return Some("it does not stream from the primary".into());
    }
    let primary = case.view.agent(intent.primary.as_ref()?).map(|agent| &agent.server.value);
    let Some(Server::Primary(primary)) = primary else {
        return Some("the primary's position is not known".into());
    };
    let lost: Vec<&str> = primary
        .logical_slots
        .iter()
        .filter(|slot| !standby.logical_slots.contains(slot))
        .map(String::as_str)
        .collect();
    if !lost.is_empty() {
        let slots = lost.join(", ");
        return Some(format!(
            "the logical slots {slots} of the primary are not in step there, so their readers would lose their place; make \
             them failover slots (PostgreSQL 17), or drop those that nobody needs"
        ));
    }
    // Of the two the standby may have been looked at later.
    let lag = primary.flushed.max(standby.flushed).bytes_since(standby.replayed);
    let limit = case.policy.max_switchover_lag;
    (lag > limit).then(|| format!("it lags {lag} bytes behind; max_switchover_lag is {limit}"))
}

fn standby<'a>(case: &Case<'a>, node: &NodeId) -> Option<&'a Standby> {
    match &case.heard(node)?.server.value {
        Server::Standby(standby) => Some(standby),
        _ => None,
    }
}

/// The checklist of a hand-over under way.
pub(super) fn plan(case: &mut Case<'_>, intent: &Intent, node: &NodeId) {
    let Some(handover) = &intent.handover else { return };
    if let Some(reason) = must_roll_back(case, intent) {
        return roll_back(case, intent, &reason);
    }
    match case.heard(node).map(|agent| &agent.server.value) {
        Some(Server::Primary(primary)) => prepare(case, intent, node, primary),
        // It has ended; the order to stop it attests that nothing of it is left.
        Some(Server::Down(down)) if down.fenced.is_none() => case.order(intent, node, Command::Stop),
        Some(Server::Down(down)) => complete(case, intent, &handover.to.clone(), down),
        _ => case.underway(format!("{node} is stopping")),
    }
}

fn prepare(case: &mut Case<'_>, intent: &Intent, node: &NodeId, primary: &Primary) {
    let Some(handover) = &intent.handover else { return };
    // A proof of the sync names may have been under way: the shutdown checkpoint would wait behind its pause.
    if sync_set::resume_replay(case, intent) {
        return;
    }
    if primary.checkpointed.is_none_or(|version| version < handover.since) {
        return case.order(intent, node, Command::Checkpoint);
    }
    let mut holding = true;
    for (member, name, facts) in case.endpoints(EndpointKind::Primary) {
        if facts.mode == Mode::Open || facts.stamp.version < handover.since {
            holding = false;
            case.route(intent, member, name, RouteOrder::Hold);
        }
    }
    if !holding {
        return;
    }
    if case.view.drained.is_none_or(|stamp| stamp < intent.stamp()) {
        return case.step(Step::Drain { node: node.clone(), stamp: intent.stamp() });
    }
    case.order(intent, node, Command::Stop);
}

/// The old primary has stopped, and does so in order only when its standbys have flushed all it had: what the standby has
/// applied once it is recruited is all that it will ever have. Declare, if that is past the shutdown checkpoint.
fn complete(case: &mut Case<'_>, intent: &Intent, to: &NodeId, down: &Down) {
    let Some(control) = down.control else { return case.underway("the control file is being read") };
    if control.state != ControlState::ShutDown {
        return roll_back(case, intent, "the old primary did not stop cleanly");
    }
    // Its promise refuses a late order of its time outside the set, too, which could still empty it.
    if candidate::recruited_at(case, intent, to).is_none() {
        return case.order(intent, to, Command::Recruit);
    }
    if !has_everything(case, to, &control) {
        let reason = format!("{to} has not received the shutdown checkpoint {}", control.checkpoint);
        return roll_back(case, intent, &reason);
    }
    let position = super::floors::of_recruit(case, to);
    let next = vacancy::with_app_of(case, intent.handed_over(to.clone(), position), to);
    let evidence = vec![format!("{to} has replayed the shutdown checkpoint {}", control.checkpoint)];
    case.declare_because(next, Cause { summary: "switchover asked for by an operator".into(), evidence });
}

/// The shutdown checkpoint is the last record of a clean stop, and replay is past its beginning only when it was
/// applied whole.
fn has_everything(case: &Case<'_>, to: &NodeId, control: &Control) -> bool {
    standby(case, to).is_some_and(|standby| standby.replayed > control.checkpoint)
}

fn must_roll_back(case: &mut Case<'_>, intent: &Intent) -> Option<String> {
    let handover = intent.handover.as_ref()?;
    let (now, limit) = (case.now, case.policy.handover);
    let begun = match &case.memory().handover {
        Some((operation, at)) if *operation == handover.operation => *at,
        _ => {
            case.memory().handover = Some((handover.operation.clone(), now));
            now
        }
    };
    if now.since(begun) > limit {
        return Some(format!("it took longer than {limit:.1?}"));
    }
    match candidate::why_not(
        case,
        &Intent { durability: crate::model::Durability::Sync, ..intent.clone() },
        &handover.to,
    ) {
        Err(reason) => Some(format!("{}: {reason}", handover.to)),
        Ok(()) => None,
    }
}

/// Back to the old primary: the next plan finds it stopped by us and starts it, or leads clients to it again.
fn roll_back(case: &mut Case<'_>, intent: &Intent, reason: &str) {
    case.hold(Hold::Blocked { blockers: vec![format!("the switchover is rolled back: {reason}")] });
    let cause = Cause { summary: format!("the switchover is rolled back: {reason}"), evidence: Vec::new() };
    case.declare_because(Intent { handover: None, ..intent.clone() }.raised(), cause);
}
