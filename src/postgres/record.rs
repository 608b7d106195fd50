//! One line of `pg_waldump`, and a count of many. Pure.

use std::collections::BTreeSet;

use super::LostTail;
use crate::model::Lsn;

/// How many transactions at a time can be known as probes: more are never under way.
const PROBES: usize = 1024;

/// A probe says so in the log: `pg_logical_emit_message(true, 'locum', …)`.
const PROBE: &str = "prefix \"locum\"";

/// What is needed of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) lsn: Lsn,
    /// Its bytes, page headers not counted.
    pub(super) length: u64,
    /// The rest of the segment is skipped after it.
    pub(super) is_switch: bool,
    transaction: u64,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Commit(String),
    Inserted(u64),
    Updated,
    Deleted,
    Probe,
    Other,
}

impl Record {
    /// Reads `rmgr: Heap  len (rec/tot):  54/  150, tx:  735, lsn: 0/015283A0, prev 0/01528360, desc: INSERT …`.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let manager = line.strip_prefix("rmgr: ")?.split_whitespace().next()?;
        let (head, description) = line.split_once(", desc: ")?;
        let after = |label: &str| head.split_once(label).map(|(_, rest)| rest.trim_start());
        let until_comma = |text: &str| text.split(',').next().unwrap_or_default().trim().to_owned();
        let length = until_comma(after("len (rec/tot):")?.split_once('/')?.1).parse().ok()?;
        Some(Self {
            lsn: until_comma(after(", lsn:")?).parse().ok()?,
            length,
            is_switch: manager == "XLOG" && description.starts_with("SWITCH"),
            transaction: until_comma(after(", tx:")?).parse().ok()?,
            what: What::parse(manager, description.trim_end()),
        })
    }
}

impl What {
    fn parse(manager: &str, description: &str) -> Self {
        let (verb, rest) = description.split_once(' ').unwrap_or((description, ""));
        match (manager, verb.trim_end_matches("+INIT")) {
            ("Transaction", "COMMIT") => Self::Commit(until_semicolon(rest)),
            ("Transaction", "COMMIT_PREPARED") => {
                Self::Commit(until_semicolon(rest.split_once(": ").map_or(rest, |(_, time)| time)))
            }
            ("Heap", "INSERT") => Self::Inserted(1),
            ("Heap2", "MULTI_INSERT") => Self::Inserted(tuples(rest)),
            ("Heap", "UPDATE" | "HOT_UPDATE") => Self::Updated,
            ("Heap", "DELETE") => Self::Deleted,
            ("LogicalMessage", _) if description.contains(PROBE) => Self::Probe,
            _ => Self::Other,
        }
    }
}

fn until_semicolon(text: &str) -> String {
    text.split(';').next().unwrap_or_default().to_owned()
}

/// `3 tuples flags 0x02` up to 15, `ntuples: 3, flags: 0x02` since.
fn tuples(text: &str) -> u64 {
    let text = text.split_once("ntuples: ").map_or(text, |(_, rest)| rest);
    let digits = text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

/// What a range of WAL holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) last: Option<Record>,
    commits: u64,
    probe_commits: u64,
    inserted: u64,
    updated: u64,
    deleted: u64,
    first_commit: Option<String>,
    last_commit: Option<String>,
    probes: BTreeSet<u64>,
}

impl Tally {
    pub(super) fn count(&mut self, record: Record) {
        match &record.what {
            What::Commit(_) if self.probes.remove(&record.transaction) => self.probe_commits += 1,
            What::Commit(time) => {
                self.commits += 1;
                self.first_commit.get_or_insert_with(|| time.clone());
                self.last_commit = Some(time.clone());
            }
            What::Inserted(rows) => self.inserted += rows,
            What::Updated => self.updated += 1,
            What::Deleted => self.deleted += 1,
            What::Probe if self.probes.len() < PROBES && record.transaction != 0 => {
                self.probes.insert(record.transaction);
            }
            What::Probe | What::Other => {}
        }
        self.last = Some(record);
    }

    /// The tail from `from` to `end` that was counted.
    pub(super) fn lost(self, from: Lsn, end: Lsn) -> LostTail {
        LostTail {
            from,
            end,
            bytes: end.bytes_since(from),
            transactions: self.commits,
            probes: self.probe_commits,
            inserted: self.inserted,
            updated: self.updated,
            deleted: self.deleted,
            first_commit: self.first_commit,
            last_commit: self.last_commit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
rmgr: LogicalMessage len (rec/tot):     59/    59, tx:        740, lsn: 0/03000100, prev 0/030000C8, desc: MESSAGE transactional, prefix \"locum\"; payload (1 bytes): 78
rmgr: Heap        len (rec/tot):     54/   150, tx:        741, lsn: 0/03000140, prev 0/03000100, desc: INSERT+INIT off 1 flags 0x08, blkref #0: rel 1663/5/16384 blk 0
rmgr: Transaction len (rec/tot):     34/    34, tx:        740, lsn: 0/030001D8, prev 0/03000140, desc: COMMIT 2026-11-22 09:05:46.100000 UTC
rmgr: Heap2       len (rec/tot):     54/   950, tx:        741, lsn: 0/03000200, prev 0/030001D8, desc: MULTI_INSERT 12 tuples flags 0x02, blkref #0: rel 1663/5/16384 blk 0
rmgr: Heap2       len (rec/tot):     54/   950, tx:        741, lsn: 0/030005B8, prev 0/03000200, desc: MULTI_INSERT+INIT ntuples: 3, flags: 0x02, offsets: [1, 2, 3], blkref #0: rel 1663/5/16384 blk 0
rmgr: Heap        len (rec/tot):     54/    54, tx:        741, lsn: 0/03000970, prev 0/030005B8, desc: HOT_UPDATE off 1 xmax 741 flags 0x60 ; new off 2 xmax 0, blkref #0: rel 1663/5/16384 blk 0
rmgr: Heap        len (rec/tot):     54/    54, tx:        741, lsn: 0/030009A8, prev 0/03000970, desc: DELETE off 2 flags 0x00 KEYS_UPDATED, blkref #0: rel 1663/5/16384 blk 0
rmgr: Transaction len (rec/tot):     34/    34, tx:        741, lsn: 0/030009E0, prev 0/030009A8, desc: COMMIT 2026-11-22 09:05:46.200000 UTC; subxacts: 742; inval msgs: catcache 7
rmgr: Transaction len (rec/tot):     34/    34, tx:        743, lsn: 0/03000A08, prev 0/030009E0, desc: ABORT 2026-11-22 09:05:46.300000 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:          0, lsn: 0/03000A30, prev 0/03000A08, desc: COMMIT_PREPARED 744: 2026-11-22 09:05:46.400000 UTC
rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/03000A58, prev 0/03000A30, desc: SWITCH \n";

    #[test]
    fn commits_and_rows_are_counted_and_probes_apart() {
        let mut tally = Tally::default();
        LISTING.lines().map(|line| Record::parse(line).unwrap()).for_each(|record| tally.count(record));
        assert!(tally.last.as_ref().is_some_and(|last| last.is_switch && last.length == 24));
        let lost = tally.lost(Lsn(0x300_0100), Lsn(0x400_0000));
        assert_eq!((lost.transactions, lost.probes), (2, 1));
        assert_eq!((lost.inserted, lost.updated, lost.deleted), (16, 1, 1));
        assert_eq!(lost.first_commit.as_deref(), Some("2026-11-22 09:05:46.200000 UTC"));
        assert_eq!(lost.last_commit.as_deref(), Some("2026-11-22 09:05:46.400000 UTC"));
        assert_eq!(lost.bytes, 0xFF_FF00);
    }

    #[test]
    fn what_is_no_record_is_passed_over() {
        for line in ["", "first record is after 0/3000000, at 0/3000028, skipping over 40 bytes", "rmgr: x"] {
            assert_eq!(Record::parse(line), None);
        }
    }
}
