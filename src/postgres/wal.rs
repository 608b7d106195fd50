//! What the write-ahead log holds, by `pg_waldump`.
//!
//! Its listing ends with an error where valid WAL ends; that is what is looked for, not a failure.

use std::{
    io::{self, BufRead, BufReader, PipeReader, Read, Write},
    path::PathBuf,
    process::ExitStatus,
    time::Duration,
};

use super::{
    Instance, PgError, disk,
    record::{Record, Tally},
    run::{self, Limit, Ran},
    segment::Segments,
};
use crate::model::{Lsn, Timeline};

/// How long `pg_waldump` may show no sign of life.
const STALL: Limit = Limit::Stall(Duration::from_secs(30));

/// A longer line is cut: a commit of very many subtransactions.
const LINE_BYTES: u64 = 1 << 20;

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
    /// Locum's own probe commits.
    pub probes: u64,
    /// Rows inserted, whether committed or not, catalogues included.
    pub inserted: u64,
    /// Rows updated.
    pub updated: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// The time of the first commit by the server's own clock, as printed, in UTC.
    pub first_commit: Option<String>,
    /// The time of the last commit.
    pub last_commit: Option<String>,
}

/// Where a listing goes besides being counted.
pub(super) type Sink = Box<dyn Write + Send>;

impl Instance {
    /// The end of the last valid record on `timeline`, at or after `from` (a record's start, such as the redo point of
    /// the control file; if the timeline began later, from there). `from` itself if there is none. Only for a server
    /// of which no process is left.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn wal_end(&self, timeline: Timeline, from: Lsn) -> Result<Lsn, PgError> {
        let all = self.segments(timeline).await?;
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
            let (_, tally) = run::run("pg_waldump", command, STALL, &|_| (), |out| list(out, None)).await?;
            if let Some(record) = tally.last.filter(|record| record.lsn == last) {
                return Ok(part.end_of(&record));
            }
        } else if ran.said.contains(NONE) {
            return Ok(from);
        }
        // It ended in another way, such as with the last file: slower, but sure.
        Ok(self.tally(&part, None).await?.last.map_or(from, |record| part.end_of(&record)))
    }

    /// The greatest timeline of which there is WAL: where a crashed server was. Its control file may still name the
    /// one before.
    ///
    /// # Errors
    /// [`PgError`], also if there is no WAL at all.
    pub async fn wal_timeline(&self) -> Result<Timeline, PgError> {
        let names = self.wal_names().await?;
        let timelines = names.iter().filter_map(|name| super::segment::parse_name(name));
        let greatest = timelines.map(|(timeline, _, _)| timeline).max();
        greatest.ok_or_else(|| PgError::Nonsense("there is no WAL in pg_wal".to_owned()))
    }

    /// What the server wrote on `timeline` from `from` on: the switch position in the new primary's history. Only for
    /// a server of which no process is left.
    ///
    /// # Errors
    /// [`PgError`], also if the WAL is not there any more.
    pub async fn lost(&self, timeline: Timeline, from: Lsn) -> Result<LostTail, PgError> {
        Ok(self.lost_into(timeline, from, None).await?.0)
    }

    /// The same with the listing written to `sink`, and the segments that hold it.
    pub(super) async fn lost_into(
        &self,
        timeline: Timeline,
        from: Lsn,
        sink: Option<Sink>,
    ) -> Result<(LostTail, Option<Segments>), PgError> {
        let all = self.segments(timeline).await?;
        let Some(part) = all.run_from(from) else {
            return all.nothing_from(from).map(|_| (Tally::default().lost(from, from), None));
        };
        let tally = self.tally(&part, sink).await?;
        let end = tally.last.as_ref().map_or(from, |record| part.end_of(record));
        Ok((tally.lost(from, end), Some(part)))
    }

    async fn tally(&self, part: &Segments, sink: Option<Sink>) -> Result<Tally, PgError> {
        let command = self.waldump(part);
        let (ran, tally) = run::run("pg_waldump", command, STALL, &|_| (), |out| list(out, sink)).await?;
        if is_an_end(ran.status, &ran) { Ok(tally) } else { Err(ran.failure("pg_waldump")) }
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
    async fn segments(&self, timeline: Timeline) -> Result<super::segment::Present, PgError> {
        let size = self.control_file().await?.segment;
        Ok(super::segment::Present::new(timeline, size, &self.wal_names().await?))
    }

    pub(super) async fn wal_names(&self) -> Result<Vec<String>, PgError> {
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

/// Counts a listing, line by line, on its way to the sink.
fn list(out: PipeReader, mut sink: Option<Sink>) -> io::Result<Tally> {
    let (mut out, mut tally, mut line) =
        (BufReader::with_capacity(1 << 16, out), Tally::default(), Vec::new());
    loop {
        line.clear();
        if (&mut out).take(LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if let Some(record) = Record::parse(&String::from_utf8_lossy(&line)) {
            tally.count(record);
        }
        if let Some(sink) = &mut sink {
            sink.write_all(&line)?;
        }
    }
    if let Some(mut sink) = sink {
        sink.flush()?;
    }
    Ok(tally)
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
