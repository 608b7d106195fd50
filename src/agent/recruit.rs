//! Taking the pen: cutting a standby from its primary, on disk first, and applying all it has.
//!
//! After the attest the old primary can acknowledge nothing more through this standby, and its position stands still.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{board::State, inner::Inner, orders::Unable};
use crate::{
    model::{Lsn, ReplayState, Server, Stamp},
    postgres::{
        Postmaster,
        sql::{Sql, SqlError},
    },
};

/// One statement of this file.
const STATEMENT: Duration = Duration::from_secs(5);
/// Between two looks.
const STEP: Duration = Duration::from_millis(1);
/// How often in a row a standby must be seen quiet at one position.
const QUIET: u32 = 2;
/// The same where `/proc` does not tell whether the startup process sleeps: time must do.
const QUIET_BLIND: u32 = 50;

/// The aggregate is complete before its row is projected: the positions are read after the receiver was seen gone.
const LOOK: &str = "\
    SELECT s.receivers, s.startup, s.waits, pg_last_wal_replay_lsn(), pg_get_wal_replay_pause_state() \
      FROM (SELECT count(*) FILTER (WHERE backend_type = 'walreceiver') AS receivers, \
                   max(pid) FILTER (WHERE backend_type = 'startup') AS startup, \
                   coalesce(bool_or(wait_event IN ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval')) \
                            FILTER (WHERE backend_type = 'startup'), false) AS waits \
              FROM pg_stat_get_activity(NULL)) s";

/// One look at a standby that is being cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    receiver_gone: bool,
    startup: Option<u32>,
    waits: bool,
    replayed: Lsn,
}

impl Inner {
    /// Cuts the standby and attests. Safe to repeat.
    pub(super) async fn recruit(self: &Arc<Self>, stamp: Stamp) -> Result<(), Unable> {
        self.running_standby()?;
        self.keep_word(stamp).await?;
        let postmaster = self.running_standby()?;
        let sql = self.sql().await?;
        self.undo_pause(&sql).await?;
        let generation = self.board.read(|s| s.generation);
        self.instance.set(&[("primary_conninfo", ""), ("restore_command", "")]).await?;
        postmaster.reload()?;
        let kept = self.remember(move |p| {
            p.recruited = Some(stamp);
            p.upstream = None;
        });
        // What a rescue that was given up may still be writing.
        let _quiet = self.pages.lock().await;
        let (applied, kept) = tokio::join!(self.apply_all(&sql), kept);
        applied?;
        kept?;
        // The quick one: a failover waits for it.
        self.look(false).await?;
        if !self.attest(stamp, generation, |_| true) {
            return Err(Unable::Failed("the server was restarted meanwhile, or streams again".into()));
        }
        self.note_unfinished(&sql, generation).await;
        self.look(true).await?;
        match self.board.read(|s| s.recruited) {
            Some(_) => Ok(()),
            None => Err(Unable::Failed("it streams again: something else sets primary_conninfo".into())),
        }
    }

    /// Puts on the board that the standby stands still. It must have been looked at since it does: whoever reads the attest reads
    /// the position next to it. False: it is another server by now, or streams.
    fn attest(&self, stamp: Stamp, generation: u64, is_wanted: impl FnOnce(&State) -> bool) -> bool {
        self.board.update(|s| {
            let is_cut = matches!(&s.facts.server.value, Server::Standby(standby) if !standby.streaming);
            let attested = s.generation == generation && is_cut && is_wanted(s);
            if attested {
                s.recruited = Some(stamp);
                s.refresh();
            }
            attested
        })
    }

    /// Attests again what is remembered of a recruit whose agent or server was started anew: it is cut on disk, and
    /// once it has applied all it has, its position stands still again.
    pub(super) async fn attest_again(self: &Arc<Self>, stamp: Stamp) -> Result<(), Unable> {
        let generation = self.board.read(|s| s.generation);
        let sql = self.sql().await?;
        let _quiet = self.pages.lock().await;
        self.apply_all(&sql).await?;
        self.look(false).await?;
        // Whoever led it elsewhere meanwhile has changed what is remembered first.
        if self.attest(stamp, generation, |s| s.unattested() == Some(stamp)) {
            self.note_unfinished(&sql, generation).await;
        }
        Ok(())
    }

    /// Reads whether a record begins where replay stands that is not whole. A server that was started again counts only whole
    /// records, and the primary may have seen more of it confirmed.
    async fn note_unfinished(&self, sql: &Sql, generation: u64) {
        let read = async {
            let own = self.own(sql).await?;
            Ok::<_, Unable>(self.instance.unfinished_record(own.place, own.replayed).await?)
        };
        match read.await {
            Ok(until) => self.board.update(|s| {
                if s.generation == generation {
                    s.unfinished_until = until;
                    s.refresh();
                }
            }),
            Err(unable) => tracing::warn!(?unable, "cannot tell whether the last record is whole"),
        }
    }

    /// A pause for a proof ends here; a person's pause is theirs.
    async fn undo_pause(self: &Arc<Self>, sql: &Sql) -> Result<(), Unable> {
        let state = sql.value("SELECT pg_get_wal_replay_pause_state()", STATEMENT).await?;
        if state.as_deref() == Some("not paused") {
            return Ok(());
        }
        if self.held().await.paused.is_none() {
            return Err(Unable::Refused("replay is paused, not by Locum; resume it first".into()));
        }
        sql.run("SELECT pg_wal_replay_resume()", STATEMENT).await?;
        self.remember(|p| p.paused = None).await
    }

    /// Until the receiver's process is gone and the startup process has applied every complete record: it sleeps,
    /// waiting for WAL, seen twice at one position.
    ///
    /// "Replayed = received" may never come, when the last record is torn; "it stopped moving" alone proves nothing.
    /// SIGHUP makes the startup process read the configuration itself, give up a receiver it may be about to ask for,
    /// and look through `pg_wal` again. A process that was signalled is not asleep until it has done all that.
    pub(super) async fn apply_all(&self, sql: &Sql) -> Result<(), Unable> {
        let mut last: Option<Look> = None;
        let mut signalled = false;
        let (mut quiet, mut needed) = (0_u32, QUIET);
        loop {
            let look = look(sql).await?;
            if let Some(pid) = look.startup.filter(|_| !signalled) {
                signalled = true;
                let postmaster = self.attached.borrow().clone();
                if postmaster.is_none_or(|postmaster| postmaster.reload_child(pid).is_err()) {
                    needed = QUIET_BLIND;
                }
                continue;
            }
            let postmaster = self.attached.borrow().as_ref().map(Postmaster::pid);
            let asleep = look.startup.is_some_and(|pid| match sleeps(pid, postmaster) {
                Some(asleep) => asleep,
                None => {
                    needed = QUIET_BLIND;
                    true
                }
            });
            let still = look.receiver_gone && look.waits && asleep;
            quiet = match still {
                true if last == Some(look) => quiet + 1,
                true => 1,
                false => 0,
            };
            if quiet >= needed {
                return Ok(());
            }
            last = Some(look);
            sleep(STEP).await;
        }
    }

    /// Pauses replay for a proof that names are in force.
    pub(super) async fn pause_replay(self: &Arc<Self>, stamp: Stamp) -> Result<(), Unable> {
        self.running_standby()?;
        let sql = self.sql().await?;
        let paused = "SELECT pg_get_wal_replay_pause_state()";
        let before = sql.value(paused, STATEMENT).await?;
        if before.as_deref() != Some("not paused") && self.held().await.paused.is_none() {
            return Err(Unable::Refused("replay is paused already, not by Locum".into()));
        }
        // On disk first: a pause that nobody remembers would be taken for a person's.
        self.remember(move |p| p.paused = Some(stamp)).await?;
        sql.run("SELECT pg_wal_replay_pause()", STATEMENT).await?;
        while sql.value(paused, STATEMENT).await?.as_deref() != Some("paused") {
            sleep(STEP).await;
        }
        Ok(self.look(false).await?)
    }

    /// Lets replay go on, if it was paused for a proof.
    pub(super) async fn resume_replay(self: &Arc<Self>) -> Result<(), Unable> {
        let by_person =
            |s: &Server| matches!(s, Server::Standby(s) if s.replay == ReplayState::PausedByPerson);
        self.running_standby()?;
        self.look(false).await?;
        if self.board.read(|s| by_person(&s.facts.server.value)) {
            return Err(Unable::Refused("replay was paused by a person, who must resume it".into()));
        }
        self.sql().await?.run("SELECT pg_wal_replay_resume()", STATEMENT).await?;
        self.remember(|p| p.paused = None).await?;
        Ok(self.look(false).await?)
    }
}

async fn look(sql: &Sql) -> Result<Look, SqlError> {
    let rows = sql.run(LOOK, STATEMENT).await?;
    let cell = |i: usize| rows.first().and_then(|row| row.get(i)?.as_deref());
    if cell(4).is_some_and(|state| state != "not paused") {
        return Err(SqlError::NotReady("replay was paused meanwhile".into()));
    }
    Ok(Look {
        receiver_gone: cell(0) == Some("0"),
        startup: cell(1).and_then(|pid| pid.parse().ok()),
        waits: cell(2) == Some("t"),
        replayed: cell(3).and_then(|lsn| lsn.parse().ok()).unwrap_or_default(),
    })
}

/// Whether a child of the postmaster sleeps, with nothing that would wake it; nobody else does who got its number. None:
/// `/proc` does not say.
fn sleeps(pid: u32, postmaster: Option<u32>) -> Option<bool> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (state, parent) = state_of(&stat)?;
    Some(state == 'S' && Some(parent) == postmaster)
}

/// State and parent in a line of `/proc/<pid>/stat`; the command before them may hold anything, brackets too.
fn state_of(stat: &str) -> Option<(char, u32)> {
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_found_behind_any_command() {
        assert_eq!(state_of("42 (postgres) S 1 42"), Some(('S', 1)));
        assert_eq!(state_of("42 (po) R (x) D 7 42"), Some(('D', 7)));
        assert_eq!(state_of(""), None);
    }
}
