//! The snapshot: the view and the plan, as people and load balancers read them.

use super::{Deps, world::World};
use crate::{
    model::{
        AgentFacts, AppStatus, EndpointStatus, FindingText, Hindrance, Incident, Intent, Mono, NodeId,
        NodeStatus, Operation, Role, RpoStatus, Server, Snapshot, Stamp, View,
    },
    planner::{self, Plan},
};

pub(super) fn empty(deps: &Deps) -> Snapshot {
    Snapshot {
        cluster: deps.cluster.clone(),
        node: deps.node.clone(),
        at: deps.clock.wall(),
        leader: None,
        store_error: None,
        intent: None,
        nodes: Vec::new(),
        endpoints: Vec::new(),
        rpo: None,
        findings: Vec::new(),
        plan: Vec::new(),
        if_it_crashed: Vec::new(),
        incident: None,
        last_incident: None,
        operations: Vec::new(),
    }
}

pub(super) fn snapshot(
    deps: &Deps,
    world: &World,
    view: &View,
    plan: &Plan,
    (open, last): (Option<&Incident>, Option<&Incident>),
    operations: Vec<Operation>,
    now: Mono,
) -> Snapshot {
    let leader = if view.leading { Some(deps.node.clone()) } else { world.leader.clone() };
    let primary_flushed =
        view.intent.as_ref().and_then(|intent| match &view.agent(intent.primary.as_ref()?)?.server.value {
            Server::Primary(primary) => Some(primary.flushed),
            _ => None,
        });
    let status = |(node, member): (&NodeId, &crate::model::NodeView)| NodeStatus {
        heard_ms: now.ms_since(member.heard),
        ..node_status(deps, world, view, node, member.agent.as_ref(), primary_flushed, now)
    };
    let steps = plan.steps.iter().map(|step| format!("next: {step}"));
    Snapshot {
        leader,
        store_error: world.store_error.clone(),
        intent: view.intent.clone(),
        nodes: view.nodes.iter().map(status).collect(),
        endpoints: endpoints(view),
        rpo: view.rpo.as_ref().map(|rpo| rpo_status(rpo, now)),
        findings: plan
            .findings
            .iter()
            .map(|f| FindingText { finding: f.clone(), text: f.to_string() })
            .collect(),
        plan: steps.chain(plan.holds.iter().map(ToString::to_string)).collect(),
        if_it_crashed: planner::if_it_crashed(view, &deps.policy, now),
        // Who does not lead shows what the leader has recorded so far.
        incident: open.or(last.filter(|last| !last.closed)).cloned(),
        last_incident: last.filter(|last| last.closed).cloned(),
        operations,
        ..empty(deps)
    }
}

fn node_status(
    deps: &Deps,
    world: &World,
    view: &View,
    node: &NodeId,
    agent: Option<&AgentFacts>,
    primary_flushed: Option<crate::model::Lsn>,
    now: Mono,
) -> NodeStatus {
    let fresh = view.fresh(node, now, deps.policy.detect.max(std::time::Duration::from_secs(1)));
    let server = fresh.map(|agent| &agent.server.value);
    let (role, timeline, lsn, replayed, streaming) = match server {
        _ if agent.is_none() => (Role::None, None, None, None, false),
        None | Some(Server::Unknown) => (Role::Unknown, None, None, None, false),
        Some(Server::Starting) => (Role::Starting, None, None, None, false),
        Some(Server::Down(_)) => (Role::Down, None, None, None, false),
        Some(Server::Primary(p)) => {
            (Role::Primary, Some(p.timeline), Some(p.flushed), Some(p.flushed), false)
        }
        Some(Server::Standby(s)) => {
            (Role::Standby, Some(s.timeline), Some(s.flushed), Some(s.replayed), s.streaming)
        }
    };
    let standby = role == Role::Standby;
    NodeStatus {
        node: node.clone(),
        heard_ms: 0.0,
        role,
        serving: view.intent.as_ref().is_some_and(|intent| serves(view, intent, node, server, now)),
        sync: view
            .intent
            .as_ref()
            .is_some_and(|intent| intent.sync.iter().any(|member| member.node == *node)),
        streaming,
        timeline,
        lsn,
        lag_bytes: if standby { lsn.and_then(|lsn| Some(primary_flushed?.bytes_since(lsn))) } else { None },
        replay_bytes: if standby { lsn.and_then(|lsn| Some(lsn.bytes_since(replayed?))) } else { None },
        disk_free_bytes: fresh.and_then(|agent| agent.disk_free),
        guard: fresh.and_then(|agent| agent.guard).map(|guard| guard.in_words(now)),
        hindrances: agent.map_or_else(Vec::new, |agent| {
            let sentence = |one: &Hindrance| format!("{}: {}", one.named(), one.consequence(standby));
            agent.hindrances.iter().map(sentence).collect()
        }),
        promise: agent.and_then(|agent| agent.promise),
        job: agent.and_then(|agent| agent.job.clone()),
        error: agent.and_then(|agent| {
            let refused = agent.access.refused.as_ref().map(|seen| format!("login: {}", seen.value));
            let elsewhere = agent.access.elsewhere.as_ref().map(|said| format!("postgres.connect: {said}"));
            let failed = agent.failed.last().map(|(what, why)| format!("{what}: {why}"));
            refused.or(elsewhere).or(failed)
        }),
        app: agent.and_then(|agent| agent.app.as_ref()).map(|app| AppStatus {
            address: app.address.clone(),
            healthy: app.healthy,
            active: view.intent.as_ref().is_some_and(|intent| intent.app.as_ref() == Some(node)),
            startable: app.startable,
            starting: app.starting,
            error: app.error.clone(),
        }),
        database: agent.map(|agent| agent.address.clone()),
        api_address: world.registrations.get(node).map(|registration| registration.api_address.clone()),
    }
}

/// The declared primary of this epoch, out of recovery, taking writes, promised to no later epoch, with the right to serve.
/// A load balancer's 200. An order of this epoch that is ahead of what this member has read of the intent says nothing:
/// orders come straight from the leader, and usually come first.
fn serves(view: &View, intent: &Intent, node: &NodeId, server: Option<&Server>, now: Mono) -> bool {
    let Some(Server::Primary(primary)) = server else { return false };
    let agent = view.agent(node);
    let of_epoch =
        agent.and_then(|agent| agent.primary_since).is_some_and(|stamp| stamp.same_epoch(intent.stamp()));
    let later = |promise: Stamp| promise > intent.stamp() && !promise.same_epoch(intent.stamp());
    let promised_later = agent.and_then(|agent| agent.promise).is_some_and(later);
    let right = agent.and_then(|agent| agent.serves_until).is_some_and(|until| until > now);
    intent.primary.as_ref() == Some(node) && of_epoch && !promised_later && primary.writable && right
}

fn endpoints(view: &View) -> Vec<EndpointStatus> {
    let all = view.nodes.iter().flat_map(|(member, node)| {
        node.endpoints.iter().map(move |(name, facts)| (member, name, &facts.value))
    });
    all.map(|(member, name, facts)| EndpointStatus {
        member: member.clone(),
        name: name.clone(),
        kind: facts.kind,
        listen: facts.listen.clone(),
        target: facts.target.clone(),
        mode: facts.mode,
        open: facts.open,
        held: facts.held,
        stamp: facts.stamp,
        driver: facts.driver,
        problem: facts.problem.clone(),
        cut_total: facts.cut_total,
        held_total: facts.held_total,
        refused_total: facts.refused_total,
        traffic: facts.traffic.clone(),
    })
    .collect()
}

/// An unread primary's exposure grows at the rate it wrote at: that is the upper estimate.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate for people, never negative"
)]
fn rpo_status(rpo: &crate::model::LiveRpo, now: Mono) -> RpoStatus {
    let age = now.ms_since(rpo.as_of);
    let since = (rpo.write_rate * age / 1000.0).max(0.0) as u64;
    RpoStatus {
        bytes: rpo.bytes,
        ms: rpo.ms,
        as_of_ms: age,
        at_most_bytes: rpo.bytes.map(|bytes| bytes.saturating_add(since)),
        acknowledged_is_safe: rpo.acknowledged_is_safe,
        standby: rpo.standby.as_ref().map(|(node, _)| node.clone()),
    }
}
