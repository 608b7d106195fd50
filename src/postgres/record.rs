//! One line of `pg_waldump`. Pure.

use std::{fmt, str::FromStr};

use crate::model::Lsn;

/// A probe says so in the log: `pg_logical_emit_message(true, 'locum', …)`.
const PROBE: &str = "prefix \"locum\"";

/// The tablespaces that every cluster has: `pg_default` and `pg_global`.
const DEFAULT: u32 = 1663;
const GLOBAL: u32 = 1664;

/// A deletion that takes an insertion back which met a conflict (`XLH_DELETE_IS_SUPER`).
const IS_SUPER: u32 = 1 << 3;

/// Where the rows of a relation are kept. It changes when a table is truncated or rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Filenode {
    /// The tablespace.
    pub(super) space: u32,
    /// The database; 0: shared by all.
    pub(super) database: u32,
    pub(super) number: u32,
}

impl fmt::Display for Filenode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.space, self.database, self.number)
    }
}

impl FromStr for Filenode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('/').map(|part| part.parse().map_err(|_| ()));
        let mut next = || parts.next().unwrap_or(Err(()));
        Ok(Self { space: next()?, database: next()?, number: next()? })
    }
}

impl Filenode {
    /// From the path of its file: `base/5/16384`, `global/1262`, `pg_tblspc/16500/PG_15_202209061/5/16384`.
    fn of_path(path: &str) -> Option<Self> {
        let number = |text: &str| text.parse().ok();
        Some(match path.split('/').collect::<Vec<_>>()[..] {
            ["base", db, node] => Self { space: DEFAULT, database: number(db)?, number: number(node)? },
            ["global", node] => Self { space: GLOBAL, database: 0, number: number(node)? },
            ["pg_tblspc", space, _, db, node] => {
                Self { space: number(space)?, database: number(db)?, number: number(node)? }
            }
            _ => return None,
        })
    }
}

/// What is needed of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) lsn: Lsn,
    /// Its bytes, page headers not counted.
    pub(super) length: u64,
    /// The rest of the segment is skipped after it.
    pub(super) is_switch: bool,
    /// The transaction, or subtransaction; 0: none.
    pub(super) xid: u32,
    pub(super) what: What,
}

/// What happened to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Inserted,
    Updated,
    Deleted,
    /// An insertion was taken back at once, because it met a conflict.
    Withdrawn,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Commit(End),
    Abort(End),
    Prepare {
        name: String,
        end: End,
    },
    Rows(Filenode, Change, u64),
    /// A sequence was moved.
    Moved(Filenode),
    /// A file was made: of a new relation, or of one that was truncated or rewritten.
    Made(Filenode),
    Probe,
    /// The next transaction would have got this number.
    Next(u32),
    Other,
}

/// The end of a transaction, or its preparation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// Whose, where the record is not of the transaction itself: it was prepared.
    pub(super) of: Option<u32>,
    /// As printed.
    pub(super) time: String,
    /// Its subtransactions that were not rolled back before.
    pub(super) subtransactions: Vec<u32>,
    /// Files that it gives up.
    pub(super) dropped: Vec<Filenode>,
}

impl Record {
    /// Reads `rmgr: Heap  len (rec/tot):  54/  150, tx:  735, lsn: 0/015283A0, prev 0/01528360, desc: INSERT …`.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let manager = line.strip_prefix("rmgr: ")?.split_whitespace().next()?;
        let (head, description) = line.split_once(", desc: ")?;
        let after = |label: &str| head.split_once(label).map(|(_, rest)| rest.trim_start());
        let until_comma = |text: &'_ str| text.split(',').next().unwrap_or_default().trim().to_owned();
        let length = until_comma(after("len (rec/tot):")?.split_once('/')?.1).parse().ok()?;
        Some(Self {
            lsn: until_comma(after(", lsn:")?).parse().ok()?,
            length,
            is_switch: manager == "XLOG" && description.starts_with("SWITCH"),
            xid: until_comma(after(", tx:")?).parse().ok()?,
            what: What::parse(manager, description.trim_end()),
        })
    }
}

impl What {
    fn parse(manager: &str, description: &str) -> Self {
        let (verb, rest) = description.split_once(' ').unwrap_or((description, ""));
        let rows = |change, count| relation(rest).map(|of| Self::Rows(of, change, count));
        let known = match (manager, verb.trim_end_matches("+INIT")) {
            ("Transaction", "COMMIT") => Some(Self::Commit(End::parse(rest))),
            ("Transaction", "ABORT") => Some(Self::Abort(End::parse(rest))),
            ("Transaction", "COMMIT_PREPARED") => Some(Self::Commit(End::of_prepared(rest))),
            ("Transaction", "ABORT_PREPARED") => Some(Self::Abort(End::of_prepared(rest))),
            ("Transaction", "PREPARE") => prepare(rest),
            ("Heap", "INSERT") => rows(Change::Inserted, 1),
            ("Heap2", "MULTI_INSERT") => rows(Change::Inserted, tuples(rest)),
            ("Heap", "UPDATE" | "HOT_UPDATE") => rows(Change::Updated, 1),
            ("Heap", "DELETE") => {
                let withdrawn = flags(rest) & IS_SUPER != 0;
                rows(if withdrawn { Change::Withdrawn } else { Change::Deleted }, 1)
            }
            ("Sequence", "LOG") => relation(rest).map(Self::Moved),
            ("Storage", "CREATE") => Filenode::of_path(rest).map(Self::Made),
            ("LogicalMessage", _) if description.contains(PROBE) => Some(Self::Probe),
            ("Standby", "RUNNING_XACTS") => number_after(rest, "nextXid ").map(Self::Next),
            _ => None,
        };
        known.unwrap_or(Self::Other)
    }
}

impl End {
    /// `2026-11-22 09:05:46.2 UTC; rels: base/5/16384; subxacts: 742 743; inval msgs: …`.
    fn parse(text: &str) -> Self {
        let mut parts = text.split("; ");
        let mut end = Self { time: parts.next().unwrap_or_default().to_owned(), ..Self::default() };
        for part in parts {
            if let Some(list) = part.strip_prefix("subxacts:") {
                end.subtransactions = list.split_whitespace().filter_map(|xid| xid.parse().ok()).collect();
            } else if let Some(list) =
                part.strip_prefix("rels:").or_else(|| part.strip_prefix("rels(commit):"))
            {
                end.dropped = list.split_whitespace().filter_map(Filenode::of_path).collect();
            }
        }
        end
    }

    /// The same after `744: `.
    fn of_prepared(text: &str) -> Self {
        match text.split_once(": ").and_then(|(xid, rest)| Some((xid.parse().ok()?, rest))) {
            Some((xid, rest)) => Self { of: Some(xid), ..Self::parse(rest) },
            None => Self::parse(text),
        }
    }
}

/// `gid NAME: TIME; …`. The name may hold anything.
fn prepare(text: &str) -> Option<What> {
    let text = text.strip_prefix("gid ")?;
    let tail = ["; rels(", "; subxacts:", "; dropped stats", "; inval msgs"].map(|word| text.find(word));
    let at = tail.into_iter().flatten().min().unwrap_or(text.len());
    let (name, time) = text[..at].rsplit_once(": ")?;
    Some(What::Prepare { name: name.to_owned(), end: End::parse(&format!("{time}{}", &text[at..])) })
}

/// The relation of the first block: `blkref #0: rel 1663/5/16384 blk 0`, or `rel 1663/5/16390` of a sequence.
fn relation(text: &str) -> Option<Filenode> {
    let text =
        text.split_once("blkref #0: rel ").map(|(_, rest)| rest).or_else(|| text.strip_prefix("rel "))?;
    text.split([' ', ',']).next()?.parse().ok()
}

/// `flags 0x08` up to 15, `flags: 0x08` since.
fn flags(text: &str) -> u32 {
    let after = text.split_once("flags").map_or("", |(_, rest)| rest.trim_start_matches([':', ' ']));
    let digits = after.strip_prefix("0x").unwrap_or_default();
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    u32::from_str_radix(&digits[..end], 16).unwrap_or(0)
}

/// `3 tuples flags 0x02` up to 15, `ntuples: 3, flags: 0x02` since.
fn tuples(text: &str) -> u64 {
    number_after(text, "ntuples: ").or_else(|| number_after(text, "")).map_or(0, u64::from)
}

fn number_after(text: &str, label: &str) -> Option<u32> {
    let (_, rest) = text.split_once(label)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(manager: &str, description: &str) -> What {
        let line = format!(
            "rmgr: {manager:11} len (rec/tot):     59/    90, tx:        740, lsn: 0/03000100, prev 0/030000C8, desc: {description}"
        );
        let record = Record::parse(&line).expect("a record");
        assert_eq!((record.lsn, record.length, record.xid), (Lsn(0x300_0100), 90, 740));
        record.what
    }

    const T: Filenode = Filenode { space: 1663, database: 5, number: 16384 };

    #[test]
    fn rows_are_read_in_the_words_of_every_version() {
        for (manager, description, change, count) in [
            (
                "Heap",
                "INSERT+INIT off 1 flags 0x08, blkref #0: rel 1663/5/16384 blk 0 FPW",
                Change::Inserted,
                1,
            ),
            ("Heap", "INSERT off: 1, flags: 0x08, blkref #0: rel 1663/5/16384 blk 0", Change::Inserted, 1),
            (
                "Heap2",
                "MULTI_INSERT+INIT 12 tuples flags 0x02, blkref #0: rel 1663/5/16384 blk 0",
                Change::Inserted,
                12,
            ),
            (
                "Heap2",
                "MULTI_INSERT ntuples: 3, flags: 0x02, offsets: [1, 2, 3], blkref #0: rel 1663/5/16384 blk 0",
                Change::Inserted,
                3,
            ),
            (
                "Heap",
                "HOT_UPDATE off 1 xmax 741 flags 0x60 ; new off 2 xmax 0, blkref #0: rel 1663/5/16384 blk 0",
                Change::Updated,
                1,
            ),
            (
                "Heap",
                "UPDATE off 1 xmax 741 flags 0x00 ; new off 2 xmax 0, blkref #0: rel 1663/5/16384 blk 1, blkref #1: rel 1663/5/16384 blk 0",
                Change::Updated,
                1,
            ),
            (
                "Heap",
                "DELETE off 2 flags 0x00 KEYS_UPDATED , blkref #0: rel 1663/5/16384 blk 0",
                Change::Deleted,
                1,
            ),
            (
                "Heap",
                "DELETE xmax: 0, off: 2, infobits: [], flags: 0x08, blkref #0: rel 1663/5/16384 blk 0",
                Change::Withdrawn,
                1,
            ),
            ("Heap", "DELETE off 2 flags 0x08 , blkref #0: rel 1663/5/16384 blk 0", Change::Withdrawn, 1),
        ] {
            assert_eq!(what(manager, description), What::Rows(T, change, count), "{description}");
        }
        assert_eq!(what("Heap", "LOCK off 1: xid 740, blkref #0: rel 1663/5/16384 blk 0"), What::Other);
        assert_eq!(
            what("Sequence", "LOG rel 1663/5/16384, blkref #0: rel 1663/5/16384 blk 0"),
            What::Moved(T)
        );
        assert_eq!(what("Storage", "CREATE base/5/16384"), What::Made(T));
        assert_eq!(what("Storage", "CREATE base/5/16384_init"), What::Other);
    }

    #[test]
    fn the_end_of_a_transaction_names_its_parts() {
        let expected = End {
            of: None,
            time: "2026-11-22 09:05:46.200000 UTC".into(),
            subtransactions: vec![742, 743],
            dropped: vec![T, Filenode { space: 16500, database: 5, number: 7 }],
        };
        let text = "2026-11-22 09:05:46.200000 UTC; rels: base/5/16384 pg_tblspc/16500/PG_15_202209061/5/7; \
                    subxacts: 742 743; inval msgs: catcache 7 relcache 16384";
        assert_eq!(what("Transaction", &format!("COMMIT {text}")), What::Commit(expected.clone()));
        let prepared = End { of: Some(744), ..expected.clone() };
        assert_eq!(what("Transaction", &format!("COMMIT_PREPARED 744: {text}")), What::Commit(prepared));
        let name = "a: b; c".to_owned();
        let text = text.replace("rels:", "rels(commit):");
        assert_eq!(
            what("Transaction", &format!("PREPARE gid a: b; c: {text}")),
            What::Prepare { name, end: expected }
        );
        let next = "nextXid 739 latestCompletedXid 737 oldestRunningXid 738; 1 xacts: 738";
        assert_eq!(what("Standby", &format!("RUNNING_XACTS {next}")), What::Next(739));
    }

    #[test]
    fn what_is_no_record_is_passed_over() {
        for line in ["", "first record is after 0/3000000, at 0/3000028, skipping over 40 bytes", "rmgr: x"] {
            assert_eq!(Record::parse(line), None);
        }
        let switch = "rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/03000A58, prev 0/03000A30, desc: SWITCH ";
        assert!(Record::parse(switch).is_some_and(|record| record.is_switch && record.length == 24));
    }
}
