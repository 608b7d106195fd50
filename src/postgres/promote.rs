//! Promotion, as quick as it goes.

use std::{future::Future, time::Duration};

use super::{Instance, PgError, Postmaster};

/// Why a promotion is not known to have succeeded.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// It was not asked for: nothing happened.
    #[error(transparent)]
    NotAsked(#[from] PgError),
    /// The server ended meanwhile.
    #[error("PostgreSQL ended while it was being promoted")]
    Ended,
    /// Not writable within the deadline. It may still become so: the request stands.
    #[error("not writable {0:?} after the request to promote")]
    Slow(Duration),
}

/// Asks for promotion (`promote` file and SIGUSR1) and sends SIGHUP every 10 ms until `writable` resolves: a request
/// that meets the end of the walreceiver otherwise sleeps out `wal_retrieve_retry_interval`, 5 s. `writable` should
/// resolve when a write has succeeded; it is polled from the moment of the request on.
///
/// # Errors
/// [`PromoteError`].
pub async fn promote<T>(
    instance: &Instance,
    postmaster: &Postmaster,
    writable: impl Future<Output = T> + Send,
    deadline: Duration,
) -> Result<T, PromoteError> {
    let _ = (instance, postmaster, writable, deadline);
    todo!()
}
