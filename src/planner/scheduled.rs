//! A switchover at a later time: taken into the intent, begun when its time has come, and never begun late.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{case::Case, switchover};
use crate::model::{Cause, Handover, Hold, Intent, NodeId, Scheduled, Step, View};

/// For how long after its time it is tried, as something may stand in the way that passes. Shorter: a set that changes at that
/// very moment, or a leader that is being elected, drops it. Longer: it begins when nobody expects it any more.
const LATE: SignedDuration = SignedDuration::from_secs(60);
/// Further ahead it is a slip of the pen.
const FURTHEST: Duration = Duration::from_secs(366 * 86_400);

/// Every reason against scheduling it. What may stand in its way then is judged then.
pub(super) fn admit(view: &View, to: Option<&NodeId>, at: Timestamp) -> Result<(), Vec<String>> {
    let Some(intent) = &view.intent else { return Err(vec!["no cluster is declared yet".into()]) };
    let mut blockers = Vec::new();
    if let Some(scheduled) = &intent.scheduled {
        blockers.push(format!(
            "a switchover is scheduled for {} already; `locum switchover --cancel` drops it",
            scheduled.at
        ));
    }
    if at <= view.wall {
        blockers.push(format!("{at} has passed; here it is {:.0}", view.wall));
    } else if at.duration_since(view.wall).unsigned_abs() > FURTHEST {
        blockers.push(format!("{at} is more than a year ahead"));
    }
    match to {
        Some(to) if intent.primary.as_ref() == Some(to) => {
            blockers.push(format!("{to} is the primary already"));
        }
        Some(to) if !view.members.contains(to) => blockers.push(format!("there is no node {to}")),
        _ => {}
    }
    if blockers.is_empty() { Ok(()) } else { Err(blockers) }
}

/// Begins it when its time has come, or drops it with the reason. True if the intent is about to change.
pub(super) fn plan(case: &mut Case<'_>, intent: &Intent) -> bool {
    let Some(Scheduled { to, at, operation }) = intent.scheduled.clone() else { return false };
    let late = case.view.wall.duration_since(at);
    if late.is_negative() {
        case.hold(Hold::Scheduled { to, at });
        return false;
    }
    let without = Intent { scheduled: None, ..intent.clone() };
    let blockers = match switchover::admit(case.view, case.policy, case.now, to.as_ref()) {
        Ok(to) if late <= LATE => {
            let handover = Handover { to, operation, since: intent.version.next() };
            case.declare(Intent { handover: Some(handover), ..without }.raised());
            return true;
        }
        Ok(_) => vec!["nobody could begin it in time".to_owned()],
        Err(blockers) => blockers,
    };
    if late <= LATE {
        case.hold(Hold::Blocked { blockers });
        return false;
    }
    let why = format!("the switchover scheduled for {at} was dropped: {}", blockers.join("; "));
    case.step(Step::Refuse { operation, blockers: vec![why.clone()] });
    case.declare_because(without.raised(), Cause { summary: why, evidence: Vec::new() });
    true
}
