//! How much room the server has: looked at once a second, whether it runs or not.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::inner::Inner;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Looks for ever.
pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        let free = inner.instance.disk_free().await;
        if let Err(error) = &free {
            tracing::debug!(%error, "cannot tell how much room there is");
        }
        inner.board.update(|s| s.facts.disk_free = free.ok());
        sleep(LOOK).await;
    }
}
