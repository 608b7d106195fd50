//! One probe: a new connection and a commit of its own on the server's own disk.
//!
//! A kept connection still answers when the postmaster is stopped, and reads still answer when the disk hangs; only
//! this finds both. It waits for no standby, so that a wait for one is not mistaken for a hang (SAFETY.md, Traps).

use std::time::Duration;

use super::sql::{Access, Sql, SqlError};
use crate::model::Lsn;

/// How long one probe may take in all.
pub const DEADLINE: Duration = Duration::from_secs(1);
/// Writes 104 bytes of WAL and waits for them to be on disk (FACTS.md, Probing); then says where the log ends.
const COMMIT: &str = "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; \
     SELECT pg_logical_emit_message(true, 'locum', ''); COMMIT; SELECT pg_current_wal_flush_lsn()";

/// What a probe failed with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// All connection slots are taken: neither good nor bad news.
    #[error("{0}")]
    Full(String),
    /// The server answered, and did not let this login in: it is alive.
    #[error("{0}")]
    Refused(String),
    /// No connection was made; the server answered that, or nothing listens. Bad only if the kept one is silent too.
    #[error("cannot connect: {0}")]
    Turned(String),
    /// No answer: the server hangs, its postmaster does, or its disk does.
    #[error("cannot commit: {0}")]
    Stalled(String),
    /// The commit was answered with an error: the server lives, and cannot take writes. With the SQLSTATE.
    #[error("cannot commit: {said}")]
    Failed {
        /// The SQLSTATE.
        code: String,
        /// PostgreSQL's own words, with the code.
        said: String,
    },
}

/// Probes once. Gives the flush position right after the commit.
///
/// # Errors
/// [`ProbeError`]
pub async fn once(access: &Access) -> Result<Lsn, ProbeError> {
    let sql = access.connect(DEADLINE).await.map_err(|error| match error {
        SqlError::Full(_) => ProbeError::Full(error.to_string()),
        SqlError::Refused(..) => ProbeError::Refused(error.to_string()),
        SqlError::Silent(_) => ProbeError::Stalled(error.to_string()),
        other => ProbeError::Turned(other.to_string()),
    })?;
    let committed = commit(&sql).await;
    if committed.is_err() {
        sql.abandon();
    }
    committed
}

/// The commit alone, on a connection that is there: for when no new one can be had, which a hung disk brings about too.
///
/// # Errors
/// [`ProbeError::Stalled`], [`ProbeError::Failed`], [`ProbeError::Refused`]
pub async fn commit(sql: &Sql) -> Result<Lsn, ProbeError> {
    let flushed = sql.value(COMMIT, DEADLINE).await.map_err(|error| match &error {
        SqlError::Refused(..) => ProbeError::Refused(error.to_string()),
        SqlError::Said(code, _) => ProbeError::Failed { code: code.clone(), said: error.to_string() },
        _ => ProbeError::Stalled(error.to_string()),
    })?;
    Ok(flushed.and_then(|text| text.parse().ok()).unwrap_or_default())
}
