//! What would end this server's recovery, or hold it up, where it is or becomes a standby: looked at now and then, so that
//! it is known before a failover needs it.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::inner::Inner;
use crate::model::Server;

/// Between two looks. Longer: a setting that was just changed is judged later. Shorter: the files are read more often.
const LOOK: Duration = Duration::from_secs(2);

/// Looks for ever. What is known of a server that is down stays: it is what it will be started with.
pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        let runs =
            inner.board.read(|s| matches!(s.facts.server.value, Server::Primary(_) | Server::Standby(_)));
        if runs && !inner.is_frozen() {
            let look = async { inner.instance.hindrances(&*inner.sql().await?).await };
            match look.await {
                Ok(found) => inner.board.update(|s| s.facts.hindrances = found),
                Err(error) => tracing::debug!(%error, "cannot tell what hinders recovery"),
            }
        }
        sleep(LOOK).await;
    }
}
