//! Ending every process of a data directory, at once.
//!
//! Killing the postmaster alone is not enough: its orphans acknowledge commits for up to 31 ms more.

use std::{path::Path, time::Duration};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use tokio::{sync::oneshot, time::Instant};

use super::{Instance, Postmaster, proc, process};

/// How long killed processes may take to go. Milliseconds are usual; only a hung disk takes longer.
const GONE: Duration = Duration::from_secs(3);

/// Attested: no process of the data directory is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed {
    /// How many processes were found and killed.
    pub processes: usize,
    /// How long it took.
    pub took: Duration,
}

/// Processes of the data directory may be left.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// These were sent SIGKILL and have not gone, as in uninterruptible sleep. They acknowledge nothing more, but
    /// their WAL is not final.
    #[error("processes {pids:?} were killed and have not gone after {after:?}; the disk may hang")]
    Left {
        /// Their ids.
        pids: Vec<u32>,
        /// How long was waited.
        after: Duration,
    },
    /// They could not be looked for, or not be killed: permissions.
    #[error("cannot kill the processes of the data directory: {0}")]
    Refused(#[from] std::io::Error),
}

impl Instance {
    /// SIGSTOP to the postmaster, SIGKILL to its children, SIGKILL to it, then until no process of this data directory
    /// is left, orphans included. Works without touching the data directory, on a thread of its own; `known` saves a
    /// look through `/proc` before the first signal. Also right when nothing runs.
    ///
    /// # Errors
    /// [`KillError`]: not attested.
    pub async fn kill_all(&self, known: Option<&Postmaster>) -> Result<Killed, KillError> {
        let known = known.filter(|p| !p.has_exited()).map(Postmaster::pid);
        let (data_dir, uid) = (self.data_dir.clone(), self.owner.uid);
        let (tell, told) = oneshot::channel();
        // Not one of the runtime's blocking threads: all of them may hang in the file system.
        std::thread::Builder::new().name("kill".to_owned()).spawn(move || {
            let _nobody_waits = tell.send(Hunt::new(&data_dir, uid).run(known));
        })?;
        told.await.unwrap_or_else(|_| Err(std::io::Error::other("the thread ended").into()))
    }

    /// The same after the postmaster's death: its orphans go on acknowledging commits for a while.
    ///
    /// # Errors
    /// [`KillError`]: not attested.
    pub async fn kill_orphans(&self) -> Result<Killed, KillError> {
        self.kill_all(None).await
    }
}

struct Hunt<'a> {
    data_dir: &'a Path,
    uid: u32,
    began: Instant,
    /// Everyone who was sent SIGKILL.
    killed: Vec<u32>,
}

impl<'a> Hunt<'a> {
    fn new(data_dir: &'a Path, uid: u32) -> Self {
        Self { data_dir, uid, began: Instant::now(), killed: Vec::new() }
    }

    fn run(mut self, known: Option<u32>) -> Result<Killed, KillError> {
        if let Some(postmaster) = known {
            self.kill_family(&[postmaster], || proc::children(postmaster))?;
        }
        loop {
            let left = proc::servers(self.data_dir, self.uid)?;
            if left.is_empty() {
                let took = self.began.elapsed();
                return Ok(Killed { processes: self.killed.len(), took });
            }
            if self.began.elapsed() > GONE {
                return Err(KillError::Left { pids: left, after: GONE });
            }
            // Who has no parent among them is a postmaster, or an orphan, for which to be stopped first does no harm.
            let is_child = |pid: &u32| proc::parent(*pid).is_some_and(|parent| left.contains(&parent));
            let (children, heads): (Vec<u32>, Vec<u32>) = left.iter().partition(|pid| is_child(pid));
            self.kill_family(&heads, || children)?;
            left.into_iter().for_each(|pid| self.wait(pid));
        }
    }

    /// Stops the heads, so that they start no more children; then kills the children, so that nobody is told of a
    /// commit any more; then the heads.
    fn kill_family(&mut self, heads: &[u32], children: impl FnOnce() -> Vec<u32>) -> Result<(), KillError> {
        heads.iter().try_for_each(|head| self.send(*head, Signal::STOP))?;
        children().into_iter().chain(heads.iter().copied()).try_for_each(|pid| self.send(pid, Signal::KILL))
    }

    /// Sends a signal to a process that still is what it was taken for; gone is as good as killed.
    fn send(&mut self, pid: u32, signal: Signal) -> Result<(), KillError> {
        let Some(id) = Pid::from_raw(pid.cast_signed()) else { return Ok(()) };
        if !proc::serves(pid, self.data_dir) {
            return Ok(());
        }
        if signal == Signal::KILL && !self.killed.contains(&pid) {
            self.killed.push(pid);
        }
        match kill_process(id, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(KillError::Refused(error.into())),
        }
    }

    /// Waits for a killed process, as long as there is time. One pidfd at a time: there may be thousands.
    fn wait(&self, pid: u32) {
        let left = GONE.saturating_sub(self.began.elapsed());
        process::wait_for(pid, || proc::serves(pid, self.data_dir), left);
    }
}
