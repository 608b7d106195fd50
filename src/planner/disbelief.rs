//! A store that was wiped or put back from a copy: not believed until a person accepts it.
//!
//! What an agent promised, and what this member read before, are the memory that such a store lacks.

use std::time::Duration;

use super::case::Case;
use crate::model::{Command, Epoch, Finding, Hold, Intent, NodeId, RequestKind, Server, Stamp, Step};

/// A store is accepted on facts no older than this.
const FRESH: Duration = Duration::from_secs(1);

/// True if the store is not believed, or was never read: nothing else is decided then.
pub(super) fn plan(case: &mut Case<'_>, intent: Option<&Intent>) -> bool {
    if intent.is_none() && case.view.store_error.is_some() {
        // Nothing is known of it yet, so nothing can be older.
        case.hold(Hold::StoreLost);
        return true;
    }
    let Some(remembered) = remembered(case).filter(|stamp| *stamp > known(intent)) else { return false };
    case.find(Finding::StoreNotBelieved);
    case.hold(Hold::StoreNotBelieved);
    if case.view.leading {
        answer_requests(case, remembered);
    }
    true
}

fn known(intent: Option<&Intent>) -> Stamp {
    intent.map_or(Stamp::default(), Intent::stamp)
}

/// The highest of each part that anybody remembers. None: nobody remembers a declared epoch.
fn remembered(case: &Case<'_>) -> Option<Stamp> {
    let nodes = case.view.nodes.values();
    let promised = nodes.clone().filter_map(|node| node.agent.as_ref()?.promise);
    let read = nodes.filter_map(|node| node.remembered);
    let all: Vec<Stamp> =
        promised.chain(read).chain(case.view.remembered).filter(|stamp| stamp.epoch > Epoch(0)).collect();
    let highest = all.iter().max().copied()?;
    // An epoch only grows over the lives of a store, so the highest one is wanted whatever life it is of.
    Some(Stamp { epoch: all.iter().map(|stamp| stamp.epoch).max()?, ..highest })
}

fn answer_requests(case: &mut Case<'_>, remembered: Stamp) {
    let Some(request) = case.view.requests.first().cloned() else { return };
    let accepted = match request.kind {
        RequestKind::AcceptStore => who_serves(case),
        RequestKind::Switchover { .. }
        | RequestKind::Schedule { .. }
        | RequestKind::Cancel
        | RequestKind::Rejoin { .. }
        | RequestKind::Drain { .. }
        | RequestKind::Restore { .. }
        | RequestKind::Remove { .. }
        | RequestKind::Pause
        | RequestKind::Resume => {
            Err(vec!["the store is not believed; `locum store accept` first".to_owned()])
        }
    };
    match accepted {
        Ok(primary) => begin_new_life(case, remembered.new_life(), primary),
        Err(blockers) => case.step(Step::Refuse { operation: request.operation, blockers }),
    }
}

/// First every agent promises the new life, so that no order of an earlier one that is still under way is obeyed; then
/// the store is given its first intent.
fn begin_new_life(case: &mut Case<'_>, life: Stamp, primary: NodeId) {
    let first = Intent::accepted(life, primary, case.policy.durability);
    let promised = |node: &&NodeId| case.view.agent(node).is_some_and(|agent| agent.promise >= Some(life));
    let asked: Vec<NodeId> = case.others(None).into_iter().filter(|node| !promised(node)).cloned().collect();
    if asked.is_empty() {
        return case.declare(first);
    }
    let stamped = Intent { version: life.version, ..first };
    for node in asked {
        case.order(&stamped, &node, Command::Promise);
    }
}

/// The node that keeps its place: the one that runs as a primary; where none runs, the one that was it last.
fn who_serves(case: &Case<'_>) -> Result<NodeId, Vec<String>> {
    let heard = |node: &NodeId| case.view.fresh(node, case.now, FRESH);
    let missing: Vec<String> = case
        .view
        .members
        .iter()
        .filter(|node| case.view.nodes.get(*node).is_none_or(|view| case.now.since(view.heard) > FRESH))
        .map(|node| format!("nothing is heard from {node}, which may remember more; start its member first"))
        .collect();
    if !missing.is_empty() {
        return Err(missing);
    }
    let runs = |node: &&NodeId| {
        heard(node)
            .is_some_and(|agent| matches!(&agent.server.value, Server::Primary(primary) if primary.writable))
    };
    let running: Vec<&NodeId> = case.view.members.iter().filter(runs).collect();
    let declared = case.view.members.iter().filter_map(|node| Some((heard(node)?.primary_since?, node)));
    let last = declared.max_by_key(|(since, _)| *since).map(|(_, node)| node);
    match running.as_slice() {
        // One that was cut off still runs: what the later one holds must not vanish for it.
        [one] => match last.filter(|last| last != one) {
            Some(last) => Err(vec![format!(
                "{one} takes writes, but {last} was declared after it; stop {one}, or start {last}"
            )]),
            None => Ok((*one).clone()),
        },
        [] => {
            let last = last.cloned();
            last.ok_or_else(|| {
                vec!["no node runs as a primary, and none remembers that it was one".to_owned()]
            })
        }
        several => {
            let names = several.iter().map(|node| node.as_str()).collect::<Vec<_>>().join(" and ");
            Err(vec![format!("{names} both take writes; stop the wrong one first")])
        }
    }
}
