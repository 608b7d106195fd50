//! A person asks a node back: `locum rejoin`. What failed on it before is forgotten, and everything is tried anew; from
//! scratch, it is cloned although less might do.
//!
//! It is one more reason to do what `rejoin` does, not another way of doing it: nothing destructive is done to a member of
//! the sync set, and what the node gives up is saved first, as always.

use std::time::Duration;

use super::{Memory, case::Case, health, health::Health, requests};
use crate::model::{
    AgentFacts, Command, Durability, Finding, Intent, Member, Mono, NodeId, Policy, Server, StandbyName,
    Step, Unfinished, Upstream, View,
};

/// How long the node may be silent until the request is given up. Shorter: the member that is restarted on it loses the
/// request. Longer: the operator waits for a host that does not come.
const ABSENT: Duration = Duration::from_secs(60);

/// The name of the node that is to be brought back, or every reason why that cannot be.
pub(super) fn admit(
    view: &View,
    policy: &Policy,
    now: Mono,
    node: &NodeId,
    from_scratch: bool,
) -> Result<StandbyName, Vec<String>> {
    let memory = Memory::default();
    let case = Case::new(view, &memory, policy, now);
    let Some(intent) = &view.intent else { return Err(vec!["no cluster is declared yet".into()]) };
    let mut blockers = general_blockers(&case, intent);
    if intent.primary.as_ref() == Some(node) {
        blockers.push(format!("{node} is the primary; `locum switchover` makes another one that first"));
        return Err(blockers);
    }
    if view.agent(node).is_none() {
        let known = view.members.contains(node) || view.nodes.contains_key(node);
        let why = if known { "was not heard yet, or has no PostgreSQL" } else { "is not known" };
        blockers.push(format!("the node {node} {why}"));
        return Err(blockers);
    }
    let Some(agent) = case.heard(node) else {
        blockers.push(format!("nothing is heard from the member of {node}: is it running?"));
        return Err(blockers);
    };
    blockers.extend(unfit(&case, intent, node, agent, from_scratch));
    if blockers.is_empty() { Ok(agent.standby_name.clone()) } else { Err(blockers) }
}

fn general_blockers(case: &Case<'_>, intent: &Intent) -> Vec<String> {
    let mut blockers = requests::blockers(case, intent);
    if let Some(asked) = &intent.rejoin {
        blockers.push(format!("{} is being brought back, as was asked before", asked.node));
    }
    match &intent.primary {
        None => blockers.push("a failover is under way".into()),
        Some(primary) if !matches!(health::of_primary(case, intent, primary), Health::Good(_)) => {
            blockers.push(format!("the primary {primary} is not well, and there is nobody else to follow"));
        }
        Some(_) => {}
    }
    blockers
}

fn unfit(
    case: &Case<'_>,
    intent: &Intent,
    node: &NodeId,
    agent: &AgentFacts,
    from_scratch: bool,
) -> Vec<String> {
    let mut blockers = Vec::new();
    if health::foreign(case, intent, agent) {
        blockers.push(format!(
            "the data of {node} belongs to another system: move it away by hand if nobody needs it"
        ));
    }
    let streams = matches!(&agent.server.value, Server::Standby(standby) if standby.streaming && standby.recruited.is_none());
    if streams && !from_scratch {
        blockers.push(format!("{node} streams already; --from-scratch clones it all the same"));
    }
    // Whatever else is under way is ended or waited for by a clone.
    if agent.job.is_some() && !streams && (!from_scratch || agent.unfinished == Some(Unfinished::Clone)) {
        blockers.push(format!("{node} is being brought back at this moment; `locum status` shows how far"));
    }
    let others = intent.sync.iter().chain(&intent.sync_next).any(|member| member.node != *node);
    if from_scratch && intent.durability == Durability::SyncStrict && intent.in_sync(node) && !others {
        blockers.push(format!(
            "{node} is the only standby that commits are promised to be on (sync-strict): they would wait until it is cloned"
        ));
    }
    blockers
}

/// This very member is to be cloned, so it leaves the sync set first.
pub(super) fn is_to_be_cloned(intent: &Intent, member: &Member) -> bool {
    intent.rejoin.as_ref().is_some_and(|asked| asked.wants_clone(&member.node, &member.name))
}

/// What the request asks for beyond what is done for everybody. True: that is all there is to do for this node now.
pub(super) fn plan(
    case: &mut Case<'_>,
    intent: &Intent,
    node: &NodeId,
    agent: &AgentFacts,
    upstream: &Upstream,
) -> bool {
    let Some(asked) = intent.rejoin.as_ref().filter(|asked| asked.node == *node) else { return false };
    let known = case.memory().rejoin.as_ref() == Some(&asked.operation);
    let begun = asked.from_scratch && asked.name != agent.standby_name;
    let failed = agent.failed.iter().any(|(what, _)| what == "clone");
    if asked.from_scratch && failed && (known || begun) {
        // It has another name already, and its old data: that it streams would not show that it was cloned.
        give_up(case, intent, node, agent);
        return true;
    }
    if !known {
        if !agent.failed.is_empty() {
            case.order(intent, node, Command::Forget);
            return true;
        }
        case.memory().rejoin = Some(asked.operation.clone());
    }
    if asked.wants_clone(node, &agent.standby_name) {
        if intent.in_sync(node) {
            case.underway(format!("{node} leaves the sync set before it is cloned"));
            return true;
        }
        return match &agent.server.value {
            Server::Standby(_) | Server::Starting | Server::Unknown => {
                case.order(intent, node, Command::Fence);
                true
            }
            // Fenced where it takes writes.
            Server::Primary(_) | Server::Down(_) => false,
        };
    }
    if let Server::Standby(standby) = &agent.server.value
        && standby.streaming
        && standby.recruited.is_none()
        && standby.upstream.as_ref() == Some(upstream)
        && agent.unfinished.is_none()
    {
        case.declare(Intent { rejoin: None, ..intent.clone() }.raised());
    }
    false
}

/// A node that stays away is not waited for.
pub(super) fn end_if_absent(case: &mut Case<'_>, intent: &Intent) {
    let Some(asked) = &intent.rejoin else { return };
    let silent = case.stood(&Finding::StandbyUnreachable { node: asked.node.clone() });
    if silent.is_some_and(|silent| silent >= ABSENT) {
        end(case, intent, vec![format!("nothing was heard from {} for {ABSENT:.0?}", asked.node)]);
    }
}

/// Nothing helped, not even a clone: whoever asked is told why.
pub(super) fn give_up(case: &mut Case<'_>, intent: &Intent, node: &NodeId, agent: &AgentFacts) {
    if intent.rejoin.as_ref().is_some_and(|asked| asked.node == *node) {
        let reasons = agent.failed.iter().map(|(what, why)| format!("{what} failed: {why}")).collect();
        end(case, intent, reasons);
    }
}

fn end(case: &mut Case<'_>, intent: &Intent, reasons: Vec<String>) {
    let Some(asked) = &intent.rejoin else { return };
    case.step(Step::Refuse { operation: asked.operation.clone(), blockers: reasons });
    case.declare(Intent { rejoin: None, ..intent.clone() }.raised());
}
