//! What can be read: status, incidents, live RPO, the plan, operations. It changes nothing and needs no token.

use std::time::Duration;

use axum::{
    Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
    routing::get,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Shared,
    error::{Refusal, json as answer},
};
use crate::{
    model::{Incident, Mono, Operation, Phase, Verdicts},
    ports::Console,
};

/// How many incidents are shown unless a number is given.
const INCIDENTS: usize = 20;
/// How many are shown at most: as many as are kept.
pub(super) const MOST_INCIDENTS: usize = 1000;
/// How long the store may take to list them.
const STORE_WAIT: Duration = Duration::from_secs(5);
/// How long an operation that was just accepted may take to show up in a snapshot.
const OPERATION_WAIT: Duration = Duration::from_secs(1);

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/incidents", get(incidents))
        .route("/v1/incidents/{id}", get(incident))
        .route("/v1/lost/{id}", get(lost))
        .route("/v1/rpo", get(rpo))
        .route("/v1/explain", get(explain))
        .route("/v1/sessions", get(sessions))
        .route("/v1/operations/{id}", get(operation))
}

async fn status(State(shared): State<Shared>) -> Response {
    answer(StatusCode::OK, &shared.feed.current().aged())
}

async fn rpo(State(shared): State<Shared>) -> Response {
    let snapshot = shared.feed.current().aged();
    let body =
        json!({ "cluster": snapshot.cluster, "node": snapshot.node, "at": snapshot.at, "rpo": snapshot.rpo });
    answer(StatusCode::OK, &body)
}

async fn explain(State(shared): State<Shared>) -> Response {
    let snapshot = shared.feed.current().snapshot;
    let body = json!({
        "cluster": snapshot.cluster,
        "node": snapshot.node,
        "at": snapshot.at,
        "leader": snapshot.leader,
        "store_error": snapshot.store_error,
        "findings": snapshot.findings,
        "plan": snapshot.plan,
        "if_it_crashed": snapshot.if_it_crashed,
    });
    answer(StatusCode::OK, &body)
}

/// Which client sessions of the primary beside this member are between transactions, while it hands over: a proxy that no member
/// runs keeps those from beginning another one.
async fn sessions(
    State(shared): State<Shared>,
    asked: Result<Query<Asker>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Asker { sidecar, parked }) =
        asked.map_err(|refused| Refusal::malformed(refused.body_text()))?;
    let Some(look) = shared.console.sessions().await else {
        return Err(Refusal::not_found("nothing is being handed over from here".to_owned()));
    };
    if let Some((sidecar, sidecars)) = sidecar.zip(shared.console.sidecars()) {
        sidecars.shown(&sidecar, &look, parked);
    }
    Ok(answer(StatusCode::OK, &look))
}

/// Who asks for the sessions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asker {
    /// A proxy that follows this member by this name.
    sidecar: Option<String>,
    /// It has parked the sessions that were idle at this look.
    parked: Option<Mono>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    last: Option<usize>,
}

async fn incidents(
    State(shared): State<Shared>,
    asked: Result<Query<Last>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Last { last }) = asked.map_err(|refused| Refusal::malformed(refused.body_text()))?;
    let last = last.unwrap_or(INCIDENTS);
    if !(1..=MOST_INCIDENTS).contains(&last) {
        return Err(Refusal::malformed(format!("last: must be between 1 and {MOST_INCIDENTS}, not {last}")));
    }
    let found = stored(&*shared.console, last).await?;
    let shown: Vec<_> = found.iter().map(Shown::of).collect();
    Ok(answer(StatusCode::OK, &json!({ "incidents": shown })))
}

async fn incident(State(shared): State<Shared>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let found = find_incident(&shared, &id).await?;
    Ok(answer(StatusCode::OK, &Shown::of(&found)))
}

/// The list of lost transactions, from the member that keeps it.
async fn lost(State(shared): State<Shared>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let incident = find_incident(&shared, &id).await?;
    let own = &shared.feed.current().snapshot.node;
    let keeper = incident.from.as_ref();
    let nothing = || Refusal::not_found(format!("no list is kept here for incident {id}"));
    let Some(salvage) = incident.rpo.salvage.as_deref().filter(|_| keeper == Some(own)) else {
        return Err(nothing().with("kept_by", keeper.cloned().map(String::from)));
    };
    let folder = salvage.rsplit('/').next().unwrap_or_default();
    match shared.console.lost(folder).await {
        Ok(Some(list)) => Ok(answer(StatusCode::OK, &list)),
        Ok(None) => Err(nothing()),
        Err(error) => Err(Refusal::unavailable(format!("the list cannot be read: {error}"))),
    }
}

async fn find_incident(shared: &Shared, id: &str) -> Result<Incident, Refusal> {
    let snapshot = shared.feed.current().snapshot;
    let known = [&snapshot.incident, &snapshot.last_incident];
    if let Some(found) = known.into_iter().flatten().find(|incident| incident.id.0 == id) {
        return Ok(found.clone());
    }
    let stored = stored(&*shared.console, MOST_INCIDENTS).await?;
    let found = stored.into_iter().find(|incident| incident.id.0 == id);
    found.ok_or_else(|| Refusal::not_found(format!("there is no incident {id}")))
}

/// The last incidents that the store holds, oldest first.
///
/// # Errors
/// 503 if the store does not answer in time.
pub(super) async fn stored(console: &dyn Console, last: usize) -> Result<Vec<Incident>, Refusal> {
    match tokio::time::timeout(STORE_WAIT, console.incidents(last)).await {
        Ok(Ok(incidents)) => Ok(incidents),
        Ok(Err(error)) => Err(Refusal::unavailable(format!("incidents cannot be read: {error}"))),
        Err(_) => Err(Refusal::unavailable(format!("incidents cannot be read: no answer in {STORE_WAIT:?}"))),
    }
}

/// An incident as it is stored, and what follows from it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    incident: &'a Incident,
    rto_ms: Option<f64>,
    redundancy_ms: Option<f64>,
    phases: Vec<Phase>,
    verdict: Verdicts,
}

impl<'a> Shown<'a> {
    fn of(incident: &'a Incident) -> Self {
        Self {
            incident,
            rto_ms: incident.rto_ms(),
            redundancy_ms: incident.redundancy_ms(),
            phases: incident.phases(),
            verdict: incident.verdicts(),
        }
    }
}

/// An operation that was accepted is in the next snapshot, not yet in this one; so it is waited for.
async fn operation(State(shared): State<Shared>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let mut snapshots = shared.feed.snapshots();
    let found = async {
        loop {
            let found = find(&snapshots.borrow_and_update().operations, &id);
            if found.is_some() || snapshots.changed().await.is_err() {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(OPERATION_WAIT, found).await;
    match found.ok().flatten() {
        Some(operation) => Ok(answer(StatusCode::OK, &operation)),
        None => {
            let leader = shared.feed.current().snapshot.leader.clone();
            let error = format!("this member knows of no operation {id}; the leader that took it knows");
            Err(Refusal::not_found(error).with("leader", leader.map(String::from)))
        }
    }
}

fn find(operations: &[Operation], id: &str) -> Option<Operation> {
    operations.iter().find(|operation| operation.id == id).cloned()
}
