//! Everybody but the primary becomes a standby of it: stream, else rewind, else clone, else quarantine with a reason.
//!
//! SAFETY, "The returning primary": divergence is judged by system identifier and by the switch position in the
//! timeline history, never by the timeline number alone.

use std::{collections::BTreeSet, time::Duration};

use super::{case::Case, copy_source, health, rejoin_asked};
use crate::model::{
    AgentFacts, Command, Down, Finding, Intent, Member, NodeId, Primary, ReplayState, Server, Standby,
    Switch, Timeline, Upstream,
};

/// How long a standby that is configured right may fail to stream until it is cloned anew. Shorter: a restart of the
/// primary costs a needless clone. Longer: redundancy is missing longer where WAL is gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// What a slot may keep on any disk, however little is free on it: giving up less would not make room, for segments of
/// this size are kept anyway. Smaller: a clone for nothing. Larger: a small disk is full before.
const SLOT_AT_LEAST: u64 = 64 << 20;
/// How long a stopped node's control file may take to be read before it counts as one that has none. Shorter: a node
/// that was just heard again is cloned for nothing. Longer: one whose data directory was emptied waits for its clone.
const LOOKED_AT: Duration = Duration::from_secs(5);
/// How long a node rests for which nothing helped, until a clone is tried again. Shorter: a full disk or a wrong
/// password is met again and again. Longer: redundancy is missing longer than what was in the way.
const QUARANTINE: Duration = Duration::from_secs(15);

pub(super) fn plan(case: &mut Case<'_>, intent: &Intent, primary_node: &NodeId, primary: &Primary) {
    let nodes: Vec<NodeId> = case.others(Some(primary_node)).into_iter().cloned().collect();
    rejoin_asked::end_if_absent(case, intent);
    keep_slots(case, intent, primary_node, primary, &nodes);
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
    let lost = case.stood(&Finding::StandbyLost { node: node.clone() }).unwrap_or_default();
    let nobody = agent.job.is_none() && agent.failed.is_empty() && lost >= LOOKED_AT;
    agent.told.as_ref() != Some(upstream) || nobody
}

/// The slots that a standby makes before it is promoted: for everybody who may follow it, as far as is known by then. What is
/// surplus goes when it is primary.
pub(super) fn first_slots(case: &Case<'_>, intent: &Intent, candidate: &NodeId) -> Vec<String> {
    let mut nodes: BTreeSet<&NodeId> = case.others(Some(candidate)).into_iter().collect();
    // Its host may be lost: whoever leads since then has not heard of it.
    nodes.extend(intent.previous.iter().filter(|previous| *previous != candidate));
    let kept = |node: &&NodeId| case.stood_before(&Finding::SlotGivenUp { node: (*node).clone() }).is_none();
    nodes.into_iter().filter(kept).map(NodeId::slot).collect()
}

/// Slots keep the WAL that an absent standby will need, up to a limit. The one of a node that nobody heard of is not made
/// again, for it would only keep WAL that nothing can be done with.
fn keep_slots(
    case: &mut Case<'_>,
    intent: &Intent,
    primary_node: &NodeId,
    primary: &Primary,
    nodes: &[NodeId],
) {
    // A member of which nothing was heard yet may be away for a while: what it lacks is kept for it, as it was.
    let away = case.view.members.iter().filter(|member| *member != primary_node && !nodes.contains(member));
    let away = away.filter(|member| primary.slot(member).is_some());
    let all: Vec<&NodeId> = nodes.iter().chain(away).collect();
    let kept = all.into_iter().filter(|node| !given_up(case, intent, primary_node, primary, node));
    let wanted: Vec<String> = kept.map(NodeId::slot).collect();
    let ours = primary.slots.iter().filter(|slot| slot.name.starts_with("locum_"));
    let surplus = ours.filter(|slot| !wanted.contains(&slot.name) && !slot.active).count();
    let missing = wanted.iter().any(|name| !primary.slots.iter().any(|slot| slot.name == *name));
    if missing || surplus > 0 {
        case.order(intent, primary_node, Command::KeepSlots(wanted));
    }
}

/// True if no WAL is kept for this node: what its slot kept would have filled the primary's disk. It is cloned when it
/// returns, and a member of the sync set is never given up so.
fn given_up(
    case: &mut Case<'_>,
    intent: &Intent,
    primary_node: &NodeId,
    primary: &Primary,
    node: &NodeId,
) -> bool {
    let finding = Finding::SlotGivenUp { node: node.clone() };
    let heard = case.heard(node);
    let gives_up = match primary.slot(node) {
        Some(slot) => {
            let works = heard.is_some_and(|agent| agent.job.is_some());
            let free = case.view.agent(primary_node).and_then(|agent| agent.disk_free);
            let limit = case.policy.max_slot_wal.min(free.unwrap_or(u64::MAX).max(SLOT_AT_LEAST));
            let over = case.policy.max_slot_wal > 0 && slot.retained > limit;
            over && !slot.active && !works && !intent.in_sync(node)
        }
        None => heard.is_none() && case.stood_before(&finding).is_some(),
    };
    if gives_up {
        case.find(finding);
    }
    gives_up
}

fn keep_following(
    case: &mut Case<'_>,
    intent: &Intent,
    node: &NodeId,
    standby: &Standby,
    primary: &Primary,
    upstream: Upstream,
) {
    if replayed_more(intent, standby) && primary.switch == intent.switch && !intent.in_sync(node) {
        // Nobody's history leads on from there.
        return case.order(intent, node, Command::Fence);
    }
    let rightly = standby.upstream.as_ref() == Some(&upstream) && standby.recruited.is_none();
    if !rightly {
        return case.order(intent, node, Command::Follow(upstream));
    }
    if streams_in_vain(case, node, standby) && !intent.in_sync(node) {
        // Streaming was given its chance; what it lacks is no longer there, or its history is another.
        let own = case.view.agent(node).and_then(|agent| own_switch(intent, agent));
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
        if agent.unfinished.is_none() && !failed && intent.sync.iter().chain(&intent.sync_next).all(same) {
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
    let lost = case.stood(&Finding::StandbyLost { node: node.clone() }).unwrap_or_default();
    if down.control.is_none() && agent.system.is_some() && lost < LOOKED_AT {
        return case.underway(format!("the control file of {node} is being read"));
    }
    let failed = |command: &Command| agent.failed.iter().any(|(what, _)| what == command.name());
    let follow = Command::Follow(upstream.clone());
    let rewind = Command::Rewind(upstream.clone(), intent.switch);
    let source = copy_source::best(case, intent, node, (&upstream.node, primary));
    let clone = Command::Clone(upstream, own_switch(intent, agent), source);
    let rewinds = down.control.is_some_and(|control| control.can_rewind) && agent.unfinished.is_none();
    let scratch = intent.rejoin.as_ref().is_some_and(|asked| asked.wants_clone(node, &agent.standby_name));
    let choice = match diverged(intent, agent, down, lost) {
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
            let lost = case.stood(&Finding::StandbyLost { node: node.clone() }).unwrap_or_default();
            failed || agent.unfinished.is_some() || diverged(intent, agent, down, lost) == Some(true)
        }
        Server::Standby(standby) => streams_in_vain(case, node, standby),
        Server::Primary(_) | Server::Starting | Server::Unknown => false,
    }
}

fn streams_in_vain(case: &Case<'_>, node: &NodeId, standby: &Standby) -> bool {
    let lost = case.stood(&Finding::StandbyLost { node: node.clone() }).unwrap_or_default();
    !standby.streaming && standby.replay == ReplayState::Running && lost >= PATIENCE
}

/// The switch, if this node may have something beyond it that the present primary has not.
fn own_switch(intent: &Intent, agent: &AgentFacts) -> Option<Switch> {
    let strays = match &agent.server.value {
        Server::Down(down) => intent.switch.is_some_and(|switch| received_more(switch, down)),
        _ => false,
    };
    intent.switch.filter(|_| agent.primary_since.is_some() || strays)
}

/// Whether a stopped node has WAL that the present primary's history does not. None: not known yet.
///
/// A node whose latest checkpoint lies on a timeline after the one that was left got it from the present primary.
fn diverged(intent: &Intent, agent: &AgentFacts, down: &Down, lost: Duration) -> Option<bool> {
    let Some(switch) = intent.switch else { return Some(false) };
    if agent.primary_since.is_none() {
        // It wrote nothing of its own. What it is to be cloned for is seen when it streams in vain.
        let control = down.control.filter(|control| control.timeline <= switch.timeline);
        let unknown = control.is_some() && down.wal_end.is_none() && !down.wal_gone && lost < PATIENCE;
        return (!unknown).then(|| received_more(switch, down));
    }
    let Some(control) = down.control else { return Some(true) };
    if down.wal_gone {
        // It cannot be started either. What is left of it is saved, and what was lost is said to be unknown.
        return Some(true);
    }
    if control.timeline > switch.timeline {
        return Some(false);
    }
    if control.timeline < switch.timeline {
        return Some(true);
    }
    down.wal_end.map(|end| end > switch.at)
}

/// A standby was further than the one that was promoted: its host was away then, or a rescue brought WAL to it before
/// another one was declared. The timeline tells it from one that followed the present primary past the switch.
fn received_more(switch: Switch, down: &Down) -> bool {
    down.wal_timeline == Some(switch.timeline) && down.wal_end.is_some_and(|end| end > switch.at)
}

/// The same of one that runs, by what it has replayed.
fn replayed_more(intent: &Intent, standby: &Standby) -> bool {
    let beyond = |switch: Switch| standby.timeline == switch.timeline && standby.replayed > switch.at;
    !standby.streaming && intent.switch.is_some_and(beyond)
}
