//! `pg_rewind`: back to the point where histories parted, then forward on the source's.

use super::{Instance, PgError, Source};

/// What a rewind came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewound {
    /// The directory was rewound.
    Done,
    /// `pg_rewind` saw nothing to do. It says so wrongly while the source's control file still names the old timeline:
    /// only to be believed once the source has completed a checkpoint on its own.
    NotRequired,
}

/// Why it was not rewound. The directory must not be started unless a later rewind or clone succeeds.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    /// It will never work: other system, no checksums, WAL needed is gone. Clone instead.
    #[error("cannot be rewound: {0}")]
    Impossible(String),
    /// It did not work this time.
    #[error(transparent)]
    Failed(#[from] PgError),
}

impl Instance {
    /// Rewinds the stopped server's directory to `source`. A server that crashed is recovered first. The directory keeps
    /// its own configuration files, and is a standby's when this returns. `progress` gets a line for people now and then.
    /// Given up when there has been no progress for a minute.
    ///
    /// # Errors
    /// [`RewindError`].
    pub async fn rewind(
        &self,
        source: &Source,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<Rewound, RewindError> {
        let _ = (source, progress);
        todo!()
    }
}
