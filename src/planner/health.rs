//! From facts to findings: how the declared primary is, and everything else that a person would want named.

use std::time::Duration;

use super::{access, case::Case, crash, floors};
use crate::model::{
    AgentFacts, AppFacts, AppFailure, EndpointKind, Finding, GuardState, Intent, Mono, NodeId, Primary,
    RECOVERY_HANGS, ReplayState, Server, StandbyName,
};

/// How long the member beside the active app server may be silent until that counts as down too. Shorter: the app moves
/// when a member is restarted. Longer: the app of a lost host is missed longer.
const SILENT_APP: Duration = Duration::from_secs(10);

/// How the declared primary is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Health<'a> {
    /// It serves, under the epoch of the intent.
    Good(&'a Primary),
    /// It is declared and has not taken its place yet: a standby to promote, a server to adopt or to start.
    NotYet,
    /// Locum itself stopped it in this epoch, and the hand-over did not come about.
    StoppedByUs,
    /// It answers, and refuses the login of its own agent: alive, as far as can be seen.
    Refusing { said: String },
    /// It fails, but not for long enough, or it is about to answer.
    Suspected { finding: Finding, left: Duration },
    /// It is gone; first-hand.
    Gone { finding: Finding, evidence: Vec<String> },
    /// It is silent. Nothing is proven by that.
    Silent { evidence: Vec<String> },
}

/// Judges the declared primary.
pub(super) fn of_primary<'a>(case: &Case<'a>, intent: &Intent, node: &NodeId) -> Health<'a> {
    let Some(agent) = case.heard(node) else {
        let awake = case.now.since(case.view.awake_since);
        if awake < case.policy.detect {
            // This member was stalled itself: what it did not hear meanwhile says nothing of anybody else.
            let finding = Finding::PrimaryUnreachable { node: node.clone() };
            return Health::Suspected { finding, left: case.policy.detect - awake };
        }
        let heard = case.view.nodes.get(node).map(|view| case.now.since(view.heard));
        let age = heard.map_or("never".to_owned(), |age| format!("{age:.1?} ago"));
        return Health::Silent { evidence: vec![format!("the member of {node} was last heard {age}")] };
    };
    let served = agent.primary_since.is_some_and(|stamp| stamp.same_epoch(intent.stamp()));
    match &agent.server.value {
        Server::Primary(primary) if served => of_running(case, node, primary),
        Server::Down(down) if served => {
            let attested = down.fenced.is_some_and(|stamp| stamp.same_epoch(intent.stamp()));
            let told = intent.handover.is_some() || case.is_told_to_stop(intent, node);
            if attested || (told && !down.crashed) {
                return Health::StoppedByUs;
            }
            let node = node.clone();
            let seen = down.since.map_or("before this member looked".to_owned(), |at| {
                format!("{:.1?} ago", case.now.since(at))
            });
            let (finding, how) = if down.crashed {
                (Finding::PrimaryCrashed { node }, "the postmaster ended unexpectedly, seen by its own agent")
            } else {
                (
                    Finding::PrimaryStopped { node },
                    "the postmaster ended by a clean stop that Locum did not order, seen by its own agent",
                )
            };
            Health::Gone { finding, evidence: vec![format!("{how}, {seen}")] }
        }
        Server::Starting | Server::Unknown if served => {
            if let Some(said) = agent.access.refusal(case.now) {
                return Health::Refusing { said: said.to_owned() };
            }
            let finding = Finding::PrimarySuspected { node: node.clone() };
            slow_start(case, node, finding)
        }
        Server::Primary(_) | Server::Standby(_) | Server::Down(_) | Server::Starting | Server::Unknown => {
            Health::NotYet
        }
    }
}

/// A primary that runs but does not answer yet (PostgreSQL's own crash recovery, or a start).
fn slow_start<'a>(case: &Case<'a>, node: &NodeId, finding: Finding) -> Health<'a> {
    let stood = case.stood(&finding).unwrap_or_default();
    let limit = case.policy.hang * RECOVERY_HANGS;
    if stood >= limit {
        let evidence = vec![format!("its postmaster has run without answering for {stood:.1?}")];
        return Health::Gone { finding: Finding::PrimaryHung { node: node.clone() }, evidence };
    }
    Health::Suspected { finding, left: limit - stood }
}

fn of_running<'a>(case: &Case<'a>, node: &NodeId, primary: &'a Primary) -> Health<'a> {
    let Some(since) = primary.probe.failing_since else { return Health::Good(primary) };
    let failing = case.now.since(since);
    if failing < case.policy.hang {
        let finding = Finding::PrimarySuspected { node: node.clone() };
        return Health::Suspected { finding, left: case.policy.hang - failing };
    }
    let last =
        primary.probe.last_ok.map_or("never".to_owned(), |at| format!("{:.1?} ago", case.now.since(at)));
    let said = primary.probe.error.clone().unwrap_or_else(|| "no answer".to_owned());
    let evidence = vec![
        format!(
            "no new connection could commit for {failing:.1?} (limit {:.1?}), seen by its own agent",
            case.policy.hang
        ),
        format!("the last probe that succeeded ended {last}; the last failed one said: {said}"),
    ];
    // It answered with an error: it lives, and the error is the cause.
    let finding = match primary.probe.code {
        Some(_) => Finding::CannotWrite { node: node.clone(), said },
        None => Finding::PrimaryHung { node: node.clone() },
    };
    Health::Gone { finding, evidence }
}

/// Names what is wrong, without deciding anything.
pub(super) fn find_all(case: &mut Case<'_>, intent: &Intent) {
    if let Some(primary) = &intent.primary {
        find_primary(case, intent, primary);
    }
    let others: Vec<NodeId> = case.others(intent.primary.as_ref()).into_iter().cloned().collect();
    for node in others {
        find_other(case, intent, &node);
    }
    crash::count(case, intent);
    find_unheard(case, intent);
    find_storage(case);
    find_apps(case, intent);
    find_endpoints(case, intent);
    floors::find(case, intent);
    note_advances(case);
}

fn find_primary(case: &mut Case<'_>, intent: &Intent, node: &NodeId) {
    // A start that lasts is judged by how long the suspicion has stood, so the suspicion comes first.
    let waits = case.heard(node).is_some_and(|agent| {
        let unseen = matches!(agent.server.value, Server::Starting | Server::Unknown);
        unseen && agent.access.refusal(case.now).is_none()
    });
    if waits {
        case.find(Finding::PrimarySuspected { node: node.clone() });
    }
    match of_primary(case, intent, node) {
        Health::Gone { finding, .. } | Health::Suspected { finding, .. } => _ = case.find(finding),
        Health::Silent { .. } => _ = case.find(Finding::PrimaryUnreachable { node: node.clone() }),
        Health::Good(_) | Health::Refusing { .. } | Health::NotYet | Health::StoppedByUs => {}
    }
    if !intent.attended {
        case.find(Finding::Unattended { node: node.clone() });
    }
    let exposed = intent.durability != crate::model::Durability::Async && intent.sync.is_empty();
    let Some(agent) = case.heard(node) else {
        // It may have emptied its set itself, where it hears nobody else either.
        if exposed {
            case.find(Finding::Exposed);
        }
        return;
    };
    let Server::Primary(primary) = &agent.server.value else { return };
    let taken = agent.primary_since.is_some_and(|stamp| stamp.same_epoch(intent.stamp()));
    if taken && agent.serves_until.is_none_or(|until| until <= case.now) {
        case.find(Finding::NoRightToServe { node: node.clone() });
    }
    let counts = agent.guard.is_some_and(|guard| guard.state != GuardState::Off);
    if taken && intent.attended && !counts {
        case.find(Finding::Unguarded { node: node.clone() });
    }
    if primary.names.is_none() {
        case.find(Finding::NamesChanged { node: node.clone() });
    }
    if exposed {
        case.find(Finding::Exposed);
    }
    find_stalled(case, primary);
    find_logical_slots(case, node, primary);
}

/// Slots whose readers could not go on at any other node. They are never made anew silently: a new one begins at its own
/// time, and what lies between would be missing without a word.
fn find_logical_slots(case: &mut Case<'_>, node: &NodeId, primary: &Primary) {
    let others = case.others(Some(node));
    let kept: Vec<&String> = others
        .into_iter()
        .filter_map(|other| case.heard(other))
        .filter_map(|agent| match &agent.server.value {
            Server::Standby(standby) => Some(&standby.logical_slots),
            _ => None,
        })
        .flatten()
        .collect();
    let alone = primary.logical_slots.iter().filter(|slot| !kept.contains(slot));
    for slot in alone {
        case.find(Finding::LogicalSlotAlone { node: node.clone(), slot: slot.clone() });
    }
}

/// A standby that froze, or whose host vanished without a word, stays connected until a time-out of PostgreSQL's, a
/// minute by default; commits would wait that long.
fn find_stalled(case: &mut Case<'_>, primary: &Primary) {
    let others: Vec<(NodeId, StandbyName)> = case
        .others(None)
        .into_iter()
        .filter_map(|node| Some((node.clone(), case.view.agent(node)?.standby_name.clone())))
        .collect();
    for (node, name) in others {
        let sender = primary.senders.iter().find(|sender| sender.name == name && sender.streaming);
        let Some(sender) = sender.filter(|sender| sender.flushed < primary.flushed) else {
            case.memory().stalled.remove(&node);
            continue;
        };
        let now = case.now;
        let seen = case.memory().stalled.entry(node.clone()).or_insert((sender.flushed, now));
        if seen.0 != sender.flushed {
            *seen = (sender.flushed, now);
        }
        let since = seen.1;
        if now.since(since) >= case.policy.hang {
            case.find(Finding::ReplicationStalled { node });
        }
    }
}

fn find_other(case: &mut Case<'_>, intent: &Intent, node: &NodeId) {
    let Some(agent) = case.heard(node) else {
        case.find(Finding::StandbyUnreachable { node: node.clone() });
        return;
    };
    if foreign(case, intent, agent) {
        case.find(Finding::ForeignData { node: node.clone() });
    }
    let node = node.clone();
    if agent.strayed.is_some() {
        case.find(Finding::LeftRecovery { node: node.clone() });
    }
    match &agent.server.value {
        Server::Standby(standby) => {
            for hindrance in agent.hindrances.iter().filter(|one| one.in_force).cloned() {
                case.find(Finding::RecoveryHindered { node: node.clone(), hindrance });
            }
            if standby.replay == ReplayState::PausedByPerson {
                case.find(Finding::ReplayPaused { node: node.clone() });
            }
            if intent.primary.is_some() && (!standby.streaming || missed_by_primary(case, intent, &node)) {
                case.find(Finding::StandbyLost { node });
            }
        }
        Server::Primary(primary) if primary.writable => _ = case.find(Finding::SplitBrain { node }),
        Server::Starting | Server::Unknown if access::is_seen_streaming(case, intent, &node) => {}
        Server::Primary(_) | Server::Down(_) | Server::Starting | Server::Unknown => {
            _ = case.find(Finding::StandbyLost { node })
        }
    }
}

/// True if a standby of the sync set believes that it streams, and the primary knows nothing of it: a connection of
/// which one side has not heard yet that it is gone. Commits wait meanwhile.
fn missed_by_primary(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    let primary = intent.primary.as_ref().and_then(|primary| case.heard(primary));
    let Some(Server::Primary(primary)) = primary.map(|agent| &agent.server.value) else { return false };
    let sends = |name: &StandbyName| primary.senders.iter().any(|sender| sender.name == *name);
    intent.sync.iter().chain(&intent.sync_next).any(|member| member.node == *node && !sends(&member.name))
}

/// Members of which this leader has never heard anything are missed like those that fell silent.
fn find_unheard(case: &mut Case<'_>, intent: &Intent) {
    let set = intent.sync.iter().chain(&intent.sync_next).map(|member| &member.node);
    let unheard: Vec<NodeId> = case
        .view
        .members
        .iter()
        .chain(set)
        .filter(|node| Some(*node) != intent.primary.as_ref() && !case.view.nodes.contains_key(*node))
        .cloned()
        .collect();
    for node in unheard {
        case.find(Finding::StandbyUnreachable { node });
    }
}

/// True if a node's data belongs to another system than the primary's (or the last primary's).
pub(super) fn foreign(case: &Case<'_>, intent: &Intent, agent: &AgentFacts) -> bool {
    let reference =
        intent.primary.as_ref().or(intent.previous.as_ref()).and_then(|node| case.view.agent(node)?.system);
    matches!((reference, agent.system), (Some(theirs), Some(its)) if theirs != its)
}

/// Troubles of the disks. They move nothing by themselves: a standby's disk is usually as small, and its copy as old.
fn find_storage(case: &mut Case<'_>) {
    for node in case.others(None) {
        let Some(agent) = case.heard(node) else { continue };
        if agent.is_full() {
            case.find(Finding::DiskFull { node: node.clone() });
        }
        if agent.checksum_failures.is_some_and(|count| count > 0) {
            case.find(Finding::DataDamaged { node: node.clone() });
        }
    }
}

/// App servers need the database: their failure counts only while a commit through the endpoint has succeeded in
/// this epoch and the primary is well.
fn find_apps(case: &mut Case<'_>, intent: &Intent) {
    let Some(primary) = &intent.primary else { return };
    let verified = case.view.verified.is_some_and(|stamp| stamp.same_epoch(intent.stamp()));
    if !verified || !matches!(of_primary(case, intent, primary), Health::Good(_)) || intent.handover.is_some()
    {
        return;
    }
    let nodes: Vec<NodeId> = case.others(None).into_iter().cloned().collect();
    for node in nodes {
        let app = case.heard(&node).and_then(|agent| agent.app.as_ref());
        // One that is passive and can be started need not run.
        let cold = |app: &AppFacts| app.startable && intent.app.as_ref() != Some(&node);
        let Some(app) = app.filter(|app| !app.healthy && !cold(app)) else { continue };
        case.find(match app.failure {
            Some(AppFailure::Hangs) => Finding::AppHung { node },
            _ => Finding::AppDown { node },
        });
    }
    // The app server of a host that is lost will not say so. A member that is only restarted is back by then.
    let lost = |active: &&NodeId| {
        let view = case.view.nodes.get(*active);
        view.is_some_and(|view| case.now.since(view.heard) >= SILENT_APP)
    };
    if let Some(active) = intent.app.as_ref().filter(lost) {
        case.find(Finding::AppDown { node: active.clone() });
    }
}

fn find_endpoints(case: &mut Case<'_>, intent: &Intent) {
    for kind in [EndpointKind::Primary, EndpointKind::App] {
        let failing = case.endpoints(kind).into_iter().filter(|(_, _, facts)| facts.problem.is_some());
        let found: Vec<_> = failing.map(|(member, name, _)| (member.clone(), name.clone())).collect();
        for (member, endpoint) in found {
            case.find(Finding::EndpointUnconfirmed { member, endpoint });
        }
    }
    let Some(primary) = &intent.primary else { return };
    // Until service is proven in an epoch the endpoints are on their way, and that is no finding.
    if !case.view.verified.is_some_and(|stamp| stamp.same_epoch(intent.stamp())) {
        return;
    }
    let behind: Vec<Finding> = case
        .endpoints(EndpointKind::Primary)
        .into_iter()
        .filter(|(_, _, facts)| facts.stamp < intent.stamp() && facts.target.as_ref() != Some(primary))
        .map(|(member, name, _)| Finding::EndpointBehind { member: member.clone(), endpoint: name.clone() })
        .collect();
    for finding in behind {
        case.find(finding);
    }
}

/// Notes which standbys have come further.
fn note_advances(case: &mut Case<'_>) {
    for node in case.others(None) {
        let position = case.heard(node).and_then(|agent| match &agent.server.value {
            Server::Standby(standby) if standby.streaming => Some((standby.flushed, agent.server.at)),
            _ => None,
        });
        let Some((position, seen)) = position else {
            case.memory().advanced.remove(node);
            continue;
        };
        // First sight says nothing about when it came that far.
        let known = case.memory().advanced.entry(node.clone()).or_insert((position, Mono::default()));
        if known.0 < position {
            *known = (position, seen);
        }
    }
}

/// What came to a standby this long after the primary's member was last heard was on its way when the host was lost: a member
/// reports every 100 ms, and so does the look that shows it. Shorter: every lost host is vetoed for a moment. Longer: WAL of
/// a primary whose member alone died is taken for that.
const ON_ITS_WAY: Duration = Duration::from_millis(250);

/// A standby that received new WAL within `detect`, and after the primary's member fell silent.
pub(super) fn still_receives(case: &mut Case<'_>, primary: &NodeId) -> Option<NodeId> {
    let (now, detect) = (case.now, case.policy.detect);
    let silent = case.view.nodes.get(primary).map_or(Mono::default(), |view| view.heard.plus(ON_ITS_WAY));
    let vetoes = |at: &Mono| now.since(*at) <= detect && *at > silent;
    case.memory().advanced.iter().find(|(_, (_, at))| vetoes(at)).map(|(node, _)| node.clone())
}

/// Too many failovers in a short time: the next one needs a person.
pub(super) fn flapping(case: &Case<'_>) -> bool {
    let recent = |at: &&Mono| case.now.since(**at) <= case.policy.flap_window;
    case.view.failovers.iter().filter(recent).count() >= case.policy.max_failovers
}

/// For how long a standby has been lost or silent; None: it is neither.
pub(super) fn standby_lost_for(case: &Case<'_>, node: &NodeId) -> Option<Duration> {
    let lost = case.stood(&Finding::StandbyLost { node: node.clone() });
    lost.max(case.stood(&Finding::StandbyUnreachable { node: node.clone() }))
}
