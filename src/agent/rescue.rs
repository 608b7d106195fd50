//! WAL rescue: what only a fenced node still has is fetched from its agent before this standby is promoted.
//!
//! Asked for: pages from the one that holds the last record applied here, of the standby's own timeline. What it has
//! itself must be there byte for byte, or nothing is taken. The attest of the recruit is taken back before the first
//! byte is written, since its position no longer stands still, and given anew at the new position.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, timeout},
};

use super::{inner::Inner, orders::Unable};
use crate::{
    model::{Lsn, NodeId, Rescued, Server, Stamp, SystemId},
    ports::{Member, WalAsk},
    postgres::{WalPlace, belongs, is_blank, sql::Sql},
};

/// One statement of this file.
const STATEMENT: Duration = Duration::from_secs(5);
/// How long handing out one chunk may take. Shorter: a busy disk ends a rescue that would have worked. Longer: a hung one
/// keeps a fence of a higher epoch waiting.
const HAND_OUT: Duration = Duration::from_secs(1);

const OWN: &str = "SELECT pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn(), \
     (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size')";

/// What this standby has.
pub(super) struct Own {
    system: SystemId,
    pub(super) place: WalPlace,
    /// Every complete record up to here is applied.
    pub(super) replayed: Lsn,
    /// The end of what it received: more than `replayed` where the last record is torn.
    end: Lsn,
}

/// Whoever writes WAL for a rescue holds this, also one that nobody waits for any more.
type Writing = Arc<OwnedMutexGuard<()>>;

impl Inner {
    /// Fetches, writes, applies and attests. Safe to repeat.
    pub(super) async fn rescue(
        self: &Arc<Self>,
        stamp: Stamp,
        from: &NodeId,
        within: Duration,
    ) -> Result<(), Unable> {
        self.running_standby()?;
        let (recruited, known) = self.board.read(|s| (s.recruited, s.facts.rescued.clone()));
        if !recruited.is_some_and(|by| by.same_epoch(stamp)) {
            return Err(Unable::Refused("it is not recruited in this epoch".into()));
        }
        if known.is_some_and(|rescued| rescued.under.same_epoch(stamp) && rescued.from == *from) {
            return Ok(());
        }
        let begun = Instant::now();
        let peer = self.serving.peers.member(from);
        let peer = peer.ok_or_else(|| Unable::Failed(format!("nobody has told where {from} is reached")))?;
        let writing: Writing = Arc::new(Arc::clone(&self.pages).lock_owned().await);
        let sql = self.sql().await?;
        let generation = self.board.read(|s| s.generation);
        let own = self.own(&sql).await?;
        // Applied up to the end of a segment that was left by a switch, it has blank pages there, which compare to nothing.
        let last = self.instance.last_page(own.place, own.replayed).await?;
        let last =
            last.ok_or_else(|| Unable::Refused(format!("its own WAL before {} is gone", own.replayed)))?;
        let ask = WalAsk {
            stamp,
            system: own.system,
            timeline: own.place.timeline,
            segment: own.place.segment,
            from: last,
        };
        let copy = self.copy(&*peer, ask, &own, &writing);
        let copied = timeout(within, copy).await.unwrap_or_else(|_| {
            Err(Unable::Failed(format!("the WAL of {from} did not come within {within:?}")))
        });
        let fetched = begun.elapsed();
        // Attested still where nothing was written.
        if self.board.read(|s| s.recruited.is_none()) {
            self.apply_all(&sql).await?;
            self.look(false).await?;
        }
        let bytes = self.board.update(|s| {
            let Server::Standby(standby) = &s.facts.server.value else {
                return Err(Unable::Failed("the server ended meanwhile".into()));
            };
            if s.generation != generation || standby.streaming {
                return Err(Unable::Failed("the server was restarted meanwhile".into()));
            }
            let bytes = standby.replayed.bytes_since(own.replayed);
            s.recruited = Some(stamp);
            if copied.is_ok() {
                s.facts.rescued = Some(Rescued { under: stamp, from: from.clone(), bytes });
            }
            s.refresh();
            Ok(bytes)
        })?;
        tracing::info!(%from, bytes, ?fetched, took = ?begun.elapsed(), "WAL rescued");
        copied
    }

    pub(super) async fn own(&self, sql: &Sql) -> Result<Own, Unable> {
        let rows = sql.run(OWN, STATEMENT).await?;
        let cell = |i: usize| rows.first().and_then(|row| row.get(i)?.as_deref());
        let position = |i: usize| cell(i).and_then(|lsn| lsn.parse::<Lsn>().ok());
        let segment = cell(2).and_then(|size| size.parse().ok());
        let (replayed, segment) = position(0)
            .zip(segment)
            .ok_or_else(|| Unable::Failed("it does not say how far it has come".into()))?;
        let (system, timeline) = self.board.read(|s| match &s.facts.server.value {
            Server::Standby(standby) => (s.facts.system, Some(standby.timeline)),
            _ => (None, None),
        });
        let (system, timeline) = system
            .zip(timeline)
            .ok_or_else(|| Unable::Failed("it cannot be told whose WAL it has".into()))?;
        let end = position(1).map_or(replayed, |received| received.max(replayed));
        Ok(Own { system, place: WalPlace { timeline, segment }, replayed, end })
    }

    /// Copies until the other side has no further page of this history.
    async fn copy(
        &self,
        peer: &dyn Member,
        mut ask: WalAsk,
        own: &Own,
        writing: &Writing,
    ) -> Result<(), Unable> {
        let start = ask.from;
        loop {
            let at = ask.from;
            let came = peer.wal(ask.clone()).await.map_err(|error| Unable::Failed(error.to_string()))?;
            let room = own.place.room(at);
            let bytes = came.len() as u64;
            if bytes > room || !belongs(&came, at, own.place.timeline, at == start) {
                return Err(Unable::Failed(format!("what came for {at} is not the WAL of that place")));
            }
            let here = self.instance.read_wal(own.place, at, bytes).await?;
            let overlap = usize::try_from(own.end.bytes_since(at).min(bytes)).unwrap_or(usize::MAX);
            if overlap > 0 && here.get(..overlap) != came.get(..overlap) {
                return Err(Unable::Refused(format!("what it has at {at} is not what the other node has")));
            }
            if here != came {
                self.withdraw();
                self.instance.write_pages(own.place, at, came, Arc::clone(writing)).await?;
            }
            ask.from = Lsn(at.0 + bytes);
            if bytes < room {
                break;
            }
        }
        if ask.from == start || !self.is_all(own, ask.from).await? {
            let why = format!("the other node has no WAL at {}, which this one has", ask.from);
            return Err(Unable::Refused(why));
        }
        Ok(())
    }

    /// True if what it has itself ends there, but for what a switch has left blank.
    async fn is_all(&self, own: &Own, at: Lsn) -> Result<bool, Unable> {
        let more = own.end.bytes_since(at);
        if more == 0 || more > own.place.left(at) {
            return Ok(more == 0);
        }
        let more = self.instance.read_wal(own.place, at, more).await?;
        Ok(!more.is_empty() && is_blank(&more))
    }

    /// From here on the position of the recruit does not stand still.
    fn withdraw(&self) {
        self.board.update(|s| {
            s.recruited = None;
            s.refresh();
        });
    }

    /// The other side: pages of a server that is fenced under the asker's epoch, or a later one, and is not started while
    /// they are read.
    pub(super) async fn hand_out(&self, ask: WalAsk) -> Result<Vec<u8>, String> {
        let late = |_| format!("no WAL could be read within {HAND_OUT:?}");
        let _life = timeout(HAND_OUT, self.life.lock()).await.map_err(late)?;
        let (fenced, system) = self.board.read(|s| match &s.facts.server.value {
            Server::Down(down) => (down.fenced, s.facts.system),
            _ => (None, s.facts.system),
        });
        if !fenced.is_some_and(|by| by.same_epoch(ask.stamp) || by > ask.stamp) {
            return Err(format!("it is not fenced under {}", ask.stamp));
        }
        if system != Some(ask.system) {
            return Err("its data belongs to another system".into());
        }
        match timeout(HAND_OUT, self.instance.find()).await.map_err(late)? {
            Ok(None) => {}
            Ok(Some(_)) => return Err("its PostgreSQL runs".into()),
            Err(error) => return Err(error.to_string()),
        }
        if !self.instance.nothing_is_left() {
            return Err("killed processes of it have not ended: its WAL is not final".into());
        }
        let place = WalPlace { timeline: ask.timeline, segment: ask.segment };
        let pages = self.instance.read_pages(place, ask.from, HAND_OUT).await;
        pages.map_err(|error| error.to_string())
    }
}
