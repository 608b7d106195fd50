//! The side of the peer port that knows and does.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, DefaultBodyLimit, Request, State, rejection::BytesRejection},
    http::{HeaderMap, Method, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    super::{
        complaints::Complaints,
        error::{self, Refusal},
        listen::{self, Closing, Speech, Trust},
        token::Token,
    },
    access::Access,
    lines::{self, line},
    wire::{self, OrderCall, ParkCall, Returned, RouteCall, VouchCall},
};
use crate::{
    model::{ClusterName, NodeId},
    ports::{Local, NoAnswer, WalAsk},
    tls::Name,
};

/// Connections at once: a few for each member, of which a cluster has a handful.
const CONNECTIONS: usize = 64;
/// How long a connection may go without an answer before it has shown the token. After that it is kept for ever.
const QUIET: Duration = Duration::from_secs(10);
/// Calls in hand at once. The agent takes orders one after the other; more than this is a leader gone wild.
const CALLS: usize = 32;

#[derive(Clone)]
struct Shared {
    cluster: Arc<ClusterName>,
    node: Arc<NodeId>,
    local: Arc<dyn Local>,
    token: Arc<Token>,
    complaints: Arc<Complaints>,
    calls: Arc<Semaphore>,
    closing: Closing,
}

/// Serves the peer port of `local` until `shutdown` resolves; fact streams end then.
///
/// Whoever calls must show the token, belong to `cluster`, and mean this node. With an identity in `access` it must
/// also show a certificate of the same authority, for the node that it says to be.
///
/// # Errors
/// If the listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    cluster: ClusterName,
    local: Arc<dyn Local>,
    access: Access,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (close, closing) = listen::closing();
    let complaints = Arc::<Complaints>::default();
    let speech = match &access.identity {
        None => Speech::Plain(Some(Arc::clone(&complaints))),
        Some(identity) => Speech::Tls(Arc::new(identity.serving()), Arc::clone(&complaints)),
    };
    let shared = Shared {
        cluster: Arc::new(cluster),
        node: Arc::new(local.facts().node),
        local,
        token: Arc::new(Token::new(access.token)),
        complaints,
        calls: Arc::new(Semaphore::new(CALLS)),
        closing: closing.clone(),
    };
    let limits = listen::Limits { connections: CONNECTIONS, quiet: QUIET };
    tokio::select! {
        served = listen::run(listener, limits, speech, router(shared), closing) => served,
        () = close.after(shutdown) => Ok(()),
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route(wire::FACTS, get(facts))
        .route(wire::ORDER, post(order))
        .route(wire::ROUTE, post(route))
        .route(wire::VOUCH, post(vouch))
        .route(wire::NOTE, post(note))
        .route(wire::SESSIONS, get(sessions))
        .route(wire::PARK, post(park))
        .route(wire::WAL, post(wal))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(wire::MESSAGE_BYTES))
        .layer(middleware::from_fn_with_state(shared.clone(), admit))
        .with_state(shared)
}

async fn unknown_path(uri: Uri) -> Refusal {
    Refusal::not_found(format!("{} {}", wire::NO_PATH, uri.path()))
}

async fn unknown_method(method: Method, uri: Uri) -> Refusal {
    Refusal::method(format!("{} does not take {method}", uri.path()))
}

async fn admit(
    State(shared): State<Shared>,
    ConnectInfo(trust): ConnectInfo<Trust>,
    request: Request,
    next: Next,
) -> Response {
    let admitted = certified(&trust, request.headers(), &shared.cluster)
        .and_then(|()| shared.token.admit(request.headers()))
        .and_then(|()| meant(request.headers(), wire::CLUSTER, "cluster", shared.cluster.as_str()))
        .and_then(|()| meant(request.headers(), wire::NODE, "node", shared.node.as_str()));
    match admitted {
        Ok(()) => {
            trust.grant();
            next.run(request).await
        }
        Err(refusal) => {
            shared.complaints.refused(trust.from().ip(), refusal.sentence());
            refusal.into_response()
        }
    }
}

/// Whether the caller is who it says to be; without TLS nothing but the token shows it.
fn certified(trust: &Trust, headers: &HeaderMap, cluster: &ClusterName) -> Result<(), Refusal> {
    let Some(names) = trust.certified() else { return Ok(()) };
    let claimed = headers.get(wire::CALLER).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let Some(claimed) = claimed else {
        return Err(Refusal::forbidden(format!("the call does not say who calls: {}", wire::CALLER)));
    };
    let is_it = |name: &Name| name.cluster == *cluster && name.node.as_str() == claimed;
    if names.iter().any(is_it) {
        return Ok(());
    }
    let whose = names.iter().map(|name| format!("node {} of cluster {}", name.node, name.cluster));
    let whose = whose.collect::<Vec<_>>().join(", ");
    let whose = if whose.is_empty() { "no member".to_owned() } else { whose };
    Err(Refusal::forbidden(format!(
        "the caller says it is node {claimed} of cluster {cluster}, but its certificate is of {whose}"
    )))
}

fn meant(headers: &HeaderMap, header: &str, what: &str, own: &str) -> Result<(), Refusal> {
    match headers.get(header).map(|value| String::from_utf8_lossy(value.as_bytes())) {
        Some(name) if name == own => Ok(()),
        Some(name) => Err(Refusal::forbidden(format!("this is {what} {own}, not {name}"))),
        None => Err(Refusal::forbidden(format!("the call does not say for which {what} it is: {header}"))),
    }
}

async fn facts(State(shared): State<Shared>) -> Response {
    let lines = lines::of(shared.local, wire::HEARTBEAT).take_until(Box::pin(shared.closing.wait()));
    let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")], body)
        .into_response()
}

type Read = Result<Bytes, BytesRejection>;

async fn order(State(shared): State<Shared>, body: Read) -> Result<Response, Refusal> {
    let OrderCall { stamp, command } = error::body(body)?;
    let local = Arc::clone(&shared.local);
    carry_out(&shared, async move { local.order(stamp, command).await })
}

async fn route(State(shared): State<Shared>, body: Read) -> Result<Response, Refusal> {
    let RouteCall { endpoint, stamp, order } = error::body(body)?;
    let local = Arc::clone(&shared.local);
    carry_out(&shared, async move { local.route(&endpoint, stamp, order).await })
}

async fn vouch(State(shared): State<Shared>, body: Read) -> Result<Response, Refusal> {
    let VouchCall { stamp, ttl_ms } = error::body(body)?;
    let local = Arc::clone(&shared.local);
    carry_out(&shared, async move { local.vouch(stamp, Duration::from_millis(ttl_ms)).await })
}

async fn note(State(shared): State<Shared>, body: Read) -> Result<Response, Refusal> {
    let note = error::body(body)?;
    let local = Arc::clone(&shared.local);
    carry_out(&shared, async move { local.note(note).await })
}

async fn park(State(shared): State<Shared>, body: Read) -> Result<Response, Refusal> {
    let ParkCall { endpoint, stamp, ports } = error::body(body)?;
    let local = Arc::clone(&shared.local);
    carry_out(&shared, async move { local.park(&endpoint, stamp, ports).await })
}

async fn sessions(State(shared): State<Shared>) -> Result<Response, Refusal> {
    let local = Arc::clone(&shared.local);
    carry_out(&shared, async move { local.sessions().await })
}

/// Bytes as they are: as text they would be several times as long, on the way of a failover.
async fn wal(State(shared): State<Shared>, body: Read) -> Result<Response, Refusal> {
    let ask: WalAsk = error::body(body)?;
    let _place = shared.calls.try_acquire().map_err(|_| Refusal::busy("too many calls are in hand"))?;
    match shared.local.wal(ask).await {
        Ok(pages) => Ok(([(header::CONTENT_TYPE, "application/octet-stream")], pages).into_response()),
        Err(NoAnswer(why)) => Err(Refusal::conflict(why)),
    }
}

/// Begins a call and answers when it is done, with a newline for every heartbeat until then. The call is a task of
/// its own: it goes on if the caller goes away.
fn carry_out<T: Serialize + Send + 'static>(
    shared: &Shared,
    work: impl Future<Output = Result<T, NoAnswer>> + Send + 'static,
) -> Result<Response, Refusal> {
    let place = Arc::clone(&shared.calls).try_acquire_owned();
    let place = place.map_err(|_| Refusal::busy("too many calls are in hand"))?;
    let task = tokio::spawn(finish(work, place));
    let body = stream::unfold(Some(task), |task| async move {
        let mut task = task?;
        let Ok(done) = timeout(wire::HEARTBEAT, &mut task).await else {
            return Some((Bytes::from_static(b"\n"), Some(task)));
        };
        let returned = done.unwrap_or_else(|error| Returned::NoAnswer(format!("it broke off: {error}")));
        Some((line(&returned)?, None))
    });
    let body = Body::from_stream(body.map(Ok::<_, Infallible>));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn finish<T>(
    work: impl Future<Output = Result<T, NoAnswer>>,
    _place: OwnedSemaphorePermit,
) -> Returned<T> {
    match work.await {
        Ok(answer) => Returned::Answer(answer),
        Err(NoAnswer(why)) => Returned::NoAnswer(why),
    }
}
