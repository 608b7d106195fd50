//! Ending every process of a data directory, at once.

use std::time::Duration;

use super::{Instance, Postmaster};

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
    /// look through `/proc`. Also right when nothing runs.
    ///
    /// # Errors
    /// [`KillError`]: not attested.
    pub async fn kill_all(&self, known: Option<&Postmaster>) -> Result<Killed, KillError> {
        let _ = known;
        todo!()
    }
    /// The same after the postmaster's death: its orphans go on acknowledging commits for up to 31 ms.
    ///
    /// # Errors
    /// [`KillError`]: not attested.
    pub async fn kill_orphans(&self) -> Result<Killed, KillError> {
        self.kill_all(None).await
    }
}
