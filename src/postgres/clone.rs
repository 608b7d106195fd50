//! `pg_basebackup`: a new copy beside the old one, which is put aside only once the new one is whole.

use super::{Instance, PgError, Source};

/// What the old data directory is renamed to, after its name. The next clone that succeeds removes it.
pub const OLD_SUFFIX: &str = ".locum-old";

/// From where to clone.
#[derive(Clone, Debug)]
pub struct CloneFrom {
    /// The upstream server.
    pub source: Source,
    /// The physical slot on it that keeps WAL meanwhile and after; it must exist.
    pub slot: Option<String>,
}

/// Why there is no clone. The old data directory is untouched in every case.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// It will not work until a person changes something: tablespaces, a mount point, a linked `pg_wal`.
    #[error("cannot be cloned: {0}")]
    Refused(String),
    /// Not enough room for a second copy.
    #[error("the disk is full; the old data directory is untouched: {0}")]
    DiskFull(String),
    /// It did not work this time.
    #[error(transparent)]
    Failed(#[from] PgError),
}

impl Instance {
    /// Replaces the stopped server's directory by a copy of the upstream's. The directory keeps its own configuration
    /// files if it had any, and is a standby's when this returns.
    ///
    /// # Errors
    /// [`CloneError`].
    pub async fn clone_upstream(
        &self,
        from: &CloneFrom,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<(), CloneError> {
        let _ = (from, progress);
        todo!()
    }
}
