//! How long clients were without service.

use super::{History, Outcome, Via};

/// The longest stretch without an acknowledgement to anybody who came through an endpoint, that ends after `from_us` and
/// begins before `until_us`, in milliseconds. Reaching from the last acknowledgement before a fault to the first after
/// it; a later stall counts just as well. None: nobody was acknowledged after `from_us`.
#[must_use]
pub(crate) fn longest_ms(history: &History, from_us: u64, until_us: u64) -> Option<f64> {
    longest(history, from_us, until_us, |_| true)
}

/// The same for those whose endpoint is not on that host: a client of a lost host has more to wait for than the database.
#[must_use]
pub(crate) fn longest_elsewhere_ms(
    history: &History,
    from_us: u64,
    until_us: u64,
    host: &str,
) -> Option<f64> {
    longest(history, from_us, until_us, |at| at != host)
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of some minutes")]
fn longest(history: &History, from_us: u64, until_us: u64, which: impl Fn(&str) -> bool) -> Option<f64> {
    let counts = |via: &Via| matches!(via, Via::Endpoint(host) if which(host));
    let acknowledged = history.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Acknowledged);
    let mut ends: Vec<u64> =
        acknowledged.filter(|attempt| counts(&attempt.via)).map(|attempt| attempt.end_us).collect();
    ends.sort_unstable();
    let around = ends.windows(2).filter(|pair| pair[1] > from_us && pair[0] < until_us);
    around.map(|pair| pair[1] - pair[0]).max().map(|us| us as f64 / 1000.0)
}

/// The least, the middle and the greatest; None without figures.
#[must_use]
pub(crate) fn spread(figures: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (sorted.first()?, sorted.last()?);
    let middle = sorted.len() / 2;
    let median =
        if sorted.len() % 2 == 1 { sorted[middle] } else { sorted[middle - 1].midpoint(sorted[middle]) };
    Some((*first, median, *last))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::checker::Attempt;

    fn ack(via: Via, end_us: u64) -> Attempt {
        Attempt {
            writer: 1,
            seq: end_us,
            via: Arc::new(via),
            start_us: end_us,
            end_us,
            outcome: Outcome::Acknowledged,
            node: None,
            timeline: None,
            server: None,
            error: None,
        }
    }

    fn through(host: &str, end_us: u64) -> Attempt {
        ack(Via::Endpoint(host.into()), end_us)
    }

    #[test]
    fn the_outage_is_the_longest_gap_around_the_fault_over_all_who_came_through_endpoints() {
        let attempts = vec![
            through("a", 1_000),
            through("b", 2_000),
            ack(Via::Node("a".into()), 50_000),
            through("a", 102_000),
            through("b", 103_000),
        ];
        let history = History { attempts, ..History::default() };
        assert_eq!(longest_ms(&history, 2_500, 200_000), Some(100.0));
        assert_eq!(longest_elsewhere_ms(&history, 2_500, 200_000, "a"), Some(101.0));
        assert_eq!(longest_ms(&history, 200_000, 300_000), None, "nobody was acknowledged again");
    }

    #[test]
    fn the_middle_of_an_even_number_is_the_mean_of_two() {
        assert_eq!(spread(&[4.0, 1.0, 3.0, 2.0]), Some((1.0, 2.5, 4.0)));
        assert_eq!(spread(&[]), None);
    }
}
