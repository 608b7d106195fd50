//! The threads that carry what passes through the proxies, each with an event loop of its own.
//!
//! A connection stays on one of them. On the work-stealing runtime that everything else runs on, each message of a busy
//! connection wakes another thread to look for work: as many system calls again as the message itself costs. All are
//! accepted on the first, and handed to another only if that has fewer: to be handed over costs a wake.

use std::{
    io, net,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle},
};

/// The most of them. More than these carry at the speed of a network is more than one PostgreSQL bears.
const MOST: usize = 4;

/// Begun when the first proxy is, to last as long as the process.
static LANES: OnceLock<Lanes> = OnceLock::new();

/// All of them.
pub(super) struct Lanes {
    first: Lane,
    more: Vec<Lane>,
}

/// One thread.
pub(super) struct Lane {
    events: Handle,
    /// Connections that it has.
    open: AtomicUsize,
}

impl Lanes {
    /// Those that there are; begun now if there are none.
    pub(super) fn get() -> io::Result<&'static Self> {
        if let Some(lanes) = LANES.get() {
            return Ok(lanes);
        }
        let count = thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let (first, more) = (Lane::begin(0)?, (1..count).map(Lane::begin).collect::<io::Result<_>>()?);
        // Of two that are begun at once, one's have nothing to do.
        Ok(LANES.get_or_init(|| Self { first, more }))
    }

    /// Has the first one accept on a listening socket until `accept` ends.
    pub(super) fn accept<F: Future<Output = ()> + Send + 'static>(
        &'static self,
        listener: net::TcpListener,
        accept: impl FnOnce(TcpListener) -> F,
    ) -> io::Result<()> {
        let _within = self.first.events.enter();
        self.first.events.spawn(accept(TcpListener::from_std(listener)?));
        Ok(())
    }

    /// The one with the fewest connections; the first, where others have as few.
    pub(super) fn quietest(&'static self) -> &'static Lane {
        let quieter = |one, other| if Lane::open(other) < Lane::open(one) { other } else { one };
        self.more.iter().fold(&self.first, quieter)
    }
}

impl Lane {
    fn begin(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let events = runtime.handle().clone();
        let carry = move || {
            take_short_turns();
            runtime.block_on(std::future::pending::<()>());
        };
        thread::Builder::new().name(format!("endpoint-{number}")).spawn(carry)?;
        Ok(Self { events, open: AtomicUsize::new(0) })
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
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

/// Asks the scheduler for short turns, which come sooner, and no more of them: a message is carried in microseconds, and somebody
/// waits for it. Kernels before 6.12 take the wish and make nothing of it.
#[expect(unsafe_code, reason = "no safe crate in use has sched_setattr(2)")]
fn take_short_turns() {
    /// Shorter (there are none below 0.1 ms): with many busy connections a turn ends amid them, which cost 4 % of the throughput.
    /// Longer: a session of the server that computes ends its own turn first.
    const TURN: Duration = Duration::from_micros(300);
    // SAFETY: both calls only read attributes of the calling thread, which is 0.
    let (policy, nice) = unsafe { (libc::sched_getscheduler(0), libc::getpriority(libc::PRIO_PROCESS, 0)) };
    if policy != libc::SCHED_OTHER {
        // Somebody has decided otherwise.
        return;
    }
    let wish = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or_default(),
        sched_policy: libc::SCHED_OTHER.cast_unsigned(),
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: u64::try_from(TURN.as_nanos()).unwrap_or_default(),
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the pointer is to a value that lives through the call, which only reads it, and whose size is in it.
    if unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wish, 0) } != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "the scheduler takes no wish for short turns");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail that way")]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_lane_knows_how_many_connections_it_has() {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let lane = Lanes::get().unwrap().quietest();
        let stream = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        lane.carry(stream, async move |_| drop(ended.await));
        assert_eq!(lane.open(), 1);
        drop(end);
        let until = Instant::now() + Duration::from_secs(20);
        while lane.open() > 0 {
            assert!(Instant::now() < until, "it forgets those that have ended");
            thread::yield_now();
        }
    }
}
