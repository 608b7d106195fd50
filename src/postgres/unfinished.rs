//! A record that begins where valid WAL ends, and is not whole.
//!
//! WAL is flushed in pages and streamed in blocks, so a flush position often lies within a record. A server that is started
//! again reports the end of its last whole record, which is less, although nothing is missing. How far the next record
//! would go tells the two apart. The layout is that of `XLogRecord` and `XLogPageHeaderData` (`xlogrecord.h`,
//! `xlog_internal.h`), unchanged in what is read here since PostgreSQL 9.5.

use std::io;

use super::{
    Instance, PgError, disk,
    pages::{WalPlace, read_at},
    segment::{PAGE, after, header},
};
use crate::model::Lsn;

/// Bytes of a record's header.
const RECORD: u64 = 24;
/// No record is longer (`XLogRecordMaxSize`).
const LONGEST: u64 = 1020 << 20;

impl Instance {
    /// Where the record would end that begins at `end` and is not whole, as far as its pages are there. None: no record
    /// begins there, or nothing shows that what stands there follows the record before it.
    ///
    /// # Errors
    /// [`PgError`]
    pub async fn unfinished_record(&self, place: WalPlace, end: Lsn) -> Result<Option<Lsn>, PgError> {
        let folder = self.file("pg_wal");
        let look = move || disk::io("read", &folder, Pages { folder: &folder, place }.unfinished(end));
        self.disk.run("read WAL", disk::SMALL, look).await
    }
}

/// The WAL of one place, read across pages.
struct Pages<'a> {
    folder: &'a std::path::Path,
    place: WalPlace,
}

impl Pages<'_> {
    fn unfinished(&self, end: Lsn) -> io::Result<Option<Lsn>> {
        let start = self.start_of_record(end);
        let Some(head) = self.head(start)? else { return Ok(None) };
        if head.before >= start || !self.ends_at(head.before, end)? {
            return Ok(None);
        }
        self.valid_until(start, Lsn(after(start.0, head.length, self.place.segment)))
    }

    /// A record that follows the end of a page begins behind the next page's header.
    fn start_of_record(&self, at: Lsn) -> Lsn {
        if at.0.is_multiple_of(PAGE) { Lsn(at.0 + header(at.0, self.place.segment)) } else { at }
    }

    /// The length of the record at `at`, and where the one before it begins. None: there is none of a possible length.
    fn head(&self, at: Lsn) -> io::Result<Option<Head>> {
        let Some(bytes) = self.bytes(at, RECORD)? else { return Ok(None) };
        let [a, b, c, d, _, _, _, _, e, f, g, h, i, j, k, l, ..] = bytes[..] else { return Ok(None) };
        let length = u64::from(u32::from_ne_bytes([a, b, c, d]));
        let before = Lsn(u64::from_ne_bytes([e, f, g, h, i, j, k, l]));
        Ok((RECORD..=LONGEST).contains(&length).then_some(Head { length, before }))
    }

    /// Whether the record at `at` ends at `end`; one that left its segment (a switch) goes on to the end of it.
    fn ends_at(&self, at: Lsn, end: Lsn) -> io::Result<bool> {
        let Some(head) = self.head(at)? else { return Ok(false) };
        let its_end = after(at.0, head.length, self.place.segment);
        let switched =
            end.0.is_multiple_of(self.place.segment) && its_end.next_multiple_of(self.place.segment) == end.0;
        Ok(its_end == end.0 || switched)
    }

    /// So many bytes of records from `at` on, page headers left out. None: some of it is not there.
    fn bytes(&self, at: Lsn, count: u64) -> io::Result<Option<Vec<u8>>> {
        let (mut at, mut bytes) = (at.0, Vec::new());
        while (bytes.len() as u64) < count {
            let Some(page) = self.page(Lsn(at - at % PAGE))? else { return Ok(None) };
            if at.is_multiple_of(PAGE) {
                at += header(at, self.place.segment);
            }
            let from = usize::try_from(at % PAGE).unwrap_or(usize::MAX);
            let left = usize::try_from(count).unwrap_or(usize::MAX) - bytes.len();
            let here = &page[from..];
            let taken = &here[..left.min(here.len())];
            bytes.extend_from_slice(taken);
            at += taken.len() as u64;
        }
        Ok(Some(bytes))
    }

    /// How far the pages from `start` to `end` are there.
    fn valid_until(&self, start: Lsn, end: Lsn) -> io::Result<Option<Lsn>> {
        let mut at = start.0 - start.0 % PAGE;
        while at < end.0 {
            if self.page(Lsn(at))?.is_none() {
                return Ok((at > start.0).then_some(Lsn(at)));
            }
            at += PAGE;
        }
        Ok(Some(end))
    }

    /// One page, if it is the one that belongs there. A segment in which a timeline began has pages of the one before.
    fn page(&self, at: Lsn) -> io::Result<Option<Vec<u8>>> {
        let bytes = read_at(&self.place.file(self.folder, at), self.place, at, PAGE)?;
        let [_, _, _, _, a, b, c, d, e, f, g, h, i, j, k, l, ..] = bytes[..] else { return Ok(None) };
        let timeline = u32::from_ne_bytes([a, b, c, d]);
        let address = u64::from_ne_bytes([e, f, g, h, i, j, k, l]);
        let belongs = bytes.len() as u64 == PAGE && address == at.0 && timeline <= self.place.timeline.0;
        Ok(belongs.then_some(bytes))
    }
}

/// Of a record's header.
struct Head {
    length: u64,
    before: Lsn,
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::model::Timeline;

    const SEGMENT: u64 = 1 << 20;
    const PLACE: WalPlace = WalPlace { timeline: Timeline(2), segment: SEGMENT };

    /// A segment that begins at `SEGMENT`, with records of these lengths.
    struct Made {
        bytes: Vec<u8>,
        at: u64,
        last: u64,
    }

    impl Made {
        fn new() -> Self {
            let mut bytes = vec![0; SEGMENT as usize];
            for page in 0..SEGMENT / PAGE {
                let here = (page * PAGE) as usize;
                bytes[here + 4..here + 8].copy_from_slice(&2_u32.to_ne_bytes());
                bytes[here + 8..here + 16].copy_from_slice(&(SEGMENT + page * PAGE).to_ne_bytes());
            }
            Self { bytes, at: SEGMENT + header(SEGMENT, SEGMENT), last: 0 }
        }

        /// Writes a record, and returns where it ends.
        fn record(&mut self, length: u32) -> u64 {
            let mut head = [0_u8; 24];
            head[..4].copy_from_slice(&length.to_ne_bytes());
            head[8..16].copy_from_slice(&self.last.to_ne_bytes());
            let start =
                if self.at.is_multiple_of(PAGE) { self.at + header(self.at, SEGMENT) } else { self.at };
            let mut at = start;
            for byte in head {
                if at.is_multiple_of(PAGE) {
                    at += header(at, SEGMENT);
                }
                self.bytes[(at - SEGMENT) as usize] = byte;
                at += 1;
            }
            (self.last, self.at) = (start, after(start, u64::from(length), SEGMENT));
            self.at
        }

        fn unfinished(&self, folder: &Path, end: u64) -> Option<u64> {
            fs::write(PLACE.file(folder, Lsn(SEGMENT)), &self.bytes).unwrap();
            Pages { folder, place: PLACE }.unfinished(Lsn(end)).unwrap().map(|lsn| lsn.0)
        }
    }

    #[test]
    fn a_record_that_is_not_whole_is_told_by_its_own_length_and_the_record_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut made = Made::new();
        made.record(100);
        let end = made.record(50);
        let torn = made.record(20_000);
        assert_eq!(made.unfinished(dir.path(), end), Some(torn));
        assert_eq!(made.unfinished(dir.path(), torn), None, "nothing begins there");
    }

    #[test]
    fn a_header_that_two_pages_share_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut made = Made::new();
        made.record(u32::try_from(PAGE - 40 - 8).unwrap());
        let end = made.record(24);
        assert_eq!(made.unfinished(dir.path(), SEGMENT + PAGE - 8), Some(end));
        let torn = made.record(500);
        assert_eq!(made.unfinished(dir.path(), end), Some(torn));
    }

    #[test]
    fn what_an_older_segment_left_there_is_no_record_of_this_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut made = Made::new();
        made.record(100);
        let end = made.record(50);
        made.last -= 8;
        made.record(20_000);
        assert_eq!(made.unfinished(dir.path(), end), None, "it names another record before it");
    }

    #[test]
    fn only_as_far_as_its_pages_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut made = Made::new();
        made.record(100);
        let end = made.record(50);
        made.record(40_000);
        made.bytes[2 * PAGE as usize + 8] ^= 1;
        assert_eq!(made.unfinished(dir.path(), end), Some(SEGMENT + 2 * PAGE));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let dir = tempfile::tempdir().unwrap();
        for (seed, at) in (1..200_u64).flat_map(|seed| [(seed, SEGMENT + 40), (seed, SEGMENT + PAGE)]) {
            let mut made = Made::new();
            let mut state = seed;
            for byte in &mut made.bytes[..3 * PAGE as usize] {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if state >> 60 == 0 {
                    *byte = (state >> 32) as u8;
                }
            }
            let _any = made.unfinished(dir.path(), at);
        }
    }
}
