//! Whether the path of the data directory still leads to where the server runs: looked at once a second.
//!
//! A server goes on in a directory that was moved, removed or mounted over. Nothing can be ordered of it there: what the agent
//! writes for it lands elsewhere, or nowhere.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::inner::Inner;

/// Between two looks. Longer: commits wait longer for a standby that could not be promoted.
const LOOK: Duration = Duration::from_secs(1);

/// Looks for ever.
pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        let attached = inner.attached.borrow().clone();
        if let Some(postmaster) = attached {
            let generation = inner.board.read(|s| s.generation);
            match inner.instance.moved(&postmaster).await {
                Ok(moved) => inner.board.update(|s| {
                    if s.generation == generation {
                        s.facts.access.moved = moved;
                    }
                }),
                Err(error) => tracing::debug!(%error, "cannot tell where the server's data directory is"),
            }
        }
        sleep(LOOK).await;
    }
}
