//! What can go wrong with a file or a program of PostgreSQL, by what the caller does.

use std::time::Duration;

use super::disk;

/// A file of the data directory could not be read or written, or a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// The file system did not answer in time. The outcome of a write is unknown; it may still happen.
    #[error("{what}: the file system has not answered for {after:?}")]
    Hung {
        /// What was attempted.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The file system refused.
    #[error("{what}: {error}")]
    Io {
        /// What was attempted, with the path.
        what: String,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// A program ended with an error, or did not end in time and was killed.
    #[error("{program}: {said}")]
    Program {
        /// Its name.
        program: String,
        /// The end of what it said.
        said: String,
    },
    /// The server runs in a directory that the configured path does not lead to any more: nothing is written for it.
    #[error("nothing is written for the server that runs: its data directory was {0}")]
    Moved(String),
    /// WAL that is looked for is not there any more: trying again will not help.
    #[error("{0}")]
    WalGone(String),
    /// What was read makes no sense: trying again will not help.
    #[error("{0}")]
    Nonsense(String),
}

impl PgError {
    /// Whether the disk is full: that passes only when a person frees space.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { error, .. } => error.kind() == std::io::ErrorKind::StorageFull,
            Self::Program { said, .. } => said.contains(disk::FULL),
            Self::Hung { .. } | Self::Moved(_) | Self::WalGone(_) | Self::Nonsense(_) => false,
        }
    }
}
