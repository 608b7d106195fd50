//! How both ports take connections: bounded in number, watched for silence, closed in order. Where a port speaks TLS,
//! a connection is taken once its handshake is done.

mod connection;
mod handshake;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_rustls::rustls::ServerConfig;

use self::{
    connection::{Connection, Stream},
    handshake::Handshakes,
};
use super::complaints::Complaints;

pub(super) use connection::Trust;

/// How long answers under way may take once the port is being closed.
const DRAIN: Duration = Duration::from_secs(1);
/// Silence on a connection after which the kernel asks whether the other host still lives, and how often.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(5), Duration::from_secs(1), 3);
/// How long sent bytes may stay unacknowledged, in milliseconds, before the kernel gives the connection up.
const USER_TIMEOUT_MS: u32 = 10_000;

/// What a port allows.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once.
    pub(super) connections: usize,
    /// How long a connection may go without an answer.
    pub(super) quiet: Duration,
}

/// Resolves when the port is being closed.
#[derive(Clone)]
pub(super) struct Closing(watch::Receiver<bool>);

/// Closes the port.
pub(super) struct Close(watch::Sender<bool>);

/// A new pair of them.
pub(super) fn closing() -> (Close, Closing) {
    let (sender, receiver) = watch::channel(false);
    (Close(sender), Closing(receiver))
}

impl Closing {
    /// Waits until the port is being closed.
    pub(super) async fn wait(mut self) {
        // An error means that whoever closes is gone: closed as well.
        let _ = self.0.wait_for(|closed| *closed).await;
    }
}

impl Close {
    /// Closes after `shutdown`, and resolves when draining has taken its time.
    pub(super) async fn after(self, shutdown: impl Future<Output = ()>) {
        shutdown.await;
        self.0.send_replace(true);
        tokio::time::sleep(DRAIN).await;
    }
}

/// What a port speaks.
pub(super) enum Speech {
    /// Plain HTTP, by members or by anybody else. It is said if somebody takes a member's port for one with TLS.
    Plain(Option<Arc<Complaints>>),
    /// HTTP over TLS, and nothing else. Who is refused is said.
    Tls(Arc<ServerConfig>, Arc<Complaints>),
}

/// Serves `router` until `closing`, then until every connection has had its answer.
pub(super) async fn run(
    listener: TcpListener,
    limits: Limits,
    speech: Speech,
    router: Router,
    closing: Closing,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let (handshakes, complaints) = match speech {
        Speech::Plain(complaints) => (None, complaints),
        Speech::Tls(config, complaints) => (Some(Handshakes::new(config, complaints)), None),
    };
    let listener = Bounded { listener, slots, quiet: limits.quiet, handshakes, complaints };
    let service = router.into_make_service_with_connect_info::<Trust>();
    axum::serve(listener, service).with_graceful_shutdown(closing.wait()).await
}

/// A listener that has so many connections and no more.
struct Bounded {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    quiet: Duration,
    /// None: the port speaks no TLS.
    handshakes: Option<Handshakes>,
    complaints: Option<Arc<Complaints>>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // A plain connection takes its place first, so that those who wait do so in the kernel. A TLS connection takes
        // it when it has proven itself: whoever cannot must not keep members out.
        if self.handshakes.is_none() {
            let slot = self.slot().await;
            let (stream, from) = Listener::accept(&mut self.listener).await;
            prepare(&stream, from);
            return (self.connection(Stream::Plain(stream), from, slot), from);
        }
        let (stream, from) = self.proven().await;
        let slot = self.slot().await;
        (self.connection(Stream::Tls(stream), from, slot), from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Bounded {
    async fn slot(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.slots).acquire_owned().await {
            Ok(slot) => slot,
            Err(_) => std::future::pending().await, // the semaphore is never closed
        }
    }

    /// The next connection whose handshake has succeeded.
    async fn proven(&mut self) -> (Box<handshake::Secured>, SocketAddr) {
        let Some(handshakes) = &mut self.handshakes else { return std::future::pending().await };
        loop {
            tokio::select! {
                (stream, from) = Listener::accept(&mut self.listener) => {
                    prepare(&stream, from);
                    handshakes.begin(stream, from);
                }
                done = handshakes.next() => return done,
            }
        }
    }

    fn connection(&self, stream: Stream, from: SocketAddr, slot: OwnedSemaphorePermit) -> Connection {
        Connection::new(stream, from, self.quiet, slot, self.complaints.clone())
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Trust {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        stream.io().trust()
    }
}

fn prepare(stream: &TcpStream, from: SocketAddr) {
    if let Err(error) = set_options(stream) {
        tracing::debug!(%from, %error, "a connection does not take its options");
    }
}

/// Small answers leave at once, and a host that vanished is noticed.
fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (idle, interval, count) = KEEPALIVE;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    sockopt::set_tcp_keepcnt(stream, count)?;
    sockopt::set_tcp_user_timeout(stream, USER_TIMEOUT_MS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::{extract::ConnectInfo, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);
    const QUIET: Duration = Duration::from_millis(50);

    /// A port with one path, on which the token counts as shown, and room for two.
    async fn port() -> (SocketAddr, Close) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let trusting = |ConnectInfo(trust): ConnectInfo<Trust>| async move { trust.grant() };
        let router = Router::new().route("/trusted", get(trusting));
        let (close, closing) = closing();
        let limits = Limits { connections: 2, quiet: QUIET };
        tokio::spawn(run(listener, limits, Speech::Plain(None), router, closing));
        (address, close)
    }

    async fn ends(stream: &mut TcpStream) {
        let read = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await;
        assert!(read.is_ok(), "the port ends the connection");
    }

    #[tokio::test]
    async fn a_request_that_never_ends_does_not_keep_its_place() {
        let (address, _close) = port().await;
        let mut dawdlers = Vec::new();
        // Far more than there is room for: each gets its place when the ones before have lost theirs.
        for _ in 0..8 {
            let mut stream = TcpStream::connect(address).await.expect("the kernel takes it");
            stream.write_all(b"GET /trusted HTTP/1.1\r\nx").await.expect("written");
            dawdlers.push(stream);
        }
        for stream in &mut dawdlers {
            ends(stream).await;
        }
    }

    #[tokio::test]
    async fn dawdling_does_not_count_as_answering() {
        let (address, _close) = port().await;
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(b"GET /trusted HTTP/1.1\r\n").await.expect("written");
        let dawdle = async {
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(QUIET / 10).await;
            }
        };
        timeout(DEADLINE, dawdle).await.expect("the port ends the connection");
    }

    #[tokio::test]
    async fn whoever_has_shown_the_token_may_be_quiet() {
        let (address, _close) = port().await;
        let mut stream = TcpStream::connect(address).await.expect("connected");
        for _ in 0..3 {
            stream.write_all(b"GET /trusted HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
            let mut answer = [0; 15];
            stream.read_exact(&mut answer).await.expect("answered");
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
            // The rest of the answer, and then silence for several times the limit.
            let quiet = timeout(QUIET * 3, async {
                while stream.read(&mut [0; 512]).await.is_ok_and(|bytes| bytes > 0) {}
            });
            assert!(quiet.await.is_err(), "the connection is kept");
        }
    }

    #[tokio::test]
    async fn closing_ends_idle_connections() {
        let (address, close) = port().await;
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(b"GET /trusted HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
        stream.read_exact(&mut [0; 15]).await.expect("answered");
        tokio::spawn(close.after(async {}));
        ends(&mut stream).await;
    }
}
