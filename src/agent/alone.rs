//! Starting a stopped standby without an upstream: it replays what it has and streams nowhere.

use std::sync::Arc;

use super::{inner::Inner, orders::Unable};
use crate::model::{Server, Stamp};

impl Inner {
    /// Starts the standby, cut from its upstream on disk first. Refused where the primary that it followed still answers:
    /// whoever ordered this took it for dead.
    pub(super) async fn start_alone(self: &Arc<Self>, stamp: Stamp) -> Result<(), Unable> {
        let held = self.held().await;
        if let Some(unfinished) = held.unfinished {
            return Err(Unable::Refused(format!("a {unfinished:?} of the data directory has not ended")));
        }
        match self.board.read(|s| s.facts.server.value.clone()) {
            Server::Down(_) => {}
            Server::Standby(_) => return Ok(()),
            Server::Primary(_) | Server::Starting | Server::Unknown => {
                return Err(Unable::Refused("the server is no stopped standby".into()));
            }
        }
        if !self.instance.has_standby_signal().await? {
            return Err(Unable::Refused("standby.signal is not there: it is no standby's directory".into()));
        }
        if let Some(upstream) = held.upstream
            && self.instance.is_primary(&self.source(&upstream.address)?).await.unwrap_or(false)
        {
            return Err(Unable::Refused(format!(
                "the primary {} answers at {}",
                upstream.node, upstream.address
            )));
        }
        self.remember(|p| (p.upstream, p.paused) = (None, None)).await?;
        self.instance.set(&[("primary_conninfo", ""), ("restore_command", "")]).await?;
        self.start().await?;
        self.await_server(stamp, |server| matches!(server, Server::Standby(_))).await
    }
}
