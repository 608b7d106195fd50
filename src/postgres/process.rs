//! The postmaster as a process.

use std::{io, os::fd::OwnedFd, sync::Arc};

use tokio::io::unix::AsyncFd;

use super::{Instance, PgError};

/// A living postmaster of this data directory, held by a pidfd: it can never be mistaken for another process that
/// got the same number. Dropping it does nothing to the process.
#[derive(Clone, Debug)]
pub struct Postmaster {
    pub(super) pid: u32,
    pub(super) fd: Arc<AsyncFd<OwnedFd>>,
}

impl Postmaster {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }
    /// Resolves the moment it dies, whether or not its parent has collected it. Any number may wait.
    pub async fn exited(&self) {
        todo!()
    }
    /// Whether it is dead, now.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        todo!()
    }
    /// Its children: backends, walsenders, walreceiver and the rest. Empty once it is dead.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        todo!()
    }
    /// SIGHUP: read the configuration again.
    ///
    /// # Errors
    /// If it is dead.
    pub fn reload(&self) -> io::Result<()> {
        todo!()
    }
}

impl Instance {
    /// The postmaster of this data directory, if one is alive. A zombie is not alive.
    ///
    /// # Errors
    /// [`PgError`]: it cannot be told, which is not "none".
    pub async fn find(&self) -> Result<Option<Postmaster>, PgError> {
        todo!()
    }
}
