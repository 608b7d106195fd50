//! Promotion, as quick as it goes.

use std::{future::Future, time::Duration};

use rustix::process::Signal;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Instance, PgError, Postmaster, disk};

/// Time between the SIGHUPs that get a promotion out of its sleep.
const NUDGE: Duration = Duration::from_millis(10);

/// Why a promotion is not known to have succeeded.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// It was not asked for. If the file system hung, it may still be: then the server must be fenced.
    #[error(transparent)]
    NotAsked(#[from] PgError),
    /// The server ended meanwhile. The request may still be in the data directory, but a start removes it.
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
    let (path, owner) = (instance.file("promote"), instance.owner.clone());
    // Not synced: it asks a running process, and means nothing after a crash.
    let ask = move || disk::io("write", &path, std::fs::write(&path, b"").and_then(|()| owner.give(&path)));
    instance.disk.run("ask for promotion", disk::SMALL, ask).await?;
    postmaster.signal(Signal::USR1).map_err(|_| PromoteError::Ended)?;

    let nudge = async {
        let mut tick = interval(NUDGE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is due at once, and would only add work to what was just asked for.
        tick.tick().await;
        loop {
            tick.tick().await;
            let _exited_resolves_then = postmaster.reload();
        }
    };
    tokio::select! {
        biased;
        done = writable => Ok(done),
        () = postmaster.exited() => Err(PromoteError::Ended),
        () = sleep(deadline) => Err(PromoteError::Slow(deadline)),
        () = nudge => Err(PromoteError::Ended),
    }
}
