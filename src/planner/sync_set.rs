//! The sync set: whatever names PostgreSQL may be enforcing, the store lists them.
//!
//! Every change goes: store first (`sync_next`), then PostgreSQL, then proof, then store (`sync = sync_next`).
//! SHOW and `sync_state` do not tell whether names are in force, so the proof is a commit of the agent's own that was
//! seen waiting, with replay paused on the standby so that it must wait and nobody else does (SAFETY, "The sync set").

use super::{case::Case, health, rejoin, rejoin_asked};
use crate::model::{
    AgentFacts, Command, Durability, Finding, Intent, Member, NodeId, Primary, ReplayState, Server,
    StandbyName, WalPosition,
};

pub(super) fn plan(case: &mut Case<'_>, intent: &Intent, node: &NodeId, primary: &Primary) {
    if case.declares() {
        return;
    }
    if case.heard(node).is_some_and(|agent| agent.access.moved.is_some()) {
        return adrift(case, intent, primary);
    }
    if intent.sync == intent.sync_next {
        let target = target(case, intent, primary, &intent.sync);
        if target != intent.sync {
            return case.declare(Intent { sync_next: target, ..intent.clone() }.raised());
        }
        settle(case, intent, node, primary);
    } else {
        advance(case, intent, node, primary);
    }
}

/// Which standbys should hold every acknowledged commit.
fn target(case: &Case<'_>, intent: &Intent, primary: &Primary, present: &[Member]) -> Vec<Member> {
    if intent.durability == Durability::Async {
        return Vec::new();
    }
    let streams =
        |member: &Member| primary.senders.iter().any(|sender| sender.name == member.name && sender.streaming);
    let candidates = case.others(intent.primary.as_ref()).into_iter().filter_map(|node| {
        let agent = case.heard(node)?;
        let whole = !is_unwanted(case, intent, node) && agent.unfinished.is_none() && agent.promise.is_some();
        let standby = matches!(&agent.server.value, Server::Standby(standby) if standby.streaming && standby.recruited.is_none());
        let member = Member { node: node.clone(), name: agent.standby_name.clone() };
        let stays = !rejoin_asked::is_to_be_cloned(intent, &member);
        (whole && standby && stays && streams(&member) && !stalled(case, node)).then_some(member)
    });
    let mut next: Vec<Member> = candidates.collect();
    // A member that stopped streaming keeps its place until writes have waited for `write_wait`.
    for member in present {
        let keeps = !is_unwanted(case, intent, &member.node) && !given_up(case, intent, primary, member);
        if !next.contains(member) && keeps {
            next.push(member.clone());
        }
    }
    next.sort();
    next
}

/// True if a person said that no commit is to wait for this node, or that it is not promoted; or if it could not be, since its
/// server runs without its data directory.
fn is_unwanted(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    let unwanted = |agent: &AgentFacts| agent.no_failover || agent.no_sync || agent.access.moved.is_some();
    intent.drained.contains(node) || case.heard(node).is_some_and(unwanted)
}

/// True if writes have waited long enough for this member; in strict mode they wait for as long as it may come back as
/// it is.
pub(super) fn given_up(case: &Case<'_>, intent: &Intent, primary: &Primary, member: &Member) -> bool {
    if rejoin_asked::is_to_be_cloned(intent, member) {
        return true;
    }
    let named_anew = case.heard(&member.node).is_some_and(|agent| agent.standby_name != member.name);
    let streams = primary.senders.iter().any(|sender| sender.name == member.name && sender.streaming);
    let lost = health::standby_lost_for(case, &member.node).unwrap_or_default();
    match intent.durability {
        Durability::Async => true,
        // Writes go on waiting, for whoever comes: an empty set promises nothing, and lets the member be cloned.
        Durability::SyncStrict => named_anew || !streams && rejoin::is_hopeless(case, intent, &member.node),
        Durability::Sync => {
            let waits = commits_wait_for(case, &member.node) >= case.policy.write_wait;
            let gone =
                case.stood(&Finding::StandbyUnreachable { node: member.node.clone() }).is_some() && waits;
            stalled(case, &member.node)
                || gone
                || !streams && (named_anew || lost >= case.policy.write_wait || waits)
        }
    }
}

/// For how long a standby has lacked WAL without taking more of it: for so long have commits waited for it at most.
fn commits_wait_for(case: &Case<'_>, node: &NodeId) -> std::time::Duration {
    case.stalled_since(node).map_or(std::time::Duration::ZERO, |since| case.now.since(since))
}

fn stalled(case: &Case<'_>, node: &NodeId) -> bool {
    case.stood(&Finding::ReplicationStalled { node: node.clone() }).is_some()
}

/// The set stands: have PostgreSQL agree with it, and undo what a proof left behind.
fn settle(case: &mut Case<'_>, intent: &Intent, node: &NodeId, primary: &Primary) {
    let names = names(&intent.sync, case, intent);
    if primary.names.as_ref() != Some(&names) {
        if !intent.sync.is_empty() {
            case.find(Finding::NamesChanged { node: node.clone() });
        }
        return case.order(intent, node, Command::SetNames(names));
    }
    if !intent.sync.is_empty() && primary.names_proven.is_none() {
        return prove(case, intent, node, &intent.sync);
    }
    resume_replay(case, intent);
}

/// The primary's data directory is not where its path leads: no names can be set there, and a reload may bring any into force. Its
/// set is kept for as long as its names are.
fn adrift(case: &mut Case<'_>, intent: &Intent, primary: &Primary) {
    let kept = intent.sync == intent.sync_next
        && (intent.sync.is_empty() || primary.names.as_ref() == Some(&names(&intent.sync, case, intent)));
    if !kept {
        // Nothing is promised of an empty set, so this is safe from anywhere.
        return case.declare(Intent { sync: Vec::new(), sync_next: Vec::new(), ..intent.clone() }.raised());
    }
    resume_replay(case, intent);
}

/// The set is moving.
fn advance(case: &mut Case<'_>, intent: &Intent, node: &NodeId, primary: &Primary) {
    let lost = |member: &Member| given_up(case, intent, primary, member);
    if !intent.sync_next.is_empty() && intent.sync_next.iter().any(lost) {
        // Nothing is promised of an empty set, so this is safe from anywhere.
        return case.declare(Intent { sync: Vec::new(), sync_next: Vec::new(), ..intent.clone() }.raised());
    }
    let names = names(&intent.sync_next, case, intent);
    if primary.names.as_ref() != Some(&names) {
        return case.order(intent, node, Command::SetNames(names));
    }
    if intent.sync_next.is_empty() {
        return case.declare(Intent { sync: Vec::new(), ..intent.clone() }.raised());
    }
    let Some((_, position)) = primary.names_proven.filter(|(version, _)| *version == intent.version) else {
        return prove(case, intent, node, &intent.sync_next);
    };
    let flushed = |member: &Member| {
        primary
            .senders
            .iter()
            .any(|sender| sender.name == member.name && sender.streaming && sender.flushed >= position)
    };
    let proven: Vec<&Member> = intent.sync_next.iter().filter(|member| flushed(member)).collect();
    if !proven.is_empty() {
        let mut next = Intent { sync: intent.sync_next.clone(), ..intent.clone() };
        let switches = primary.switch.as_slice();
        let floor = WalPosition::of(primary.timeline, switches, position);
        proven.into_iter().for_each(|member| next.floors.raise(&member.name, floor));
        return case.declare(next.raised());
    }
    resume_replay(case, intent);
    case.underway("a standby flushes up to the position at which its name was proven in force");
}

fn prove(case: &mut Case<'_>, intent: &Intent, node: &NodeId, members: &[Member]) {
    let paused = |case: &Case<'_>, member: &Member| {
        let replay = case.heard(&member.node).and_then(|agent| match &agent.server.value {
            Server::Standby(standby) => Some(standby.replay),
            _ => None,
        });
        matches!(replay, Some(ReplayState::PausedForProof(stamp)) if stamp == intent.stamp())
    };
    let waiting: Vec<&Member> = members.iter().filter(|member| !paused(case, member)).collect();
    if waiting.is_empty() {
        return case.order(intent, node, Command::ProveNames);
    }
    for member in waiting {
        case.order(intent, &member.node, Command::PauseReplay);
    }
}

/// Undoes what a proof left behind. True if there is something to undo.
pub(super) fn resume_replay(case: &mut Case<'_>, intent: &Intent) -> bool {
    let mut left = false;
    for node in case.others(intent.primary.as_ref()) {
        let paused = case.heard(node).is_some_and(|agent| {
            matches!(&agent.server.value, Server::Standby(standby) if matches!(standby.replay, ReplayState::PausedForProof(_)))
        });
        if paused {
            left = true;
            case.order(intent, node, Command::ResumeReplay);
        }
    }
    left
}

/// The names to enforce for a set. In strict mode an empty set means that writes wait: for whoever could stream.
pub(super) fn names(set: &[Member], case: &Case<'_>, intent: &Intent) -> Vec<StandbyName> {
    if set.is_empty() && intent.durability == Durability::SyncStrict {
        return case
            .others(intent.primary.as_ref())
            .into_iter()
            .filter_map(|node| Some(case.view.agent(node)?.standby_name.clone()))
            .collect();
    }
    set.iter().map(|member| member.name.clone()).collect()
}
