//! Live RPO: what would be lost if the primary vanished now, always with the age of that knowledge.
//!
//! The exposure is what the primary has committed to its own disk and the best standby has not *flushed*. A standby's
//! position is read before the primary's, so the value is never below the truth at `as_of`.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Lsn, Mono, NodeId};

/// The live RPO, as of one reading of the primary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveRpo {
    /// When the primary's position was read.
    pub as_of: Mono,
    /// Bytes flushed by the primary and not by the best standby. None: no standby is known.
    pub bytes: Option<u64>,
    /// How long ago the primary passed the standby's position, in milliseconds. None: no standby, or longer ago than
    /// the position log reaches.
    pub ms: Option<f64>,
    /// The primary's flush position.
    pub primary: Lsn,
    /// The best standby and its flush position.
    pub standby: Option<(NodeId, Lsn)>,
    /// The sync set is in force: every *acknowledged* commit is on a standby, and `bytes` is a tail that nobody was
    /// told about.
    pub acknowledged_is_safe: bool,
    /// How fast the primary writes, in bytes a second, over the position log.
    pub write_rate: f64,
}

/// How long the position log reaches back.
const REACH: Duration = Duration::from_secs(600);
/// How many positions it holds at most: ten a second for as long as it reaches.
const ENTRIES: usize = 6_000;

/// The primary's flush positions over time: the index from position to time.
#[derive(Clone, Debug, Default)]
pub struct PositionLog {
    entries: VecDeque<(Mono, Lsn)>,
}

impl PositionLog {
    /// Notes that the primary had flushed up to `lsn` at `at`. Positions that go back (another primary) begin anew.
    pub fn note(&mut self, at: Mono, lsn: Lsn) {
        match self.entries.back() {
            Some((last_at, last)) if at <= *last_at && lsn <= *last => return,
            Some((_, last)) if lsn < *last => self.entries.clear(),
            // Standing still: only the first and the last moment at one position matter.
            Some((_, last)) if lsn == *last && self.entries.len() >= 2 => {
                let before = self.entries[self.entries.len() - 2].1;
                if before == lsn {
                    self.entries.pop_back();
                }
            }
            _ => {}
        }
        self.entries.push_back((at, lsn));
        while self.entries.len() > ENTRIES
            || self.entries.front().is_some_and(|(old, _)| at.since(*old) > REACH)
        {
            self.entries.pop_front();
        }
    }

    /// When the primary first passed `lsn`, at the latest possible reading's predecessor: the last moment at which it
    /// was still seen at or below. Erring early makes the exposure longer, never shorter than the truth.
    /// None: it has not passed it, or did so before the log begins.
    #[must_use]
    pub fn passed(&self, lsn: Lsn) -> Option<Mono> {
        let first_beyond = self.entries.partition_point(|(_, seen)| *seen <= lsn);
        if first_beyond == 0 || first_beyond == self.entries.len() {
            None
        } else {
            Some(self.entries[first_beyond - 1].0)
        }
    }

    /// Bytes a second over the last ten seconds of the log.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn rate(&self) -> f64 {
        let Some((end, last)) = self.entries.back() else { return 0.0 };
        let begin = self.entries.iter().find(|(at, _)| end.since(*at) <= Duration::from_secs(10));
        match begin {
            Some((at, first)) if at < end => last.bytes_since(*first) as f64 / end.since(*at).as_secs_f64(),
            _ => 0.0,
        }
    }

    /// The exposure as of a reading of the primary at `as_of`.
    #[must_use]
    pub fn live(
        &self,
        as_of: Mono,
        primary: Lsn,
        standby: Option<(NodeId, Lsn)>,
        acknowledged_is_safe: bool,
    ) -> LiveRpo {
        let behind = standby.as_ref().map(|(_, lsn)| *lsn);
        let bytes = behind.map(|lsn| primary.bytes_since(lsn));
        let ms = match (bytes, behind) {
            (Some(0), _) => Some(0.0),
            (_, Some(lsn)) => self.passed(lsn).map(|at| as_of.ms_since(at)),
            _ => None,
        };
        LiveRpo { as_of, bytes, ms, primary, standby, acknowledged_is_safe, write_rate: self.rate() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standby(lsn: u64) -> Option<(NodeId, Lsn)> {
        Some((NodeId::new("b").expect("good name"), Lsn(lsn)))
    }

    #[test]
    fn an_idle_pair_shows_zero_however_long_it_idles() {
        let mut log = PositionLog::default();
        for second in 0..3_600 {
            log.note(Mono(second * 1_000_000), Lsn(500));
        }
        let live = log.live(Mono(3_600_000_000), Lsn(500), standby(500), false);
        assert_eq!((live.bytes, live.ms), (Some(0), Some(0.0)));
        assert!(log.entries.len() <= 3, "standing still costs no memory");
    }

    #[test]
    fn the_age_of_what_is_missing_counts_from_when_it_was_still_there() {
        let mut log = PositionLog::default();
        for tick in 0..10 {
            log.note(Mono(tick * 100_000), Lsn(1000 + tick * 10));
        }
        let live = log.live(Mono(900_000), Lsn(1090), standby(1045), false);
        assert_eq!((live.bytes, live.ms), (Some(45), Some(500.0)));
    }

    #[test]
    fn no_standby_is_unknown_not_zero() {
        let live = PositionLog::default().live(Mono(1), Lsn(9), None, false);
        assert_eq!((live.bytes, live.ms), (None, None));
    }

    proptest! {
        #[test]
        fn the_value_is_never_below_the_truth(steps in proptest::collection::vec((1u64..300_000, 0u64..500), 2..60), pick in 0usize..60) {
            let (mut log, mut at, mut lsn, mut truth) = (PositionLog::default(), 0, 1, Vec::new());
            for (wait, written) in steps {
                at += wait;
                lsn += written;
                truth.push((at, lsn));
                log.note(Mono(at), Lsn(lsn));
            }
            let behind = truth[pick % truth.len()].1;
            let live = log.live(Mono(at), Lsn(lsn), standby(behind), false);
            prop_assert_eq!(live.bytes, Some(lsn - behind));
            if let Some((first, _)) = truth.iter().find(|(_, seen)| *seen > behind) {
                prop_assert!(live.ms.is_none_or(|ms| ms * 1000.0 + 1.0 >= (at - first) as f64));
            }
        }
    }
}
