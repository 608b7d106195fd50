//! How both ports take connections: bounded in number, watched for silence, closed in order.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, Sleep},
};

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

/// Serves `router` until `closing`, then until every connection has had its answer.
pub(super) async fn run(
    listener: TcpListener,
    limits: Limits,
    router: Router,
    closing: Closing,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let listener = Bounded { listener, slots, quiet: limits.quiet };
    let service = router.into_make_service_with_connect_info::<Trust>();
    axum::serve(listener, service).with_graceful_shutdown(closing.wait()).await
}

/// A listener that has so many connections and no more.
struct Bounded {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    quiet: Duration,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
            return std::future::pending().await; // the semaphore is never closed
        };
        let (stream, from) = Listener::accept(&mut self.listener).await;
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%from, %error, "a connection does not take its options");
        }
        let deadline = Box::pin(tokio::time::sleep(self.quiet));
        (Connection { stream, deadline, quiet: self.quiet, trust: Trust::default(), _slot: slot }, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Small answers leave at once, and a host that vanished is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (idle, interval, count) = KEEPALIVE;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    sockopt::set_tcp_keepcnt(stream, count)?;
    sockopt::set_tcp_user_timeout(stream, USER_TIMEOUT_MS)?;
    Ok(())
}

/// Whether the client of a connection has shown the token. One that has may be quiet.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust(Arc<AtomicBool>);

impl Trust {
    /// From now on the connection may be quiet.
    pub(super) fn grant(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Trust {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        stream.io().trust.clone()
    }
}

/// A connection that ends by itself when nothing was sent on it for `quiet`: it waits for a request that does not
/// come, or comes a byte at a time, or its client does not read. Received bytes do not count, or dawdling would help.
struct Connection {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    quiet: Duration,
    trust: Trust,
    /// Counts it among those at once.
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    /// What a read or write that would wait comes to.
    fn waiting<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if self.trust.0.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn wrote<T>(&mut self, context: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_pending() {
            return self.waiting(context);
        }
        self.deadline.as_mut().reset(Instant::now() + self.quiet);
        wrote
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending => self.waiting(context),
            done => done,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.wrote(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
