//! `GET /metrics`: the snapshot and the incidents in the OpenMetrics text format.
//!
//! The page is made anew from the snapshot for every scrape; nothing is counted here.

pub mod names;
mod page;

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use self::page::{Page, flag};
use super::{Shared, error::Refusal, read};
use crate::model::{EndpointStatus, Incident, IncidentKind, Mode, Snapshot, TargetTraffic};

/// The content type that the OpenMetrics specification asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Every kind of incident with its label: those that never happened are shown as 0.
const KINDS: [(IncidentKind, &str); 5] = [
    (IncidentKind::Failover, "failover"),
    (IncidentKind::Restart, "restart"),
    (IncidentKind::Switchover, "switchover"),
    (IncidentKind::AppFailover, "app-failover"),
    (IncidentKind::LeftRecovery, "left-recovery"),
];

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(State(shared): State<Shared>) -> Result<Response, Refusal> {
    let current = shared.feed.current();
    let mut page = Page::default();
    page.gauge(names::SNAPSHOT_AGE, current.age.as_secs_f64());
    page.labelled(names::BUILD_INFO, [(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)]);
    let snapshot = current.aged();
    cluster(&mut page, &snapshot);
    exposure(&mut page, &snapshot);
    nodes(&mut page, &snapshot);
    endpoints(&mut page, &snapshot);
    // A store that does not answer costs the page its incidents, not the rest; `locum_store_up` tells.
    if let Ok(stored) = read::stored(&*shared.console, read::MOST_INCIDENTS).await {
        incidents(&mut page, &stored);
    }
    let text = page.text().map_err(|_| Refusal::unavailable("the page could not be written"))?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

#[expect(clippy::cast_precision_loss, reason = "the format's numbers are floats; exact below 2^53")]
const fn number(value: u64) -> f64 {
    value as f64
}

fn cluster(page: &mut Page, snapshot: &Snapshot) {
    page.gauge(names::STORE_UP, flag(snapshot.store_error.is_none()));
    page.gauge(names::LEADER, flag(snapshot.leader.as_ref() == Some(&snapshot.node)));
    if let Some(intent) = &snapshot.intent {
        page.gauge(names::EPOCH, number(intent.epoch.0));
        page.gauge(names::PAUSED, flag(intent.paused));
    }
    page.gauge(names::FINDINGS, number(snapshot.findings.len() as u64));
    let finding = snapshot.findings.iter().map(|found| (page::labels(&found.finding), 1.0));
    page.labelled(names::FINDING, finding);
    page.gauge(names::INCIDENT_OPEN, flag(snapshot.incident.is_some()));
}

fn exposure(page: &mut Page, snapshot: &Snapshot) {
    let Some(rpo) = &snapshot.rpo else { return };
    page.known(names::RPO_BYTES, rpo.bytes.map(number));
    page.known(names::RPO_SECONDS, rpo.ms.map(|ms| ms / 1000.0));
    page.gauge(names::RPO_AGE, rpo.as_of_ms / 1000.0);
    page.known(names::RPO_AT_MOST, rpo.at_most_bytes.map(number));
    page.gauge(names::RPO_ACKNOWLEDGED_SAFE, flag(rpo.acknowledged_is_safe));
}

fn nodes(page: &mut Page, snapshot: &Snapshot) {
    let mut each = |metric, value: &dyn Fn(&crate::model::NodeStatus) -> Option<f64>| {
        let known = snapshot.nodes.iter().filter_map(|node| Some((node, value(node)?)));
        page.labelled(metric, known.map(|(node, value)| (vec![("node", node.node.to_string())], value)));
    };
    each(names::PRIMARY, &|node| Some(flag(node.serving)));
    each(names::NODE_HEARD_AGE, &|node| Some(node.heard_ms / 1000.0));
    each(names::NODE_STREAMING, &|node| Some(flag(node.streaming)));
    each(names::NODE_SYNC, &|node| Some(flag(node.sync)));
    each(names::NODE_LAG, &|node| node.lag_bytes.map(number));
    each(names::NODE_REPLAY_LAG, &|node| node.replay_bytes.map(number));
    each(names::NODE_DISK_FREE, &|node| node.disk_free_bytes.map(number));
    each(names::APP_HEALTHY, &|node| Some(flag(node.app.as_ref()?.healthy)));
    each(names::APP_ACTIVE, &|node| Some(flag(node.app.as_ref()?.active)));
}

fn endpoints(page: &mut Page, snapshot: &Snapshot) {
    let labels = |endpoint: &EndpointStatus| {
        vec![("endpoint", endpoint.name.to_string()), ("member", endpoint.member.to_string())]
    };
    let mut each = |metric, value: &dyn Fn(&EndpointStatus) -> f64| {
        let samples = snapshot.endpoints.iter().map(|endpoint| (labels(endpoint), value(endpoint)));
        page.labelled(metric, samples);
    };
    each(names::ENDPOINT_ACCEPTING, &|endpoint| flag(endpoint.mode == Mode::Open));
    each(names::ENDPOINT_OPEN, &|endpoint| number(endpoint.open));
    each(names::ENDPOINT_HELD, &|endpoint| number(endpoint.held));
    let mut count = |metric, value: &dyn Fn(&EndpointStatus) -> u64| {
        let samples = snapshot.endpoints.iter().map(|endpoint| (labels(endpoint), value(endpoint)));
        page.counters(metric, samples);
    };
    count(names::ENDPOINT_CUT, &|endpoint| endpoint.cut_total);
    count(names::ENDPOINT_SERVED, &|endpoint| endpoint.held_total);
    count(names::ENDPOINT_REFUSED, &|endpoint| endpoint.refused_total);
    #[expect(clippy::cast_precision_loss, reason = "microseconds of one outage")]
    let gaps = snapshot.endpoints.iter().filter_map(|endpoint| {
        Some((labels(endpoint), endpoint.traffic.longest_gap_us? as f64 / 1_000_000.0))
    });
    page.labelled(names::ENDPOINT_GAP, gaps);
    let targets: Vec<(Vec<(&'static str, String)>, &TargetTraffic)> = snapshot
        .endpoints
        .iter()
        .flat_map(|endpoint| {
            endpoint.traffic.targets.iter().map(move |target| {
                let mut labels = labels(endpoint);
                labels.push(("node", target.node.to_string()));
                (labels, target)
            })
        })
        .collect();
    let each = || targets.iter().cloned();
    page.labelled(names::TARGET_SERVING, each().map(|(labels, target)| (labels, flag(target.serving))));
    page.labelled(names::TARGET_OPEN, each().map(|(labels, target)| (labels, number(target.open))));
    page.counters(names::TARGET_UP, each().map(|(labels, target)| (labels, target.bytes_up)));
    page.counters(names::TARGET_DOWN, each().map(|(labels, target)| (labels, target.bytes_down)));
}

fn incidents(page: &mut Page, stored: &[Incident]) {
    let of = |kind| stored.iter().filter(move |incident: &&Incident| incident.kind == kind);
    let label = |word: &str| vec![("kind", word.to_owned())];
    page.counters(names::INCIDENTS, KINDS.map(|(kind, word)| (label(word), of(kind).count() as u64)));
    let rto = KINDS.into_iter().filter_map(|(kind, word)| {
        let ms = of(kind).rev().find_map(Incident::rto_ms)?;
        Some((label(word), ms / 1000.0))
    });
    page.labelled(names::LAST_RTO, rto);
    let began = KINDS.into_iter().filter_map(|(kind, word)| {
        let last = of(kind).next_back()?;
        Some((label(word), last.started_at.as_duration().as_secs_f64()))
    });
    page.labelled(names::LAST_INCIDENT_TIME, began);
}
