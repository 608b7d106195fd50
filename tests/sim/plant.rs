//! Mistakes of the planner, planted around it: in what it is shown, and in what it asks for.

use locum::{
    model::{Command, Floors, Intent, Lsn, Mono, NodeId, Server, Step, View},
    planner::Plan,
};

use super::bug::Bug;

/// Changes what the planner is shown.
pub(crate) fn see(bug: Option<Bug>, view: &mut View) {
    match bug {
        Some(Bug::SilenceAfterStall) => view.awake_since = Mono::default(),
        Some(Bug::PromotableUnconfirmed) => {
            let Some(primary) = view.intent.as_ref().and_then(|intent| intent.primary.clone()) else {
                return;
            };
            let others: Vec<NodeId> = view
                .nodes
                .iter()
                .filter(|(node, seen)| **node != primary && seen.agent.is_some())
                .map(|(node, _)| node.clone())
                .collect();
            let agent = view.nodes.get_mut(&primary).and_then(|seen| seen.agent.as_mut());
            // What was noted once is taken for all that will ever have to be.
            if let Some(noted) = agent.and_then(|agent| agent.admitted.as_mut()) {
                noted.extend(others);
                noted.sort();
                noted.dedup();
            }
        }
        Some(Bug::FloorsForgotten) => {
            forget_floors(view);
            forget_primary_floor(view);
        }
        Some(Bug::RenewalsUncounted) => {
            (view.renewals, view.lease.known) = (None, None);
            view.nodes.values_mut().for_each(|node| node.renewals = None);
        }
        Some(Bug::NotesForgotten) => view.nodes.values_mut().for_each(|node| node.noted = None),
        Some(Bug::CountedBelowFloor) => forget_floors(view),
        Some(Bug::PromotedBelowFloor) => {
            if let Some(intent) = &mut view.intent {
                intent.primary_floor = None;
            }
        }
        Some(Bug::WentBackStarted) => {
            for agent in view.nodes.values_mut().filter_map(|seen| seen.agent.as_mut()) {
                if let Server::Down(down) = &mut agent.server.value {
                    down.watched = true;
                }
            }
        }
        _ => {}
    }
}

/// What standbys were seen to confirm is not known to the planner.
fn forget_floors(view: &mut View) {
    if let Some(intent) = &mut view.intent {
        intent.floors = Floors::default();
    }
    if let Some(last) = &mut view.lease.last {
        last.value.floors = Floors::default();
    }
}

/// Nor is how far the primary was.
fn forget_primary_floor(view: &mut View) {
    if let Some(intent) = &mut view.intent {
        intent.primary_floor = None;
    }
    if let Some(last) = &mut view.lease.last {
        last.value.timeline = None;
    }
}

/// Changes what it asks for.
pub(crate) fn ask(bug: Option<Bug>, view: &View, plan: &mut Plan, now: Mono) {
    let Some(intent) = &view.intent else { return };
    match bug {
        Some(Bug::JointSkipped) => plan.steps.iter_mut().for_each(shrink_at_once),
        Some(Bug::LeastAdvanced) => plan.steps.iter_mut().for_each(|step| choose_worst(step, view, intent)),
        Some(Bug::MemberRecloned) => plan.steps.iter_mut().for_each(|step| {
            if let Step::Order { node, command, .. } = step
                && let Command::Follow(upstream) = command.clone()
                && intent.in_sync(node)
            {
                *command = Command::Clone(upstream, intent.switch, None);
            }
        }),
        Some(Bug::OldDeclaredAgain) => declare_old(view, intent, plan, now),
        _ => {}
    }
}

fn shrink_at_once(step: &mut Step) {
    let Step::Declare(next) = step else { return };
    let smaller =
        !next.sync_next.is_empty() && next.sync_next.iter().all(|member| next.sync.contains(member));
    if smaller && next.sync_next.len() < next.sync.len() {
        next.sync.clone_from(&next.sync_next);
    }
}

fn recruited(view: &View, intent: &Intent, node: &NodeId) -> Option<Lsn> {
    match &view.agent(node)?.server.value {
        Server::Standby(standby) if standby.recruited.is_some_and(|by| by.same_epoch(intent.stamp())) => {
            Some(standby.replayed)
        }
        _ => None,
    }
}

fn choose_worst(step: &mut Step, view: &View, intent: &Intent) {
    let Step::Declare(next) = step else { return };
    if intent.primary.is_some() || next.primary == intent.previous {
        return;
    }
    let standing = view.nodes.keys().filter_map(|node| Some((recruited(view, intent, node)?, node)));
    if let (Some(_), Some((_, worst))) = (&next.primary, standing.min()) {
        next.primary = Some(worst.clone());
        // What it has is asked of it then, or its agent would not let itself be promoted.
        next.primary_floor = match view.agent(worst).map(|agent| &agent.server.value) {
            Some(Server::Standby(standby)) => Some(standby.applied()),
            _ => None,
        };
    }
}

/// The candidate has not shown itself as primary yet: the old one is taken instead.
fn declare_old(view: &View, intent: &Intent, plan: &mut Plan, now: Mono) {
    let (Some(candidate), Some(old)) = (&intent.primary, &intent.previous) else { return };
    let ready = view.agent(candidate).is_some_and(|agent| {
        matches!(agent.server.value, Server::Primary(_))
            && agent.primary_since.is_some_and(|s| s.same_epoch(intent.stamp()))
    });
    let heard = view.fresh(candidate, now, std::time::Duration::from_millis(500)).is_some();
    let down = view.agent(old).is_some_and(|agent| matches!(agent.server.value, Server::Down(_)));
    if ready && heard || !down || !view.leading || candidate == old {
        return;
    }
    let vacant = Intent { primary: None, ..intent.clone() };
    if let Some(next) = vacant.reinstated(None) {
        plan.steps = vec![Step::Declare(next)];
    }
}
