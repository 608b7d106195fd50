//! Looking at the own server over a kept connection: one cheap statement ten times a second, and a fuller one now
//! and then. Reads only.

use std::time::Duration;

use tokio_postgres::{Row, Statement, types::PgLsn};

pub use super::proc::CpuTime;
use super::{
    proc,
    sql::{Access, CONNECT, Sql, SqlError},
};
use crate::model::{Lsn, Slot, StandbyName, Timeline, WalSender};

/// How long one look may take before its connection is given up.
pub const LOOK: Duration = Duration::from_secs(3);

/// On a primary. The aggregate is complete before its row is projected, and only the projection reads the flush
/// position: so every standby's position is read before the primary's, and their distance is never below the truth.
const PRIMARY: &str = "\
    SELECT pg_is_in_recovery(), s.names, s.streaming, s.flushed, s.sync, s.busy, \
           current_setting('default_transaction_read_only') = 'off', \
           CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_flush_lsn() END \
      FROM (SELECT array_agg(a.application_name) FILTER (WHERE w.pid IS NOT NULL) AS names, \
                   array_agg(w.state = 'streaming') FILTER (WHERE w.pid IS NOT NULL) AS streaming, \
                   array_agg(w.flush_lsn) FILTER (WHERE w.pid IS NOT NULL) AS flushed, \
                   array_agg(w.sync_state IN ('sync', 'quorum')) FILTER (WHERE w.pid IS NOT NULL) AS sync, \
                   count(*) FILTER (WHERE a.backend_type = 'client backend' AND a.state IS DISTINCT FROM 'idle' \
                                      AND a.application_name <> 'locum') AS busy \
              FROM pg_stat_get_activity(NULL) a LEFT JOIN pg_stat_get_wal_senders() w ON w.pid = a.pid) s";

/// On a standby. `pg_last_wal_receive_lsn()` alone stands at a segment's start after a restart.
const STANDBY: &str = "\
    SELECT pg_is_in_recovery(), greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), \
           pg_last_wal_replay_lsn(), coalesce(r.status = 'streaming', false), r.received_tli, \
           CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() <> 'not paused' ELSE false END \
      FROM pg_stat_get_wal_receiver() r";

const PRIMARY_MORE: &str = "\
    SELECT CASE WHEN pg_is_in_recovery() THEN NULL \
                ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END, \
           (SELECT timeline_id FROM pg_control_checkpoint()), current_setting('synchronous_standby_names'), \
           s.names, s.active, s.retained, (SELECT sum(checksum_failures)::int8 FROM pg_stat_database), \
           (SELECT array_agg(slot_name::text ORDER BY slot_name) FROM pg_get_replication_slots() \
             WHERE slot_type = 'logical' AND NOT temporary), \
           (SELECT redo_lsn FROM pg_control_checkpoint()), s.confirmed \
      FROM (SELECT array_agg(slot_name::text) AS names, array_agg(restart_lsn) AS confirmed, array_agg(active) AS active, \
                   array_agg(CASE WHEN pg_is_in_recovery() OR restart_lsn IS NULL THEN 0 \
                      ELSE pg_wal_lsn_diff(pg_current_wal_flush_lsn(), restart_lsn)::int8 END) AS retained \
              FROM pg_get_replication_slots() WHERE slot_type = 'physical') s";

/// What an older version does not have is null: only 17 and later synchronise logical slots.
const STANDBY_MORE: &str = "\
    SELECT current_setting('primary_conninfo'), \
           greatest((SELECT timeline_id FROM pg_control_checkpoint()), \
                    (SELECT min_recovery_end_timeline FROM pg_control_recovery())), \
           (SELECT sum(checksum_failures)::int8 FROM pg_stat_database), \
           (SELECT array_agg(s.slot_name::text ORDER BY s.slot_name) \
              FROM pg_replication_slots s, LATERAL to_jsonb(s) j \
             WHERE s.slot_type = 'logical' AND NOT s.temporary AND (j->>'synced')::bool \
               AND j->>'invalidation_reason' IS NULL), \
           (SELECT pid FROM pg_stat_get_activity(NULL) WHERE backend_type = 'startup')";

/// The quick look at a primary.
#[derive(Clone, Debug, PartialEq)]
pub struct PrimaryLook {
    /// Who streams from it, read before `flushed`.
    pub senders: Vec<WalSender>,
    /// Client sessions inside a transaction.
    pub busy: u64,
    /// New sessions may write.
    pub writable: bool,
    /// Its flush position.
    pub flushed: Lsn,
}

/// The fuller look at a primary.
#[derive(Clone, Debug, PartialEq)]
pub struct PrimaryMore {
    /// Its timeline.
    pub timeline: Timeline,
    /// The timeline of its last checkpoint.
    pub checkpoint_timeline: Timeline,
    /// The redo point of its last checkpoint.
    pub redo: Lsn,
    /// `synchronous_standby_names`, as this session has it.
    pub names: String,
    /// Its physical slots.
    pub slots: Vec<Slot>,
    /// Pages whose checksum was found wrong. None: there are no checksums.
    pub checksum_failures: Option<u64>,
    /// Its lasting logical slots.
    pub logical_slots: Vec<String>,
    /// What the user of each physical slot has confirmed to have flushed.
    pub confirmed: Vec<(String, Lsn)>,
}

/// The quick look at a standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyLook {
    /// The greater of received and replayed.
    pub flushed: Lsn,
    /// Replayed.
    pub replayed: Lsn,
    /// Its receiver streams.
    pub streaming: bool,
    /// The timeline its receiver is on; None without one.
    pub received_timeline: Option<Timeline>,
    /// Replay is paused, or was asked to pause.
    pub paused: bool,
    /// What the process that replays has had of the CPUs. None: not known.
    pub cpu: Option<CpuTime>,
}

/// The fuller look at a standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyMore {
    /// `primary_conninfo`, as this session has it.
    pub conninfo: String,
    /// The timeline that its control file knows, which may lag behind; or a later one that its WAL was found to be on.
    pub timeline: Timeline,
    /// As [`PrimaryMore::checksum_failures`].
    pub checksum_failures: Option<u64>,
    /// The logical slots that it keeps in step with the primary's.
    pub logical_slots: Vec<String>,
}

/// What was seen. `more` is there when it was asked for, and after a change of role.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    /// Out of recovery.
    Primary(PrimaryLook, Option<PrimaryMore>),
    /// In recovery.
    Standby(StandbyLook, Option<StandbyMore>),
}

/// The kept connection with its prepared statements.
#[derive(Debug)]
pub struct Observer {
    sql: Sql,
    primary: Statement,
    primary_more: Statement,
    standby: Statement,
    standby_more: Statement,
    in_recovery: bool,
    /// The process that replays, once it was looked for.
    replays: Option<u32>,
}

impl Observer {
    /// Connects and prepares.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn connect(access: &Access) -> Result<Self, SqlError> {
        let sql = access.connect(CONNECT).await?;
        let prepared = tokio::time::timeout(LOOK, async {
            let c = sql.client();
            let all = tokio::try_join!(
                c.prepare(PRIMARY),
                c.prepare(PRIMARY_MORE),
                c.prepare(STANDBY),
                c.prepare(STANDBY_MORE)
            )?;
            let in_recovery: bool = c.query_one("SELECT pg_is_in_recovery()", &[]).await?.get(0);
            Ok::<_, tokio_postgres::Error>((all, in_recovery))
        });
        let ((primary, primary_more, standby, standby_more), in_recovery) =
            prepared.await.map_err(|_| SqlError::Silent(LOOK))??;
        Ok(Self { sql, primary, primary_more, standby, standby_more, in_recovery, replays: None })
    }

    /// The connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sql.is_closed()
    }

    /// Closes the socket without a word to a server that hangs.
    pub fn abandon(self) {
        self.sql.abandon();
    }

    /// Looks, and looks at more if asked to. Not bounded: the caller knows what waiting means.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn look(&mut self, more: bool) -> Result<Look, SqlError> {
        // The role may change between two statements; each says its own, and one change in a row is the most.
        for _ in 0..2 {
            let statement = if self.in_recovery { &self.standby } else { &self.primary };
            let answer = self.sql.client().query_one(statement, &[]).await;
            let row = answer.map_err(|error| self.sql.noted(error.into()))?;
            let in_recovery: bool = row.try_get(0)?;
            if in_recovery == self.in_recovery {
                return if in_recovery {
                    self.standby(&row, more).await
                } else {
                    self.primary(&row, more).await
                };
            }
            self.in_recovery = in_recovery;
        }
        Err(SqlError::NotReady("its role changes".into()))
    }

    async fn primary(&self, row: &Row, more: bool) -> Result<Look, SqlError> {
        let quick = primary_look(row)?;
        let more = if more {
            Some(primary_more(&self.sql.client().query_one(&self.primary_more, &[]).await?)?)
        } else {
            None
        };
        Ok(Look::Primary(quick, more))
    }

    async fn standby(&mut self, row: &Row, more: bool) -> Result<Look, SqlError> {
        let mut quick = standby_look(row)?;
        let more = if more {
            let row = self.sql.client().query_one(&self.standby_more, &[]).await?;
            let timeline: Option<i32> = row.try_get(1)?;
            let replays: Option<i32> = row.try_get(4)?;
            self.replays = replays.map(i32::unsigned_abs);
            Some(StandbyMore {
                conninfo: row.try_get(0)?,
                timeline: tli(timeline),
                checksum_failures: count(row.try_get(2)?),
                logical_slots: row.try_get::<_, Option<_>>(3)?.unwrap_or_default(),
            })
        } else {
            None
        };
        quick.cpu = self.replays.and_then(proc::cpu_time);
        Ok(Look::Standby(quick, more))
    }
}

fn primary_look(row: &Row) -> Result<PrimaryLook, tokio_postgres::Error> {
    let names: Option<Vec<Option<String>>> = row.try_get(1)?;
    let streaming: Option<Vec<Option<bool>>> = row.try_get(2)?;
    let flushed: Option<Vec<Option<PgLsn>>> = row.try_get(3)?;
    let sync: Option<Vec<Option<bool>>> = row.try_get(4)?;
    let parts = names
        .into_iter()
        .flatten()
        .zip(streaming.into_iter().flatten())
        .zip(flushed.into_iter().flatten().zip(sync.into_iter().flatten()));
    let senders = parts
        .map(|((name, streaming), (flushed, sync))| WalSender {
            name: StandbyName(name.unwrap_or_default()),
            streaming: streaming.unwrap_or(false),
            flushed: lsn(flushed),
            sync: sync.unwrap_or(false),
        })
        .collect();
    let busy: i64 = row.try_get(5)?;
    let end: Option<PgLsn> = row.try_get(7)?;
    Ok(PrimaryLook { senders, busy: busy.unsigned_abs(), writable: row.try_get(6)?, flushed: lsn(end) })
}

fn primary_more(row: &Row) -> Result<PrimaryMore, tokio_postgres::Error> {
    let timeline: Option<String> = row.try_get(0)?;
    let checkpoint: i32 = row.try_get(1)?;
    let names: Option<Vec<Option<String>>> = row.try_get(3)?;
    let active: Option<Vec<Option<bool>>> = row.try_get(4)?;
    let retained: Option<Vec<Option<i64>>> = row.try_get(5)?;
    let confirmed: Option<Vec<Option<PgLsn>>> = row.try_get(9)?;
    let confirmed = names.iter().flatten().zip(confirmed.into_iter().flatten());
    let confirmed = confirmed.filter_map(|(name, at)| Some((name.clone()?, lsn(Some(at?))))).collect();
    let parts =
        names.into_iter().flatten().zip(active.into_iter().flatten().zip(retained.into_iter().flatten()));
    let slots = parts
        .map(|(name, (active, retained))| Slot {
            name: name.unwrap_or_default(),
            active: active.unwrap_or(false),
            retained: u64::try_from(retained.unwrap_or(0)).unwrap_or(0),
        })
        .collect();
    Ok(PrimaryMore {
        timeline: Timeline(timeline.and_then(|hex| u32::from_str_radix(&hex, 16).ok()).unwrap_or(0)),
        checkpoint_timeline: tli(Some(checkpoint)),
        names: row.try_get(2)?,
        slots,
        checksum_failures: count(row.try_get(6)?),
        logical_slots: row.try_get::<_, Option<_>>(7)?.unwrap_or_default(),
        redo: lsn(row.try_get(8)?),
        confirmed,
    })
}

fn standby_look(row: &Row) -> Result<StandbyLook, tokio_postgres::Error> {
    let received: Option<i32> = row.try_get(4)?;
    Ok(StandbyLook {
        flushed: lsn(row.try_get(1)?),
        replayed: lsn(row.try_get(2)?),
        streaming: row.try_get(3)?,
        received_timeline: received.map(|t| tli(Some(t))),
        paused: row.try_get(5)?,
        cpu: None,
    })
}

fn lsn(seen: Option<PgLsn>) -> Lsn {
    Lsn(seen.map_or(0, u64::from))
}

fn count(seen: Option<i64>) -> Option<u64> {
    seen.map(i64::unsigned_abs)
}

fn tli(seen: Option<i32>) -> Timeline {
    Timeline(seen.map_or(0, i32::unsigned_abs))
}
