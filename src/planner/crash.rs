//! The declared primary is gone: in its place again, or a promotion. And what becomes of one that dies again and again.

use std::time::Duration;

use super::{access, candidate, case::Case, cut_off, establish, fastest, fastest::Way, health, vacancy};
use crate::model::{
    AgentFacts, Cause, Command, Durability, Finding, Hold, Intent, Mono, NodeId, OnCrash, Server, Step,
    WalPosition,
};

/// How long the control file of a crashed primary may take to be read before a decision for the fastest way does without it.
/// Shorter: it is not read yet. Longer: a disk that hangs holds up the failover.
const CONTROL_READ: Duration = Duration::from_secs(1);
/// A primary that crashes again and again is started after this, doubled with each crash … Shorter: what kills it is met again
/// and again. Longer: a crash that was its last one is served later.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// … up to this.
const PAUSE_LAST: Duration = Duration::from_secs(60);

/// The declared primary is gone: by policy start it again, or declare the next epoch.
pub(super) fn replace(
    case: &mut Case<'_>,
    intent: &Intent,
    node: &NodeId,
    finding: Finding,
    mut evidence: Vec<String>,
) {
    let down = case.heard(node).is_some_and(|agent| matches!(agent.server.value, Server::Down(_)));
    let noticed = case.heard(node).and_then(|agent| match &agent.server.value {
        Server::Down(down) => down.since,
        Server::Primary(primary) => primary.probe.failing_since,
        Server::Standby(_) | Server::Starting | Server::Unknown => None,
    });
    case.suspect(noticed);
    let cause = |evidence: Vec<String>| Cause { summary: finding.to_string(), evidence };
    // One that runs and does not answer is no matter of starts.
    let looping = crash_loop(case, intent).filter(|_| down);
    if looping.is_none() && down && !serve_failed(case, node) {
        let rather = rather_start(case, intent, node, &mut evidence);
        match rather.or_else(|| way(case, intent, node, &mut evidence)) {
            Some(Way::Start) => {
                case.blame(cause(evidence));
                return establish::serve_again(case, intent, node);
            }
            Some(Way::Promote) => {}
            None => return case.underway(format!("the control file of {node} is being read")),
        }
    }
    if let Some((count, _)) = looping {
        evidence.push(format!("it has crashed {count} times within {:.0?}", case.policy.flap_window));
        if failed_over_lately(case) {
            return restart_if_down(case, intent, node, down, cause(evidence));
        }
    }
    if health::flapping(case) {
        case.find(Finding::Flapping);
        case.hold(Hold::Flapping);
        return restart_if_down(case, intent, node, down, cause(evidence));
    }
    match vacancy::could_be_filled(case, intent) {
        Ok(()) => case.declare_because(intent.vacated(candidate::reached(case)), cause(evidence)),
        Err(reasons) => {
            evidence
                .extend(reasons.iter().map(|(other, why)| format!("{other} could not be promoted: {why}")));
            candidate::hold(case, intent, reasons);
            restart_if_down(case, intent, node, down, cause(evidence));
        }
    }
}

/// The disk of the declared primary went back in time: it is never started as it is. Who has what it lost is promoted.
pub(super) fn replace_set_back(case: &mut Case<'_>, intent: &Intent, node: &NodeId, lacks: WalPosition) {
    case.hold(Hold::DiskWentBack { node: node.clone(), lacks });
    if health::flapping(case) {
        case.find(Finding::Flapping);
        return case.hold(Hold::Flapping);
    }
    match vacancy::could_be_filled(case, intent) {
        Ok(()) => {
            let summary = Finding::DiskWentBack { node: node.clone() }.to_string();
            let evidence = vec![format!("its WAL does not contain {lacks}")];
            case.declare_because(intent.vacated(candidate::reached(case)), Cause { summary, evidence });
        }
        Err(_) if cut_off::start(case, intent, Some(node)) => {}
        Err(reasons) => candidate::hold(case, intent, reasons),
    }
}

/// What the declared primary must have is not known before somebody is heard who was told. Who can be promoted is.
pub(super) fn replace_unsure(case: &mut Case<'_>, intent: &Intent, node: &NodeId, why: String) {
    let summary = format!("{node} is down, and whether its disk went back in time is not known");
    let cause = Cause { summary, evidence: vec![why] };
    case.declare_because(intent.vacated(candidate::reached(case)), cause);
}

/// By what its agent remembers, the data directory of the declared primary is half rewound or cloned: it is not started, and where
/// its WAL ends says nothing. Who can be promoted without knowing that end is.
pub(super) fn replace_unfinished(case: &mut Case<'_>, intent: &Intent, node: &NodeId) {
    let why = "its data directory is unfinished, as far as its agent remembers";
    let promised = !intent.sync.is_empty() && !intent.sync_next.is_empty();
    let decides = promised || intent.durability == Durability::Async;
    if !decides || health::flapping(case) || vacancy::could_be_filled(case, intent).is_err() {
        return case.hold(Hold::NoCandidate { reasons: vec![(node.clone(), why.into())] });
    }
    let summary = format!("{node} cannot be started: {why}");
    let cause = Cause { summary, evidence: Vec::new() };
    case.declare_because(intent.vacated(candidate::reached(case)), cause);
}

fn serve_failed(case: &Case<'_>, node: &NodeId) -> bool {
    let failed = |agent: &AgentFacts| {
        agent.failed.iter().any(|(what, _)| what == Command::Serve { floor: None }.name())
    };
    case.heard(node).is_some_and(failed)
}

/// Where nobody who could be promoted would serve clients, the primary in its place is the one that does. None: somebody
/// would, or the primary would not either.
fn rather_start(case: &Case<'_>, intent: &Intent, node: &NodeId, evidence: &mut Vec<String>) -> Option<Way> {
    let (fit, _) = candidate::survey(case, intent, Some(node));
    if fit.is_empty() || access::any_serves(case, fit.iter()) || access::why_no_service(case, node).is_some()
    {
        return None;
    }
    let reasons = fit.iter().filter_map(|other| Some((other, access::why_no_service(case, other)?)));
    evidence.extend(reasons.map(|(other, why)| format!("{other} would give no service: {why}")));
    Some(Way::Start)
}

/// What the policy says of a primary that is down. None: what that rests on is being read.
fn way(case: &Case<'_>, intent: &Intent, node: &NodeId, evidence: &mut Vec<String>) -> Option<Way> {
    match case.policy.on_crash {
        OnCrash::Failover => return Some(Way::Promote),
        OnCrash::Restart => return Some(Way::Start),
        OnCrash::Fastest => {}
    }
    let Some(Server::Down(down)) = case.heard(node).map(|agent| &agent.server.value) else {
        return Some(Way::Promote);
    };
    let serve =
        Step::Order { node: node.clone(), command: Command::Serve { floor: None }, stamp: intent.stamp() };
    if case.view.underway.contains(&serve.key()) {
        // What is read meanwhile does not turn it round.
        return Some(Way::Start);
    }
    let unread = down.since.is_some_and(|since| case.now.since(since) < CONTROL_READ);
    let Some(control) = &down.control else { return (!unread).then_some(Way::Promote) };
    let (sooner, said) = fastest::weigh(case, intent, node, Some(control.redo), down.wal_end);
    evidence.extend(said);
    Some(sooner)
}

/// What would be done if the postmaster of the primary died now.
pub(super) fn forecast(case: &Case<'_>) -> Vec<String> {
    let Some(intent) = &case.view.intent else { return Vec::new() };
    let Some(node) = &intent.primary else { return Vec::new() };
    let Some(Server::Primary(primary)) = case.heard(node).map(|agent| &agent.server.value) else {
        return Vec::new();
    };
    let (sooner, mut said) = fastest::weigh(case, intent, node, primary.redo, Some(primary.flushed));
    let (fit, _) = candidate::survey(case, intent, Some(node));
    let start = match case.policy.on_crash {
        OnCrash::Failover => fit.is_empty(),
        OnCrash::Restart => true,
        OnCrash::Fastest => sooner == Way::Start,
    };
    let what = if start { "it would be started in its place" } else { "a standby would be promoted" };
    said.push(format!("so {what}"));
    said
}

/// Nobody can take over: the old primary is as good as it gets. One that crashes again and again is started only after a
/// while, so that a full disk or a page that kills it is not met again and again.
fn restart_if_down(case: &mut Case<'_>, intent: &Intent, node: &NodeId, down: bool, cause: Cause) {
    if !down {
        return;
    }
    if let Some((count, last)) = crash_loop(case, intent) {
        let beyond = u32::try_from(count.saturating_sub(case.policy.max_failovers + 1)).unwrap_or(u32::MAX);
        let pause = PAUSE_FIRST.saturating_mul(1 << beyond.min(10)).min(PAUSE_LAST);
        let left = pause.saturating_sub(case.now.since(last));
        if !left.is_zero() {
            return case.hold(Hold::CrashLoop { node: node.clone(), left });
        }
    }
    case.blame(cause);
    establish::serve_again(case, intent, node);
}

/// Counts the crashes of the declared primary.
pub(super) fn count(case: &mut Case<'_>, intent: &Intent) {
    let (now, window, epoch) = (case.now, case.policy.flap_window, intent.epoch);
    case.memory().crashes.at.retain(|(_, at)| now.since(*at) <= window);
    let Some(primary) = &intent.primary else { return };
    let Some(agent) = case.heard(primary) else { return };
    let served = agent.primary_since.is_some_and(|stamp| stamp.same_epoch(intent.stamp()));
    match &agent.server.value {
        Server::Down(down) => {
            let known = case.memory().crashes.down.as_ref() == Some(primary);
            if served && down.crashed && !known {
                case.memory().crashes.at.push((epoch, now));
                case.memory().crashes.down = Some(primary.clone());
            }
        }
        _ => case.memory().crashes.down = None,
    }
    if crash_loop(case, intent).is_some() {
        case.find(Finding::CrashLoop { node: primary.clone() });
    }
}

/// How often the primary has crashed in this epoch, within the flap window, and when last; None: not so often that a start
/// in its place has to be called a loop. An epoch has another primary, or the same one declared anew.
fn crash_loop(case: &mut Case<'_>, intent: &Intent) -> Option<(usize, Mono)> {
    let limit = case.policy.max_failovers;
    let crashes = &case.memory().crashes.at;
    let count = crashes.iter().filter(|(epoch, _)| *epoch == intent.epoch).count();
    let (_, last) = crashes.last()?;
    (count > limit).then_some((count, *last))
}

/// There was a failover within the flap window: of a crash loop on both nodes the nodes are hardly the cause.
fn failed_over_lately(case: &Case<'_>) -> bool {
    case.view.failovers.iter().any(|at| case.now.since(*at) <= case.policy.flap_window)
}
