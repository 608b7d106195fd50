//! Keeping what a rewind or clone would destroy.
//!
//! A folder is made under another name and gets its own when it is whole, with a `MANIFEST` of sizes and checksums.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use jiff::Timestamp;

use super::{
    Instance, LostTail, PgError, Source, disk, history,
    kept_salvage::{self, PART, SalvageLimits},
    loss,
    names::Names,
    old_data,
    wal::{EntrySink, Reading, Sink, Sinks},
};
use crate::model::{LOST_SHOWN, LossList, Lsn, NodeId, Stamp, Timeline};

/// How much of the listing is kept at most. It can be made again from the WAL.
const LISTING_BYTES: u64 = 64 << 20;

/// The names of what is in a salvage folder, besides WAL.
const LISTING: &str = "listing.txt";
pub(super) const LIST: &str = "lost.json";
const README: &str = "README";
pub(super) const MANIFEST: &str = "MANIFEST";
/// The data directory as it was, where it was copied.
pub const DATA: &str = "data";

/// Transactions that wait for the names of their tables; not in a folder that is whole.
const WAITING: &str = "waiting.tmp";

/// What is given up, and where its names are known.
#[derive(Clone, Debug)]
pub struct Tail<'a> {
    /// Names the folder.
    pub id: &'a str,
    /// Whose it is.
    pub node: NodeId,
    /// The stamp of the command that gives it up.
    pub under: Stamp,
    /// The timeline of the WAL.
    pub timeline: Timeline,
    /// Where the lost range begins.
    pub from: Lsn,
    /// The time by the node's clock.
    pub made_at: Timestamp,
    /// The new primary, which knows the names of tables. None: they are listed by number.
    pub names: Option<&'a Source>,
}

/// A salvage folder, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// The folder.
    pub dir: PathBuf,
    /// What the lost range holds.
    pub tail: LostTail,
    /// The list, with the first of its transactions only; the whole one is in the folder.
    pub list: LossList,
    /// What was left out and why, if anything was.
    pub left_out: Option<String>,
}

impl Instance {
    /// Copies the WAL of the lost range, the list of its transactions and its listing into `<state_dir>/salvage/<id>/`. To
    /// be called before anything rewinds the data directory. Calling it again with the same `id` does it again, in place of
    /// the first; half a folder of a call that was killed is no folder.
    ///
    /// # Errors
    /// [`PgError`]; then nothing must be rewound without a person's word. WAL that is gone is no error: what is left is
    /// kept, and [`LossList::unknown`] says it.
    pub async fn salvage(&self, tail: &Tail<'_>) -> Result<Salvaged, PgError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if tail.id.is_empty() || !tail.id.chars().all(plain) {
            return Err(PgError::Nonsense(format!("{:?} cannot name a folder", tail.id)));
        }
        let place = kept_salvage::place(&self.state_dir);
        let dir = place.join(tail.id);
        let part = dir.with_extension(PART);
        let (fresh, salvages) = (part.clone(), Arc::clone(&self.salvages));
        let begin = move || {
            // A call that was given up may still work on the folder: it is waited for, or told that its time is over.
            let mut number = salvages.lock().unwrap_or_else(PoisonError::into_inner);
            *number += 1;
            // What earlier ones were killed over, under whatever epoch, is of no use, and may be large.
            for half_made in disk::io("read", &place, kept_salvage::half_made(&place))? {
                disk::remove_folder(&half_made)?;
            }
            disk::io("make", &fresh, fs::create_dir_all(&fresh))?;
            let file = |name| {
                let path = fresh.join(name);
                disk::io("make", &path, File::create(&path)).map(BufWriter::new)
            };
            Ok((file(LISTING)?, file(WAITING)?, *number))
        };
        let (listing, mut waiting, number) =
            self.disk.run("make the salvage folder", disk::LARGE, begin).await?;
        let listing: Sink = Box::new(Capped { file: listing, left: LISTING_BYTES });
        let entries: EntrySink = Box::new(move |entry| match entry {
            Some(entry) => loss::keep(&mut waiting, entry),
            None => waiting.flush(),
        });
        let sinks = Sinks { listing: Some(listing), entries: Some(entries) };
        let reading = self.lost_into(tail.timeline, tail.from, sinks).await?;
        let names = match tail.names {
            Some(source) => self.names_of(source, &reading).await,
            None => Names::default(),
        };
        let in_force = self.get("synchronous_standby_names").await.unwrap_or_default();
        let list = list(tail, &reading, &names, in_force);
        let (wal, limits) = (self.file("pg_wal"), self.salvage_limits);
        let (data_dir, state_dir) = (self.data_dir.clone(), self.state_dir.clone());
        let keep = Keep { wal, part, dir, reading, names, list, data_dir, state_dir, limits };
        let salvages = Arc::clone(&self.salvages);
        let finish = move || {
            let last = salvages.lock().unwrap_or_else(PoisonError::into_inner);
            if *last == number {
                keep.run()
            } else {
                Err(PgError::Nonsense("another salvage has begun meanwhile".to_owned()))
            }
        };
        self.disk.run("salvage the WAL", disk::LARGE, finish).await
    }

    /// What the new primary calls the relations of the list.
    async fn names_of(&self, source: &Source, reading: &Reading) -> Names {
        let totals = &reading.totals;
        let wanted = totals.rows.keys().chain(&totals.moved).chain(&totals.undecided);
        let files = wanted.filter(|file| !totals.made.contains(file)).copied().collect();
        self.names(|dbname| source.session(dbname), &files).await
    }
}

/// The head of the list.
fn list(tail: &Tail<'_>, reading: &Reading, names: &Names, in_force: Option<String>) -> LossList {
    let (found, totals) = (&reading.tail, &reading.totals);
    let (tables, catalogue_rows) = loss::tables(totals, names);
    let mut notes = names.notes.clone();
    if tables.iter().any(|table| table.table.starts_with("filenode ")) {
        let why = "tables that are named by filenode were made, emptied or rewritten in the lost part, or the new \
                   primary does not have them any more; the parts of long values (TOAST) of such a table are listed \
                   like rows";
        notes.push(why.into());
    }
    if totals.overflowed {
        notes
            .push("more subtransactions were open at a time than are kept; some rows are not counted".into());
    }
    LossList {
        format: 1,
        node: tail.node.clone(),
        made_at: tail.made_at,
        under: tail.under,
        timeline: tail.timeline,
        from: found.from,
        end: found.end,
        bytes: found.bytes,
        unknown: found.unknown.clone(),
        notes,
        synchronous_standby_names: in_force.filter(|names| !names.is_empty()),
        committed: found.transactions,
        prepared: found.prepared,
        probes: found.probes,
        tables,
        catalogue_rows,
        sequences: loss::sequences(totals.moved.iter().copied(), names),
        transactions: Vec::new(),
    }
}

/// What remains to be done once the lost range is known.
struct Keep {
    wal: PathBuf,
    part: PathBuf,
    dir: PathBuf,
    reading: Reading,
    names: Names,
    list: LossList,
    data_dir: PathBuf,
    state_dir: PathBuf,
    limits: SalvageLimits,
}

impl Keep {
    fn run(mut self) -> Result<Salvaged, PgError> {
        let mut notes = Vec::new();
        let listed = disk::io("look at", &self.part, fs::metadata(self.part.join(LISTING)))?.len();
        if listed >= LISTING_BYTES {
            notes.push(format!("the listing beyond its first {listed} bytes"));
        }
        notes.extend(self.copy()?);
        if self.list.committed + self.list.prepared > 0 {
            let (from, to) = (&self.data_dir, self.part.join(DATA));
            notes.extend(disk::io("copy", from, old_data::keep(from, &to, self.limits.max_copy))?);
        }
        self.list.notes.extend(notes.iter().map(|note| format!("left out: {note}")));
        let (path, waiting) = (self.part.join(LIST), self.part.join(WAITING));
        let first = disk::io("write", &path, loss::write(&path, &self.list, &waiting, &self.names))?;
        disk::io("remove", &waiting, fs::remove_file(&waiting))?;
        let path = self.part.join(README);
        disk::io("write", &path, fs::write(&path, readme(&self.list)))?;
        let manifest = self.manifest(&notes)?;
        let path = self.part.join(MANIFEST);
        disk::io("write", &path, fs::write(&path, manifest))?;
        for entry in disk::io("read", &self.part, fs::read_dir(&self.part))? {
            let path = disk::io("read", &self.part, entry)?.path();
            disk::io("sync", &path, File::open(&path).and_then(|file| file.sync_all()))?;
        }
        if self.part.join(DATA).exists() {
            let synced = File::open(&self.part).and_then(|file| Ok(rustix::fs::syncfs(file)?));
            disk::io("sync", &self.part, synced)?;
        }
        disk::remove_folder(&self.dir)?;
        disk::sync_folder_of(&path)?;
        disk::io("rename", &self.part, fs::rename(&self.part, &self.dir))?;
        disk::sync_folder_of(&self.dir)?;
        match kept_salvage::prune(&self.state_dir, self.limits, self.list.made_at.into()) {
            Ok(removed) => {
                removed.iter().for_each(|folder| tracing::warn!(%folder, "an old salvage was removed"))
            }
            Err(error) => tracing::warn!(%error, "old salvages cannot be removed"),
        }
        let list = LossList { transactions: first, ..self.list };
        let left_out = (!notes.is_empty()).then(|| notes.join("; "));
        Ok(Salvaged { dir: self.dir, tail: self.reading.tail, list, left_out })
    }

    /// Copies the segments and the timeline's history. Says what there was no room for.
    fn copy(&self) -> Result<Option<String>, PgError> {
        let (tail, stray) = (&self.reading.tail, &self.reading.stray);
        let Some(segments) = self.reading.segments.as_ref().filter(|_| tail.bytes > 0 || !stray.is_empty())
        else {
            return Ok(None);
        };
        let first = segments.segment_of(segments.from);
        let last = segments.segment_of(Lsn(tail.end.0.saturating_sub(1))).max(first);
        let wanted: Vec<u64> =
            (first..=last).chain(stray.iter().copied().filter(|number| *number > last)).collect();
        let room = usize::try_from(self.limits.max_bytes / segments.size).unwrap_or(usize::MAX).max(1);
        for number in wanted.iter().take(room) {
            self.copy_file(&segments.name(*number))?;
        }
        let history = history::file_name(segments.timeline);
        if self.wal.join(&history).exists() {
            self.copy_file(&history)?;
        }
        Ok(wanted.get(room).map(|next| format!("the WAL from {} on", Lsn(next * segments.size))))
    }

    fn copy_file(&self, name: &str) -> Result<(), PgError> {
        let from = self.wal.join(name);
        disk::io("copy", &from, fs::copy(&from, self.part.join(name))).map(|_| ())
    }

    fn manifest(&self, notes: &[String]) -> Result<String, PgError> {
        let tail = &self.reading.tail;
        let mut text = format!("# WAL from {} to {}: {} bytes\n", tail.from, tail.end, tail.bytes);
        notes.iter().for_each(|note| text.push_str(&format!("# left out: {note}\n")));
        text.push_str("# name, bytes, CRC-32C\n");
        let entries = disk::io("read", &self.part, fs::read_dir(&self.part).and_then(Iterator::collect))?;
        let mut entries: Vec<fs::DirEntry> = entries;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries.iter().filter(|entry| entry.path().is_file()) {
            let (bytes, sum) = disk::io("read", &entry.path(), checksum(&entry.path()))?;
            let _a_string_takes_all = writeln!(text, "{} {bytes} {sum:08x}", entry.file_name().display());
        }
        Ok(text)
    }
}

/// What a person reads who finds the folder.
fn readme(list: &LossList) -> String {
    let LossList { node, timeline, from, end, committed, prepared, .. } = list;
    let unknown = list.unknown.as_ref().map_or(String::new(), |why| {
        format!("\nNot all of it is known: {why}. The numbers are what could be read.\n")
    });
    let names = list.synchronous_standby_names.as_deref();
    let acknowledged = match names {
        Some(names) => format!(
            "Its commits waited for a standby (synchronous_standby_names = {names}), so nobody was told that these were\n\
             committed, but for sessions that do not wait and waits that were cancelled."
        ),
        None => {
            "Its commits did not wait for a standby: clients were told that these were committed.".to_owned()
        }
    };
    format!(
        "What {node} had written when another node had already become the primary.\n\
         \n\
         {committed} committed and {prepared} prepared transactions, in the WAL of timeline {timeline} from {from} to {end}.\n\
         {acknowledged}\n{unknown}\n\
         {LIST}     the transactions: when, which tables, how many rows. One on each line:\n\
         \x20             grep '\"table\":\"public.orders\"' {LIST}\n\
         {LISTING}   every record, as pg_waldump prints it\n\
         0000...       the WAL itself. To look at the records of transaction 747, say:\n\
         \x20             pg_waldump --path . --timeline {} --start {from} --xid 747\n\
         {MANIFEST}      sizes and checksums (CRC-32C) of these files\n\
         \n\
         {DATA}/         the data directory as it was, where it was copied (not under MANIFEST; it has checksums of its own).\n\
         \x20             `locum salvage open` starts a copy of it, read-only, for nobody but this host's people; then\n\
         \x20             rows can be copied from it with psql or pg_dump.\n",
        timeline.0
    )
}

/// The whole list as facts carry it.
#[must_use]
pub fn in_short(salvaged: &Salvaged, under: Stamp) -> crate::model::LostTail {
    let Salvaged { dir, tail, list, .. } = salvaged;
    let mut first = list.transactions.clone();
    for lost in &mut first {
        lost.tables.truncate(LOST_SHOWN);
        lost.sequences.truncate(LOST_SHOWN);
    }
    crate::model::LostTail {
        under,
        from: tail.from,
        end: tail.end,
        bytes: tail.bytes,
        transactions: tail.transactions,
        salvage: Some(dir.display().to_string()),
        tables: list.tables.iter().take(LOST_SHOWN).cloned().collect(),
        first,
        unknown: tail.unknown.clone(),
        notes: list.notes.clone(),
        stray: None,
    }
}

/// Takes the first bytes and lets the rest go.
struct Capped<W> {
    file: W,
    left: u64,
}

impl<W: Write> Write for Capped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.file.write_all(&bytes[..fits])?;
        self.left -= fits as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Bytes and CRC-32C of a file.
fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let (mut total, mut sum, mut buffer) = (0, !0, vec![0; 1 << 16]);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((total, !sum));
        }
        total += count as u64;
        sum = buffer[..count].iter().fold(sum, |sum, byte| CRC[usize::from(sum as u8 ^ byte)] ^ (sum >> 8));
    }
}

/// The table of CRC-32C (Castagnoli), reflected.
static CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut value, mut bit) = (at as u32, 0);
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0x82F6_3B78 } else { value >> 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "123456789").unwrap();
        assert_eq!(checksum(file.path()).unwrap(), (9, 0xE306_9283));
    }

    #[test]
    fn what_is_too_much_is_let_go() {
        let mut capped = Capped { file: Vec::new(), left: 5 };
        capped.write_all(b"1234").unwrap();
        capped.write_all(b"5678").unwrap();
        assert_eq!(capped.file, b"12345");
    }
}
