//! The tables of the embedded store, and what is done to them within one transaction. Nothing here begins or ends a
//! transaction, reads a clock or knows a path.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::database::Kind;
use crate::{
    model::Mono,
    ports::{Entry, Guard, LeaseId, Revision, Write},
};

/// Keys, leases, and the revision, which every transaction that changes a key raises by one.
pub(super) static STORE: Kind = Kind {
    what: "store",
    application_id: 0x4C6F_6301,
    format: 1,
    schema: "CREATE TABLE kv (
                 key      TEXT PRIMARY KEY NOT NULL,
                 value    TEXT NOT NULL,
                 created  INTEGER NOT NULL,  -- the revision that created it
                 modified INTEGER NOT NULL,  -- the revision that last changed it
                 lease    INTEGER            -- the lease it vanishes with
             ) STRICT;
             CREATE INDEX kv_lease ON kv (lease) WHERE lease IS NOT NULL;
             CREATE TABLE lease (
                 id         INTEGER PRIMARY KEY,
                 ttl_us     INTEGER NOT NULL,
                 expires_at INTEGER NOT NULL  -- CLOCK_BOOTTIME, microseconds
             ) STRICT;
             CREATE TABLE meta (revision INTEGER NOT NULL) STRICT;
             INSERT INTO meta VALUES (0);",
    synchronous: "FULL",
};

fn micros(at: Mono) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// The revision of the last change.
pub(super) fn revision(db: &Connection) -> Result<Revision> {
    db.prepare_cached("SELECT revision FROM meta")?.query_row([], |row| row.get(0).map(Revision))
}

fn raise(db: &Connection) -> Result<Revision> {
    db.prepare_cached("UPDATE meta SET revision = revision + 1 RETURNING revision")?
        .query_row([], |row| row.get(0).map(Revision))
}

/// Whether a lease has run out and is still there.
pub(super) fn overdue(db: &Connection, now: Mono) -> Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM lease WHERE expires_at <= ?)")?
        .query_row([micros(now)], |row| row.get(0))
}

/// Deletes the leases that have run out, with their keys.
pub(super) fn sweep(db: &Connection, now: Mono) -> Result<()> {
    if !overdue(db, now)? {
        return Ok(());
    }
    let keys = db.execute(
        "DELETE FROM kv WHERE lease IN (SELECT id FROM lease WHERE expires_at <= ?)",
        [micros(now)],
    )?;
    db.execute("DELETE FROM lease WHERE expires_at <= ?", [micros(now)])?;
    if keys > 0 {
        raise(db)?;
    }
    Ok(())
}

/// Whether a lease ends later than its length allows: it was given before the machine was started again, when the
/// clock began anew.
pub(super) fn misdated(db: &Connection, now: Mono) -> Result<bool> {
    db.query_row("SELECT EXISTS (SELECT 1 FROM lease WHERE expires_at > ? + ttl_us)", [micros(now)], |row| {
        row.get(0)
    })
}

/// Lets such leases run their full length from now. One of an earlier start that is *not* seen as misdated ends no
/// earlier than its length after the start, so none ends too early.
pub(super) fn redate(db: &Connection, now: Mono) -> Result<()> {
    db.execute("UPDATE lease SET expires_at = ?1 + ttl_us WHERE expires_at > ?1 + ttl_us", [micros(now)])?;
    Ok(())
}

fn entry(row: &Row<'_>) -> Result<Entry> {
    let (created, modified) = (Revision(row.get(2)?), Revision(row.get(3)?));
    Ok(Entry { key: row.get(0)?, value: row.get(1)?, created, modified })
}

/// One key.
pub(super) fn get(db: &Connection, key: &str) -> Result<Option<Entry>> {
    db.prepare_cached("SELECT key, value, created, modified FROM kv WHERE key = ?")?
        .query_row([key], entry)
        .optional()
}

/// Every key that begins with `prefix`, in order.
pub(super) fn list(db: &Connection, prefix: &str) -> Result<Vec<Entry>> {
    let mut from =
        db.prepare_cached("SELECT key, value, created, modified FROM kv WHERE key >= ? ORDER BY key")?;
    let entries = from.query_map([prefix], entry)?;
    entries.take_while(|e| e.as_ref().map_or(true, |e| e.key.starts_with(prefix))).collect()
}

/// Whether a condition holds.
pub(super) fn holds(db: &Connection, guard: &Guard) -> Result<bool> {
    Ok(match guard {
        Guard::Absent(key) => get(db, key)?.is_none(),
        Guard::Created(key, revision) => get(db, key)?.is_some_and(|e| e.created == *revision),
        Guard::Modified(key, revision) => get(db, key)?.is_some_and(|e| e.modified == *revision),
        Guard::Holds(key, value) => get(db, key)?.is_some_and(|e| e.value == *value),
    })
}

/// Makes the writes in their order, all with one new revision. Returns the last revision: the new one, unless
/// nothing changed.
pub(super) fn write(db: &Connection, writes: &[Write]) -> Result<Revision> {
    let next = Revision(revision(db)?.0 + 1);
    let mut changed = 0;
    for write in writes {
        changed += match write {
            Write::Delete(key) => db.prepare_cached("DELETE FROM kv WHERE key = ?")?.execute([key])?,
            Write::Put { key, value, lease } => db
                .prepare_cached(
                    "INSERT INTO kv (key, value, created, modified, lease) VALUES (?1, ?2, ?3, ?3, ?4)
                     ON CONFLICT (key) DO UPDATE SET value = ?2, modified = ?3, lease = ?4",
                )?
                .execute(params![key, value, next.0, lease.map(|lease| lease.0)])?,
        };
    }
    if changed > 0 { raise(db) } else { revision(db) }
}

/// Whether a lease is there.
pub(super) fn has_lease(db: &Connection, lease: LeaseId) -> Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM lease WHERE id = ?)")?
        .query_row([lease.0], |row| row.get(0))
}

/// Adds a lease that runs out `ttl` from now.
pub(super) fn grant(db: &Connection, lease: LeaseId, ttl: Duration, now: Mono) -> Result<()> {
    let ttl = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
    db.execute("INSERT INTO lease VALUES (?, ?, ?)", [lease.0, ttl, micros(now).saturating_add(ttl)])?;
    Ok(())
}

/// Lets a lease run its full length from now. False: it is gone.
pub(super) fn renew(db: &Connection, lease: LeaseId, now: Mono) -> Result<bool> {
    let renewed = db
        .prepare_cached("UPDATE lease SET expires_at = ?2 + ttl_us WHERE id = ?1")?
        .execute([lease.0, micros(now)])?;
    Ok(renewed > 0)
}

/// Deletes a lease and its keys.
pub(super) fn revoke(db: &Connection, lease: LeaseId) -> Result<()> {
    let keys = db.execute("DELETE FROM kv WHERE lease = ?", [lease.0])?;
    db.execute("DELETE FROM lease WHERE id = ?", [lease.0])?;
    if keys > 0 {
        raise(db)?;
    }
    Ok(())
}
