//! The postmaster as a process.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{Instance, PgError, disk, identity::ProcessId, interlock, proc};

/// A postmaster of this data directory, held by a pidfd: it can never be mistaken for another process that got the
/// same number. Dropping it does nothing to the process.
#[derive(Clone, Debug)]
pub struct Postmaster {
    pid: u32,
    /// None: it had ended before it was looked at.
    id: Option<ProcessId>,
    fd: Arc<AsyncFd<OwnedFd>>,
}

impl Postmaster {
    /// Takes hold of a process. None: there is none with this id.
    pub(super) fn open(pid: u32) -> io::Result<Option<Self>> {
        let fd = match open(pid) {
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            opened => opened?,
        };
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd never changes its descriptor, so this is sound"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        // If it has not ended by now, it is the one that was looked at.
        let id = ProcessId::of(pid).filter(|_| !ended(fd.get_ref(), Timespec::default()));
        Ok(Some(Self { pid, id, fd: Arc::new(fd) }))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn id(&self) -> Option<ProcessId> {
        self.id
    }

    /// When it was started, in clock ticks since the boot of the host: with its process id it tells it from any other
    /// process, whoever asks. None: it had ended before it was looked at.
    #[must_use]
    pub fn started(&self) -> Option<u64> {
        self.id.map(|id| id.started)
    }

    /// Resolves the moment it dies, whether or not its parent has collected it. Any number may wait.
    pub async fn exited(&self) {
        // It stays readable for ever, so readiness is never cleared. An error means that the runtime is going down.
        if self.fd.readable().await.is_err() && !self.has_exited() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether it is dead, now.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        ended(self.fd.get_ref(), Timespec::default())
    }

    /// Its children: backends, walsenders, walreceiver and the rest. Empty once it is dead.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        if self.has_exited() { Vec::new() } else { proc::children(self.pid) }
    }

    /// What its children have done in all, in bytes read and written; a millisecond of CPU time counts like a page. For telling work
    /// from waiting.
    #[must_use]
    pub fn work_done(&self) -> u64 {
        self.children().into_iter().map(proc::work_done).fold(0, u64::saturating_add)
    }

    /// SIGHUP to one of its children: read the configuration again. `pid`: what PostgreSQL told of it.
    ///
    /// # Errors
    /// There is no such child, or it may not be signalled.
    pub fn reload_child(&self, pid: u32) -> io::Result<()> {
        self.signal_child(pid, Signal::HUP)
    }

    /// Signals a child, and nobody who got its number.
    pub(super) fn signal_child(&self, pid: u32, signal: Signal) -> io::Result<()> {
        let no_child = || io::Error::new(io::ErrorKind::NotFound, format!("process {pid} is no child of it"));
        let child = ProcessId::of(pid).ok_or_else(no_child)?;
        let is_child = proc::parent(pid) == Some(self.pid) && !self.has_exited();
        if is_child && child.signal(signal)? { Ok(()) } else { Err(no_child()) }
    }

    /// SIGHUP: read the configuration again.
    ///
    /// # Errors
    /// If it is dead.
    pub fn reload(&self) -> io::Result<()> {
        self.signal(Signal::HUP)
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(self.fd.get_ref(), signal)?)
    }
}

/// A pidfd of a process.
pub(super) fn open(pid: u32) -> rustix::io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid.cast_signed()).ok_or(rustix::io::Errno::SRCH)?;
    pidfd_open(pid, PidfdFlags::NONBLOCK)
}

/// Waits on a pidfd, blocking, for at most that long. True: the process is dead.
pub(super) fn ended(fd: impl AsFd, at_most: Timespec) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&at_most)).is_ok_and(|ready| ready > 0)
}

impl Instance {
    /// The postmaster here, if one is alive: the one that was seen here before, wherever its data directory is now; else
    /// the one that works in this data directory. A zombie is not alive.
    ///
    /// # Errors
    /// [`PgError`]: it cannot be told, which is not "none".
    pub async fn find(&self) -> Result<Option<Postmaster>, PgError> {
        let hold = |pid| {
            Postmaster::open(pid)
                .map_err(|error| PgError::Io { what: format!("take hold of process {pid}"), error })
        };
        if let Some(known) = self.known.living() {
            let found = hold(known.postmaster.pid)?.filter(|found| found.id == Some(known.postmaster));
            if found.is_some() {
                return Ok(found);
            }
        }
        let lines = self.lock_file().await?;
        let Some(pid) = holder(&lines) else { return Ok(None) };
        let Some(dir) = self.dir_id().await? else { return Ok(None) };
        // Only with the pidfd in hand is it certain that what is looked at is what is held.
        let found = hold(pid)?.filter(|_| proc::serves(pid, dir));
        let told = interlock::told(&lines);
        if let Some(id) = found.as_ref().and_then(Postmaster::id) {
            self.known.look(id, told);
        }
        Ok(found)
    }

    /// The process that `postmaster.pid` names, whatever it is now. A negative number there is a single-user server.
    pub(super) async fn lock_holder(&self) -> Result<Option<u32>, PgError> {
        Ok(holder(&self.lock_file().await?))
    }

    /// The lines of `postmaster.pid`; none if there is no such file.
    pub(super) async fn lock_file(&self) -> Result<Vec<String>, PgError> {
        let path = self.file("postmaster.pid");
        let text = self.disk.run("read postmaster.pid", disk::SMALL, move || disk::read_text(&path)).await?;
        Ok(text.unwrap_or_default().lines().map(str::to_owned).collect())
    }
}

/// The process that a lock file names.
fn holder(lines: &[String]) -> Option<u32> {
    lines.first()?.trim().parse().ok()
}
