//! Everybody but the primary becomes a standby of it: stream, else rewind, else clone, else quarantine with a reason.

use std::time::Duration;

use super::{case::Case, copy_source, divergence, health, rejoin_asked, slots};
use crate::model::{
    AgentFacts, Command, Down, Finding, Intent, Member, NodeId, Primary, ReplayState, Server, Standby,
    Timeline, Upstream,
};

/// How long a standby that is configured right may fail to stream until it is cloned anew. Shorter: a restart of the
/// primary costs a needless clone. Longer: redundancy is missing longer where WAL is gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a stopped node's control file may take to be read before it counts as one that has none. Shorter: a node
/// that was just heard again is cloned for nothing. Longer: one whose data directory was emptied waits for its clone.
const LOOKED_AT: Duration = Duration::from_secs(5);
/// How long a node rests for which nothing helped, until a clone is tried again. Shorter: a full disk or a wrong
/// password is met again and again. Longer: redundancy is missing longer than what was in the way.
const QUARANTINE: Duration = Duration::from_secs(15);

pub(super) fn plan(case: &mut Case<'_>, intent: &Intent, primary_node: &NodeId, primary: &Primary) {
    let nodes: Vec<NodeId> = case.others(Some(primary_node)).into_iter().cloned().collect();
    rejoin_asked::end_if_absent(case, intent);
    slots::keep(case, intent, primary_node, primary, &nodes);
    for node in nodes {
        let Some(agent) = case.heard(&node) else { continue };
        if intent.drained.contains(&node) {
            // A person works on it.
            continue;
        }
        if health::foreign(case, intent, agent) {
            continue;
        }
        let Some(address) = case.view.agent(primary_node).map(|agent| agent.address.clone()) else {
            continue;
        };
        if primary.slot(&node).is_none() {
            case.underway(format!("the slot of {node} is being made"));
            continue;
        }
        let upstream = Upstream { node: primary_node.clone(), address, slot: node.slot() };
        if rejoin_asked::plan(case, intent, &node, agent, &upstream) {
            continue;
        }
        match &agent.server.value {
            Server::Standby(standby) => keep_following(case, intent, &node, standby, primary, upstream),
            Server::Down(down) => bring_back(case, intent, &node, (agent, down), primary, upstream),
            // It may never become consistent with what it was told to stream from: that one may be gone, or have no more what it
            // lacks. Whoever is told to follow watches over that.
            Server::Starting if agent.promise.is_some() && is_unattended(case, &node, agent, &upstream) => {
                case.order(intent, &node, Command::Follow(upstream));
            }
            // Fenced where it takes writes; until then, and while it starts, there is nothing to do.
            Server::Primary(_) | Server::Starting | Server::Unknown => {
                case.underway(format!("{node} is neither down nor a standby yet"))
            }
        }
    }
}

/// A server that starts and leads elsewhere, or for a while where it should: the member that was told may have been restarted.
fn is_unattended(case: &Case<'_>, node: &NodeId, agent: &AgentFacts, upstream: &Upstream) -> bool {
    let lost = lost_for(case, node);
    let nobody = agent.job.is_none() && agent.failed.is_empty() && lost >= LOOKED_AT;
    agent.told.as_ref() != Some(upstream) || nobody
}

fn keep_following(
    case: &mut Case<'_>,
    intent: &Intent,
    node: &NodeId,
    standby: &Standby,
    primary: &Primary,
    upstream: Upstream,
) {
    if divergence::of_running(intent, standby) && primary.switch == intent.switch && !intent.in_sync(node) {
        // Nobody's history leads on from there.
        return case.order(intent, node, Command::Fence);
    }
    let rightly = standby.upstream.as_ref() == Some(&upstream) && standby.recruited.is_none();
    if !rightly {
        return case.order(intent, node, Command::Follow(upstream));
    }
    if streams_in_vain(case, node, standby) && !intent.in_sync(node) {
        // Streaming was given its chance; what it lacks is no longer there, or its history is another.
        let own = case.view.agent(node).and_then(|agent| divergence::own_switch(intent, agent));
        let source = copy_source::best(case, intent, node, (&upstream.node, primary));
        case.order(intent, node, Command::Clone(upstream, own, source));
    }
}

fn bring_back(
    case: &mut Case<'_>,
    intent: &Intent,
    node: &NodeId,
    (agent, down): (&AgentFacts, &Down),
    primary: &Primary,
    upstream: Upstream,
) {
    if intent.in_sync(node) {
        // It streamed from this very primary in this epoch, under this name, so it has nothing of its own; and nothing
        // destructive is done to a member.
        let same = |member: &Member| member.node != *node || member.name == agent.standby_name;
        let failed = agent.failed.iter().any(|(what, _)| what == "follow");
        let whole = agent.unfinished.is_none() && agent.strayed.is_none();
        if whole && !failed && intent.sync.iter().chain(&intent.sync_next).all(same) {
            return case.order(intent, node, Command::Follow(upstream));
        }
        return case.underway(format!("{node} leaves the sync set before its data directory is touched"));
    }
    if primary.checkpoint_timeline != primary.timeline {
        return case.underway(format!("{node} waits for the checkpoint of timeline {}", primary.timeline));
    }
    let history_known =
        primary.switch.is_some() || intent.previous.is_none() || primary.timeline <= Timeline(1);
    if !history_known || primary.switch != intent.switch {
        // Who has gone its own way is judged by the switch: one of another timeline would call everybody whole.
        return case
            .underway(format!("{node} waits until the switch to timeline {} is recorded", primary.timeline));
    }
    // One that was lost for long and has just been stopped is being read all the same.
    let stopped = down.since.map_or(Duration::MAX, |since| case.now.since(since));
    let lost = lost_for(case, node).min(stopped);
    if down.control.is_none() && agent.system.is_some() && lost < LOOKED_AT {
        return case.underway(format!("the control file of {node} is being read"));
    }
    let failed = |command: &Command| agent.failed.iter().any(|(what, _)| what == command.name());
    let follow = Command::Follow(upstream.clone());
    let rewind = Command::Rewind(upstream.clone(), intent.switch);
    let source = copy_source::best(case, intent, node, (&upstream.node, primary));
    let clone = Command::Clone(upstream, divergence::own_switch(intent, agent), source);
    if agent.strayed.is_some() && down.wal_timeline.is_none() && !down.wal_gone && lost < PATIENCE {
        return case.underway(format!("the end of the WAL of {node} is being determined"));
    }
    let rewinds = down.control.is_some_and(|control| control.can_rewind)
        && agent.unfinished.is_none()
        && divergence::is_seen_by_rewind(agent, down, primary);
    let scratch = intent.rejoin.as_ref().is_some_and(|asked| asked.wants_clone(node, &agent.standby_name));
    let choice = match divergence::of_stopped(intent, agent, down, lost) {
        _ if scratch && !failed(&clone) => clone,
        // Beyond that, something is in the way, which the rewind says: it saves what there is first, or fails.
        None if lost < PATIENCE => {
            return case.underway(format!("the end of the WAL of {node} is being determined"));
        }
        Some(false) if !scratch && agent.unfinished.is_none() && !failed(&follow) => follow,
        _ if !scratch && rewinds && !failed(&rewind) => rewind,
        _ if !failed(&clone) => clone,
        _ => {
            rejoin_asked::give_up(case, intent, node, agent);
            let finding = Finding::Quarantined { node: node.clone() };
            if case.stood_before(&finding).is_none_or(|stood| stood < QUARANTINE) {
                case.find(finding);
                let why = agent.failed.last().map_or("", |(_, why)| why.as_str());
                return case.underway(format!(
                    "{node} rests, because nothing helped it ({why}); it is cloned again after a while, and \
                     `locum rejoin {node}` tries everything at once"
                ));
            }
            // What was in the way may have passed: one more try. The finding, and its time, begin anew.
            clone
        }
    };
    case.order(intent, node, choice);
}

/// True if streaming was given its chance in vain: only a rewind or a clone can help this standby.
pub(super) fn is_hopeless(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    let Some(agent) = case.heard(node) else { return false };
    match &agent.server.value {
        Server::Down(down) => {
            let failed = agent.failed.iter().any(|(what, _)| what == "follow");
            let lost = lost_for(case, node);
            failed
                || agent.unfinished.is_some()
                || divergence::of_stopped(intent, agent, down, lost) == Some(true)
        }
        Server::Standby(standby) => streams_in_vain(case, node, standby),
        Server::Primary(_) | Server::Starting | Server::Unknown => false,
    }
}

fn streams_in_vain(case: &Case<'_>, node: &NodeId, standby: &Standby) -> bool {
    let lost = lost_for(case, node);
    !standby.streaming && standby.replay == ReplayState::Running && lost >= PATIENCE
}

/// How long it has been no good standby.
fn lost_for(case: &Case<'_>, node: &NodeId) -> Duration {
    case.stood(&Finding::StandbyLost { node: node.clone() }).unwrap_or_default()
}
