//! What operators ask for: taken into the intent, or refused with every reason.

use super::{case::Case, rejoin_asked, scheduled, service, switchover};
use crate::model::{Handover, Intent, Rejoin, RequestKind, Scheduled, Step};

/// Takes or refuses the oldest request. True if the intent is about to change.
pub(super) fn plan(case: &mut Case<'_>, intent: &Intent) -> bool {
    let Some(request) = case.view.requests.first() else { return false };
    if case.view.underway.iter().any(|key| key.what == "declare") {
        // It may be for this very request, and told by the store before its own answer comes.
        return false;
    }
    match &request.kind {
        // Clients wait in the middle of it: to stand still there would let them wait for as long as the pause lasts.
        RequestKind::Pause if intent.handover.is_some() => {
            let blockers = vec!["a switchover is under way; try again when it has ended".to_owned()];
            case.step(Step::Refuse { operation: request.operation.clone(), blockers });
        }
        RequestKind::AcceptStore => {
            let blockers = vec!["the store is believed already".to_owned()];
            case.step(Step::Refuse { operation: request.operation.clone(), blockers });
        }
        RequestKind::Pause => case.declare(Intent { paused: true, ..intent.clone() }.raised()),
        RequestKind::Resume => case.declare(Intent { paused: false, ..intent.clone() }.raised()),
        // Taken already, perhaps by a leader before this one.
        RequestKind::Switchover { .. }
            if intent.handover.as_ref().is_some_and(|handover| handover.operation == request.operation) => {}
        RequestKind::Schedule { .. }
            if intent.scheduled.as_ref().is_some_and(|asked| asked.operation == request.operation) => {}
        RequestKind::Schedule { to, at } => match scheduled::admit(case.view, to.as_ref(), *at) {
            Ok(()) => {
                let (to, operation) = (to.clone(), request.operation.clone());
                let scheduled = Scheduled { to, at: *at, operation };
                case.declare(Intent { scheduled: Some(scheduled), ..intent.clone() }.raised());
            }
            Err(blockers) => case.step(Step::Refuse { operation: request.operation.clone(), blockers }),
        },
        RequestKind::Cancel if intent.scheduled.is_none() => {
            let blockers = vec!["no switchover is scheduled".to_owned()];
            case.step(Step::Refuse { operation: request.operation.clone(), blockers });
        }
        RequestKind::Cancel => case.declare(Intent { scheduled: None, ..intent.clone() }.raised()),
        RequestKind::Rejoin { .. }
            if intent.rejoin.as_ref().is_some_and(|asked| asked.operation == request.operation) => {}
        RequestKind::Rejoin { node, from_scratch } => {
            match rejoin_asked::admit(case.view, case.policy, case.now, node, *from_scratch) {
                Ok(name) => {
                    let (node, operation) = (node.clone(), request.operation.clone());
                    let rejoin = Rejoin { node, from_scratch: *from_scratch, operation, name };
                    case.declare(Intent { rejoin: Some(rejoin), ..intent.clone() }.raised());
                }
                Err(blockers) => case.step(Step::Refuse { operation: request.operation.clone(), blockers }),
            }
        }
        kind @ (RequestKind::Drain { .. } | RequestKind::Restore { .. } | RequestKind::Remove { .. }) => {
            match service::admit(case.view, case.policy, case.now, kind) {
                Ok(next) => case.declare(next),
                Err(blockers) => case.step(Step::Refuse { operation: request.operation.clone(), blockers }),
            }
        }
        RequestKind::Switchover { to } => {
            match switchover::admit(case.view, case.policy, case.now, to.as_ref()) {
                Ok(to) => {
                    let since = intent.version.next();
                    let handover = Handover { to, operation: request.operation.clone(), since };
                    case.declare(Intent { handover: Some(handover), ..intent.clone() }.raised());
                }
                Err(blockers) => case.step(Step::Refuse { operation: request.operation.clone(), blockers }),
            }
        }
    }
    case.declares()
}

/// What stands in the way of anything that a leader is asked to do by itself.
pub(super) fn blockers(case: &Case<'_>, intent: &Intent) -> Vec<String> {
    let mut blockers = Vec::new();
    if !case.view.leading {
        blockers.push("this member does not lead".into());
    }
    if intent.paused {
        blockers.push("automatic action is paused; `locum resume` lifts it".into());
    }
    if let Some(handover) = &intent.handover {
        blockers.push(format!("a switchover to {} is under way", handover.to));
    }
    blockers
}
