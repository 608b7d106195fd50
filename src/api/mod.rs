//! The HTTP API of a member. [`serve`] is the public port: health paths for load balancers, status, metrics, control.
//! [`peer`] is the member-to-member port.
//!
//! It shows what the controller publishes and hands requests over. It decides nothing, and it never waits for the
//! controller: a controller that hangs shows up here as a snapshot that grows old.

mod complaints;
mod control;
mod error;
mod events;
mod feed;
mod health;
mod listen;
mod metrics;
pub mod peer;
mod read;
mod token;

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Method, Uri},
};
use secrecy::SecretString;
use tokio::{net::TcpListener, sync::Semaphore};

use self::{
    error::Refusal,
    feed::Feed,
    listen::{Closing, Speech},
    token::Token,
};
use crate::ports::Console;

pub use metrics::names;

/// Connections at once. HTTP/1.1 has one request per connection in hand, so it bounds requests too; more wait in the
/// kernel's queue.
const CONNECTIONS: usize = 256;
/// A connection on which nothing was answered for so long is closed: it is idle, or its client dawdles. Longer than
/// every wait of a handler.
const QUIET: Duration = Duration::from_secs(15);
/// The largest body of a control call.
const BODY_BYTES: usize = 16 << 10;
/// Event streams at once: each costs a connection for as long as somebody looks.
const SUBSCRIBERS: usize = 32;

/// What every handler of the public port sees.
#[derive(Clone)]
struct Shared {
    feed: Arc<Feed>,
    console: Arc<dyn Console>,
    token: Arc<Token>,
    subscribers: Arc<Semaphore>,
    closing: Closing,
}

/// Serves the public port until `shutdown` resolves; then event streams end, answers under way are finished (for a
/// second at most), and it returns.
///
/// The console must publish a snapshot at least every second, changed or not: one that stays the same for longer is
/// taken for the sign of a controller that hangs, and health paths answer 503.
///
/// # Errors
/// If the listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    console: Arc<dyn Console>,
    token: SecretString,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (close, closing) = listen::closing();
    let feed = Arc::new(Feed::new(Arc::clone(&console)));
    let shared = Shared {
        feed: Arc::clone(&feed),
        console,
        token: Arc::new(Token::new(token)),
        subscribers: Arc::new(Semaphore::new(SUBSCRIBERS)),
        closing: closing.clone(),
    };
    let limits = listen::Limits { connections: CONNECTIONS, quiet: QUIET };
    tokio::select! {
        served = listen::run(listener, limits, Speech::Plain(None), router(shared), closing) => served,
        () = feed.follow() => Ok(()),
        () = close.after(shutdown) => Ok(()),
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .merge(health::routes())
        .merge(read::routes())
        .merge(events::routes())
        .merge(metrics::routes())
        .merge(control::routes(&shared))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(shared)
}

async fn unknown_path(uri: Uri) -> Refusal {
    Refusal::not_found(format!("there is no path {}", uri.path()))
}

async fn unknown_method(method: Method, uri: Uri) -> Refusal {
    Refusal::method(format!("{} does not take {method}", uri.path()))
}
