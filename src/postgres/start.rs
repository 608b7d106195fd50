//! Starting the server.

use super::{Instance, PgError, Postmaster};

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One is running already.
    #[error("PostgreSQL is already running, as process {0}")]
    Running(u32),
    /// It ended before it had taken its lock file and ports.
    #[error("PostgreSQL ended at once ({status}): {log}")]
    Ended {
        /// How it ended.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// It could not even be tried.
    #[error(transparent)]
    Pg(#[from] PgError),
}

impl Instance {
    /// Starts `postgres` as a child in a process group of its own; it outlives this process. Returns once it holds its
    /// lock file and listens; whether it accepts connections is seen by connecting, and a later end by
    /// [`Postmaster::exited`] with [`Instance::log_tail`].
    ///
    /// # Errors
    /// [`StartError`], with the last lines of the log.
    pub async fn start(&self) -> Result<Postmaster, StartError> {
        todo!()
    }
}
