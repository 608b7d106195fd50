//! How late a message is, from when it left and when it came, on two clocks that know nothing of each other.
//!
//! The clocks' difference is not known, but it is constant, so the quickest message of late shows how large it is at
//! most, and what another message took beyond that is its delay. Without this, a receiver that was stopped for ten
//! seconds would take what waited in its socket for news.

use std::time::Duration;

use crate::model::Mono;

/// How far back the quickest message is looked for: long enough to have had a quick one, short enough that two
/// clocks do not drift apart by more than a millisecond or two.
const WINDOW: Duration = Duration::from_secs(10);

/// The delays of one connection's messages.
#[derive(Debug, Default)]
pub(super) struct Transit {
    /// The least difference of this window and of the one before it, in microseconds.
    least: Option<i128>,
    least_before: Option<i128>,
    began: Mono,
}

impl Transit {
    /// Takes note of a message, and returns when it would have come had it been as quick as the quickest.
    pub(super) fn arrival(&mut self, sent: Mono, received: Mono) -> Mono {
        if received.since(self.began) >= WINDOW {
            (self.least_before, self.least, self.began) = (self.least, None, received);
        }
        let took = i128::from(received.0) - i128::from(sent.0);
        self.least = Some(self.least.map_or(took, |least| least.min(took)));
        let quickest = self.least.into_iter().chain(self.least_before).min().unwrap_or(took);
        let late = u64::try_from(took - quickest).unwrap_or(u64::MAX);
        Mono(received.0.saturating_sub(late))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_that_waited_is_as_old_as_it_is() {
        let mut transit = Transit::default();
        assert_eq!(transit.arrival(Mono(1_000), Mono(50_001_000)), Mono(50_001_000));
        // Left a second later, was read eleven seconds later.
        let arrival = transit.arrival(Mono(1_001_000), Mono(61_001_000));
        assert_eq!(arrival, Mono(51_001_000));
    }

    #[test]
    fn a_clock_that_was_set_apart_is_believed_after_two_windows() {
        let mut transit = Transit::default();
        transit.arrival(Mono(0), Mono(0));
        let moved = 5_000_000;
        let arrivals: Vec<_> = (1..=250)
            .map(|tick| (tick * 100_000, transit.arrival(Mono(tick * 100_000), Mono(tick * 100_000 + moved))))
            .collect();
        assert_eq!(arrivals[0].1, Mono(100_000), "taken for a delay at first");
        let (sent, last) = arrivals[249];
        assert_eq!(last, Mono(sent + moved), "taken for the clocks' difference at last");
    }

    proptest! {
        /// However the clocks differ: never later than it came, and off by no more than the quickest took.
        #[test]
        fn the_error_is_no_more_than_the_quickest_delay(
            ahead in 0u64..10_000_000,
            delays in proptest::collection::vec(0u64..3_000_000, 1..80),
        ) {
            let mut transit = Transit::default();
            let mut quickest = u64::MAX;
            for (tick, delay) in delays.into_iter().enumerate() {
                let sent = tick as u64 * 100_000; // on the receiver's clock; the sender's is `ahead`
                let received = sent + delay;
                quickest = quickest.min(delay);
                let arrival = transit.arrival(Mono(sent + ahead), Mono(received));
                prop_assert!(arrival <= Mono(received));
                prop_assert!(arrival >= Mono(sent), "no younger than it can be, no older than it is");
                if sent < 8_000_000 - 3_000_000 {
                    prop_assert!(arrival <= Mono(sent + quickest));
                }
            }
        }
    }
}
