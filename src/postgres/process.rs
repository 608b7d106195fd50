//! The postmaster as a process.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{Instance, PgError, disk, proc};

/// A postmaster of this data directory, held by a pidfd: it can never be mistaken for another process that got the
/// same number. Dropping it does nothing to the process.
#[derive(Clone, Debug)]
pub struct Postmaster {
    pid: u32,
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
        Ok(Some(Self { pid, fd: Arc::new(fd) }))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
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

/// Waits, blocking, for at most that long until a process ends that still is what it was taken for.
pub(super) fn wait_for(pid: u32, is_still: impl Fn() -> bool, at_most: Duration) {
    let Ok(fd) = open(pid) else { return };
    // With the pidfd in hand: the number may be somebody else's by now.
    if is_still() {
        ended(&fd, Timespec::try_from(at_most).unwrap_or_default());
    }
}

impl Instance {
    /// The postmaster of this data directory, if one is alive. A zombie is not alive.
    ///
    /// # Errors
    /// [`PgError`]: it cannot be told, which is not "none".
    pub async fn find(&self) -> Result<Option<Postmaster>, PgError> {
        let Some(pid) = self.lock_holder().await? else { return Ok(None) };
        let found = Postmaster::open(pid)
            .map_err(|error| PgError::Io { what: format!("take hold of process {pid}"), error })?;
        // Only now, with the pidfd in hand, is it certain that what is looked at is what is held.
        Ok(found.filter(|_| proc::serves(pid, &self.data_dir)))
    }

    /// The process that `postmaster.pid` names, whatever it is now. A negative number there is a single-user server.
    pub(super) async fn lock_holder(&self) -> Result<Option<u32>, PgError> {
        let lines = self.lock_file().await?;
        Ok(lines.first().and_then(|line| line.trim().parse().ok()))
    }

    /// The lines of `postmaster.pid`; none if there is no such file.
    pub(super) async fn lock_file(&self) -> Result<Vec<String>, PgError> {
        let path = self.file("postmaster.pid");
        let text = self.disk.run("read postmaster.pid", disk::SMALL, move || disk::read_text(&path)).await?;
        Ok(text.unwrap_or_default().lines().map(str::to_owned).collect())
    }
}
