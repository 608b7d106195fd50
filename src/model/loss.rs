//! What a former primary had beyond the switch and gave up: how much, and which transactions.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Lsn, NodeId, Stamp, Timeline};

/// WAL that a node had beyond the switch and gave up when it rejoined. Counted and saved before that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostTail {
    /// The stamp of the command that gave it up.
    pub under: Stamp,
    /// Where the lost range begins: the switch position.
    pub from: Lsn,
    /// Where it ends: the end of valid WAL.
    pub end: Lsn,
    /// Bytes from `from` to `end`.
    pub bytes: u64,
    /// Transactions that committed in it.
    pub transactions: u64,
    /// The folder that keeps the WAL and its listing.
    pub salvage: Option<String>,
    /// The tables that most rows were lost in; the whole list is `lost.json` in the salvage.
    #[serde(default)]
    pub tables: Vec<LostTable>,
    /// The first of the transactions.
    #[serde(default)]
    pub first: Vec<LostTransaction>,
    /// Why it is not known what was lost, where WAL was gone: the numbers above are then what could be read.
    #[serde(default)]
    pub unknown: Option<String>,
    /// What could not be kept or named.
    #[serde(default)]
    pub notes: Vec<String>,
    /// It is what a standby wrote that left recovery without an order at that moment. None: a former primary's tail.
    #[serde(default)]
    pub stray: Option<Timestamp>,
}

/// How many tables and transactions go with the facts, ten times a second. More: every message grows for as long as the
/// node remembers its last loss. Fewer: less is told when the node that keeps the whole list cannot be asked.
pub const LOST_SHOWN: usize = 10;

/// What was lost of one table, in one transaction or in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostTable {
    /// The database. None: its name is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Its name with its schema, quoted where SQL needs it; `filenode 1663/5/16384` where nobody knows a name.
    pub table: String,
    /// Rows inserted.
    #[serde(default)]
    pub inserted: u64,
    /// Rows updated.
    #[serde(default)]
    pub updated: u64,
    /// Rows deleted.
    #[serde(default)]
    pub deleted: u64,
    /// Its storage was given up: TRUNCATE, DROP, or a rewrite such as VACUUM FULL. That leaves no record for each row.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emptied: bool,
}

/// How a lost transaction ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LostState {
    /// It was committed.
    #[default]
    Committed,
    /// It was prepared for a two-phase commit, and nobody had decided yet.
    Prepared,
}

/// One lost transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostTransaction {
    /// Its number.
    pub xid: u32,
    /// How it ended.
    #[serde(default)]
    pub state: LostState,
    /// When, by the old primary's clock.
    pub at: Option<Timestamp>,
    /// The name it was prepared under, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared_as: Option<String>,
    /// The tables whose rows it changed. What a subtransaction did that was rolled back is not in it.
    pub tables: Vec<LostTable>,
    /// The sequences it moved. They are moved even by what is rolled back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequences: Vec<String>,
    /// Rows of the system catalogues that it changed: definitions, privileges, statistics.
    #[serde(default)]
    pub catalogue_rows: u64,
    /// Bytes of its records.
    pub bytes: u64,
    /// It began before the WAL that was read: some of its rows may be missing here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// `lost.json`: the whole list, as it lies in a salvage folder. In the file each transaction is on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossList {
    /// How it is written; 1.
    pub format: u32,
    /// Whose WAL it was.
    pub node: NodeId,
    /// When it was made, by that node's clock.
    pub made_at: Timestamp,
    /// The stamp of the command that gave the WAL up.
    pub under: Stamp,
    /// The timeline of the WAL.
    pub timeline: Timeline,
    /// Where the lost range begins.
    pub from: Lsn,
    /// Where it ends.
    pub end: Lsn,
    /// Bytes between the two.
    pub bytes: u64,
    /// Why it is not known what was lost, if it is not.
    pub unknown: Option<String>,
    /// What could not be kept, read or named.
    pub notes: Vec<String>,
    /// `synchronous_standby_names` of the old primary. Where it names somebody, a commit beyond the switch had not been
    /// acknowledged, but for a wait that was cancelled or a session that did not wait.
    pub synchronous_standby_names: Option<String>,
    /// Transactions that were committed.
    pub committed: u64,
    /// Transactions that were prepared and not decided.
    pub prepared: u64,
    /// Locum's own probes; they are not listed.
    pub probes: u64,
    /// What was lost of every table.
    pub tables: Vec<LostTable>,
    /// Rows of the system catalogues that were changed.
    pub catalogue_rows: u64,
    /// The sequences that were moved.
    pub sequences: Vec<String>,
    /// The transactions, in the order in which they ended.
    pub transactions: Vec<LostTransaction>,
}

impl LossList {
    /// Every transaction is in it, and not only the first ones.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.transactions.len() as u64 >= self.committed + self.prepared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_release_wrote_is_read() {
        let old = r#"{"under":{"incarnation":1,"epoch":2,"version":3},"from":"0/10","end":"0/20","bytes":16,
                      "transactions":1,"salvage":null}"#;
        let tail: LostTail = serde_json::from_str(old).expect("read");
        assert_eq!((tail.transactions, tail.unknown, tail.tables.len()), (1, None, 0));
    }
}
