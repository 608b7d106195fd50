//! Becoming primary: by promotion, by a start in place, or by being one already. And a primary's checkpoint.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{inner::Inner, names::format as format_names, orders::Unable};
use crate::{
    model::{Down, Lsn, Server, Stamp, Standby, StandbyName, WalPosition},
    postgres::{promote, sql::CONNECT, who::PRIMARY_SINCE},
};

/// The checkpoint behind a promotion is tried again this long after it could not be had, doubled each time …
const CHECKPOINT_AGAIN: Duration = Duration::from_millis(500);
/// … up to this.
const CHECKPOINT_AGAIN_LAST: Duration = Duration::from_secs(10);
/// How long a promotion may take until the first write.
const PROMOTION: Duration = Duration::from_secs(25);
/// One statement of this file.
const STATEMENT: Duration = Duration::from_secs(5);
/// Between two looks whether it is writable.
const STEP: Duration = Duration::from_millis(2);
/// How long a checkpoint may take.
const CHECKPOINT: Duration = Duration::from_secs(300);

/// With less WAL to replay, the start itself takes longer than the replay. Less: a slow start is taken for slow replay. More:
/// it is hardly ever measured.
const MEASURED: u64 = 64 << 20;

/// A real commit on the server's own disk.
const WRITE: &str = "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; \
     SELECT pg_logical_emit_message(true, 'locum', 'promoted'); COMMIT";

impl Inner {
    /// Promotes the standby that was recruited in this epoch, or that a hand-over has left with everything.
    pub(super) async fn promote(
        self: &Arc<Self>,
        stamp: Stamp,
        names: &[StandbyName],
        slots: &[String],
        floor: Option<WalPosition>,
    ) -> Result<(), Unable> {
        let held = self.held().await;
        if let Some(unfinished) = held.unfinished {
            return Err(Unable::Refused(format!("a {unfinished:?} of the data directory has not ended")));
        }
        match self.board.read(|s| s.facts.server.value.clone()) {
            Server::Primary(_) => {
                return self.promoted_already(stamp, held.primary_since, held.recruited).await;
            }
            Server::Standby(standby) => promotable(&standby, stamp, floor)?,
            Server::Unknown | Server::Starting | Server::Down(_) => {
                return Err(Unable::Refused("the server is no running standby".into()));
            }
        }
        self.keep_word(stamp).await?;
        let postmaster = self.running_standby()?;
        self.await_guard().await?;
        let (claimed, ()) = tokio::join!(self.claim(stamp), self.make_first_slots(slots));
        claimed?;
        // Inherited names may name itself; nothing leads it anywhere any more.
        let names = format_names(names).map_err(Unable::Refused)?;
        let settings = [
            ("synchronous_standby_names", names.as_str()),
            ("primary_conninfo", ""),
            ("restore_command", ""),
        ];
        if self.instance.set(&settings).await? {
            postmaster.reload()?;
        }
        let kept = self.remember(move |p| {
            p.primary_since = Some(stamp);
            p.recruited = None;
            p.upstream = None;
            p.paused = None;
        });
        self.board.update(|s| s.ordered = true);
        let promotion = promote(&self.instance, &postmaster, self.writable(), PROMOTION);
        let (promoted, kept, ()) = tokio::join!(promotion, kept, self.mark_directory(stamp));
        promoted.map_err(|e| Unable::Failed(e.to_string()))?;
        self.checkpoint_behind();
        kept?;
        Ok(self.look(true).await?)
    }

    /// It is a primary: fine if that is this epoch's doing, perhaps of an agent that was then killed.
    async fn promoted_already(
        self: &Arc<Self>,
        stamp: Stamp,
        since: Option<Stamp>,
        recruited: Option<Stamp>,
    ) -> Result<(), Unable> {
        if since.is_some_and(|s| s.same_epoch(stamp)) {
            return Ok(());
        }
        if recruited.is_some_and(|s| s.same_epoch(stamp)) {
            return self.adopt(stamp).await;
        }
        let since = since.map_or_else(|| "an unknown epoch".into(), |s| s.to_string());
        Err(Unable::Refused(format!("the server is a primary already, since {since}")))
    }

    /// Resolves when a write has succeeded.
    async fn writable(&self) {
        loop {
            if let Ok(sql) = self.sql().await
                && sql
                    .value("SELECT pg_is_in_recovery()", STATEMENT)
                    .await
                    .is_ok_and(|v| v.as_deref() == Some("f"))
                && sql.run(WRITE, STATEMENT).await.is_ok()
            {
                return;
            }
            sleep(STEP).await;
        }
    }

    /// Others rewind from this server only when its control file shows the new timeline: PostgreSQL's own next checkpoint may be
    /// minutes away, so this one is tried again until it is done.
    fn checkpoint_behind(self: &Arc<Self>) {
        let (inner, generation) = (Arc::clone(self), self.board.read(|s| s.generation));
        tokio::spawn(async move {
            let mut pause = CHECKPOINT_AGAIN;
            while inner.board.read(|s| s.generation == generation) {
                match inner.write_checkpoint().await {
                    Ok(()) => return drop(inner.look(true).await),
                    Err(unable) => tracing::warn!(?unable, "no checkpoint after the promotion yet"),
                }
                sleep(pause).await;
                pause = CHECKPOINT_AGAIN_LAST.min(pause * 2);
            }
        });
    }

    async fn write_checkpoint(&self) -> Result<(), Unable> {
        let sql = self.access.connect(CONNECT).await?;
        sql.run("SET statement_timeout = 0", STATEMENT).await?;
        sql.run("CHECKPOINT", CHECKPOINT).await?;
        Ok(())
    }

    /// Writes a checkpoint, so that the stop that follows is short.
    pub(super) async fn checkpoint(&self, stamp: Stamp) -> Result<(), Unable> {
        self.running_primary()?;
        let generation = self.board.read(|s| s.generation);
        self.write_checkpoint().await?;
        self.board.update(|s| {
            if s.generation == generation {
                s.checkpointed = Some(stamp.version);
                s.refresh();
            }
        });
        Ok(())
    }

    /// Starts a stopped primary in place, or attests that it runs.
    pub(super) async fn serve(
        self: &Arc<Self>,
        stamp: Stamp,
        floor: Option<WalPosition>,
    ) -> Result<(), Unable> {
        if let Some(unfinished) = self.held().await.unfinished {
            return Err(Unable::Refused(format!("a {unfinished:?} of the data directory has not ended")));
        }
        let (mut begun, mut started) = (None, Instant::now());
        match self.board.read(|s| s.facts.server.value.clone()) {
            Server::Standby(_) => return Err(Unable::Refused("the server is a standby".into())),
            Server::Unknown => return Err(Unable::Failed("it cannot be told what the server is".into())),
            Server::Primary(_) => {
                // From here on its lease is what others wait for.
                self.claim(stamp).await?;
                return self.adopt(stamp).await;
            }
            Server::Starting => {}
            Server::Down(down) => {
                if let Some(fenced) = down.fenced.filter(|fenced| *fenced >= stamp) {
                    return Err(Unable::Refused(format!(
                        "its end was attested under {fenced}: it is not started at or below that"
                    )));
                }
                if self.instance.has_standby_signal().await? {
                    return self.start_to_promote(stamp).await;
                }
                // Looked at here: this may be ordered before what the dead server left was read.
                let Some(peek) = self.peek().await else {
                    return Err(Unable::Failed("its control file cannot be read".into()));
                };
                if peek.in_recovery {
                    // Its promotion broke off behind the removal of standby.signal. Started as it is, it would go on with the old
                    // primary's timeline, and what that one wrote there beyond could not be told from its own.
                    self.instance.write_standby_signal().await?;
                    return self.start_to_promote(stamp).await;
                }
                has_what_it_must(&down, floor)?;
                self.has_what_it_renewed(&down, stamp).await?;
                // Nobody is let in before its right to serve is confirmed.
                self.claim(stamp).await?;
                begun = Some(peek).filter(|peek| !peek.clean);
                started = Instant::now();
                self.start().await?;
            }
        }
        self.await_server(stamp, |server| matches!(server, Server::Primary(_))).await?;
        if let Some(peek) = begun {
            self.note_recovery(peek.redo, started.elapsed()).await?;
        }
        self.claim(stamp).await?;
        self.adopt(stamp).await
    }

    /// Crash recovery from `redo` on took so long: the next one is estimated by that.
    async fn note_recovery(self: &Arc<Self>, redo: Lsn, took: Duration) -> Result<(), Unable> {
        let flushed = self.board.read(|s| match &s.facts.server.value {
            Server::Primary(primary) => Some(primary.flushed),
            _ => None,
        });
        let Some(rate) = flushed.and_then(|end| rate(end.bytes_since(redo), took)) else { return Ok(()) };
        self.remember(move |p| p.recovery_rate = Some(learned(p.recovery_rate, rate))).await
    }

    /// Whether a stopped server has what its last renewal of the lease said. Asked here, too: whoever ordered the start may
    /// have seen an older renewal, or the disk went back since. One that is not the last holder is judged by the order alone.
    async fn has_what_it_renewed(&self, down: &Down, stamp: Stamp) -> Result<(), Unable> {
        if down.watched {
            return Ok(());
        }
        let Some(renewed) = self.renewed_last(stamp.incarnation).await else { return Ok(()) };
        let Some(wal) = down.wal() else {
            return Err(Unable::Failed("the end of its WAL is not read yet".into()));
        };
        if wal.contains(renewed) {
            return Ok(());
        }
        Err(Unable::Refused(format!(
            "it has {}, and its last renewal of the lease says {renewed}: its disk went back in time",
            wal.position()
        )))
    }

    /// It was declared and ended before it was promoted: it starts cut from everybody. The promotion is an order of its own.
    async fn start_to_promote(self: &Arc<Self>, stamp: Stamp) -> Result<(), Unable> {
        // Of whatever epoch: it acknowledges nothing, and the promotion judges it. Where a disk went back it was left with an
        // upstream, so it is cut anew.
        self.remember(|p| (p.upstream, p.paused) = (None, None)).await?;
        self.instance.set(&[("primary_conninfo", ""), ("restore_command", "")]).await?;
        self.start().await?;
        let answers = |server: &Server| matches!(server, Server::Standby(_) | Server::Primary(_));
        self.await_server(stamp, answers).await
    }

    /// Has the data directory say under which stamp it became the primary's. No session needs to know, so nothing is reloaded.
    async fn mark_directory(&self, stamp: Stamp) {
        if let Err(error) = self.instance.set(&[(PRIMARY_SINCE, &stamp.to_string())]).await {
            tracing::warn!(%error, "the data directory does not say since when it is the primary's");
        }
    }

    async fn adopt(self: &Arc<Self>, stamp: Stamp) -> Result<(), Unable> {
        self.mark_directory(stamp).await;
        self.remember(move |p| {
            if !p.primary_since.is_some_and(|s| s.same_epoch(stamp)) {
                p.primary_since = Some(stamp);
            }
            (p.recruited, p.upstream, p.paused, p.strayed) = (None, None, None, None);
        })
        .await
    }
}

/// What crash recovery replayed in a second; None: too little to tell.
fn rate(bytes: u64, took: Duration) -> Option<u64> {
    let took = u64::try_from(took.as_millis()).ok().filter(|took| *took > 0)?;
    (bytes >= MEASURED).then(|| bytes.saturating_mul(1000) / took)
}

/// What is estimated by from now on. How fast WAL is replayed depends on what it is of, and to expect too much is the dearer
/// mistake: a slower recovery counts at once, a faster one by half.
fn learned(before: Option<u64>, rate: u64) -> u64 {
    before.map_or(rate, |before| rate.min(before.midpoint(rate)))
}

/// Whether a stopped server has what it was judged to have when it was ordered to serve. One that was watched has.
fn has_what_it_must(down: &Down, floor: Option<WalPosition>) -> Result<(), Unable> {
    let Some(floor) = floor.filter(|_| !down.watched) else { return Ok(()) };
    let Some(wal) = down.wal() else {
        return Err(Unable::Failed("the end of its WAL is not read yet".into()));
    };
    if wal.contains(floor) {
        return Ok(());
    }
    let why = format!("it has {}, and must have {floor}: its disk went back in time", wal.position());
    Err(Unable::Refused(why))
}

fn promotable(standby: &Standby, stamp: Stamp, floor: Option<WalPosition>) -> Result<(), Unable> {
    if let Some(floor) = floor.filter(|floor| !standby.wal().contains(*floor)) {
        let why = format!(
            "it has {}, and when it was declared it had {floor}: its disk went back in time",
            standby.flushed
        );
        return Err(Unable::Refused(why));
    }
    if standby.recruited.is_some_and(|by| by.same_epoch(stamp)) {
        return Ok(());
    }
    if standby.streaming {
        return Err(Unable::Refused("it streams from a primary: recruit it first".into()));
    }
    if standby.replayed < standby.flushed {
        return Err(Unable::Refused(
            "it was not recruited in this epoch and has not replayed all it has".into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Incarnation, ReplayEffort, ReplayState, Timeline, Version};

    fn standby(recruited: Option<Stamp>, streaming: bool, replayed: u64) -> Standby {
        Standby {
            timeline: Timeline(1),
            history: Vec::new(),
            flushed: Lsn(100),
            replayed: Lsn(replayed),
            streaming,
            upstream: None,
            replay: ReplayState::Running,
            recruited,
            logical_slots: Vec::new(),
            effort: ReplayEffort::default(),
            unfinished_until: None,
        }
    }

    fn stamp(epoch: u64, version: u64) -> Stamp {
        Stamp { incarnation: Incarnation(1), epoch: Epoch(epoch), version: Version(version) }
    }

    #[test]
    fn a_recovery_is_measured_where_there_was_much_to_replay() {
        assert_eq!(rate(128 << 20, Duration::from_secs(2)), Some(64 << 20));
        assert_eq!(rate(1 << 20, Duration::from_secs(2)), None);
        assert_eq!(rate(128 << 20, Duration::ZERO), None);
    }

    #[test]
    fn a_slower_recovery_counts_at_once_and_a_faster_one_by_half() {
        assert_eq!([learned(None, 90), learned(Some(100), 20), learned(Some(20), 100)], [90, 20, 60]);
    }

    #[test]
    fn only_a_recruit_of_the_same_epoch_or_one_that_has_everything_is_promoted() {
        assert_eq!(
            promotable(&standby(Some(stamp(2, 3)), false, 90), stamp(2, 5), None),
            Ok(()),
            "a torn last record"
        );
        assert!(
            promotable(&standby(Some(stamp(1, 3)), false, 90), stamp(2, 5), None).is_err(),
            "an earlier epoch's"
        );
        assert!(promotable(&standby(None, true, 100), stamp(2, 5), None).is_err(), "it streams");
        assert_eq!(promotable(&standby(None, false, 100), stamp(2, 5), None), Ok(()), "a hand-over");
    }

    #[test]
    fn a_disk_that_went_back_since_it_was_declared_is_not_promoted() {
        let floor = |lsn| Some(WalPosition { timeline: Timeline(1), lsn: Lsn(lsn) });
        let recruited = standby(Some(stamp(2, 3)), false, 100);
        assert_eq!(promotable(&recruited, stamp(2, 5), floor(100)), Ok(()));
        assert!(promotable(&recruited, stamp(2, 5), floor(101)).is_err());
        let torn = Standby { unfinished_until: Some(Lsn(120)), ..recruited };
        assert_eq!(promotable(&torn, stamp(2, 5), floor(101)), Ok(()), "it lacks no whole record");
    }
}
