//! How far a copy has come, at what rate, and how long it will take: from the lines that `pg_basebackup` and
//! `pg_rewind` print. Pure.

use std::{collections::VecDeque, time::Duration};

/// The rate is that of so many lines: one comes each second. Fewer: it jumps about. More: it lags behind a change.
const LINES: usize = 10;

/// What is copied, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Copied {
    done: u64,
    total: u64,
}

impl Copied {
    /// Reads `12345/67890 kB (18%), 0/1 tablespace` or `12345/67890 kB (18%) copied`. None: another line.
    fn parse(line: &str) -> Option<Self> {
        let (counts, _) = line.trim_start().split_once(" kB (")?;
        let (done, total) = counts.split_once('/')?;
        let bytes = |text: &str| text.trim().parse::<u64>().ok()?.checked_mul(1024);
        Some(Self { done: bytes(done)?, total: bytes(total)? })
    }
}

/// A copy under way.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// When a line came, since whatever instant the caller counts from, and what it said.
    seen: VecDeque<(Duration, Copied)>,
}

impl Progress {
    /// A line was printed at `at`. What to tell people: the line itself, if it is of something else.
    pub(super) fn tell(&mut self, at: Duration, line: &str) -> String {
        let Some(copied) = Copied::parse(line) else { return line.to_owned() };
        self.seen.push_back((at, copied));
        while self.seen.len() > LINES {
            self.seen.pop_front();
        }
        // It is an estimate of the program's, which may be passed.
        let percent =
            copied.done.saturating_mul(100).checked_div(copied.total).map_or(100, |percent| percent.min(100));
        let mut text = format!("{percent} % of {}", megabytes(copied.total));
        if let Some(rate) = self.rate() {
            text.push_str(&format!(", {}/s", megabytes(rate)));
            let left = copied.total.saturating_sub(copied.done);
            if let Some(seconds) = left.checked_div(rate) {
                let left = humantime::format_duration(Duration::from_secs(seconds));
                text.push_str(&format!(", {left} left"));
            }
        }
        text
    }

    /// Bytes a second, of the last lines. None: not known yet.
    fn rate(&self) -> Option<u64> {
        let ((from, first), (to, last)) = (self.seen.front()?, self.seen.back()?);
        let took = u64::try_from(to.checked_sub(*from)?.as_millis()).ok().filter(|took| *took > 0)?;
        Some(last.done.saturating_sub(first.done).saturating_mul(1000) / took)
    }
}

/// Bytes in MB, of a million bytes each; with a digit more where there are few.
fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    if tenths >= 1000 { format!("{} MB", tenths / 10) } else { format!("{}.{} MB", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_programs_are_understood_and_other_lines_are_passed_on() {
        let copied = |done: u64, total: u64| Some(Copied { done: done * 1024, total: total * 1024 });
        assert_eq!(
            Copied::parse("   7/23201 kB (0%), 0/1 tablespace (...data/base/1/1255)"),
            copied(7, 23_201)
        );
        assert_eq!(Copied::parse(" 12345/67890 kB (18%) copied"), copied(12_345, 67_890));
        for other in
            ["waiting for checkpoint", "pg_rewind: servers diverged at WAL location 0/3", "a/b kB (1%)"]
        {
            assert_eq!(Copied::parse(other), None);
            assert_eq!(Progress::default().tell(Duration::ZERO, other), other);
        }
    }

    #[test]
    fn percent_rate_and_time_left_are_told() {
        let mut progress = Progress::default();
        let at = Duration::from_secs;
        assert_eq!(progress.tell(at(5), "0/1000000 kB (0%), 0/1 tablespace"), "0 % of 1024 MB");
        let second = progress.tell(at(6), "100000/1000000 kB (10%), 0/1 tablespace");
        assert_eq!(second, "10 % of 1024 MB, 102 MB/s, 9s left");
        let stalled = (7..20).map(|s| progress.tell(at(s), "100000/1000000 kB (10%), 0/1 tablespace")).last();
        assert_eq!(
            stalled.as_deref(),
            Some("10 % of 1024 MB, 0.0 MB/s"),
            "of a rate of nothing there is no end"
        );
    }

    #[test]
    fn an_estimate_that_is_passed_and_an_empty_copy_are_whole() {
        assert!(
            Progress::default().tell(Duration::ZERO, "9/8 kB (100%), 1/1 tablespace").starts_with("100 %")
        );
        assert!(
            Progress::default().tell(Duration::ZERO, "0/0 kB (100%), 1/1 tablespace").starts_with("100 %")
        );
    }
}
