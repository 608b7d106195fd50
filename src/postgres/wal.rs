//! What the write-ahead log holds, by `pg_waldump`.
//!
//! Its listing ends with an error where valid WAL ends; that is what is looked for, not a failure.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, PipeReader, Read, Write},
    path::PathBuf,
    process::ExitStatus,
    time::Duration,
};

use super::{
    Instance, PgError, disk,
    ledger::{Entry, Ledger, Totals, precedes},
    record::{Record, What},
    run::{self, Limit, Ran},
    segment::{Present, Segments},
};
use crate::model::{Lsn, Timeline};

/// How long `pg_waldump` may show no sign of life.
const STALL: Limit = Limit::Stall(Duration::from_secs(30));

/// A longer line is cut: a commit of more than a million subtransactions.
const LINE_BYTES: u64 = 16 << 20;

/// How far before the lost range is looked for the beginning of transactions that ended in it. Less: a long one is
/// listed without its first rows, which is said. More: a node with such a one comes home later, by a second for some
/// 60 MB.
const LOOK_BACK: u64 = 1 << 30;

/// How it says that what comes next is no valid record, and that there was none from the start.
const ENDS: &str = "error in WAL record at ";
const NONE: &str = "could not find a valid record after ";

/// What a server wrote beyond a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostTail {
    /// Where it begins.
    pub from: Lsn,
    /// The end of the last valid record.
    pub end: Lsn,
    /// Bytes of WAL between them.
    pub bytes: u64,
    /// Committed transactions, Locum's own probes not counted.
    pub transactions: u64,
    /// Transactions that were prepared and not decided.
    pub prepared: u64,
    /// Locum's own probe commits.
    pub probes: u64,
    /// Rows that committed transactions inserted, catalogues included.
    pub inserted: u64,
    /// Rows they updated.
    pub updated: u64,
    /// Rows they deleted.
    pub deleted: u64,
    /// The time of the first commit by the server's own clock, as printed, in UTC.
    pub first_commit: Option<String>,
    /// The time of the last commit.
    pub last_commit: Option<String>,
    /// Why it is not known what was lost: some of the WAL is gone. The numbers are then what could be read.
    pub unknown: Option<String>,
}

/// Where the lines of the lost range go.
pub(super) type Sink = Box<dyn Write + Send>;

/// Where its transactions go; None: that was the last one.
pub(super) type EntrySink = Box<dyn FnMut(Option<&Entry>) -> io::Result<()> + Send>;

/// Where what is read goes besides being counted.
#[derive(Default)]
pub(super) struct Sinks {
    pub(super) listing: Option<Sink>,
    pub(super) entries: Option<EntrySink>,
}

/// What was read of a lost range.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) tail: LostTail,
    pub(super) totals: Totals,
    /// The segments that hold it, from the first record of its earliest transaction on. None: there are none.
    pub(super) segments: Option<Segments>,
    /// Further segments that hold WAL, which cannot be read in order.
    pub(super) stray: Vec<u64>,
}

impl Instance {
    /// The end of the last valid record on `timeline`, at or after `from` (a record's start, such as the redo point of
    /// the control file; if the timeline began later, from there). `from` itself if there is none. Only for a server
    /// of which no process is left.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn wal_end(&self, timeline: Timeline, from: Lsn) -> Result<Lsn, PgError> {
        self.end_in(&self.segments(timeline).await?, from).await
    }

    /// As [`Instance::wal_end`], and where the record would end that begins there and is not whole
    /// ([`Instance::unfinished_record`]).
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn wal_end_and_unfinished(
        &self,
        timeline: Timeline,
        from: Lsn,
    ) -> Result<(Lsn, Option<Lsn>), PgError> {
        let all = self.segments(timeline).await?;
        let end = self.end_in(&all, from).await?;
        Ok((end, self.unfinished_record(all.place(), end).await?))
    }

    async fn end_in(&self, all: &Present, from: Lsn) -> Result<Lsn, PgError> {
        let Some(part) = all.run_from(from).or_else(|| all.run_after(from)) else {
            return all.nothing_from(from);
        };
        let mut quiet = self.waldump(&part);
        quiet.arg("--quiet");
        let (ran, ()) = run::run("pg_waldump", quiet, STALL, &|_| (), |out| drain(out).map(|_| ())).await?;
        // What it names is the last good record; a second look at that one alone tells how long it is.
        if let Some(last) = position_after(&ran.said, ENDS) {
            let one = Segments { from: last, ..part.clone() };
            let mut command = self.waldump(&one);
            command.arg("--limit=1");
            let read = |out| list(out, Ledger::default(), Sinks::default());
            let (_, ledger) = run::run("pg_waldump", command, STALL, &|_| (), read).await?;
            if let Some(record) = ledger.last.filter(|record| record.lsn == last) {
                return Ok(part.end_of(&record));
            }
        } else if ran.said.contains(NONE) {
            return Ok(from);
        }
        // It ended in another way, such as with the last file: slower, but sure.
        let ledger = self.read(&part, Ledger::default(), Sinks::default()).await?;
        Ok(ledger.last.map_or(from, |record| part.end_of(&record)))
    }

    /// The greatest timeline of which there is WAL: where a crashed server was. Its control file may still name the
    /// one before.
    ///
    /// # Errors
    /// [`PgError`], also if there is no WAL at all.
    pub async fn wal_timeline(&self) -> Result<Timeline, PgError> {
        let greatest = self.wal_timelines().await?.last().copied();
        greatest.ok_or_else(|| PgError::WalGone("there is no WAL in pg_wal".to_owned()))
    }

    /// The timelines of which there is WAL.
    pub(super) async fn wal_timelines(&self) -> Result<BTreeSet<Timeline>, PgError> {
        let names = self.wal_names().await?;
        Ok(names.iter().filter_map(|name| Some(super::segment::parse_name(name)?.0)).collect())
    }

    /// What the server wrote on `timeline` from `from` on: the switch position in the new primary's history. Only for
    /// a server of which no process is left.
    ///
    /// # Errors
    /// [`PgError`]. That WAL is gone is none: it is said in the answer.
    pub async fn lost(&self, timeline: Timeline, from: Lsn) -> Result<LostTail, PgError> {
        Ok(self.lost_into(timeline, from, Sinks::default()).await?.tail)
    }

    /// The same with what is read passed on.
    pub(super) async fn lost_into(
        &self,
        timeline: Timeline,
        from: Lsn,
        sinks: Sinks,
    ) -> Result<Reading, PgError> {
        let all = self.segments(timeline).await?;
        let (part, mut unknown) = match all.run_from(from) {
            Some(part) => (Some(part), None),
            None if all.nothing_from(from).is_ok() => (None, None),
            None => {
                let after = all.run_after(from);
                let until = after.as_ref().map_or("on".into(), |after| format!("to {}", after.from));
                (after, Some(format!("WAL of timeline {timeline} from {from} {until} was gone")))
            }
        };
        let Some(part) = part else {
            let totals = Totals::default();
            let tail = tail(&totals, from, from, unknown);
            return Ok(Reading { tail, totals, segments: None, stray: Vec::new() });
        };
        let (begin, horizon) = self.beginning(&all, &part).await?;
        let whole = Segments { from: begin, ..part.clone() };
        let ledger = self.read(&whole, Ledger::new(part.from, horizon), sinks).await?;
        let last = ledger.last.as_ref().map(|record| part.end_of(record));
        let end = last.map_or(part.from, |end| end.max(part.from));
        let stray = self.stray(&all, &part, end).await?;
        if let Some(first) = stray.first() {
            let gap = format!(
                "WAL of timeline {timeline} from {end} to {} was gone or torn",
                Lsn(first * part.size)
            );
            unknown = Some(unknown.map_or(gap.clone(), |unknown| format!("{unknown}, and {gap}")));
        }
        let totals = ledger.totals;
        let first = totals.first.map_or(part.from, |first| first.min(part.from));
        Ok(Reading {
            tail: tail(&totals, from, end, unknown),
            totals,
            segments: Some(Segments { from: first, ..part }),
            stray,
        })
    }

    /// Where the transactions that ended in the lost range began, at the latest: the position of a list of those that
    /// were under way, which is made every 15 s and at each checkpoint, before any of them had its number. If there is
    /// none, the first WAL that there is, and the number below which a transaction may have begun before that.
    async fn beginning(&self, all: &Present, part: &Segments) -> Result<(Lsn, Option<u32>), PgError> {
        let mut transactions = self.waldump(part);
        transactions.arg("--rmgr=Transaction");
        let (ran, oldest) = run::run("pg_waldump", transactions, STALL, &|_| (), oldest).await?;
        if !is_an_end(ran.status, &ran) {
            return Err(ran.failure("pg_waldump"));
        }
        let Some(oldest) = oldest else { return Ok((part.from, None)) };
        let number = part.segment_of(part.from);
        let earliest = all.run_before(number).max(number.saturating_sub(LOOK_BACK / part.size));
        let mut back = 0;
        loop {
            let first = earliest.max(number.saturating_sub(back));
            let lists = self.lists_of_running(part, Lsn(first * part.size)).await?;
            if let Some((at, _)) = lists.iter().rev().find(|(_, next)| !precedes(oldest, *next)) {
                return Ok((*at, None));
            }
            if first > earliest {
                back = (back * 2).max(1);
                continue;
            }
            let begun = Lsn(first * part.size);
            // On a new timeline nothing of the one before is under way.
            let history = self.history(part.timeline).await.unwrap_or_default();
            let is_all = match history.last() {
                Some(switch) => switch.at >= begun,
                None => first <= 1,
            };
            let horizon = lists.first().map_or_else(|| oldest.wrapping_add(1), |(_, next)| *next);
            return Ok((begun.min(part.from), (!is_all).then_some(horizon)));
        }
    }

    /// The lists of running transactions from a position up to the beginning of a range, with the number that the next
    /// transaction would have got then.
    async fn lists_of_running(&self, part: &Segments, from: Lsn) -> Result<Vec<(Lsn, u32)>, PgError> {
        if from >= part.from {
            return Ok(Vec::new());
        }
        let mut command = self.command("pg_waldump");
        command.env("TZ", "UTC").arg("--path").arg(self.file("pg_wal")).arg("--rmgr=Standby");
        command.arg(format!("--start={from}")).arg(format!("--end={}", part.from));
        command.arg(part.name(part.segment_of(from))).arg(part.name(part.segment_of(part.from)));
        let read = |out| {
            let mut lists = Vec::new();
            each_record(out, |record, _| {
                if let What::Next(next) = record.what {
                    lists.push((record.lsn, next));
                }
                Ok(())
            })?;
            Ok(lists)
        };
        let (ran, lists) = run::run("pg_waldump", command, STALL, &|_| (), read).await?;
        if is_an_end(ran.status, &ran) { Ok(lists) } else { Err(ran.failure("pg_waldump")) }
    }

    /// Segments beyond the end of valid WAL that were written all the same: the first page of one that waits to be used
    /// again still has its old address.
    async fn stray(&self, all: &Present, part: &Segments, end: Lsn) -> Result<Vec<u64>, PgError> {
        let (folder, part) = (self.file("pg_wal"), part.clone());
        let after = Lsn(end.0.saturating_sub(1).max(part.from.0));
        let later: Vec<u64> = all.after(part.segment_of(after)).collect();
        let look = move || {
            let mut written = Vec::new();
            for number in later {
                let path = folder.join(part.name(number));
                let address = disk::io("read", &path, super::segment::page_address(&path))?;
                if address == Some((part.timeline, Lsn(number * part.size))) {
                    written.push(number);
                }
            }
            Ok(written)
        };
        self.disk.run("look at WAL segments", disk::SMALL, look).await
    }

    async fn read(&self, part: &Segments, ledger: Ledger, sinks: Sinks) -> Result<Ledger, PgError> {
        let command = self.waldump(part);
        let read = |out| list(out, ledger, sinks);
        let (ran, ledger) = run::run("pg_waldump", command, STALL, &|_| (), read).await?;
        if is_an_end(ran.status, &ran) { Ok(ledger) } else { Err(ran.failure("pg_waldump")) }
    }

    /// The program, told to read these segments. Both are named: left to itself it takes the size of segments from
    /// any file, which may be an empty one, and waits 5 s for one that does not exist.
    fn waldump(&self, part: &Segments) -> tokio::process::Command {
        let mut command = self.command("pg_waldump");
        command.env("TZ", "UTC").arg("--path").arg(self.file("pg_wal"));
        command.arg(format!("--start={}", part.from)).arg(format!("--end={}", part.end()));
        command.arg(part.name(part.segment_of(part.from))).arg(part.name(part.last));
        command
    }

    /// The segments of a timeline that are there.
    async fn segments(&self, timeline: Timeline) -> Result<Present, PgError> {
        let size = self.control_file().await?.segment;
        Ok(Present::new(timeline, size, &self.wal_names().await?))
    }

    async fn wal_names(&self) -> Result<Vec<String>, PgError> {
        let folder: PathBuf = self.file("pg_wal");
        let read = move || {
            let names = || -> io::Result<Vec<String>> {
                std::fs::read_dir(&folder)?
                    .map(|e| Ok(e?.file_name().to_string_lossy().into_owned()))
                    .collect()
            };
            disk::io("read", &folder, names())
        };
        self.disk.run("read pg_wal", disk::SMALL, read).await
    }
}

fn is_an_end(status: ExitStatus, ran: &Ran) -> bool {
    status.success() || ran.said.contains(ENDS) || ran.said.contains(NONE)
}

/// The position that follows a phrase.
fn position_after(said: &str, phrase: &str) -> Option<Lsn> {
    let word = said.rsplit_once(phrase)?.1.split(|c: char| c == ':' || c.is_whitespace()).next()?;
    word.parse().ok().filter(|lsn| *lsn != Lsn(0))
}

fn drain(out: PipeReader) -> io::Result<u64> {
    io::copy(&mut { out }, &mut io::sink())
}

/// Counts a listing, line by line, on its way to the sinks. What comes before the lost range only tells what was under
/// way when it began.
fn list(out: PipeReader, mut ledger: Ledger, mut sinks: Sinks) -> io::Result<Ledger> {
    let from = ledger.from();
    each_record(out, |record, line| {
        if record.lsn >= from
            && let Some(listing) = &mut sinks.listing
        {
            listing.write_all(line)?;
        }
        match (ledger.take(record), &mut sinks.entries) {
            (Some(entry), Some(entries)) => entries(Some(&entry)),
            _ => Ok(()),
        }
    })?;
    let undecided = ledger.finish();
    if let Some(entries) = &mut sinks.entries {
        undecided.iter().try_for_each(|entry| entries(Some(entry)))?;
        entries(None)?;
    }
    if let Some(mut listing) = sinks.listing {
        listing.flush()?;
    }
    Ok(ledger)
}

/// The lowest number of a transaction or subtransaction that was committed or prepared.
fn oldest(out: PipeReader) -> io::Result<Option<u32>> {
    let mut oldest: Option<u32> = None;
    each_record(out, |record, _| {
        if let What::Commit(end) | What::Prepare { end, .. } = &record.what {
            let top = end.of.unwrap_or(record.xid);
            for xid in std::iter::once(top).chain(end.subtransactions.iter().copied()) {
                oldest = Some(oldest.map_or(xid, |oldest| if precedes(xid, oldest) { xid } else { oldest }));
            }
        }
        Ok(())
    })?;
    Ok(oldest)
}

fn each_record(out: PipeReader, mut each: impl FnMut(Record, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let (mut out, mut line) = (BufReader::with_capacity(1 << 16, out), Vec::new());
    loop {
        line.clear();
        if (&mut out).take(LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if let Some(record) = Record::parse(&String::from_utf8_lossy(&line)) {
            each(record, &line)?;
        }
    }
}

/// What was counted, in short.
fn tail(totals: &Totals, from: Lsn, end: Lsn, unknown: Option<String>) -> LostTail {
    let sum = |of: fn(&super::ledger::Rows) -> u64| totals.rows.values().map(of).sum();
    LostTail {
        from,
        end,
        bytes: end.bytes_since(from),
        transactions: totals.committed,
        prepared: totals.prepared,
        probes: totals.probes,
        inserted: sum(|rows| rows.inserted),
        updated: sum(|rows| rows.updated),
        deleted: sum(|rows| rows.deleted),
        first_commit: totals.first_commit.clone(),
        last_commit: totals.last_commit.clone(),
        unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_record_is_found_in_what_pg_waldump_says() {
        let said = "pg_waldump: error: error in WAL record at 0/1523A28: invalid record length at 0/1523A60: wanted 24, got 0";
        assert_eq!(position_after(said, ENDS), Some(Lsn(0x152_3A28)));
        assert_eq!(position_after("fatal: error in WAL record at 0/0: x", ENDS), None);
        assert_eq!(position_after("nothing", ENDS), None);
    }
}
