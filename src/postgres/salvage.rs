//! Keeping what a rewind or clone would destroy.
//!
//! A folder is made under another name and gets its own when it is whole, with a `MANIFEST` of sizes and checksums.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use super::{Instance, LostTail, PgError, disk, history, segment::Segments, wal::Sink};
use crate::model::{Lsn, Timeline};

/// How much WAL is kept at most; more is left out, from the end.
const WAL_BYTES: u64 = 1 << 30;

/// How much of the listing is kept at most. It can be made again from the WAL.
const LISTING_BYTES: u64 = 64 << 20;

/// The name of the listing.
const LISTING: &str = "listing.txt";

/// A salvage folder, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// The folder.
    pub dir: PathBuf,
    /// What the lost range holds.
    pub tail: LostTail,
    /// What was left out and why, if anything was.
    pub left_out: Option<String>,
}

impl Instance {
    /// Copies the WAL of the lost range and its listing into `<state_dir>/salvage/<id>/`. To be called before anything
    /// rewinds the data directory. Calling it again with the same `id` does it again, in place of the first. Nothing
    /// here ever removes a folder of another id: that is for people.
    ///
    /// # Errors
    /// [`PgError`]; then nothing must be rewound without a person's word.
    pub async fn salvage(&self, id: &str, timeline: Timeline, from: Lsn) -> Result<Salvaged, PgError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.is_empty() || !id.chars().all(plain) {
            return Err(PgError::Nonsense(format!("{id:?} cannot name a folder")));
        }
        let dir = self.state_dir.join("salvage").join(id);
        let part = dir.with_extension("part");
        let (fresh, listing) = (part.clone(), part.join(LISTING));
        let begin = move || {
            disk::remove_folder(&fresh)?;
            disk::io("make", &fresh, fs::create_dir_all(&fresh))?;
            disk::io("make", &listing, File::create(&listing))
        };
        let file = self.disk.run("make the salvage folder", disk::SMALL, begin).await?;
        let sink: Sink = Box::new(Capped { file: BufWriter::new(file), left: LISTING_BYTES });
        let (tail, segments) = self.lost_into(timeline, from, Some(sink)).await?;

        let keep = Keep { wal: self.file("pg_wal"), part, dir: dir.clone(), tail: tail.clone(), segments };
        let left_out = self.disk.run("salvage the WAL", disk::LARGE, move || keep.run()).await?;
        Ok(Salvaged { dir, tail, left_out })
    }
}

/// What remains to be done once the lost range is known.
struct Keep {
    wal: PathBuf,
    part: PathBuf,
    dir: PathBuf,
    tail: LostTail,
    segments: Option<Segments>,
}

impl Keep {
    fn run(self) -> Result<Option<String>, PgError> {
        let mut notes = Vec::new();
        let listed = disk::io("look at", &self.part, fs::metadata(self.part.join(LISTING)))?.len();
        if listed >= LISTING_BYTES {
            notes.push(format!("the listing beyond its first {listed} bytes"));
        }
        if let Some(segments) = self.segments.as_ref().filter(|_| self.tail.bytes > 0) {
            notes.extend(self.copy(segments)?);
        }
        let manifest = self.manifest(&notes)?;
        let path = self.part.join("MANIFEST");
        disk::io("write", &path, fs::write(&path, manifest))?;
        for entry in disk::io("read", &self.part, fs::read_dir(&self.part))? {
            let path = disk::io("read", &self.part, entry)?.path();
            disk::io("sync", &path, File::open(&path).and_then(|file| file.sync_all()))?;
        }
        disk::remove_folder(&self.dir)?;
        disk::sync_folder_of(&path)?;
        disk::io("rename", &self.part, fs::rename(&self.part, &self.dir))?;
        disk::sync_folder_of(&self.dir)?;
        Ok((!notes.is_empty()).then(|| notes.join("; ")))
    }

    /// Copies the segments and the timeline's history. Says what there was no room for.
    fn copy(&self, segments: &Segments) -> Result<Option<String>, PgError> {
        let first = segments.segment_of(segments.from);
        let last = segments.segment_of(Lsn(self.tail.end.0.saturating_sub(1))).max(first);
        let kept = last.min(first + (WAL_BYTES / segments.size).max(1) - 1);
        for number in first..=kept {
            self.copy_file(&segments.name(number))?;
        }
        let history = history::file_name(segments.timeline);
        if self.wal.join(&history).exists() {
            self.copy_file(&history)?;
        }
        let out = (kept < last).then(|| format!("the WAL from {} on", Lsn((kept + 1) * segments.size)));
        Ok(out)
    }

    fn copy_file(&self, name: &str) -> Result<(), PgError> {
        let from = self.wal.join(name);
        disk::io("copy", &from, fs::copy(&from, self.part.join(name))).map(|_| ())
    }

    fn manifest(&self, notes: &[String]) -> Result<String, PgError> {
        let tail = &self.tail;
        let mut text = format!("# WAL from {} to {}: {} bytes\n", tail.from, tail.end, tail.bytes);
        notes.iter().for_each(|note| text.push_str(&format!("# left out: {note}\n")));
        text.push_str("# name, bytes, CRC-32C\n");
        let entries = disk::io("read", &self.part, fs::read_dir(&self.part).and_then(Iterator::collect))?;
        let mut entries: Vec<fs::DirEntry> = entries;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (bytes, sum) = disk::io("read", &entry.path(), checksum(&entry.path()))?;
            let _a_string_takes_all = writeln!(text, "{} {bytes} {sum:08x}", entry.file_name().display());
        }
        Ok(text)
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
