//! A store that was wiped or put back from a copy: not believed until a person accepts it.
//!
//! What an agent promised, what members read before, and the epoch in which a data directory was a primary's, are the memory
//! that such a store lacks. A store may be older and hold the same intent: the renewals of the primary lease, which carry the
//! floors, are counted, and members remember that count.

use std::time::Duration;

use super::case::Case;
use crate::model::{
    AgentFacts, Command, Epoch, Finding, Hold, Incarnation, Intent, NodeId, Renewals, RequestKind, Server,
    Stamp, Step,
};

/// A store is accepted on facts no older than this.
const FRESH: Duration = Duration::from_secs(1);

/// True if the store is not believed, or was never read: nothing else is decided then.
pub(super) fn plan(case: &mut Case<'_>, intent: Option<&Intent>) -> bool {
    if intent.is_none() && case.view.store_error.is_some() {
        // Nothing is known of it yet, so nothing can be older.
        case.hold(Hold::StoreLost);
        return true;
    }
    let remembered = remembered(case);
    let older = remembered.is_some_and(|stamp| stamp > known(intent));
    if !older && !intent.is_some_and(|intent| lacks_renewals(case, intent)) {
        return false;
    }
    case.find(Finding::StoreNotBelieved);
    case.hold(Hold::StoreNotBelieved);
    if case.view.leading {
        answer_requests(case, remembered.max(Some(known(intent))).unwrap_or_default());
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
    let directories = nodes.clone().filter_map(|node| of_directory(node.agent.as_ref()?));
    let read = nodes.filter_map(|node| node.remembered);
    let all: Vec<Stamp> = promised
        .chain(directories)
        .chain(read)
        .chain(case.view.remembered)
        .filter(|stamp| stamp.epoch > Epoch(0))
        .collect();
    let highest = all.iter().max().copied()?;
    // An epoch only grows over the lives of a store, so the highest one is wanted whatever life it is of.
    Some(Stamp { epoch: all.iter().map(|stamp| stamp.epoch).max()?, ..highest })
}

/// Under which stamp a node was last primary: by what its agent remembers and by its directory, of which either may have gone back.
/// None: it never was, or follows another since.
fn last_primary(agent: &AgentFacts) -> Option<Stamp> {
    let directory = of_directory(agent);
    match &agent.server.value {
        // A directory that was made from a later primary's is no primary's any more, whatever is remembered.
        Server::Down(down) if down.standby == Some(true) => {
            agent.primary_since.filter(|since| directory <= Some(*since))
        }
        _ => agent.primary_since.max(directory),
    }
}

/// Under which stamp a stopped server was last primary, by its directory. Where nothing was ever promised it says nothing: the
/// directory may come from another cluster.
fn of_directory(agent: &AgentFacts) -> Option<Stamp> {
    match &agent.server.value {
        Server::Down(down) => down.primary_since.filter(|_| agent.promise.is_some()),
        _ => None,
    }
}

/// The latest renewal of the primary lease that anybody knows of, in the life of this intent.
fn renewals(case: &Case<'_>, intent: &Intent) -> Option<Renewals> {
    let heard = case.view.nodes.values().map(|node| node.renewals).max().flatten();
    heard.max(case.view.renewals).filter(|known| known.incarnation >= intent.incarnation)
}

/// Somebody knows of a later renewal than the last one that was read: it is being read anew.
pub(super) fn awaits_renewal(case: &Case<'_>, intent: &Intent) -> bool {
    renewals(case, intent).is_some_and(|known| known > read(case))
}

/// The last one was read after a later one was known of: the store has forgotten that.
fn lacks_renewals(case: &Case<'_>, intent: &Intent) -> bool {
    let known = case.view.lease.known.filter(|known| known.incarnation >= intent.incarnation);
    known.is_some_and(|known| known > read(case))
}

fn read(case: &Case<'_>) -> Renewals {
    let none = Renewals { incarnation: Incarnation(0), count: 0 };
    case.view.lease.last.as_ref().map_or(none, |last| last.value.renewals())
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
    let declared = case.view.members.iter().filter_map(|node| Some((last_primary(heard(node)?)?, node)));
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
