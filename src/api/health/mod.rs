//! Health paths for load balancers: the paths and codes that Patroni's users have in their HAProxy files.
//!
//! | path | 200 while |
//! |---|---|
//! | `/ /primary /read-write /leader /master` | this node serves as the declared primary |
//! | `/replica[?lag=16MB]` | it is a standby that streams, and lacks no more than `lag` |
//! | `/read-only[?lag=…]` | either of these |
//! | `/sync /synchronous` | it is a standby that streams and every acknowledged commit is on it |
//! | `/async[?lag=…]` | it is a standby that streams and is not in the sync set |
//! | `/health` | its PostgreSQL is up |
//! | `/readiness` | it serves, or streams |
//! | `/liveness` | the member's controller is alive |
//!
//! Everything else is 503. [`judge`] holds the rules; this file is the way to it.

mod body;
mod judge;
mod lag;

use axum::{
    Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use self::judge::Check;
use super::{Shared, error, error::Refusal};

/// Every path and what it asks.
const PATHS: [(&str, Check); 13] = [
    ("/", Check::Primary),
    ("/primary", Check::Primary),
    ("/read-write", Check::Primary),
    ("/leader", Check::Primary),
    ("/master", Check::Primary),
    ("/replica", Check::Replica),
    ("/read-only", Check::ReadOnly),
    ("/sync", Check::Sync),
    ("/synchronous", Check::Sync),
    ("/async", Check::Async),
    ("/health", Check::Health),
    ("/liveness", Check::Liveness),
    ("/readiness", Check::Readiness),
];

type Asked = Result<Query<Vec<(String, String)>>, QueryRejection>;

pub(super) fn routes() -> Router<Shared> {
    PATHS.into_iter().fold(Router::new(), |router, (path, check)| {
        let handler = move |State(shared): State<Shared>, asked: Asked| async move {
            answer(&shared, check, asked).unwrap_or_else(IntoResponse::into_response)
        };
        router.route(path, get(handler).options(handler))
    })
}

fn answer(shared: &Shared, check: Check, asked: Asked) -> Result<Response, Refusal> {
    let most_lag = parameters(check, asked)?;
    let current = shared.feed.current();
    let verdict = judge::judge(check, most_lag, &current);
    let status = if verdict.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = error::json(status, &body::Body::of(&current, verdict.err()));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    Ok(response)
}

/// The `lag` that is asked for. A parameter that is not known here is refused: it was meant to narrow the check, and
/// would send clients to a node that it was meant to exclude.
fn parameters(check: Check, asked: Asked) -> Result<Option<u64>, Refusal> {
    let Query(pairs) = asked.map_err(|refused| Refusal::malformed(refused.body_text()))?;
    let mut most_lag = None;
    for (name, value) in pairs {
        if name != "lag" || !check.takes_lag() {
            return Err(Refusal::malformed(format!("{name}: this path does not take this parameter")));
        }
        let bytes = lag::bytes(&value);
        most_lag = Some(bytes.ok_or_else(|| {
            Refusal::malformed(format!("lag: {value:?} is no size; write bytes, or for example 16MB"))
        })?);
    }
    Ok(most_lag)
}
