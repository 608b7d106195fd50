//! Time as a value. Nothing here reads a clock; `ports::Clock` does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant on one member's boot-time clock (`CLOCK_BOOTTIME`), in microseconds.
///
/// It counts while the host sleeps and never steps. Instants of two hosts are not comparable: facts that cross a
/// connection are mapped to the receiver's clock where they arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mono(pub u64);

impl Mono {
    /// Time from `earlier` to here; zero if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The instant `after` later.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_micros()).unwrap_or(u64::MAX)))
    }

    /// The instant `before` earlier; the beginning of the clock if there is none.
    #[must_use]
    pub fn back(self, before: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(before.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Milliseconds from `earlier` to here, as reports print them.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a report's milliseconds; exact below 285 years")]
    pub fn ms_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1000.0
    }
}

/// A fact and when it was seen. Freshness is judged by the reader, with its own `now`, and never baked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen<T> {
    /// What was seen.
    pub value: T,
    /// When, on the clock of whoever holds this copy.
    pub at: Mono,
}

impl<T> Seen<T> {
    /// The value, if it is no older than `limit` at `now`.
    pub fn within(&self, now: Mono, limit: Duration) -> Option<&T> {
        (now.since(self.at) <= limit).then_some(&self.value)
    }
}
