//! How long the replay of WAL has taken on a standby, piece by piece.
//!
//! How long a piece takes depends on what it is of (measured: 256 MiB of new pages 0.3 s, of rows all over a table 3 s), so a rate
//! of the past is a guess for other WAL. But a standby replays what crash recovery of its primary would replay: what that
//! takes is known, of the very same WAL.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Lsn;

/// How many positions are kept. Fewer: what is dear and what is cheap to replay share a piece. More: the facts of every standby
/// grow by that.
const MARKS: usize = 24;
/// The shortest piece, in bytes. Shorter: only the last megabytes are known piece by piece. Longer: what follows a checkpoint is
/// mixed with what was before it.
const PIECE: u64 = 4 << 20;
/// A rate is of at least so many bytes. Fewer: it is of a moment. More: it is of other WAL than was asked for.
const ENOUGH: u64 = 16 << 20;

/// Positions, each with the time that all replay up to there has taken since the first one, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplayEffort {
    marks: Vec<(Lsn, u64)>,
}

impl ReplayEffort {
    /// Replay stands at a position, and nobody saw how it came there.
    pub fn found_at(&mut self, at: Lsn) {
        if !self.spans().is_some_and(|(first, last)| (first..=last).contains(&at)) {
            self.marks = vec![(at, 0)];
        }
    }

    /// Replay has come to a position, and has worked for so long since the last one.
    pub fn came_to(&mut self, at: Lsn, worked: Duration) {
        let Some((last, before)) = self.marks.last().copied() else { return self.found_at(at) };
        if at <= last {
            // Replayed once more, after a restart.
            return;
        }
        let by_now = before.saturating_add(u64::try_from(worked.as_micros()).unwrap_or(u64::MAX));
        match self.marks.as_mut_slice() {
            [.., (begin, _), newest] if at.bytes_since(*begin) <= PIECE => *newest = (at, by_now),
            _ => self.marks.push((at, by_now)),
        }
        if self.marks.len() > MARKS {
            self.join_two();
        }
    }

    /// Makes one piece of the two that are the shortest beside all that was replayed since they began: the newest stay short.
    fn join_two(&mut self) {
        let Some((_, end)) = self.spans() else { return };
        let share = |two: &[(Lsn, u64)]| match two {
            [(begin, _), _, (to, _)] => {
                (u128::from(to.bytes_since(*begin)) << 32) / u128::from(end.bytes_since(*begin).max(1))
            }
            _ => u128::MAX,
        };
        if let Some((at, _)) = self.marks.windows(3).enumerate().min_by_key(|(_, two)| share(two)) {
            self.marks.remove(at + 1);
        }
    }

    /// At least half of that WAL was replayed here.
    #[must_use]
    pub fn knows(&self, from: Lsn, to: Lsn) -> bool {
        self.spans().is_some_and(|(first, last)| {
            to.min(last).bytes_since(from.max(first)) >= to.bytes_since(from).div_ceil(2)
        })
    }

    /// Bytes replayed in a second of work, of that WAL as far as it was replayed here, and of what was before it where that is
    /// little. None: too little was replayed here.
    #[must_use]
    pub fn rate(&self, from: Lsn, to: Lsn) -> Option<u64> {
        let (first, last) = self.spans()?;
        let to = to.min(last);
        let from = from.min(Lsn(to.0.saturating_sub(ENOUGH))).max(first);
        let bytes = to.bytes_since(from);
        let took = self.by(to)?.checked_sub(self.by(from)?)?;
        (bytes >= ENOUGH).then(|| bytes.saturating_mul(1_000_000) / took.max(1))
    }

    fn spans(&self) -> Option<(Lsn, Lsn)> {
        Some((self.marks.first()?.0, self.marks.last()?.0))
    }

    /// What replay up to a position had taken; within a piece, evenly.
    fn by(&self, at: Lsn) -> Option<u64> {
        let next = self.marks.iter().position(|(mark, _)| *mark >= at)?;
        let (to, after) = self.marks[next];
        let Some((from, before)) = next.checked_sub(1).map(|last| self.marks[last]) else {
            return (to == at).then_some(after);
        };
        let part = u128::from(after.saturating_sub(before)) * u128::from(at.bytes_since(from))
            / u128::from(to.bytes_since(from).max(1));
        Some(before.saturating_add(u64::try_from(part).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(mib: u64) -> Lsn {
        Lsn(mib * MIB)
    }

    /// So many MiB in steps of one, each of which takes so many milliseconds.
    fn replays(effort: &mut ReplayEffort, mib: u64, each_ms: u64) {
        let from = effort.spans().unwrap().1;
        for step in 1..=mib {
            effort.came_to(Lsn(from.0 + step * MIB), Duration::from_millis(each_ms));
        }
    }

    fn last_rate(effort: &ReplayEffort) -> Option<u64> {
        let (_, last) = effort.spans()?;
        effort.rate(last, last)
    }

    fn begun() -> ReplayEffort {
        let mut effort = ReplayEffort::default();
        effort.found_at(at(1000));
        effort
    }

    #[test]
    fn each_kind_of_wal_has_its_own_rate() {
        let mut effort = begun();
        replays(&mut effort, 1024, 1);
        replays(&mut effort, 256, 20);
        replays(&mut effort, 512, 2);
        let rate =
            |from: u64, to: u64| effort.rate(at(1000 + from), at(1000 + to)).unwrap() as f64 / MIB as f64;
        for (from, to, true_rate) in
            [(1280, 1792, 500.0), (1024, 1792, 768.0 / 6.144), (0, 1792, 1792.0 / 7.168)]
        {
            let told = rate(from, to);
            assert!((0.8..1.25).contains(&(told / true_rate)), "{from} to {to}: {told}, not {true_rate}");
        }
        let last = last_rate(&effort).unwrap() / MIB;
        assert!((490..=510).contains(&last), "{last}");
    }

    #[test]
    fn it_stays_small_and_knows_the_newest_best() {
        let mut effort = begun();
        replays(&mut effort, 20_000, 1);
        assert!(effort.marks.len() <= MARKS);
        let (first, last) = effort.spans().unwrap();
        assert_eq!((first, last), (at(1000), at(21_000)));
        let ends =
            effort.marks.windows(2).rev().take(3).all(|two| two[1].0.bytes_since(two[0].0) <= 4 * PIECE);
        assert!(ends, "{:?}", effort.marks);
        // All of it is accounted for, whatever was joined.
        assert_eq!(effort.marks.last().unwrap().1, 20_000_000);
        assert_eq!(effort.rate(first, last), Some(1000 * MIB));
    }

    #[test]
    fn what_was_not_replayed_here_is_not_known() {
        let mut effort = begun();
        assert!(!effort.knows(at(900), at(1000)) && last_rate(&effort).is_none());
        replays(&mut effort, 15, 1);
        assert_eq!(last_rate(&effort), None, "too little");
        replays(&mut effort, 85, 1);
        for (from, to, known) in [
            (1000, 1100, true),
            (900, 1100, true),
            (899, 1100, false),
            (1050, 1150, true),
            (1050, 1151, false),
            (1100, 1200, false),
            (100, 200, false),
        ] {
            assert_eq!(effort.knows(at(from), at(to)), known, "{from} to {to}");
        }
        assert_eq!(effort.rate(at(100), at(200)), None);
        assert_eq!(effort.rate(at(1090), at(1100)), Some(1000 * MIB), "what was before it is in it");
        assert_eq!(ReplayEffort::default().rate(at(1), at(100)), None);
    }

    #[test]
    fn a_gap_that_nobody_saw_begins_it_anew_and_a_restart_does_not() {
        let mut effort = begun();
        replays(&mut effort, 100, 1);
        let before = effort.clone();
        effort.found_at(at(1050));
        effort.came_to(at(1090), Duration::from_secs(1));
        assert_eq!(effort, before, "replayed once more");
        for gap in [at(1101), at(999)] {
            let mut effort = before.clone();
            effort.found_at(gap);
            assert_eq!(effort.spans(), Some((gap, gap)));
        }
    }
}
