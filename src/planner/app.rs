//! Which app server is active, and that the app endpoints lead to it. One active app per version of the intent. One that is well
//! comes first; one that its member can start will do, and is started by being led to.

use std::time::Duration;

use super::case::Case;
use crate::model::{
    AppFacts, AppFailure, Cause, EndpointKind, Finding, Hold, Intent, Mode, NodeId, RouteOrder,
};

/// How long an app server may take no connection at all: its process has ended. Shorter: one lost probe would move the app.
/// Longer: its clients wait longer.
const REFUSED: Duration = Duration::from_millis(100);

pub(super) fn plan(case: &mut Case<'_>, intent: &Intent) {
    if let Some(active) = &intent.app {
        flip_if_down(case, intent, active);
        lead_clients(case, intent, active);
    } else if let Some(node) = other_that_serves(case, None) {
        case.declare(Intent { app: Some(node), ..intent.clone() }.raised());
    }
}

/// What is known of the app server of a node whose member is heard.
pub(super) fn of<'a>(case: &Case<'a>, node: &NodeId) -> Option<&'a AppFacts> {
    case.heard(node)?.app.as_ref()
}

/// The app server dies, the database stays: the other node's app becomes active.
fn flip_if_down(case: &mut Case<'_>, intent: &Intent, active: &NodeId) {
    let found = [Finding::AppDown { node: active.clone() }, Finding::AppHung { node: active.clone() }];
    let found = found.into_iter().find_map(|finding| Some((case.stood(&finding)?, finding)));
    let Some((stood, finding)) = found else { return };
    let Some(other) = other_that_serves(case, Some(active)) else { return };
    if of(case, active).is_some_and(|app| app.starting) {
        return case.underway(format!("the app server of {active} is being started"));
    }
    let refuses = of(case, active).is_some_and(|app| app.failure == Some(AppFailure::Refuses));
    let grace = if refuses { case.policy.app_grace.min(REFUSED) } else { case.policy.app_grace };
    if stood < grace {
        return case.hold(Hold::Grace { finding, left: grace - stood });
    }
    case.suspect(of(case, active).and_then(|app| app.failing_since));
    let said = match of(case, active) {
        Some(app) => app.error.clone().unwrap_or_else(|| "no answer".to_owned()),
        None => format!("nothing is heard from the member of {active}"),
    };
    let evidence = vec![
        format!(
            "the health probe of the app on {active} has failed for {stood:.1?} while the database was well: {said}"
        ),
        match of(case, &other).is_some_and(|app| app.healthy) {
            true => format!("the app on {other} is healthy"),
            false => format!("the app on {other} does not run, and can be started"),
        },
    ];
    let cause = Cause { summary: finding.to_string(), evidence };
    case.declare_because(Intent { app: Some(other), ..intent.clone() }.raised(), cause);
}

fn other_that_serves(case: &Case<'_>, but: Option<&NodeId>) -> Option<NodeId> {
    let one = |fit: fn(&AppFacts) -> bool| {
        case.others(but).into_iter().find(|node| of(case, node).is_some_and(fit)).cloned()
    };
    one(|app| app.healthy).or_else(|| one(|app| app.startable))
}

fn lead_clients(case: &mut Case<'_>, intent: &Intent, active: &NodeId) {
    let Some(address) = of(case, active).map(|app| app.address.clone()) else { return };
    for (member, name, facts) in case.endpoints(EndpointKind::App) {
        let there = facts.target.as_ref() == Some(active) && facts.mode == Mode::Open;
        if !(there && facts.stamp.same_epoch(intent.stamp())) {
            case.route(
                intent,
                member,
                name,
                RouteOrder::Point { node: active.clone(), address: address.clone() },
            );
        }
    }
}
