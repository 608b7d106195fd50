//! Saving and counting what a former primary wrote beyond the switch, or a standby received of that, before anything rewinds or
//! replaces it.
//!
//! Nothing is changed without the salvage, but for what is provably not there: a salvage that cannot be made is a failed
//! command with a reason, and WAL that is gone is a loss that is said to be unknown.

use std::sync::Arc;

use super::{inner::Inner, orders::Unable, peek};
use crate::{
    model::{ControlState, LostTail, Lsn, Stamp, Switch, Timeline},
    postgres::{self, PgError, Source, Tail},
};

/// What there is to be saved.
enum Range {
    /// Nothing of its own.
    Nothing,
    /// This timeline from here on; the second is why that is more than was lost.
    From(Timeline, Lsn, Option<String>),
    /// Nothing that could be read, and why.
    Gone(String),
}

impl Inner {
    /// Saves and counts what this server wrote beyond the switch; remembers what it came to.
    pub(super) async fn save_tail(
        self: &Arc<Self>,
        stamp: Stamp,
        upstream: &Source,
        switch: Option<Switch>,
    ) -> Result<(), Unable> {
        let held = self.held().await;
        // A directory that a rewind has begun to change was saved before that.
        if held.unfinished.is_some() {
            return Ok(());
        }
        let strayed = held.strayed.is_some();
        let (range, wrote) = match switch {
            _ if strayed => {
                self.job(Some("saving what it wrote since it left recovery".into()));
                (self.range_of_stray().await?, true)
            }
            Some(switch) => {
                self.job(Some("saving what it had beyond the switch".into()));
                let was_primary = held.primary_since.is_some();
                (self.range(upstream, switch, was_primary).await?, was_primary)
            }
            None => return Ok(()),
        };
        let lost = match range {
            // That nothing was written is told too.
            Range::Nothing if strayed => LostTail { under: stamp, ..LostTail::default() },
            Range::Nothing => return Ok(()),
            Range::Gone(_) if !wrote => return Ok(()),
            Range::Gone(why) => LostTail { under: stamp, unknown: Some(why), ..LostTail::default() },
            Range::From(timeline, from, wider) => {
                self.salvage(stamp, upstream, (timeline, from), wider).await?
            }
        };
        let lost = LostTail { stray: held.strayed.map(|stray| stray.at), ..lost };
        if let Some(why) = &lost.unknown {
            tracing::warn!(%why, "what was lost is not known");
        }
        self.remember(move |p| p.lost = Some(lost)).await
    }

    /// A standby that left recovery wrote on a timeline of its own, from where its history says that it left the primary's.
    async fn range_of_stray(&self) -> Result<Range, Unable> {
        let timeline = match self.instance.wal_timeline().await {
            Ok(timeline) => timeline,
            Err(PgError::WalGone(why)) => return Ok(Range::Gone(why)),
            Err(error) => return Err(error.into()),
        };
        if timeline <= Timeline(1) {
            // It ended before it had begun one.
            return Ok(Range::Nothing);
        }
        let history = self.instance.history(timeline).await?;
        Ok(history.last().map_or(Range::Nothing, |left| Range::From(timeline, left.at, None)))
    }

    /// Where what this server may have of its own begins.
    async fn range(&self, upstream: &Source, switch: Switch, was_primary: bool) -> Result<Range, Unable> {
        let dir = self.instance.data_dir().to_owned();
        let seen = tokio::task::spawn_blocking(move || peek::control(&dir)).await;
        match seen {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => return Ok(Range::Gone("its data directory was gone".into())),
            Ok(Err(error)) => {
                return Err(Unable::Failed(format!("the control file cannot be read: {error}")));
            }
            Err(error) => return Err(Unable::Failed(format!("the control file cannot be read: {error}"))),
        }
        let control = self.instance.control().await?;
        if control.state == ControlState::ShutDownInRecovery && !was_primary {
            // A standby wrote nothing of its own.
            return Ok(Range::Nothing);
        }
        let timeline = match self.instance.wal_timeline().await {
            Ok(timeline) => timeline,
            Err(PgError::WalGone(why)) => return Ok(Range::Gone(why)),
            Err(error) => return Err(error.into()),
        };
        if timeline == switch.timeline {
            return Ok(Range::From(timeline, switch.at, None));
        }
        if timeline > switch.timeline {
            // It has followed the new primary since the switch, and has nothing of its own; unless it has taken another
            // way to a timeline of that number.
            let history = self.instance.history(timeline).await.unwrap_or_default();
            if history.contains(&switch) {
                return Ok(Range::Nothing);
            }
        } else {
            // It missed more than one switch. Where its own timeline was left, the new primary knows.
            match self.instance.history_of(upstream).await {
                Ok(history) => {
                    if let Some(left) = history.iter().find(|left| left.timeline == timeline) {
                        return Ok(Range::From(timeline, left.at, None));
                    }
                }
                Err(error) => tracing::warn!(%error, "where this timeline was left is not known"),
            }
        }
        // More than was lost, never less of what was written last.
        let wider =
            "where the lost part began is not known, so everything since the last checkpoint is listed";
        Ok(Range::From(timeline, control.redo, Some(wider.into())))
    }

    async fn salvage(
        &self,
        stamp: Stamp,
        upstream: &Source,
        (timeline, from): (Timeline, Lsn),
        wider: Option<String>,
    ) -> Result<LostTail, Unable> {
        match self.instance.wal_end(timeline, from).await {
            Ok(end) if end <= from && self.instance.lost(timeline, from).await?.unknown.is_none() => {
                return Ok(LostTail { under: stamp, from, end: from, ..LostTail::default() });
            }
            Ok(_) | Err(PgError::WalGone(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let tail = Tail {
            // A node gives up a tail once in an epoch: tried again, it takes the place of the first try.
            id: &format!("{}-{}-{}", self.node, stamp.incarnation, stamp.epoch),
            node: self.node.clone(),
            under: stamp,
            timeline,
            from,
            made_at: self.clock.wall(),
            names: Some(upstream),
        };
        let saved = self.instance.salvage(&tail).await?;
        if let Some(left_out) = &saved.left_out {
            tracing::warn!(dir = %saved.dir.display(), left_out, "the salvage is not complete");
        }
        let mut lost = postgres::in_short(&saved, stamp);
        lost.notes.extend(wider);
        Ok(lost)
    }
}
