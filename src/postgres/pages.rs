//! WAL page by page, straight from and into segment files: what a WAL rescue moves.
//!
//! A page says where it belongs and of which timeline it is (`XLogPageHeaderData` of `xlog_internal.h`, in the machine's
//! byte order, unchanged since PostgreSQL 9.3). That alone decides where a copy ends: a segment that was made ahead, or
//! is used again, holds older pages or none.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Instance, Owner, PgError, disk,
    segment::{PAGE, Segments, parse_name},
};
use crate::model::{Lsn, Timeline};

/// The most bytes read or written at a time. Less: more round trips. More: a hung disk is noticed later, and a message
/// of the peer port would be too long.
pub const CHUNK: u64 = 1 << 20;

/// PostgreSQL removes files that begin like this when it starts: one that was not finished is in nobody's way.
const UNFINISHED: &str = "xlogtemp.locum";

/// The WAL of one timeline: what the names of its segment files are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalPlace {
    /// The timeline.
    pub timeline: Timeline,
    /// Bytes of a segment.
    pub segment: u64,
}

impl WalPlace {
    pub(super) fn file(self, folder: &Path, at: Lsn) -> PathBuf {
        let named = Segments { timeline: self.timeline, size: self.segment, from: at, last: 0 };
        folder.join(named.name(named.segment_of(at)))
    }

    const fn offset(self, at: Lsn) -> u64 {
        at.0 % self.segment
    }

    /// How much of it one chunk from there holds at most: none goes beyond its segment.
    #[must_use]
    pub const fn room(self, at: Lsn) -> u64 {
        let left = self.left(at);
        if left < CHUNK { left } else { CHUNK }
    }

    /// Bytes from there to the end of the segment.
    #[must_use]
    pub const fn left(self, at: Lsn) -> u64 {
        self.segment - self.offset(at)
    }

    /// PostgreSQL allows segments of 1 MiB to 1 GiB.
    const fn is_possible(self) -> bool {
        self.segment.is_power_of_two() && self.segment >= 1 << 20 && self.segment <= 1 << 30
    }
}

/// The page that holds the last byte before a position.
const fn page_before(at: Lsn) -> Lsn {
    let last = at.0.saturating_sub(1);
    Lsn(last - last % PAGE)
}

/// True if nothing was written there: as the rest of a segment that was left by a switch (`pg_switch_wal`,
/// `archive_timeout`, the end of a base backup).
#[must_use]
pub fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// True if `bytes`, which begin at `at`, are whole pages of that place and of `timeline`, or of these and then blank ones. The
/// first one may be of an earlier timeline if `compared` says that somebody compares it.
#[must_use]
pub fn belongs(bytes: &[u8], at: Lsn, timeline: Timeline, compared: bool) -> bool {
    let written = fitting(bytes, at, timeline, compared);
    (bytes.len() as u64).is_multiple_of(PAGE) && is_blank(&bytes[written..])
}

/// How many bytes are such pages, the blank ones not counted.
fn fitting(bytes: &[u8], at: Lsn, timeline: Timeline, compared: bool) -> usize {
    let page_bytes = usize::try_from(PAGE).unwrap_or(usize::MAX);
    let fits = |(number, page): &(usize, &[u8])| {
        let here = at.0 + (number * page_bytes) as u64;
        let field = |range: std::ops::Range<usize>| page.get(range);
        let tli = field(4..8).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
        let address = field(8..16).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes);
        let earlier = compared && *number == 0 && tli.is_some_and(|tli| tli < timeline.0);
        address == Some(here) && (tli == Some(timeline.0) || earlier)
    };
    bytes.chunks_exact(page_bytes).enumerate().take_while(fits).count() * page_bytes
}

impl Instance {
    /// The last page before `end` on which something is written: it can be compared with what somebody else has there.
    /// None: its segment is not there.
    ///
    /// # Errors
    /// [`PgError`]
    pub async fn last_page(&self, place: WalPlace, end: Lsn) -> Result<Option<Lsn>, PgError> {
        let folder = self.file("pg_wal");
        let read = move || {
            let mut at = page_before(end);
            let path = place.file(&folder, at);
            while is_blank(&disk::io("read", &path, read_at(&path, place, at, PAGE))?) {
                if place.offset(at) == 0 {
                    return Ok(None);
                }
                at.0 -= PAGE;
            }
            Ok(Some(at))
        };
        self.disk.run("read WAL", disk::SMALL, read).await
    }

    /// The greatest timeline of which there is WAL up to `end`. None: its segment is not there.
    ///
    /// PostgreSQL itself says by SQL only on which timeline a standby receives, and where its last checkpoint was.
    ///
    /// # Errors
    /// [`PgError`]
    pub async fn timeline_at(&self, end: Lsn) -> Result<Option<Timeline>, PgError> {
        let segment = self.control_file().await?.segment;
        let timelines = self.wal_timelines().await?;
        let (folder, at) = (self.file("pg_wal"), page_before(end));
        let read = move || {
            for timeline in timelines.into_iter().rev() {
                let place = WalPlace { timeline, segment };
                let path = place.file(&folder, at);
                let page = disk::io("read", &path, read_at(&path, place, at, PAGE))?;
                if fitting(&page, at, timeline, true) > 0 {
                    return Ok(Some(timeline));
                }
            }
            Ok(None)
        };
        self.disk.run("read WAL", disk::SMALL, read).await
    }

    /// The pages from `at` on that belong there, no more than [`WalPlace::room`]. Empty: there is none. Where the segment
    /// was left by a switch and WAL goes on in the next one, its blank pages belong to it. Only of a server of which no
    /// process is left.
    ///
    /// # Errors
    /// [`PgError`]; also if there is WAL of a later timeline: the server had left this one.
    pub async fn read_pages(&self, place: WalPlace, at: Lsn, deadline: Duration) -> Result<Vec<u8>, PgError> {
        let folder = self.file("pg_wal");
        let read = move || {
            if !place.is_possible() || !at.0.is_multiple_of(PAGE) {
                return Err(PgError::Nonsense(format!("no page of WAL begins at {at}")));
            }
            let later = disk::io("read", &folder, later_timeline(&folder, place.timeline))?;
            if let Some(later) = later {
                let why = format!("its WAL goes on in timeline {later}, not in {}", place.timeline);
                return Err(PgError::Nonsense(why));
            }
            let path = place.file(&folder, at);
            let mut bytes = disk::io("read", &path, read_at(&path, place, at, place.room(at)))?;
            let written = fitting(&bytes, at, place.timeline, true);
            if !is_blank(&bytes[written..]) || !goes_on(&folder, place, at)? {
                bytes.truncate(written);
            }
            Ok(bytes)
        };
        self.disk.run("read WAL", deadline, read).await
    }

    /// What stands in the segment file from `at` on, whatever it is: at most `bytes`, less where the file ends or is not
    /// there.
    ///
    /// # Errors
    /// [`PgError`]
    pub async fn read_wal(&self, place: WalPlace, at: Lsn, bytes: u64) -> Result<Vec<u8>, PgError> {
        let folder = self.file("pg_wal");
        let read = move || {
            let path = place.file(&folder, at);
            disk::io("read", &path, read_at(&path, place, at, bytes))
        };
        self.disk.run("read WAL", disk::SMALL, read).await
    }

    /// Writes pages where they belong, durably. A segment that is not there is made at full size under another name first.
    /// `held` is let go when nothing more is written, however long the caller waited.
    ///
    /// # Errors
    /// [`PgError`]
    pub async fn write_pages<H: Send + 'static>(
        &self,
        place: WalPlace,
        at: Lsn,
        bytes: Vec<u8>,
        held: H,
    ) -> Result<(), PgError> {
        let (folder, owner) = (self.file("pg_wal"), self.owner.clone());
        let write = move || {
            let _until_it_is_written = held;
            let path = place.file(&folder, at);
            if !path.exists() {
                disk::io("make", &path, make_segment(&path, place, &owner))?;
                disk::sync_folder_of(&path)?;
            }
            let put = || -> io::Result<()> {
                let file = OpenOptions::new().write(true).open(&path)?;
                file.write_all_at(&bytes, place.offset(at))?;
                file.sync_data()
            };
            disk::io("write", &path, put())
        };
        self.disk.run("write WAL", disk::SMALL, write).await
    }
}

/// True if the segment after that of `at` has WAL of this timeline.
fn goes_on(folder: &Path, place: WalPlace, at: Lsn) -> Result<bool, PgError> {
    let next = Lsn(at.0 - place.offset(at) + place.segment);
    let path = place.file(folder, next);
    let page = disk::io("read", &path, read_at(&path, place, next, PAGE))?;
    Ok(fitting(&page, next, place.timeline, false) > 0)
}

fn later_timeline(folder: &Path, timeline: Timeline) -> io::Result<Option<Timeline>> {
    let mut greatest = None;
    for entry in fs::read_dir(folder)? {
        let of = parse_name(&entry?.file_name().to_string_lossy()).map(|(of, _, _)| of);
        greatest = greatest.max(of.filter(|of| *of > timeline));
    }
    Ok(greatest)
}

/// Nothing, if the file is not there.
pub(super) fn read_at(path: &Path, place: WalPlace, at: Lsn, bytes: u64) -> io::Result<Vec<u8>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut read = vec![0; usize::try_from(bytes.min(place.segment)).unwrap_or(0)];
    let mut filled = 0;
    while filled < read.len() {
        match file.read_at(&mut read[filled..], place.offset(at) + filled as u64)? {
            0 => break,
            more => filled += more,
        }
    }
    read.truncate(filled);
    Ok(read)
}

/// A segment of zeros, complete before it has its name.
fn make_segment(path: &Path, place: WalPlace, owner: &Owner) -> io::Result<()> {
    let fresh = path.with_file_name(UNFINISHED);
    // As PostgreSQL makes them: its group may read where it may read the folder.
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mode = fs::metadata(folder)?.permissions().mode() & 0o640;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    owner.give(&fresh)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..place.segment >> 20 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1 << 20;

    fn page(at: u64, timeline: u32) -> Vec<u8> {
        let mut page = vec![7; PAGE as usize];
        page[4..8].copy_from_slice(&timeline.to_ne_bytes());
        page[8..16].copy_from_slice(&at.to_ne_bytes());
        page
    }

    #[test]
    fn a_copy_ends_with_the_first_page_of_another_place_or_timeline() {
        let at = Lsn(5 * SEGMENT);
        let good = [page(at.0, 3), page(at.0 + PAGE, 3)].concat();
        let two = good.len();
        assert_eq!(fitting(&good, at, Timeline(3), false), two);
        for foreign in [page(at.0, 3), page(at.0 + 2 * PAGE, 2), page(at.0 + 2 * PAGE, 4), vec![0; 8192]] {
            let bytes = [good.clone(), foreign, page(at.0 + 3 * PAGE, 3)].concat();
            assert_eq!(fitting(&bytes, at, Timeline(3), false), two);
        }
        let torn = [good.clone(), page(at.0 + 2 * PAGE, 3)[..100].to_vec()].concat();
        assert_eq!(fitting(&torn, at, Timeline(3), false), two, "half a page");
        let switched = [page(at.0, 2), page(at.0 + PAGE, 3)].concat();
        assert_eq!(fitting(&switched, at, Timeline(3), true), two, "the switch lies in the first page");
        assert_eq!(fitting(&switched, at, Timeline(3), false), 0, "which nobody compares");
        let later = [page(at.0, 3), page(at.0 + PAGE, 2)].concat();
        assert_eq!(
            fitting(&later, at, Timeline(3), true),
            two / 2,
            "only the first may be of an earlier one"
        );
    }

    #[test]
    fn blank_pages_belong_behind_written_ones() {
        let at = Lsn(5 * SEGMENT);
        let blank = vec![0; 2 * PAGE as usize];
        let one = Timeline(3);
        assert!(belongs(&[page(at.0, 3), blank.clone()].concat(), at, one, false));
        assert!(!belongs(&[page(at.0, 3), blank.clone(), page(at.0 + 3 * PAGE, 3)].concat(), at, one, false));
        assert!(!belongs(&[page(at.0, 2), blank.clone()].concat(), at, one, false), "of another timeline");
        assert!(!belongs(&[page(at.0, 3), blank[..100].to_vec()].concat(), at, one, false), "half a page");
    }

    #[test]
    fn the_page_before_a_position_holds_its_last_byte() {
        assert_eq!(page_before(Lsn(PAGE)), Lsn(0));
        assert_eq!(page_before(Lsn(PAGE + 1)), Lsn(PAGE));
        assert_eq!(page_before(Lsn(3 * PAGE - 8)), Lsn(2 * PAGE));
    }

    #[test]
    fn a_chunk_ends_with_its_segment() {
        let place = WalPlace { timeline: Timeline(1), segment: 16 << 20 };
        assert_eq!(place.room(Lsn(0)), CHUNK);
        assert_eq!(place.room(Lsn((16 << 20) - PAGE)), PAGE);
    }

    #[test]
    fn a_segment_has_its_name_only_at_full_size() {
        let dir = tempfile::tempdir().unwrap();
        let place = WalPlace { timeline: Timeline(1), segment: SEGMENT };
        let path = place.file(dir.path(), Lsn(SEGMENT));
        // One that was left half-made by an agent that was killed.
        fs::write(dir.path().join(UNFINISHED), vec![9; 2 * SEGMENT as usize]).unwrap();
        make_segment(&path, place, &Owner::this_process()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), vec![0; SEGMENT as usize]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
