//! WAL segment files: their names, and where a record ends in them (PostgreSQL manual, 30.6; `xlog_internal.h`).

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::{PgError, pages::WalPlace, record::Record};
use crate::model::{Lsn, Timeline};

/// Bytes of a WAL page as everybody builds PostgreSQL.
pub(super) const PAGE: u64 = 8192;

/// Bytes of the header of a page, and of the first page of a segment.
const SHORT_HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;

/// Records begin at multiples of this.
const ALIGN: u64 = 8;

/// The segments of one timeline that are in `pg_wal`.
#[derive(Clone, Debug)]
pub(super) struct Present {
    timeline: Timeline,
    size: u64,
    /// Their numbers, ascending.
    numbers: Vec<u64>,
}

/// Segments without a gap, and where to begin in the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segments {
    pub(super) timeline: Timeline,
    /// Bytes of one.
    pub(super) size: u64,
    /// Where to begin.
    pub(super) from: Lsn,
    /// The number of the last one.
    pub(super) last: u64,
}

impl Present {
    pub(super) fn new(timeline: Timeline, size: u64, names: &[String]) -> Self {
        let number = |(of, high, low): (Timeline, u64, u64)| {
            (of == timeline).then_some(high * ((1 << 32) / size) + low)
        };
        let mut numbers: Vec<u64> =
            names.iter().filter_map(|name| parse_name(name).and_then(number)).collect();
        numbers.sort_unstable();
        Self { timeline, size, numbers }
    }

    /// What the names of their files are made of.
    pub(super) const fn place(&self) -> WalPlace {
        WalPlace { timeline: self.timeline, segment: self.size }
    }

    /// From that position on; None if its segment is not there.
    pub(super) fn run_from(&self, from: Lsn) -> Option<Segments> {
        let first = from.0 / self.size;
        let at = self.numbers.binary_search(&first).ok()?;
        let run = self.numbers[at..].iter().zip(first..).take_while(|(have, want)| **have == *want);
        let last = run.last().map_or(first, |(have, _)| *have);
        Some(Segments { timeline: self.timeline, size: self.size, from, last })
    }

    /// From the first segment after that position.
    pub(super) fn run_after(&self, from: Lsn) -> Option<Segments> {
        let first = self.numbers.iter().find(|number| **number > from.0 / self.size)?;
        self.run_from(Lsn(first * self.size))
    }

    /// The first segment of those without a gap up to that one.
    pub(super) fn run_before(&self, number: u64) -> u64 {
        let at = self.numbers.binary_search(&number).unwrap_or_else(|at| at);
        let run = self.numbers[..at].iter().rev().zip((0..number).rev());
        run.take_while(|(have, want)| **have == *want).last().map_or(number, |(have, _)| *have)
    }

    /// The segments after that one.
    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = u64> {
        self.numbers.iter().copied().filter(move |other| *other > number)
    }

    /// What it means that there is no segment: nothing was written if the position is where the next would begin.
    pub(super) fn nothing_from(&self, from: Lsn) -> Result<Lsn, PgError> {
        let ends_there = self.numbers.last().is_some_and(|last| (last + 1) * self.size == from.0);
        let gone =
            || PgError::WalGone(format!("the WAL of timeline {} at {from} is not there", self.timeline));
        if ends_there { Ok(from) } else { Err(gone()) }
    }
}

impl Segments {
    /// The number of the segment of a position.
    pub(super) const fn segment_of(&self, at: Lsn) -> u64 {
        at.0 / self.size
    }

    /// Where the last one ends.
    pub(super) const fn end(&self) -> Lsn {
        Lsn((self.last + 1) * self.size)
    }

    /// The file name of a segment.
    pub(super) fn name(&self, number: u64) -> String {
        let per_id = (1 << 32) / self.size;
        format!("{:08X}{:08X}{:08X}", self.timeline.0, number / per_id, number % per_id)
    }

    /// Where a record ends: the position the server reports once it has flushed it.
    pub(super) fn end_of(&self, record: &Record) -> Lsn {
        let end = Lsn(after(record.lsn.0, record.length, self.size));
        // The rest of the segment belongs to the switch.
        if record.is_switch { Lsn(end.0.next_multiple_of(self.size)) } else { end }
    }
}

/// The timeline and the position that a segment's first page names; None: it was never written (`XLogPageHeaderData`).
pub(super) fn page_address(segment: &Path) -> io::Result<Option<(Timeline, Lsn)>> {
    let mut head = [0_u8; 16];
    match File::open(segment)?.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let [.., a, b, c, d, e, f, g, h, i, j, k, l] = head;
    let timeline = Timeline(u32::from_ne_bytes([a, b, c, d]));
    let at = Lsn(u64::from_ne_bytes([e, f, g, h, i, j, k, l]));
    Ok((at != Lsn(0)).then_some((timeline, at)))
}

/// The position `length` bytes of a record after `start`, page headers skipped, aligned.
pub(super) fn after(start: u64, length: u64, segment: u64) -> u64 {
    let (mut at, mut left) = (start, length);
    loop {
        let room = PAGE - at % PAGE;
        if left <= room {
            return (at + left).next_multiple_of(ALIGN);
        }
        left -= room;
        at += room;
        at += header(at, segment);
    }
}

/// Bytes of the header of the page that begins at `page`.
pub(super) const fn header(page: u64, segment: u64) -> u64 {
    if page.is_multiple_of(segment) { LONG_HEADER } else { SHORT_HEADER }
}

/// Timeline, high and low part of a segment's name; None for anything else, also `.partial`, `.history`, `.backup`.
pub(super) fn parse_name(name: &str) -> Option<(Timeline, u64, u64)> {
    let is_upper_hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    if name.len() != 24 || !name.bytes().all(is_upper_hex) {
        return None;
    }
    let part = |range| u64::from_str_radix(&name[range], 16).ok();
    Some((Timeline(u32::from_str_radix(&name[..8], 16).ok()?), part(8..16)?, part(16..24)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 16 << 20;

    fn present(names: &[&str]) -> Present {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Present::new(Timeline(2), SIZE, &names)
    }

    proptest! {
        #[test]
        fn a_name_is_read_back(timeline in 1u32.., number in 0u64..1 << 34, shift in 20u32..30) {
            let segments = Segments { timeline: Timeline(timeline), size: 1 << shift, from: Lsn(0), last: 0 };
            let name = segments.name(number);
            let read = Present::new(Timeline(timeline), 1 << shift, std::slice::from_ref(&name));
            prop_assert_eq!(read.numbers, vec![number]);
        }

        #[test]
        fn a_record_takes_its_bytes_and_the_headers_between(page in 0u64..5000, offset in 5u64..1023, length in 24u64..100_000) {
            let start = page * PAGE + offset * ALIGN;
            let end = after(start, length, SIZE);
            let crossed = (end - 1) / PAGE - start / PAGE;
            prop_assert!(end >= start + length + crossed * SHORT_HEADER);
            prop_assert!(end < start + length + crossed * SHORT_HEADER + (crossed / 2048 + 1) * 16 + ALIGN);
            prop_assert_eq!(end % ALIGN, 0);
        }
    }

    #[test]
    fn a_record_that_fills_its_page_ends_where_the_next_begins() {
        assert_eq!(after(PAGE - 48, 48, SIZE), PAGE);
        assert_eq!(after(PAGE - 48, 49, SIZE), PAGE + SHORT_HEADER + ALIGN);
        assert_eq!(after(SIZE - 48, 49, SIZE), SIZE + LONG_HEADER + ALIGN);
    }

    #[test]
    fn a_gap_ends_the_run_and_other_timelines_are_not_in_it() {
        let names = ["000000020000000000000003", "000000020000000000000004", "000000020000000000000006"];
        let there = present(&[&names[..], &["000000010000000000000005", "00000002.history"]].concat());
        let run = there.run_from(Lsn(3 * SIZE + 5)).unwrap();
        assert_eq!((run.last, run.end()), (4, Lsn(5 * SIZE)));
        assert_eq!(there.run_from(Lsn(2 * SIZE)), None);
        assert_eq!(there.run_after(Lsn(SIZE)).unwrap().from, Lsn(3 * SIZE));
        assert_eq!((there.run_before(4), there.run_before(6), there.run_before(9)), (3, 6, 9));
        assert_eq!(there.after(3).collect::<Vec<_>>(), [4, 6]);
        assert_eq!(there.nothing_from(Lsn(7 * SIZE)).unwrap(), Lsn(7 * SIZE));
        assert!(there.nothing_from(Lsn(7 * SIZE + 8)).is_err());
    }
}
