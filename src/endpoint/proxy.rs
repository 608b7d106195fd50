//! The proxy: a listening socket and the orders it takes.

use std::{
    collections::BTreeSet,
    io,
    net::{self, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{Semaphore, watch},
    time::{Instant, sleep},
};

use super::{
    activation, balance::Offer, bind::BindError, connection, lanes::Lanes, routing::Refusal, socket,
    switchboard::Switchboard,
};
use crate::{
    config,
    model::{EndpointFacts, Reply, RouteOrder, Stamp},
    ports::{Clock, Endpoint},
};

/// Connections that the kernel may keep ready for `accept`; the system's `net.core.somaxconn` limits it further.
const BACKLOG: u32 = 1024;

/// How long `accept` rests when the process or the system has no descriptors left, at first and at most. There is
/// nothing to wait for: descriptors of other parts of the process count too.
const REST_FIRST: Duration = Duration::from_millis(5);
const REST_MOST: Duration = Duration::from_millis(200);

/// A shortage comes and goes with each connection; this is how often it is reported.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// A listening endpoint. It leads nowhere until it is ordered to: clients wait meanwhile.
///
/// Of more clients than may be connected at once the rest wait in the kernel's queue; the limit is well above the server's
/// own, whose refusal tells a client more. Those that *wait* here are limited too. Dropping it closes it.
pub struct Proxy {
    board: Arc<Switchboard>,
    listen: String,
}

impl Proxy {
    /// Listens, and begins to accept. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] if it cannot listen.
    pub fn bind(config: &config::Endpoint, clock: Arc<dyn Clock>) -> Result<Arc<Self>, BindError> {
        let board = Arc::new(Switchboard::new(config, clock));
        let listen = begin(config, &board).map_err(|error| BindError::new(config, error))?;
        Ok(Arc::new(Self { board, listen }))
    }

    /// Takes an order. When it is done, nothing passes any more that it forbids: connections that it cuts have carried
    /// their last byte, in both directions, and close at once.
    ///
    /// A balanced endpoint takes none: see [`Proxy::offer`].
    pub fn order(&self, stamp: Stamp, order: RouteOrder) -> Reply {
        if self.board.is_balanced() {
            return Reply::Refused(format!(
                "endpoint {} follows what is well; it takes no orders",
                self.board.name
            ));
        }
        let words = format!("{order:?}");
        let taken = self.board.order(stamp, order);
        self.answer(stamp, &words, taken)
    }

    /// Leads new connections to these targets; for a balanced endpoint. Connections to nodes that are not to be kept have
    /// carried their last byte when this returns.
    pub fn offer(&self, offer: &Offer) {
        if self.board.is_balanced() {
            self.board.offer(offer);
        }
    }

    /// Parks the connections whose local ports toward the server are these: what their clients say waits here, what
    /// the server says to them goes on. All others flow. Ends with the next order, but not with the repetition of the
    /// one in force.
    ///
    /// Once done, nothing more reaches the server from them. What was on its way then may still arrive: ask for the
    /// sessions again.
    pub fn park(&self, stamp: Stamp, ports: BTreeSet<u16>) -> Reply {
        let taken = self.board.park(stamp, &ports);
        self.answer(stamp, "Park", taken)
    }

    fn answer(&self, stamp: Stamp, order: &str, taken: Result<(), Refusal>) -> Reply {
        let endpoint = &self.board.name;
        match taken {
            Ok(()) => {
                tracing::debug!(%endpoint, %stamp, order, "order taken");
                Reply::Done
            }
            Err(refusal) => {
                tracing::warn!(%endpoint, %stamp, order, %refusal, "order refused");
                Reply::Refused(refusal.to_string())
            }
        }
    }

    /// What it knows now.
    #[must_use]
    pub fn facts(&self) -> EndpointFacts {
        self.board.facts(&self.listen)
    }

    /// Changes with every order that changes anything, and when the target stops taking connections.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.board.changes()
    }

    /// Stops listening, sends away who waits, lets the open connections go on for as long as the configuration says, and
    /// closes it.
    pub async fn drain(&self) {
        self.board.drain(self.board.tuning.shutdown).await;
        self.close();
    }

    /// Stops listening, and closes every connection. It cannot be opened again.
    pub fn close(&self) {
        self.board.close();
    }
}

#[async_trait]
impl Endpoint for Proxy {
    fn order(&self, stamp: Stamp, order: RouteOrder) -> Reply {
        Self::order(self, stamp, order)
    }

    async fn park(&self, stamp: Stamp, ports: BTreeSet<u16>) -> Reply {
        Self::park(self, stamp, ports)
    }

    fn facts(&self) -> EndpointFacts {
        Self::facts(self)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        Self::changes(self)
    }

    async fn close(&self) {
        self.drain().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}

/// Listens, and accepts. Returns where.
fn begin(config: &config::Endpoint, board: &Arc<Switchboard>) -> io::Result<String> {
    let listener = match activation::listener(config.name.as_str())? {
        Some(listener) => listener,
        None => listen(config.listen)?,
    };
    socket::tune_clients(&listener)?;
    let address = listener.local_addr()?.to_string();
    let (lanes, board) = (Lanes::get()?, Arc::clone(board));
    lanes.accept(listener, |listener| accept(board, listener, lanes))?;
    Ok(address)
}

fn listen(address: SocketAddr) -> io::Result<net::TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Old connections that linger in the kernel must not keep a restarted member from its port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

async fn accept(board: Arc<Switchboard>, listener: TcpListener, lanes: &'static Lanes) {
    let mut routes = board.routes();
    let mut shortage = Shortage::default();
    let room = Arc::new(Semaphore::new(board.tuning.max_connections.min(Semaphore::MAX_PERMITS)));
    let mut warned: Option<Instant> = None;
    loop {
        if room.available_permits() == 0 && warned.is_none_or(|warned| warned.elapsed() >= WARN_INTERVAL) {
            tracing::warn!(endpoint = %board.name, "as many clients as max_connections allows; more wait in the kernel");
            warned = Some(Instant::now());
        }
        let permit = tokio::select! {
            biased;
            _ = routes.wait_for(|route| route.closed) => return,
            Ok(permit) = Arc::clone(&room).acquire_owned() => permit,
        };
        let accepted = tokio::select! {
            biased;
            _ = routes.wait_for(|route| route.closed) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => {
                shortage.rest = None;
                let board = Arc::clone(&board);
                lanes.quietest().carry(stream, async move |stream| {
                    connection::serve(board, stream).await;
                    drop(permit);
                });
            }
            Err(error) if socket::is_shortage(&error) => shortage.have_rest(&board, &error).await,
            // The client has gone before it was accepted.
            Err(error) => tracing::debug!(endpoint = %board.name, %error, "accept"),
        }
    }
}

/// No descriptors, or no memory for sockets.
#[derive(Default)]
struct Shortage {
    rest: Option<Duration>,
    warned: Option<Instant>,
}

impl Shortage {
    /// Rests, twice as long each time. The clients meanwhile wait in the kernel's queue.
    async fn have_rest(&mut self, board: &Switchboard, error: &io::Error) {
        if self.warned.is_none_or(|warned| warned.elapsed() >= WARN_INTERVAL) {
            tracing::warn!(endpoint = %board.name, %error, "cannot accept clients; raise the limit of open files");
            self.warned = Some(Instant::now());
        }
        let rest = self.rest.map_or(REST_FIRST, |before| (before * 2).min(REST_MOST));
        self.rest = Some(rest);
        sleep(rest).await;
    }
}
