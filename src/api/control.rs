//! Control: what changes the cluster. Every call needs the token, goes to the leader, and returns at once.

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State, rejection::BytesRejection},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::post,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{Shared, error, error::Refusal};
use crate::{
    model::{NodeId, RequestKind, Snapshot},
    ports::SubmitError,
};

pub(super) fn routes(shared: &Shared) -> Router<Shared> {
    // `route_layer`: the token is asked for before the body is read, and not on paths that do not exist.
    Router::new()
        .route("/v1/switchover", post(switchover))
        .route("/v1/switchover/cancel", post(cancel))
        .route("/v1/pause", post(pause))
        .route("/v1/resume", post(resume))
        .route("/v1/rejoin", post(rejoin))
        .route("/v1/node/drain", post(drain))
        .route("/v1/node/restore", post(restore))
        .route("/v1/node/remove", post(remove))
        .route("/v1/store/accept", post(accept_store))
        .route_layer(middleware::from_fn_with_state(shared.clone(), admit))
}

async fn admit(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    match shared.token.admit(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            tracing::debug!(path = request.uri().path(), "a control call without the token");
            refusal.into_response()
        }
    }
}

type Body = Result<Bytes, BytesRejection>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Switchover {
    to: Option<NodeId>,
    /// To begin at this time.
    at: Option<Timestamp>,
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rejoin {
    node: Option<NodeId>,
    from_scratch: bool,
    dry_run: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    node: NodeId,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Plain {
    dry_run: bool,
}

async fn switchover(State(shared): State<Shared>, body: Body) -> Result<Response, Refusal> {
    let Switchover { to, at, dry_run } = error::body(body)?;
    let snapshot = shared.feed.current().snapshot;
    // Only the leader knows for sure which nodes there are.
    if let (Some(to), Ok(())) = (&to, leads(&snapshot)) {
        named(&snapshot, "to", to)?;
    }
    let kind = match at {
        Some(at) => RequestKind::Schedule { to, at },
        None => RequestKind::Switchover { to },
    };
    if dry_run {
        leads(&snapshot)?;
        // What does not stand in the way of it, and would be felt after it: either node is the standby of one of two hand-overs.
        let notes: Vec<String> = snapshot
            .nodes
            .iter()
            .flat_map(|status| status.hindrances.iter().map(|said| format!("{}: {said}", status.node)))
            .collect();
        let body = json!({ "blockers": shared.console.blockers(&kind), "notes": notes });
        return Ok(error::json(StatusCode::OK, &body));
    }
    ask(&shared, &snapshot, kind, dry_run)
}

async fn cancel(State(shared): State<Shared>, body: Body) -> Result<Response, Refusal> {
    let Plain { dry_run } = error::body(body)?;
    ask(&shared, &shared.feed.current().snapshot, RequestKind::Cancel, dry_run)
}

async fn rejoin(State(shared): State<Shared>, body: Body) -> Result<Response, Refusal> {
    let Rejoin { node, from_scratch, dry_run } = error::body(body)?;
    let snapshot = shared.feed.current().snapshot;
    let Some(node) = node else { return Err(Refusal::unacceptable("node: say which node")) };
    if leads(&snapshot).is_ok() {
        named(&snapshot, "node", &node)?;
    }
    ask(&shared, &snapshot, RequestKind::Rejoin { node, from_scratch }, dry_run)
}

/// Submits a request, or says what stands in its way.
fn ask(shared: &Shared, snapshot: &Snapshot, kind: RequestKind, dry_run: bool) -> Result<Response, Refusal> {
    if !dry_run {
        return submit(shared, kind);
    }
    leads(snapshot)?;
    Ok(error::json(StatusCode::OK, &json!({ "blockers": shared.console.blockers(&kind) })))
}

async fn pause(State(shared): State<Shared>, body: Body) -> Result<Response, Refusal> {
    plain(&shared, body, RequestKind::Pause)
}

async fn resume(State(shared): State<Shared>, body: Body) -> Result<Response, Refusal> {
    plain(&shared, body, RequestKind::Resume)
}

async fn accept_store(State(shared): State<Shared>, body: Body) -> Result<Response, Refusal> {
    plain(&shared, body, RequestKind::AcceptStore)
}

async fn drain(State(shared): State<Shared>, body: Body) -> Result<Response, Refusal> {
    about(&shared, body, |node| RequestKind::Drain { node })
}

async fn restore(State(shared): State<Shared>, body: Body) -> Result<Response, Refusal> {
    about(&shared, body, |node| RequestKind::Restore { node })
}

async fn remove(State(shared): State<Shared>, body: Body) -> Result<Response, Refusal> {
    about(&shared, body, |node| RequestKind::Remove { node })
}

/// A request about a node. One that is not known is refused by the planner, which knows them all.
fn about(shared: &Shared, body: Body, kind: fn(NodeId) -> RequestKind) -> Result<Response, Refusal> {
    let About { node, dry_run } = error::body(body)?;
    ask(shared, &shared.feed.current().snapshot, kind(node), dry_run)
}

/// A request that nothing but the lack of leadership can block.
fn plain(shared: &Shared, body: Body, kind: RequestKind) -> Result<Response, Refusal> {
    let Plain { dry_run } = error::body(body)?;
    if !dry_run {
        return submit(shared, kind);
    }
    leads(&shared.feed.current().snapshot)?;
    Ok(error::json(StatusCode::OK, &json!({ "blockers": [] })))
}

fn submit(shared: &Shared, kind: RequestKind) -> Result<Response, Refusal> {
    match shared.console.submit(kind) {
        Ok(operation) => Ok(error::json(StatusCode::ACCEPTED, &json!({ "operation": operation }))),
        Err(SubmitError::NotLeader(leader)) => {
            Err(not_leader(&shared.feed.current().snapshot, leader.as_ref()))
        }
        Err(SubmitError::Busy(why)) => Err(Refusal::busy(why)),
    }
}

/// A dry run answers what the real call would: on a member that does not lead, that it does not lead.
fn leads(snapshot: &Snapshot) -> Result<(), Refusal> {
    if snapshot.leader.as_ref() == Some(&snapshot.node) {
        Ok(())
    } else {
        Err(not_leader(snapshot, snapshot.leader.as_ref()))
    }
}

fn not_leader(snapshot: &Snapshot, leader: Option<&NodeId>) -> Refusal {
    let address = snapshot
        .nodes
        .iter()
        .find(|status| Some(&status.node) == leader)
        .and_then(|status| status.api_address.clone());
    Refusal::conflict(SubmitError::NotLeader(leader.cloned()).to_string())
        .with("leader", leader.cloned().map(String::from))
        .with("leader_address", address)
}

fn named(snapshot: &Snapshot, key: &str, node: &NodeId) -> Result<(), Refusal> {
    let names: Vec<_> = snapshot.nodes.iter().map(|status| status.node.as_str()).collect();
    if names.contains(&node.as_str()) {
        Ok(())
    } else {
        Err(Refusal::unacceptable(format!("{key}: there is no node {node}; there are {}", names.join(", "))))
    }
}
