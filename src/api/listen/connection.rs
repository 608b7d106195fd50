//! One connection: what is known of its client, and how long it may be quiet.

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

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};

use super::{super::complaints::Complaints, handshake::Secured};
use crate::tls::{Name, member_names};

/// The first byte of every TLS handshake.
pub(super) const TLS_HANDSHAKE: u8 = 0x16;

/// Who the client of a connection is, as far as it has shown. One that has shown the token may be quiet.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    granted: Arc<AtomicBool>,
    from: SocketAddr,
    certified: Option<Arc<[Name]>>,
}

impl Trust {
    /// From now on the connection may be quiet.
    pub(crate) fn grant(&self) {
        self.granted.store(true, Ordering::Relaxed);
    }

    /// Where it comes from.
    pub(crate) const fn from(&self) -> SocketAddr {
        self.from
    }

    /// The names in its certificate, which the authority has certified; None: the port speaks no TLS.
    pub(crate) fn certified(&self) -> Option<&[Name]> {
        self.certified.as_deref()
    }
}

/// What a connection's bytes go through.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<Secured>),
}

impl Stream {
    fn certified(&self) -> Option<Arc<[Name]>> {
        let Self::Tls(stream) = self else { return None };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        Some(certificate.map(|certificate| member_names(certificate)).unwrap_or_default().into())
    }
}

/// A connection that ends by itself when nothing was sent on it for `quiet`: it waits for a request that does not
/// come, or comes a byte at a time, or its client does not read. Received bytes do not count, or dawdling would help.
pub(super) struct Connection {
    stream: Stream,
    deadline: Pin<Box<Sleep>>,
    quiet: Duration,
    trust: Trust,
    /// True until its first byte has come.
    fresh: bool,
    complaints: Option<Arc<Complaints>>,
    /// Counts it among those at once.
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(
        stream: Stream,
        from: SocketAddr,
        quiet: Duration,
        slot: OwnedSemaphorePermit,
        complaints: Option<Arc<Complaints>>,
    ) -> Self {
        let trust = Trust { granted: Arc::default(), from, certified: stream.certified() };
        let deadline = Box::pin(tokio::time::sleep(quiet));
        Self { stream, deadline, quiet, trust, fresh: true, complaints, _slot: slot }
    }

    pub(super) fn trust(&self) -> Trust {
        self.trust.clone()
    }

    /// What a read or write that would wait comes to.
    fn waiting<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if self.trust.granted.load(Ordering::Relaxed) {
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

    /// Says it if a member speaks TLS where it is not spoken. What answers is no TLS, which tells the other side.
    fn look_at_first(&mut self, bytes: &[u8]) {
        self.fresh = false;
        if let Some(complaints) = &self.complaints
            && bytes.first() == Some(&TLS_HANDSHAKE)
        {
            let why =
                "it speaks TLS, and this member has no api.tls_… keys: give them to all members, or to none";
            complaints.refused(self.trust.from.ip(), why);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if read.is_pending() {
            return self.waiting(context);
        }
        if self.fresh && buffer.filled().len() > before {
            self.look_at_first(&buffer.filled()[before..]);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        self.wrote(context, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        };
        self.wrote(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        };
        if flushed.is_pending() { self.waiting(context) } else { flushed }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        };
        if shut.is_pending() { self.waiting(context) } else { shut }
    }
}
