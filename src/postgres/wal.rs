//! What the write-ahead log holds, by `pg_waldump`.

use super::{Instance, PgError};
use crate::model::{Lsn, Timeline};

/// What a server wrote beyond a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostTail {
    /// Where it begins.
    pub from: Lsn,
    /// The end of the last valid record.
    pub end: Lsn,
    /// Bytes of WAL between them.
    pub bytes: u64,
    /// Committed transactions, Locum's own probes not counted.
    pub transactions: u64,
    /// Locum's own probe commits.
    pub probes: u64,
    /// Rows inserted, whether committed or not, catalogues included.
    pub inserted: u64,
    /// Rows updated.
    pub updated: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// The server's own time of the first commit, as printed.
    pub first_commit: Option<String>,
    /// The server's own time of the last commit.
    pub last_commit: Option<String>,
}

impl Instance {
    /// The end of the last valid record on `timeline`, at or after `from` (a record's start, such as the redo point of
    /// the control file). `from` itself if there is none. Only for a server of which no process is left.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn wal_end(&self, timeline: Timeline, from: Lsn) -> Result<Lsn, PgError> {
        let _ = (timeline, from);
        todo!()
    }
    /// The greatest timeline of which there is WAL: where a crashed server was. Its control file may still name the one before.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn wal_timeline(&self) -> Result<Timeline, PgError> {
        todo!()
    }
    /// What the server wrote on `timeline` from `from` on: the switch position in the new primary's history.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn lost(&self, timeline: Timeline, from: Lsn) -> Result<LostTail, PgError> {
        let _ = (timeline, from);
        todo!()
    }
}
