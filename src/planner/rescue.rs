//! WAL rescue: the fenced old primary's agent still has what the candidate lacks, and hands it over before anybody is
//! declared. Then a killed PostgreSQL loses nothing, in whatever mode.
//!
//! It is a chance, never a condition: after `rescue_max`, or when it was tried in vain, things go on as without it.

use super::{candidate, case::Case, floors, floors::Disk, vacancy};
use crate::model::{Command, Intent, Lsn, NodeId, Server, Step};

/// How often in a row it is tried with one standby. Fewer: one lost message loses WAL. More: an order that is refused for
/// good holds up the failover longer.
const TRIES: u32 = 3;

/// Orders it where it may still bring something. True: what it brings is to be waited for.
pub(super) fn plan(
    case: &mut Case<'_>,
    intent: &Intent,
    standing: &[(NodeId, Lsn)],
    wal_end: Option<Lsn>,
) -> bool {
    let Some(old) = intent.previous.as_ref().filter(|old| is_possible(case, intent, old)) else {
        return false;
    };
    if vacancy::fenced(case, intent, old).is_none()
        || standing.iter().any(|(node, _)| has(case, intent, node))
    {
        return false;
    }
    let open: Vec<(NodeId, Lsn)> =
        standing.iter().filter(|(node, _)| !is_in_vain(case, intent, node)).cloned().collect();
    let Some((node, lsn)) = candidate::best(case, &open) else { return false };
    if wal_end.is_some_and(|end| *lsn >= end) {
        return false;
    }
    if let Some(further) = vacancy::awaited(case, intent, *lsn) {
        case.underway(format!("{further} has more, and is being recruited"));
        return true;
    }
    let now = case.now;
    let memory = case.memory();
    if memory.rescue.is_none_or(|(epoch, _)| epoch != intent.epoch) {
        memory.rescue = Some((intent.epoch, now));
    }
    let command = command(case, old);
    case.order(intent, node, command);
    true
}

/// Who is being rescued, as long as that is waited for.
pub(super) fn awaited(case: &Case<'_>, intent: &Intent) -> Option<NodeId> {
    if is_over(case, intent) {
        return None;
    }
    let old = intent.previous.as_ref();
    case.others(old).into_iter().find(|node| is_under_way(case, intent, node)).cloned()
}

fn is_over(case: &Case<'_>, intent: &Intent) -> bool {
    let limit = case.policy.rescue_max;
    case.rescue_began(intent.epoch).is_some_and(|began| case.now.since(began) >= limit)
}

fn command(case: &Case<'_>, old: &NodeId) -> Command {
    Command::Rescue { from: old.clone(), within: case.policy.rescue_max }
}

fn order(case: &Case<'_>, intent: &Intent, node: &NodeId) -> Option<Step> {
    let command = command(case, intent.previous.as_ref()?);
    Some(Step::Order { node: node.clone(), command, stamp: intent.stamp() })
}

pub(super) fn is_under_way(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    order(case, intent, node).is_some_and(|order| case.view.underway.contains(&order.key()))
}

fn is_in_vain(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    let attempt = order(case, intent, node).and_then(|order| case.view.attempts.get(&order.key()));
    attempt.is_some_and(|attempt| attempt.failures >= TRIES)
}

/// A node got all there was, in this epoch.
pub(super) fn has(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    let rescued = case.heard(node).and_then(|agent| agent.rescued.as_ref());
    let reaches = || match case.heard(node).map(|agent| &agent.server.value) {
        Some(Server::Standby(standby)) => {
            floors::highest(case, intent).is_none_or(|floor| standby.wal().contains(floor))
        }
        _ => false,
    };
    let whole = |from: &NodeId| match case.heard(from).map(|agent| &agent.server.value) {
        Some(Server::Down(down)) => floors::of_disk(case, intent, from, down) == Disk::Whole,
        // Not heard any more, and perhaps ordered before its end was read: what it brought says whether its disk had all.
        _ => reaches(),
    };
    rescued.is_some_and(|rescued| rescued.under.same_epoch(intent.stamp()) && whole(&rescued.from))
}

/// The old primary's own agent says that its server is down, and there is time left.
fn is_possible(case: &Case<'_>, intent: &Intent, old: &NodeId) -> bool {
    let whole = case.heard(old).is_some_and(|agent| match &agent.server.value {
        // What a disk has that went back in time is not everything that its server had.
        Server::Down(down) => {
            agent.unfinished.is_none()
                && !matches!(floors::of_disk(case, intent, old, down), Disk::WentBack(_))
        }
        _ => false,
    });
    !case.policy.rescue_max.is_zero() && !is_over(case, intent) && whole
}

/// What this standby lacks was brought to it, or may still be: it says nothing about a loss.
pub(super) fn may_bring(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    let possible = |old: &NodeId| is_possible(case, intent, old) && !is_in_vain(case, intent, node);
    has(case, intent, node) || intent.primary.as_ref().or(intent.previous.as_ref()).is_some_and(possible)
}
