//! Refused callers in the log: each is told, none can fill it.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long the same is not said again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How much is told within that time. More is an attack, and of no more use to know in detail.
const MOST: usize = 32;

/// What was told of late.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<Vec<Told>>);

#[derive(Debug)]
struct Told {
    from: IpAddr,
    why: String,
    at: Instant,
}

impl Complaints {
    /// Logs that somebody was refused, and why, unless that was said before.
    pub(super) fn refused(&self, from: IpAddr, why: &str) {
        if self.is_news(from, why, Instant::now()) {
            tracing::warn!(%from, why, "a caller of the peer port is refused");
        } else {
            tracing::debug!(%from, why, "a caller of the peer port is refused");
        }
    }

    fn is_news(&self, from: IpAddr, why: &str, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|told| now.duration_since(told.at) < AGAIN_AFTER);
        if told.len() >= MOST || told.iter().any(|told| told.from == from && told.why == why) {
            return false;
        }
        told.push(Told { from, why: why.to_owned(), at: now });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_a_minute_and_a_flood_is_bounded() {
        let (complaints, now) = (Complaints::default(), Instant::now());
        let is_news = |last, why, now| complaints.is_news(IpAddr::from([10, 0, 0, last]), why, now);
        assert!(is_news(1, "no certificate", now));
        assert!(!is_news(1, "no certificate", now));
        assert!(is_news(2, "no certificate", now) && is_news(1, "expired", now));
        let told = (3..=255).filter(|last| is_news(*last, "no certificate", now)).count();
        assert_eq!(told, MOST - 3);
        assert!(is_news(1, "no certificate", now + AGAIN_AFTER));
    }
}
