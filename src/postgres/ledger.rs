//! From records to transactions: what was committed beyond a position, and what each did. Pure, and bounded: it keeps
//! what is still open, and passes on what has ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::record::{Change, End, Filenode, Record, What};
use crate::model::{LostState, Lsn};

/// How many transactions and subtransactions may be open at a time, some 200 bytes each. More: more memory. Fewer: a
/// transaction of very many savepoints is listed without all its rows, which is said.
const OPEN: usize = 1 << 20;

/// Rows that were changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rows {
    pub(super) inserted: u64,
    pub(super) updated: u64,
    pub(super) deleted: u64,
    /// The file was given up.
    pub(super) dropped: bool,
}

impl Rows {
    fn add(&mut self, change: Change, count: u64) {
        match change {
            Change::Inserted => self.inserted += count,
            Change::Updated => self.updated += count,
            Change::Deleted => self.deleted += count,
            Change::Withdrawn => self.inserted = self.inserted.saturating_sub(count),
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.dropped |= other.dropped;
    }

    pub(super) const fn sum(&self) -> u64 {
        self.inserted + self.updated + self.deleted
    }
}

/// A transaction that was committed, or prepared and not decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) xid: u32,
    pub(super) state: LostState,
    /// When it ended, as printed.
    pub(super) time: String,
    pub(super) prepared_as: Option<String>,
    pub(super) rows: BTreeMap<Filenode, Rows>,
    pub(super) moved: BTreeSet<Filenode>,
    pub(super) bytes: u64,
    /// Its first record that was read.
    pub(super) first: Lsn,
    /// It may have begun before that.
    pub(super) partial: bool,
}

/// A transaction or subtransaction under way.
#[derive(Debug, Default)]
struct Open {
    rows: BTreeMap<Filenode, Rows>,
    moved: BTreeSet<Filenode>,
    bytes: u64,
    first: Lsn,
    probe: bool,
    partial: bool,
    prepared: Option<Prepared>,
}

#[derive(Debug)]
struct Prepared {
    name: String,
    at: Lsn,
    end: End,
}

impl Open {
    fn merge(&mut self, other: Self) {
        for (of, rows) in other.rows {
            self.rows.entry(of).or_default().merge(rows);
        }
        self.moved.extend(other.moved);
        self.bytes += other.bytes;
        self.first = self.first.min(other.first);
        self.probe |= other.probe;
        self.partial |= other.partial;
    }
}

/// What a range of WAL holds.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Transactions that end before this are not of interest, and what they did neither.
    from: Lsn,
    /// Transactions with a lower number may have begun before the first record that is read.
    horizon: Option<u32>,
    open: HashMap<u32, Open>,
    pub(super) last: Option<Record>,
    pub(super) totals: Totals,
}

/// Sums over what has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) committed: u64,
    pub(super) prepared: u64,
    pub(super) probes: u64,
    /// Of committed transactions.
    pub(super) rows: BTreeMap<Filenode, Rows>,
    pub(super) moved: BTreeSet<Filenode>,
    /// What transactions touched that were prepared and not decided.
    pub(super) undecided: BTreeSet<Filenode>,
    /// Files made in the range: whoever else has one of these numbers has another relation.
    pub(super) made: BTreeSet<Filenode>,
    pub(super) first_commit: Option<String>,
    pub(super) last_commit: Option<String>,
    /// The first record of the earliest of them.
    pub(super) first: Option<Lsn>,
    /// There were more transactions open at a time than are kept.
    pub(super) overflowed: bool,
}

impl Ledger {
    pub(super) fn new(from: Lsn, horizon: Option<u32>) -> Self {
        Self { from, horizon, ..Self::default() }
    }

    /// Where what is of interest begins.
    pub(super) const fn from(&self) -> Lsn {
        self.from
    }

    /// Takes the next record. Some: a transaction has ended with it that counts.
    pub(super) fn take(&mut self, record: Record) -> Option<Entry> {
        let beyond = record.lsn >= self.from;
        let ended = match &record.what {
            What::Commit(end) => self.ends(&record, end).filter(|_| beyond),
            What::Abort(end) => {
                self.gather(end.of.unwrap_or(record.xid), &end.subtransactions);
                None
            }
            What::Prepare { name, end } => {
                let mut open = self.gather(record.xid, &end.subtransactions);
                open.bytes += record.length;
                open.prepared = Some(Prepared { name: name.clone(), at: record.lsn, end: end.clone() });
                self.open.insert(record.xid, open);
                None
            }
            what => {
                self.note(&record, what);
                None
            }
        };
        if beyond && let What::Made(file) = record.what {
            self.totals.made.insert(file);
        }
        self.last = Some(record);
        ended.and_then(|entry| self.counted(entry))
    }

    /// What was prepared in the range and not decided in it.
    pub(super) fn finish(&mut self) -> Vec<Entry> {
        let from = self.from;
        let undecided = |open: &Open| open.prepared.as_ref().is_some_and(|prepared| prepared.at >= from);
        let mut left: Vec<Entry> = std::mem::take(&mut self.open)
            .into_iter()
            .filter(|(_, open)| undecided(open))
            .map(|(xid, open)| {
                let (name, time) =
                    open.prepared.as_ref().map(|p| (p.name.clone(), p.end.time.clone())).unwrap_or_default();
                let entry = entry(xid, open, time);
                Entry { state: LostState::Prepared, prepared_as: Some(name), ..entry }
            })
            .collect();
        left.sort_by_key(|entry| entry.xid);
        self.totals.prepared = left.len() as u64;
        let touched = left.iter().flat_map(|entry| entry.rows.keys().chain(&entry.moved));
        self.totals.undecided = touched.copied().collect();
        self.totals.first = left.iter().map(|entry| entry.first).chain(self.totals.first).min();
        left
    }

    fn note(&mut self, record: &Record, what: &What) {
        if record.xid == 0 {
            return;
        }
        let partial = self.horizon.is_some_and(|horizon| precedes(record.xid, horizon));
        if self.open.len() >= OPEN && !self.open.contains_key(&record.xid) {
            self.totals.overflowed = true;
            return;
        }
        let fresh = || Open { first: record.lsn, partial, ..Open::default() };
        let open = self.open.entry(record.xid).or_insert_with(fresh);
        open.bytes += record.length;
        match what {
            What::Rows(of, change, count) => open.rows.entry(*of).or_default().add(*change, *count),
            What::Moved(of) => _ = open.moved.insert(*of),
            What::Probe => open.probe = true,
            _ => {}
        }
    }

    /// Everything that a transaction and these of its subtransactions did; they are open no more.
    fn gather(&mut self, xid: u32, subtransactions: &[u32]) -> Open {
        let partial = self.horizon.is_some_and(|horizon| precedes(xid, horizon));
        let mut all =
            self.open.remove(&xid).unwrap_or(Open { first: Lsn(u64::MAX), partial, ..Open::default() });
        for sub in subtransactions {
            if let Some(open) = self.open.remove(sub) {
                all.merge(open);
            }
        }
        all
    }

    fn ends(&mut self, record: &Record, end: &End) -> Option<Entry> {
        let xid = end.of.unwrap_or(record.xid);
        let mut open = self.gather(xid, &end.subtransactions);
        open.bytes += record.length;
        open.first = open.first.min(record.lsn);
        let prepared_as = open.prepared.take().map(|prepared| prepared.name);
        for file in &end.dropped {
            open.rows.entry(*file).or_default().dropped = true;
        }
        if open.probe && open.rows.is_empty() && open.moved.is_empty() {
            self.totals.probes += u64::from(record.lsn >= self.from);
            return None;
        }
        Some(Entry { prepared_as, ..entry(xid, open, end.time.clone()) })
    }

    fn counted(&mut self, entry: Entry) -> Option<Entry> {
        let totals = &mut self.totals;
        totals.committed += 1;
        totals.first_commit.get_or_insert_with(|| entry.time.clone());
        totals.last_commit = Some(entry.time.clone());
        totals.first = Some(totals.first.map_or(entry.first, |first| first.min(entry.first)));
        for (of, rows) in &entry.rows {
            totals.rows.entry(*of).or_default().merge(*rows);
        }
        totals.moved.extend(&entry.moved);
        Some(entry)
    }
}

fn entry(xid: u32, open: Open, time: String) -> Entry {
    Entry {
        xid,
        state: LostState::Committed,
        time,
        prepared_as: None,
        rows: open.rows,
        moved: open.moved,
        bytes: open.bytes,
        first: open.first,
        partial: open.partial,
    }
}

/// Transaction numbers go round: half of them are before, half after.
pub(super) const fn precedes(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T: Filenode = Filenode { space: 1663, database: 5, number: 16384 };
    const FROM: Lsn = Lsn(1000);

    fn record(lsn: u64, xid: u32, what: What) -> Record {
        Record { lsn: Lsn(lsn), length: 50, is_switch: false, xid, what }
    }

    fn insert(lsn: u64, xid: u32, count: u64) -> Record {
        record(lsn, xid, What::Rows(T, Change::Inserted, count))
    }

    fn end(subtransactions: &[u32]) -> End {
        End { subtransactions: subtransactions.to_vec(), time: "then".into(), ..End::default() }
    }

    /// What has ended, as number, rows, state and whether it is partial.
    fn ended(ledger: &mut Ledger, records: Vec<Record>) -> Vec<(u32, u64, LostState, bool)> {
        let mut all: Vec<Entry> = records.into_iter().filter_map(|record| ledger.take(record)).collect();
        all.extend(ledger.finish());
        let rows = |entry: &Entry| entry.rows.values().map(|rows| rows.inserted).sum();
        all.iter().map(|entry| (entry.xid, rows(entry), entry.state, entry.partial)).collect()
    }

    #[test]
    fn what_was_rolled_back_is_not_lost_and_what_began_before_is_whole() {
        let mut ledger = Ledger::new(FROM, None);
        let records = vec![
            // Ended before the position, and begun before it.
            insert(10, 1, 1),
            insert(20, 2, 2),
            record(30, 1, What::Commit(end(&[]))),
            insert(1000, 2, 3),
            // A subtransaction that is kept, and one that is rolled back.
            insert(1010, 3, 10),
            insert(1020, 4, 20),
            insert(1030, 5, 40),
            record(1040, 5, What::Abort(end(&[]))),
            record(1050, 3, What::Commit(end(&[4]))),
            record(1060, 2, What::Commit(end(&[]))),
            // Rolled back as a whole, with its subtransaction; never ended; a probe.
            insert(1070, 6, 1),
            insert(1071, 7, 1),
            record(1080, 6, What::Abort(end(&[7]))),
            insert(1090, 8, 1),
            record(1100, 9, What::Probe),
            record(1110, 9, What::Commit(end(&[]))),
        ];
        let expected = vec![(3, 30, LostState::Committed, false), (2, 5, LostState::Committed, false)];
        assert_eq!(ended(&mut ledger, records), expected);
        let totals = &ledger.totals;
        assert_eq!((totals.committed, totals.probes, totals.first), (2, 1, Some(Lsn(20))));
        assert_eq!(totals.rows[&T].inserted, 35);
    }

    #[test]
    fn a_prepared_transaction_counts_when_it_is_committed_and_is_marked_until_then() {
        let prepare = |lsn, xid, subs: &[u32]| {
            record(lsn, xid, What::Prepare { name: format!("g{xid}"), end: end(subs) })
        };
        let decided = |of| End { of: Some(of), ..end(&[]) };
        let mut ledger = Ledger::new(FROM, None);
        let records = vec![
            // Prepared before: the new primary has it too. The second is committed only here.
            insert(10, 1, 1),
            prepare(20, 1, &[]),
            insert(30, 2, 2),
            prepare(40, 2, &[]),
            record(1000, 0, What::Commit(decided(2))),
            insert(1010, 3, 3),
            insert(1011, 4, 4),
            prepare(1020, 3, &[4]),
            insert(1030, 5, 5),
            prepare(1040, 5, &[]),
            record(1050, 0, What::Abort(decided(5))),
        ];
        let expected = vec![(2, 2, LostState::Committed, false), (3, 7, LostState::Prepared, false)];
        assert_eq!(ended(&mut ledger, records), expected);
        assert_eq!((ledger.totals.committed, ledger.totals.prepared), (1, 1));
    }

    #[test]
    fn what_may_have_begun_before_the_first_record_is_marked() {
        let mut ledger = Ledger::new(FROM, Some(5));
        let records = vec![
            insert(1000, 4, 1),
            record(1010, 4, What::Commit(end(&[]))),
            insert(1020, 5, 1),
            record(1030, 5, What::Commit(end(&[]))),
        ];
        let expected = vec![(4, 1, LostState::Committed, true), (5, 1, LostState::Committed, false)];
        assert_eq!(ended(&mut ledger, records), expected);
        assert!(precedes(u32::MAX, 3) && !precedes(3, u32::MAX));
    }

    #[test]
    fn files_made_in_the_range_are_known_for_new_ones() {
        let file = |number| Filenode { number, ..T };
        let mut ledger = Ledger::new(FROM, None);
        let made = vec![record(999, 0, What::Made(file(1))), record(1000, 0, What::Made(file(2)))];
        assert_eq!(ended(&mut ledger, made), []);
        assert_eq!(
            ledger.totals.made,
            [file(2)].into(),
            "the new primary may have another one of that number"
        );
    }

    #[test]
    fn an_insertion_that_met_a_conflict_is_none() {
        let mut ledger = Ledger::new(FROM, None);
        let withdrawn = record(1001, 1, What::Rows(T, Change::Withdrawn, 1));
        let commit = record(1002, 1, What::Commit(End { dropped: vec![T], ..end(&[]) }));
        assert_eq!(ended(&mut ledger, vec![insert(1000, 1, 1), withdrawn, commit])[0].1, 0);
        assert!(ledger.totals.rows[&T].dropped);
    }

    proptest! {
        /// Transactions that interleave in any way lose exactly what the committed ones inserted.
        #[test]
        fn rows_go_with_their_transaction(steps in proptest::collection::vec((0u32..6, 0u64..4, 0u8..8), 0..200)) {
            let mut ledger = Ledger::new(FROM, None);
            let (mut xids, mut next, mut open, mut truth) = ([0u32; 6], 3u32, [0u64; 6], Vec::new());
            let mut records = Vec::new();
            for (at, (slot, count, action)) in steps.into_iter().enumerate() {
                let (slot, lsn) = (slot as usize, 900 + at as u64 * 8);
                if xids[slot] == 0 {
                    (xids[slot], open[slot], next) = (next, 0, next + 1);
                }
                match action {
                    0 => {
                        records.push(record(lsn, xids[slot], What::Commit(end(&[]))));
                        if lsn >= FROM.0 {
                            truth.push((xids[slot], open[slot], LostState::Committed, false));
                        }
                        xids[slot] = 0;
                    }
                    1 => {
                        records.push(record(lsn, xids[slot], What::Abort(end(&[]))));
                        xids[slot] = 0;
                    }
                    _ => {
                        records.push(insert(lsn, xids[slot], count));
                        open[slot] += count;
                    }
                }
            }
            prop_assert_eq!(ended(&mut ledger, records), truth);
        }
    }
}
