//! The rows of the RPO history: seconds as they were sampled, and the minutes they add up to. No clock, no buffering.

use jiff::Timestamp;
use rusqlite::{Connection, Result, Row, params, types::FromSql};
use serde::Serialize;

use super::database::Kind;
use crate::model::{LiveRpo, Objectives};

/// The file. People may query it with SQL, so its columns say what they hold.
pub(super) static HISTORY: Kind = Kind {
    what: "RPO history",
    application_id: 0x4C6F_6302,
    format: 1,
    schema: "CREATE TABLE rpo_second (
                 at        INTEGER PRIMARY KEY,  -- wall clock, seconds since 1970 UTC; datetime(at, 'unixepoch')
                 bytes_max INTEGER,              -- greatest exposure; NULL: never known
                 ms_max    REAL,
                 samples   INTEGER NOT NULL,
                 unknown   INTEGER NOT NULL,     -- samples in which the exposure was not known
                 breach    INTEGER NOT NULL      -- samples beyond the objective
             ) STRICT;
             CREATE TABLE rpo_minute (
                 at        INTEGER PRIMARY KEY,  -- as above; the minute's first second
                 bytes_p50 INTEGER, bytes_p95 INTEGER, bytes_p99 INTEGER, bytes_max INTEGER,
                 ms_p50    REAL,    ms_p95    REAL,    ms_p99    REAL,    ms_max    REAL,
                 seconds   INTEGER NOT NULL,     -- seconds that were sampled
                 unknown_ms INTEGER NOT NULL,
                 breach_ms INTEGER NOT NULL
             ) STRICT;",
    synchronous: "NORMAL",
};

/// How many seconds are kept: a day, some 4 MB. By number, not by age: a wall clock that leaps must delete nothing.
const SECONDS_KEPT: i64 = 86_400;
/// How many minutes are kept: a year, some 50 MB.
const MINUTES_KEPT: i64 = 366 * 1_440;

/// What was sampled within a second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Second {
    bytes_max: Option<u64>,
    ms_max: Option<f64>,
    samples: u32,
    unknown: u32,
    breach: u32,
}

impl Second {
    /// Adds a sample. It is in breach if acknowledged commits were exposed for longer than the objective allows, or
    /// for nobody knows how long.
    pub(super) fn add(&mut self, live: &LiveRpo, objectives: &Objectives) {
        let exposed = !live.acknowledged_is_safe;
        self.merge(Self {
            bytes_max: live.bytes,
            ms_max: live.ms,
            samples: 1,
            unknown: u32::from(live.bytes.is_none() || live.ms.is_none()),
            breach: u32::from(exposed && live.ms.is_none_or(|ms| ms > objectives.rpo_ms)),
        });
    }

    /// Adds what else was sampled within the same second.
    pub(super) fn merge(&mut self, other: Self) {
        self.bytes_max = self.bytes_max.max(other.bytes_max);
        self.ms_max = match (self.ms_max, other.ms_max) {
            (Some(one), Some(two)) => Some(one.max(two)),
            (one, two) => one.or(two),
        };
        self.samples += other.samples;
        self.unknown += other.unknown;
        self.breach += other.breach;
    }

    /// The share of the second that `samples` of its samples stand for, in milliseconds.
    fn share_ms(&self, samples: u32) -> u64 {
        u64::from(samples) * 1_000 / u64::from(self.samples.max(1))
    }
}

/// How the seconds' greatest values spread over a minute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread<T> {
    /// Half of the seconds were no worse.
    pub p50: T,
    /// 95 of 100 were no worse.
    pub p95: T,
    /// 99 of 100 were no worse.
    pub p99: T,
    /// The worst.
    pub max: T,
}

impl<T: Copy> Spread<T> {
    /// By nearest rank, which never understates. None: there are no values.
    fn of(mut values: Vec<T>, order: impl FnMut(&T, &T) -> std::cmp::Ordering) -> Option<Self> {
        values.sort_by(order);
        let rank = |percent: usize| values.get((values.len() * percent).div_ceil(100).max(1) - 1).copied();
        Some(Self { p50: rank(50)?, p95: rank(95)?, p99: rank(99)?, max: rank(100)? })
    }
}

/// A minute of the live RPO.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RpoMinute {
    /// Its first second, by the wall clock.
    pub at: Timestamp,
    /// Bytes at risk. None: never known.
    pub bytes: Option<Spread<u64>>,
    /// Milliseconds of work at risk. None: never known.
    pub ms: Option<Spread<f64>>,
    /// For how many of its seconds there are samples.
    pub seconds: u64,
    /// For how many milliseconds the exposure was not known.
    pub unknown_ms: u64,
    /// For how many milliseconds it was beyond the objective, or may have been.
    pub breach_ms: u64,
}

/// Adds to what is known of a second.
pub(super) fn add_second(db: &Connection, at: i64, second: &Second) -> Result<()> {
    let sql =
        "INSERT INTO rpo_second (at, bytes_max, ms_max, samples, unknown, breach) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (at) DO UPDATE SET
             bytes_max = coalesce(max(bytes_max, excluded.bytes_max), bytes_max, excluded.bytes_max),
             ms_max = coalesce(max(ms_max, excluded.ms_max), ms_max, excluded.ms_max),
             samples = samples + excluded.samples,
             unknown = unknown + excluded.unknown,
             breach = breach + excluded.breach";
    let bytes = second.bytes_max.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let row = params![at, bytes, second.ms_max, second.samples, second.unknown, second.breach];
    db.prepare_cached(sql)?.execute(row).map(drop)
}

/// Adds up anew the minute that begins at `at`, from its seconds.
pub(super) fn roll_up(db: &Connection, at: i64) -> Result<()> {
    let mut within = db.prepare_cached(
        "SELECT bytes_max, ms_max, samples, unknown, breach FROM rpo_second WHERE at >= ?1 AND at < ?1 + 60",
    )?;
    let second = |row: &Row<'_>| {
        Ok(Second {
            bytes_max: row.get::<_, Option<i64>>(0)?.map(i64::unsigned_abs),
            ms_max: row.get(1)?,
            samples: row.get(2)?,
            unknown: row.get(3)?,
            breach: row.get(4)?,
        })
    };
    let seconds: Vec<Second> = within.query_map([at], second)?.collect::<Result<_>>()?;
    let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    let bytes = Spread::of(seconds.iter().filter_map(|s| s.bytes_max.map(signed)).collect(), i64::cmp);
    let ms = Spread::of(seconds.iter().filter_map(|s| s.ms_max).collect(), f64::total_cmp);
    let unknown: u64 = seconds.iter().map(|s| s.share_ms(s.unknown)).sum();
    let breach: u64 = seconds.iter().map(|s| s.share_ms(s.breach)).sum();
    db.prepare_cached("INSERT OR REPLACE INTO rpo_minute VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?
        .execute(params![
            at,
            bytes.map(|s| s.p50),
            bytes.map(|s| s.p95),
            bytes.map(|s| s.p99),
            bytes.map(|s| s.max),
            ms.map(|s| s.p50),
            ms.map(|s| s.p95),
            ms.map(|s| s.p99),
            ms.map(|s| s.max),
            signed(seconds.len() as u64),
            signed(unknown),
            signed(breach),
        ])
        .map(drop)
}

/// Deletes what is beyond the numbers kept.
pub(super) fn prune(db: &Connection) -> Result<()> {
    for (table, kept) in [("rpo_second", SECONDS_KEPT), ("rpo_minute", MINUTES_KEPT)] {
        let sql = format!(
            "DELETE FROM {table} WHERE at <= (SELECT at FROM {table} ORDER BY at DESC LIMIT 1 OFFSET ?)"
        );
        db.execute(&sql, [kept])?;
    }
    Ok(())
}

/// The last minutes from `since` on, `limit` at most, oldest first.
pub(super) fn minutes(db: &Connection, since: i64, limit: usize) -> Result<Vec<RpoMinute>> {
    let mut newest = db.prepare_cached("SELECT * FROM rpo_minute WHERE at >= ? ORDER BY at DESC LIMIT ?")?;
    let rows = newest.query_map(params![since, i64::try_from(limit).unwrap_or(i64::MAX)], minute)?;
    let mut minutes: Vec<RpoMinute> = rows.collect::<Result<_>>()?;
    minutes.reverse();
    Ok(minutes)
}

fn minute(row: &Row<'_>) -> Result<RpoMinute> {
    let whole = |name| row.get::<_, i64>(name).map(i64::unsigned_abs);
    let bytes = spread(row, 1)?.map(|s: Spread<i64>| Spread {
        p50: s.p50.unsigned_abs(),
        p95: s.p95.unsigned_abs(),
        p99: s.p99.unsigned_abs(),
        max: s.max.unsigned_abs(),
    });
    Ok(RpoMinute {
        at: Timestamp::from_second(row.get("at")?).unwrap_or(Timestamp::MIN),
        bytes,
        ms: spread(row, 5)?,
        seconds: whole("seconds")?,
        unknown_ms: whole("unknown_ms")?,
        breach_ms: whole("breach_ms")?,
    })
}

fn spread<T: FromSql>(row: &Row<'_>, first: usize) -> Result<Option<Spread<T>>> {
    let (p50, p95, p99, max) =
        (row.get(first)?, row.get(first + 1)?, row.get(first + 2)?, row.get(first + 3)?);
    Ok(match (p50, p95, p99, max) {
        (Some(p50), Some(p95), Some(p99), Some(max)) => Some(Spread { p50, p95, p99, max }),
        _ => None,
    })
}
