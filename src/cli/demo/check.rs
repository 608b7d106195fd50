//! Compares what clients were told with what the surviving primary holds.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::{
    history::Attempt,
    link::Fate,
    node::Node,
    writers::{APP_WRITER, DATABASE_WRITERS},
};

/// How many rows are named in a list of what is wrong.
const NAMED: usize = 20;

/// A row's writer and number.
type Key = (u16, u64);

/// What the comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Findings {
    /// Commits that clients were told are durable.
    pub(crate) acknowledged: usize,
    /// Attempts that cannot have been committed.
    pub(crate) failed: usize,
    /// Attempts whose outcome nobody told.
    pub(crate) unknown: usize,
    /// Of the unknown ones: how many are there.
    pub(crate) unknown_found: usize,
    /// Acknowledged and not there.
    pub(crate) lost: usize,
    /// There more than once.
    pub(crate) duplicated: usize,
    /// Refused, and there all the same.
    pub(crate) failed_found: usize,
    /// The first few rows that are lost.
    pub(crate) lost_rows: Vec<Key>,
    /// The first few rows that are there twice.
    pub(crate) duplicated_rows: Vec<Key>,
}

impl Findings {
    #[cfg(test)]
    /// Nothing that was acknowledged is missing, and nothing is there that should not be.
    pub(crate) const fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.failed_found == 0
    }
}

/// Reads every row of the surviving primary, straight from it and not through an endpoint.
///
/// # Errors
/// It cannot be read, or it is no primary.
pub(crate) async fn rows_of(primary: &Node) -> Result<BTreeMap<Key, u64>> {
    let client = primary.superuser_of_app().await.context("connect to the surviving primary")?;
    let recovery = client.query_one("SELECT pg_catalog.pg_is_in_recovery()", &[]).await;
    let recovery: bool = recovery.context("ask the surviving primary")?.get(0);
    ensure!(!recovery, "{} was to be the primary, and is a standby", primary.name);
    let query = "SELECT writer, seq, count(*) FROM rows GROUP BY writer, seq";
    let rows = client.query(query, &[]).await.context("read the surviving primary's rows")?;
    let number = |row: &tokio_postgres::Row, column: usize| u64::try_from(row.get::<_, i64>(column));
    rows.iter()
        .map(|row| Ok(((u16::try_from(row.get::<_, i32>(0))?, number(row, 1)?), number(row, 2)?)))
        .collect()
}

/// Compares.
pub(crate) fn compare(attempts: &[Attempt], rows: &BTreeMap<Key, u64>) -> Findings {
    let mut found = Findings::default();
    for attempt in attempts {
        let key = (attempt.writer, attempt.seq);
        let there = rows.contains_key(&key);
        match (attempt.fate, there) {
            (Fate::Acknowledged, true) => found.acknowledged += 1,
            (Fate::Acknowledged, false) => {
                found.acknowledged += 1;
                found.lost += 1;
                found.lost_rows.push(key);
            }
            (Fate::Failed, there) => {
                found.failed += 1;
                found.failed_found += usize::from(there);
            }
            (Fate::Unknown, there) => {
                found.unknown += 1;
                found.unknown_found += usize::from(there);
            }
        }
    }
    let ours = |writer: u16| DATABASE_WRITERS.contains(&writer) || writer == APP_WRITER;
    for (key, _) in rows.iter().filter(|(key, count)| **count > 1 && ours(key.0)) {
        found.duplicated += 1;
        found.duplicated_rows.push(*key);
    }
    found.lost_rows.truncate(NAMED);
    found.duplicated_rows.truncate(NAMED);
    found
}

/// How many acknowledged rows of the stretch (`after`, `until`] are missing: a fault's own share.
pub(crate) fn lost_between(
    attempts: &[Attempt],
    rows: &BTreeMap<Key, u64>,
    after: crate::model::Mono,
    until: crate::model::Mono,
) -> usize {
    attempts
        .iter()
        .filter(|a| a.fate == Fate::Acknowledged && a.end > after && a.end <= until)
        .filter(|a| !rows.contains_key(&(a.writer, a.seq)))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Mono;

    fn attempt(seq: u64, fate: Fate) -> Attempt {
        Attempt { writer: 1, seq, start: Mono(seq), end: Mono(seq), fate }
    }

    #[test]
    fn lost_duplicated_and_unknown_rows_are_told_apart() {
        let attempts = [
            attempt(1, Fate::Acknowledged),
            attempt(2, Fate::Acknowledged),
            attempt(3, Fate::Unknown),
            attempt(4, Fate::Unknown),
            attempt(5, Fate::Failed),
            attempt(6, Fate::Acknowledged),
        ];
        let rows = BTreeMap::from([((1, 1), 1), ((1, 3), 1), ((1, 6), 2)]);
        let found = compare(&attempts, &rows);
        assert_eq!((found.acknowledged, found.failed, found.unknown, found.unknown_found), (3, 1, 2, 1));
        assert_eq!((found.lost, found.lost_rows.clone()), (1, vec![(1, 2)]));
        assert_eq!((found.duplicated, found.duplicated_rows.clone()), (1, vec![(1, 6)]));
        assert!(!found.is_clean());
        assert_eq!(lost_between(&attempts, &rows, Mono(1), Mono(2)), 1);
        assert_eq!(lost_between(&attempts, &rows, Mono(2), Mono(9)), 0);
    }

    #[test]
    fn a_refused_row_that_is_there_is_a_fault() {
        let found = compare(&[attempt(1, Fate::Failed)], &BTreeMap::from([((1, 1), 1)]));
        assert!(!found.is_clean());
    }
}
