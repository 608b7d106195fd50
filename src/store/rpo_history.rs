//! The live RPO over time, in a SQLite file of this member's own that people may query with SQL. Nothing is decided
//! from it: a disk that fails costs history, and never delays whoever samples.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

use super::{
    database::Database,
    history_rows::{self as rows, HISTORY, Second},
    worker::Worker,
};
use crate::{
    model::{LiveRpo, Objectives},
    ports::StoreError,
};

pub use super::history_rows::{RpoMinute, Spread};

/// How many seconds are gathered before they are written: one small transaction every ten seconds.
const GATHERED: usize = 10;
/// How many seconds are kept while the disk refuses; then the oldest are forgotten.
const GATHERED_AT_MOST: usize = 600;
/// After how many flushes what is too old is deleted: about every hour.
const PRUNED_EVERY: u64 = 360;
/// How many minutes a query returns at most: four weeks. Who wants more asks the file with SQL.
const RETURNED: usize = 28 * 1_440;

/// The history.
pub struct RpoHistory {
    worker: Worker,
    shared: Arc<Shared>,
}

struct Shared {
    file: Database,
    gathered: Mutex<Gathered>,
}

#[derive(Default)]
struct Gathered {
    seconds: BTreeMap<i64, Second>,
    flushes: u64,
    /// The last flush failed, and was reported.
    failing: bool,
}

impl RpoHistory {
    /// Opens the history at `path`, or makes it, readable by its owner only. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`StoreError::Refused`] names the file and the way out; [`StoreError::Busy`] if another process holds it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = Database::open(path, &HISTORY)?;
        let worker = Worker::start("rpo-history", file.connect()?)
            .map_err(|error| StoreError::Outage(format!("start a thread: {error}")))?;
        Ok(Self { worker, shared: Arc::new(Shared { file, gathered: Mutex::default() }) })
    }

    /// Notes a sample. Never waits for the disk; what does not get there is lost, with a warning.
    pub fn note(&self, wall: Timestamp, live: &LiveRpo, objectives: &Objectives) {
        let due = {
            let mut gathered = self.shared.gathered();
            let before = gathered.seconds.len();
            gathered.seconds.entry(wall.as_second()).or_default().add(live, objectives);
            // Once for every new second: a failing disk is not tried ten times a second.
            gathered.seconds.len() > before && gathered.seconds.len() > GATHERED
        };
        if due {
            self.post_flush();
        }
    }

    fn post_flush(&self) {
        let shared = Arc::clone(&self.shared);
        // If its queue is full, what is gathered goes with the next flush.
        let _ = self.worker.post(move |connection| {
            // Reported there, once.
            let _ = shared.flush(connection);
        });
    }

    /// Writes what is gathered; also done when this is dropped, unless the process ends at once.
    ///
    /// # Errors
    /// Those of the file. What was gathered is kept for the next flush.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        self.worker.run(move |connection| shared.flush(connection)).await
    }

    /// The minutes from `since` on up to now, oldest first; the last four weeks of them at most.
    ///
    /// # Errors
    /// Those of the file.
    pub async fn query(&self, since: Timestamp) -> Result<Vec<RpoMinute>, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.worker
            .run(move |connection| {
                shared.flush(connection)?;
                rows::minutes(connection, since.as_second(), RETURNED).map_err(|e| shared.file.explain(e))
            })
            .await
    }
}

impl Drop for RpoHistory {
    fn drop(&mut self) {
        self.post_flush();
    }
}

impl Shared {
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let (seconds, flushes) = {
            let mut gathered = self.gathered();
            gathered.flushes += 1;
            (std::mem::take(&mut gathered.seconds), gathered.flushes)
        };
        if seconds.is_empty() {
            return Ok(());
        }
        let written = write(connection, &seconds, flushes % PRUNED_EVERY == 1);
        let mut gathered = self.gathered();
        match written {
            Ok(()) => {
                if std::mem::take(&mut gathered.failing) {
                    tracing::info!("the RPO history is written again");
                }
                Ok(())
            }
            Err(error) => {
                gathered.put_back(seconds);
                let error = self.file.explain(error);
                if !std::mem::replace(&mut gathered.failing, true) {
                    tracing::warn!(%error, "the RPO history is not written");
                }
                Err(error)
            }
        }
    }
}

impl Gathered {
    fn put_back(&mut self, seconds: BTreeMap<i64, Second>) {
        for (at, second) in seconds {
            self.seconds.entry(at).or_default().merge(second);
        }
        while self.seconds.len() > GATHERED_AT_MOST {
            self.seconds.pop_first();
        }
    }
}

fn write(connection: &mut Connection, seconds: &BTreeMap<i64, Second>, prune: bool) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut minute = None;
    for (at, second) in seconds {
        rows::add_second(&tx, *at, second)?;
    }
    for at in seconds.keys().map(|at| at - at.rem_euclid(60)) {
        if minute.replace(at) != Some(at) {
            rows::roll_up(&tx, at)?;
        }
    }
    if prune {
        rows::prune(&tx)?;
    }
    tx.commit()
}
