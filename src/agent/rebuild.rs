//! Making a data directory follow again that has gone its own way: by rewind, or by a clone.
//!
//! What would be lost is saved and counted first. A directory whose rewind has not ended is never started.

use std::sync::Arc;

use super::{inner::Inner, orders::Unable, peek, promise::new_name};
use crate::{
    model::{CopySource, Server, Stamp, Switch, Unfinished, Upstream},
    postgres::{CloneError, CloneFrom, RewindError, Rewound, Source},
};

impl Inner {
    /// Rewinds to the upstream's history, then follows.
    pub(super) async fn rewind(
        self: &Arc<Self>,
        stamp: Stamp,
        upstream: &Upstream,
        switch: Option<Switch>,
    ) -> Result<(), Unable> {
        self.must_be_down()?;
        let source = self.source(&upstream.address)?;
        self.save_tail(stamp, &source, switch).await?;
        self.remember(|p| p.unfinished = Some(Unfinished::Rewind)).await?;
        self.job(Some("rewinding".into()));
        let progress = |line: &str| self.job(Some(format!("rewinding: {line}")));
        match self.instance.rewind(&source, progress).await {
            Ok(Rewound::Done | Rewound::NotRequired) => {}
            Err(error @ (RewindError::Impossible(_) | RewindError::Failed(_))) => {
                return Err(Unable::Failed(error.to_string()));
            }
        }
        self.remember(|p| (p.unfinished, p.strayed) = (None, None)).await?;
        self.follow(stamp, upstream).await
    }

    /// Replaces the data directory by a copy of the upstream's, then follows, under a new name. The copy may come from a
    /// standby of the upstream.
    pub(super) async fn clone_from(
        self: &Arc<Self>,
        stamp: Stamp,
        upstream: &Upstream,
        switch: Option<Switch>,
        standby: Option<&CopySource>,
    ) -> Result<(), Unable> {
        self.end_standby(stamp).await?;
        let source = self.source(&upstream.address)?;
        self.save_tail(stamp, &source, switch).await?;
        let before = self.held().await.unfinished;
        let name = new_name(&self.node);
        self.remember(move |p| {
            p.unfinished = Some(Unfinished::Clone);
            p.standby_name = name;
        })
        .await?;
        if let Err(error) = self.copy_data(upstream, source, standby).await {
            // The old directory is untouched: it is what it was, perhaps half rewound.
            self.remember(move |p| p.unfinished = before).await?;
            return Err(match error {
                CloneError::Refused(_) => Unable::Refused(error.to_string()),
                CloneError::DiskFull(_) | CloneError::Failed(_) => Unable::Failed(error.to_string()),
            });
        }
        let dir = self.instance.data_dir().to_owned();
        let seen = tokio::task::spawn_blocking(move || peek::control(&dir)).await;
        let system = match seen {
            Ok(Ok(Some(seen))) => seen.system,
            _ => return Err(Unable::Failed("the clone has no control file that can be read".into())),
        };
        self.remember(move |p| {
            (p.unfinished, p.strayed) = (None, None);
            p.primary_since = None;
            p.system = Some(system);
        })
        .await?;
        self.follow(stamp, upstream).await
    }

    /// Copies from the standby, and from the upstream if that one cannot be copied: it may have been stopped, or promoted.
    async fn copy_data(
        &self,
        upstream: &Upstream,
        source: Source,
        standby: Option<&CopySource>,
    ) -> Result<(), CloneError> {
        let max_rate = self.clone_max_rate;
        if let Some(standby) = standby {
            let what = format!("cloning from {}", standby.node);
            self.job(Some(what.clone()));
            let progress = |line: &str| self.job(Some(format!("{what}: {line}")));
            // Upstream's slot keeps what is written meanwhile; on the standby the copy has one of its own for as long as it lasts.
            let copied = match self.source(&standby.address) {
                Ok(source) => {
                    let from = CloneFrom { source, slot: None, max_rate };
                    self.instance.clone_upstream(&from, progress).await
                }
                Err(unable) => Err(CloneError::Refused(format!("{unable:?}"))),
            };
            match copied {
                Err(CloneError::Failed(error)) => {
                    tracing::warn!(%error, standby = %standby.node, "not cloned from there; from the primary instead");
                }
                ended => return ended,
            }
        }
        self.job(Some("cloning".into()));
        let progress = |line: &str| self.job(Some(format!("cloning: {line}")));
        let from = CloneFrom { source, slot: Some(upstream.slot.clone()), max_rate };
        self.instance.clone_upstream(&from, progress).await
    }

    /// A standby that runs and streams in vain is ended before its directory is replaced. A primary never is.
    async fn end_standby(self: &Arc<Self>, stamp: Stamp) -> Result<(), Unable> {
        let in_vain = self.board.read(|s| match &s.facts.server.value {
            Server::Standby(standby) => !standby.streaming && standby.recruited.is_none(),
            _ => false,
        });
        match in_vain {
            true => self.fence(stamp).await,
            false => self.must_be_down(),
        }
    }

    fn must_be_down(&self) -> Result<(), Unable> {
        match self.board.read(|s| matches!(s.facts.server.value, Server::Down(_))) {
            true => Ok(()),
            false => Err(Unable::Refused("the server runs: fence it first".into())),
        }
    }
}
