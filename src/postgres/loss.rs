//! `lost.json`: the list of lost transactions with names, written as it is read, whatever its length.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    ledger::{Entry, Rows, Totals},
    names::{Kind, Names},
    record::Filenode,
};
use crate::model::{LOST_SHOWN, LossList, LostState, LostTable, LostTransaction};

/// What separates the head of the file from its transactions.
const OPENING: &str = "\"transactions\":[";

/// One transaction as it waits for its names, in a file of its own: there may be millions.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    xid: u32,
    state: LostState,
    time: String,
    prepared_as: Option<String>,
    rows: Vec<(String, Rows)>,
    moved: Vec<String>,
    bytes: u64,
    partial: bool,
}

/// Writes one that ended.
pub(super) fn keep(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let waiting = Waiting {
        xid: entry.xid,
        state: entry.state,
        time: entry.time.clone(),
        prepared_as: entry.prepared_as.clone(),
        rows: entry.rows.iter().map(|(file, rows)| (file.to_string(), *rows)).collect(),
        moved: entry.moved.iter().map(Filenode::to_string).collect(),
        bytes: entry.bytes,
        partial: entry.partial,
    };
    serde_json::to_writer(&mut *out, &waiting)?;
    out.write_all(b"\n")
}

/// Puts the list together: the head, then each transaction of `waiting` with its names. Returns the first of them.
pub(super) fn write(
    path: &Path,
    head: &LossList,
    waiting: &Path,
    names: &Names,
) -> io::Result<Vec<LostTransaction>> {
    let mut out = BufWriter::new(File::create(path)?);
    let text = serde_json::to_string(head)?;
    let opening = text.rfind(OPENING).map_or(text.len(), |at| at + OPENING.len());
    out.write_all(&text.as_bytes()[..opening])?;
    let mut shown = Vec::new();
    for (index, line) in BufReader::new(File::open(waiting)?).lines().enumerate() {
        let entry: Waiting = serde_json::from_str(&line?)?;
        let transaction = with_names(entry, names);
        out.write_all(if index == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut out, &transaction)?;
        if shown.len() < LOST_SHOWN {
            shown.push(transaction);
        }
    }
    out.write_all(b"\n]}\n")?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(shown)
}

/// What was lost of every table, with the most rows first, and the rows of catalogues.
pub(super) fn tables(totals: &Totals, names: &Names) -> (Vec<LostTable>, u64) {
    let (mut tables, catalogue) = named(totals.rows.iter().map(|(file, rows)| (*file, *rows)), names);
    tables.sort_by_key(|table| std::cmp::Reverse(table.inserted + table.updated + table.deleted));
    (tables, catalogue)
}

/// Sequences by name.
pub(super) fn sequences(moved: impl IntoIterator<Item = Filenode>, names: &Names) -> Vec<String> {
    let name = |file| {
        let name = names.of(file);
        name.database.map_or(name.name.clone(), |database| format!("{} in {database}", name.name))
    };
    moved.into_iter().map(name).collect()
}

fn with_names(entry: Waiting, names: &Names) -> LostTransaction {
    let file = |text: &String| text.parse::<Filenode>().ok();
    let rows = entry.rows.iter().filter_map(|(text, rows)| Some((file(text)?, *rows)));
    let (tables, catalogue_rows) = named(rows, names);
    LostTransaction {
        xid: entry.xid,
        state: entry.state,
        at: moment(&entry.time),
        prepared_as: entry.prepared_as,
        tables,
        sequences: sequences(entry.moved.iter().filter_map(file), names),
        catalogue_rows,
        bytes: entry.bytes,
        partial: entry.partial,
    }
}

/// Rows by table. A table that was rewritten has several files, and is one table.
fn named(rows: impl Iterator<Item = (Filenode, Rows)>, names: &Names) -> (Vec<LostTable>, u64) {
    let (mut tables, mut catalogue): (BTreeMap<_, Rows>, u64) = (BTreeMap::new(), 0);
    for (file, rows) in rows {
        let name = names.of(file);
        match name.kind {
            Kind::Catalogue => catalogue += rows.sum(),
            // A file that nobody knows and that only vanished was perhaps an index.
            Kind::Table if name.is_known || rows.sum() > 0 => {
                tables.entry((name.database, name.name)).or_default().merge(rows);
            }
            Kind::Table | Kind::Sequence | Kind::Other => {}
        }
    }
    let table = |((database, table), rows): ((Option<String>, String), Rows)| LostTable {
        database,
        table,
        inserted: rows.inserted,
        updated: rows.updated,
        deleted: rows.deleted,
        emptied: rows.dropped,
    };
    (tables.into_iter().map(table).collect(), catalogue)
}

/// `2026-11-22 09:05:46.200000 UTC`, as `pg_waldump` prints it with `TZ=UTC`.
fn moment(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix(" UTC")?;
    let civil: DateTime = text.replacen(' ', "T", 1).parse().ok()?;
    civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_commit_is_read() {
        let expected: Timestamp = "2026-11-22T09:05:46.2Z".parse().unwrap();
        assert_eq!(moment("2026-11-22 09:05:46.200000 UTC"), Some(expected));
        assert_eq!(moment("2026-11-22 09:05:46.200000 CET"), None);
        assert_eq!(moment(""), None);
    }

    #[test]
    fn what_is_written_is_one_list_with_a_transaction_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let (path, waiting) = (dir.path().join("lost.json"), dir.path().join("waiting"));
        let file = Filenode { space: 1663, database: 5, number: 20000 };
        let mut out = File::create(&waiting).unwrap();
        for xid in 1..=3 {
            let rows = [(file, Rows { inserted: 2, ..Rows::default() })].into();
            let time = "2026-11-22 09:05:46.200000 UTC".into();
            keep(&mut out, &Entry { xid, time, rows, ..Entry::default() }).unwrap();
        }
        let head: LossList = serde_json::from_str(
            r#"{"format":1,"node":"a","made_at":"2026-11-22T09:05:46Z","under":{"incarnation":1,"epoch":2,"version":3},
                "timeline":1,"from":"0/10","end":"0/20","bytes":16,"unknown":null,"notes":["\"transactions\":["],
                "synchronous_standby_names":null,"committed":3,"prepared":0,"probes":0,"tables":[],
                "catalogue_rows":0,"sequences":[],"transactions":[]}"#,
        )
        .unwrap();
        let shown = write(&path, &head, &waiting, &Names::default()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 5, "{text}");
        let read: LossList = serde_json::from_str(&text).unwrap();
        assert_eq!((read.transactions.len(), read.transactions[2].tables[0].inserted), (3, 2));
        assert_eq!((shown, LossList { transactions: vec![], ..read.clone() }), (read.transactions, head));
    }
}
