//! Which app server is active, and that the app endpoints lead to it. One active app per version of the intent.

use super::case::Case;
use crate::model::{AppFacts, Cause, EndpointKind, Finding, Intent, Mode, NodeId, RouteOrder};

pub(super) fn plan(case: &mut Case<'_>, intent: &Intent) {
    if let Some(active) = &intent.app {
        flip_if_down(case, intent, active);
        lead_clients(case, intent, active);
    } else if let Some(node) = healthy_other(case, None) {
        case.declare(Intent { app: Some(node), ..intent.clone() }.raised());
    }
}

fn app_of<'a>(case: &Case<'a>, node: &NodeId) -> Option<&'a AppFacts> {
    case.heard(node)?.app.as_ref()
}

/// The app server dies, the database stays: the other node's app becomes active.
fn flip_if_down(case: &mut Case<'_>, intent: &Intent, active: &NodeId) {
    let Some(stood) = case.stood(&Finding::AppDown { node: active.clone() }) else { return };
    let Some(other) = healthy_other(case, Some(active)) else { return };
    if stood < case.policy.app_grace {
        let finding = Finding::AppDown { node: active.clone() };
        return case.hold(crate::model::Hold::Grace { finding, left: case.policy.app_grace - stood });
    }
    case.suspect(app_of(case, active).and_then(|app| app.failing_since));
    let said = match app_of(case, active) {
        Some(app) => app.error.clone().unwrap_or_else(|| "no answer".to_owned()),
        None => format!("nothing is heard from the member of {active}"),
    };
    let evidence = vec![
        format!(
            "the health path of the app on {active} has failed for {stood:.1?} while the database was well: {said}"
        ),
        format!("the app on {other} is healthy"),
    ];
    let summary = Finding::AppDown { node: active.clone() }.to_string();
    case.declare_because(Intent { app: Some(other), ..intent.clone() }.raised(), Cause { summary, evidence });
}

fn healthy_other(case: &Case<'_>, but: Option<&NodeId>) -> Option<NodeId> {
    let healthy = |node: &&NodeId| app_of(case, node).is_some_and(|app| app.healthy);
    case.others(but).into_iter().find(healthy).cloned()
}

fn lead_clients(case: &mut Case<'_>, intent: &Intent, active: &NodeId) {
    let Some(address) = app_of(case, active).map(|app| app.address.clone()) else { return };
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
