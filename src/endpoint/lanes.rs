//! The threads that carry what passes through the proxies, each with an event loop of its own.
//!
//! A connection stays on one of them. On the work-stealing runtime that everything else runs on, each message of a busy
//! connection wakes another thread to look for work: as many system calls again as the message itself costs.

use std::{
    io, net,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle},
};

/// The most of them. More than these carry at the speed of a network is more than one PostgreSQL bears.
const MOST: usize = 4;

/// Begun when the first proxy is, to last as long as the process.
static LANES: OnceLock<Vec<Lane>> = OnceLock::new();

/// One thread.
pub(super) struct Lane {
    events: Handle,
    /// Connections that it has.
    open: AtomicUsize,
}

/// Makes sure that there are some.
pub(super) fn begin() -> io::Result<()> {
    if LANES.get().is_none() {
        let count = thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let lanes: Vec<Lane> = (0..count).map(Lane::begin).collect::<io::Result<_>>()?;
        // Where two begin at once, the second one's have nothing to do.
        _ = LANES.set(lanes);
    }
    Ok(())
}

/// The one with the fewest connections. None before [`begin`].
pub(super) fn quietest() -> Option<&'static Lane> {
    LANES.get()?.iter().min_by_key(|lane| lane.open.load(Ordering::Relaxed))
}

impl Lane {
    fn begin(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let events = runtime.handle().clone();
        let carry = move || runtime.block_on(std::future::pending::<()>());
        thread::Builder::new().name(format!("endpoint-{number}")).spawn(carry)?;
        Ok(Self { events, open: AtomicUsize::new(0) })
    }

    /// Has it serve a connection, which is watched by no other.
    pub(super) fn carry<F: Future<Output = ()> + Send>(
        &'static self,
        stream: net::TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.events.spawn(async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => serve(stream).await,
                Err(error) => tracing::debug!(%error, "a client's connection cannot be watched"),
            }
            self.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail that way")]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_lane_knows_how_many_connections_it_has() {
        begin().unwrap();
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let lane = quietest().unwrap();
        let stream = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        lane.carry(stream, async move |_| drop(ended.await));
        assert_eq!(lane.open.load(Ordering::Relaxed), 1);
        drop(end);
        let until = Instant::now() + Duration::from_secs(20);
        while lane.open.load(Ordering::Relaxed) > 0 {
            assert!(Instant::now() < until, "it forgets those that have ended");
            thread::yield_now();
        }
    }
}
