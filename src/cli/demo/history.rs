//! What the clients did, attempt by attempt, and what follows from it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use super::link::{Fate, Miss};
use crate::{clock::SystemClock, model::Mono, ports::Clock as _};

/// How many different error texts are kept; the rest is counted as "others".
const ERRORS: usize = 20;

/// One attempt to commit one row. A number is attempted once and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Attempt {
    /// Who.
    pub(crate) writer: u16,
    /// The row's number, unique for its writer.
    pub(crate) seq: u64,
    /// When it began.
    pub(crate) start: Mono,
    /// When its result was known.
    pub(crate) end: Mono,
    /// The result.
    pub(crate) fate: Fate,
}

#[derive(Debug, Default)]
struct Inner {
    attempts: Vec<Attempt>,
    errors: BTreeMap<String, u64>,
}

/// The attempts of all writers. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    inner: Arc<Mutex<Inner>>,
}

/// A stretch without an acknowledged commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The last acknowledgement before.
    pub(crate) from: Mono,
    /// The first one after.
    pub(crate) to: Mono,
}

impl Gap {
    /// Its length, in milliseconds.
    pub(crate) fn ms(self) -> f64 {
        self.to.ms_since(self.from)
    }
}

impl History {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A poisoned log is still the log: pushing to it cannot leave it half-made.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an attempt that ended just now.
    pub(crate) fn note(&self, writer: u16, seq: u64, start: Mono, result: &Result<(), Miss>) {
        let end = SystemClock.now();
        let fate = result.as_ref().map_or_else(|miss| miss.fate, |()| Fate::Acknowledged);
        let mut inner = self.lock();
        inner.attempts.push(Attempt { writer, seq, start, end, fate });
        if let Err(miss) = result {
            let known = inner.errors.len() < ERRORS || inner.errors.contains_key(&miss.reason);
            let key = if known { miss.reason.clone() } else { "others".to_owned() };
            *inner.errors.entry(key).or_default() += 1;
        }
    }

    /// All attempts so far, in the order in which they ended.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.lock().attempts.clone()
    }

    /// What went wrong how often.
    pub(crate) fn errors(&self) -> BTreeMap<String, u64> {
        self.lock().errors.clone()
    }

    /// How many commits were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.lock().attempts.iter().filter(|attempt| attempt.fate == Fate::Acknowledged).count()
    }

    #[cfg(test)]
    /// True if `writer` got an acknowledgement after `since`.
    pub(crate) fn alive(&self, writer: u16, since: Mono) -> bool {
        let inner = self.lock();
        let recent = inner.attempts.iter().rev().take_while(|attempt| attempt.end > since);
        recent.into_iter().any(|a| a.writer == writer && a.fate == Fate::Acknowledged)
    }
}

/// The longest stretch without an acknowledgement to any of `writers` that ends after `fault` and begins before
/// `end`. It may begin before the fault, with the last acknowledgement that came before it; it may also lie later,
/// because a killed server's orphans acknowledge for some milliseconds more, and because a stall after the first
/// recovery is outage just as well. None: nobody was acknowledged again.
pub(crate) fn outage(attempts: &[Attempt], writers: &[u16], fault: Mono, end: Mono) -> Option<Gap> {
    let mut acks: Vec<Mono> = attempts
        .iter()
        .filter(|a| a.fate == Fate::Acknowledged && writers.contains(&a.writer))
        .map(|a| a.end)
        .collect();
    acks.sort_unstable();
    acks.last().filter(|last| **last > fault)?;
    let gaps = acks.windows(2).map(|pair| Gap { from: pair[0], to: pair[1] });
    gaps.filter(|gap| gap.to > fault && gap.from < end).max_by_key(|gap| gap.to.since(gap.from))
}

/// Minimum, median and maximum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The smallest.
    pub(crate) min: f64,
    /// The one in the middle, or the mean of the two in the middle.
    pub(crate) median: f64,
    /// The 90th percentile, nearest rank.
    pub(crate) p90: f64,
    /// The largest.
    pub(crate) max: f64,
}

/// The spread of some figures; None of none.
pub(crate) fn spread(figures: &[f64]) -> Option<Spread> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max, count) = (*sorted.first()?, *sorted.last()?, sorted.len());
    let median = f64::midpoint(sorted[(count - 1) / 2], sorted[count / 2]);
    Some(Spread { min, median, p90: sorted[(count * 9).div_ceil(10) - 1], max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(writer: u16, end: u64) -> Attempt {
        let fate = Fate::Acknowledged;
        Attempt { writer, seq: end, start: Mono(end), end: Mono(end), fate }
    }

    #[test]
    fn the_outage_is_the_gap_around_the_fault_over_all_writers() {
        let attempts = [ack(1, 10), ack(2, 20), ack(1, 29), ack(2, 130), ack(1, 131), ack(1, 900)];
        let gap = outage(&attempts, &[1, 2], Mono(25), Mono(200));
        assert_eq!(gap, Some(Gap { from: Mono(131), to: Mono(900) }), "a later stall is outage too");
        let gap = outage(&attempts, &[1, 2], Mono(25), Mono(130));
        assert_eq!(gap, Some(Gap { from: Mono(29), to: Mono(130) }));
    }

    #[test]
    fn others_acknowledgements_do_not_shorten_it() {
        let attempts = [ack(1, 10), ack(9, 50), ack(1, 100)];
        assert_eq!(outage(&attempts, &[1], Mono(20), Mono(80)), Some(Gap { from: Mono(10), to: Mono(100) }));
    }

    #[test]
    fn an_outage_that_never_ended_is_no_small_outage() {
        assert_eq!(outage(&[ack(1, 10), ack(1, 20)], &[1], Mono(25), Mono(99)), None);
    }

    #[test]
    fn the_middle_of_an_even_number_is_the_mean_of_two() {
        let found = spread(&[4.0, 1.0, 3.0, 2.0]).expect("figures");
        assert_eq!((found.min, found.median, found.p90, found.max), (1.0, 2.5, 4.0, 4.0));
        assert!(spread(&[]).is_none());
    }
}
