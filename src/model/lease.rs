//! The primary lease: the right to serve, as far as the store grants it.
//!
//! It is a plain key that the primary's own agent renews by guarded transactions; the store's own leases are not used
//! for it, because what keeps those alive is answered by a deposed store leader too (SAFETY, "Lease").

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Epoch, Incarnation, Intent, Lsn, Mono, NodeId, Stamp};

/// Clocks may drift apart by this part of a length: one in so many.
const DRIFT: u32 = 100;
/// How long freezing or killing a server takes at the worst that was tested, on a busy machine.
const TIME_TO_FENCE: Duration = Duration::from_millis(200);

/// Who reigns: the part of the intent that a renewal depends on, in a key of its own. The intent changes with every
/// version; this does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reign {
    /// The life of the store.
    pub incarnation: Incarnation,
    /// The declared epoch.
    pub epoch: Epoch,
    /// Its primary; None while nobody is declared.
    pub primary: Option<NodeId>,
}

impl Reign {
    /// The reign that an intent declares.
    #[must_use]
    pub fn of(intent: &Intent) -> Self {
        Self { incarnation: intent.incarnation, epoch: intent.epoch, primary: intent.primary.clone() }
    }

    /// True if a lease was renewed under this reign.
    #[must_use]
    pub fn is_of_lease(&self, lease: &LeaseRecord) -> bool {
        (self.incarnation, self.epoch) == (lease.incarnation, lease.epoch)
    }

    /// True if a stamp belongs to this reign.
    #[must_use]
    pub fn is_of(&self, stamp: Stamp) -> bool {
        (self.incarnation, self.epoch) == (stamp.incarnation, stamp.epoch)
    }
}

/// The last renewal of the primary lease, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Who renewed it.
    pub node: NodeId,
    /// For which life of the store …
    pub incarnation: Incarnation,
    /// … and which epoch.
    pub epoch: Epoch,
    /// How long it lasts, in milliseconds, counted from before the renewal was asked for.
    pub ttl_ms: u64,
    /// How many renewals there were in this epoch: two renewals never look the same.
    pub count: u64,
    /// How far the holder was known to have flushed its WAL then. Whoever promotes another one may have last heard of it long
    /// before this. None: it did not know.
    #[serde(default)]
    pub reached: Option<Lsn>,
}

impl LeaseRecord {
    /// The renewal after `last`, by the primary `node` that serves under `stamp` and is known to have `flushed` so far.
    #[must_use]
    pub fn next(
        last: Option<&Self>,
        node: NodeId,
        stamp: Stamp,
        ttl: Duration,
        flushed: Option<Lsn>,
    ) -> Self {
        let (incarnation, epoch) = (stamp.incarnation, stamp.epoch);
        // A server that is starting says nothing, and has what it had.
        let own =
            last.filter(|last| last.node == node && (last.incarnation, last.epoch) == (incarnation, epoch));
        Self {
            incarnation,
            epoch,
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            count: last.map_or(0, |last| last.count + 1),
            reached: flushed.max(own.and_then(|own| own.reached)),
            node,
        }
    }

    /// How long the lease lasts.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }
}

/// Until when the holder may serve, of a lease asked for at `asked`: short of its length by what clocks may drift and
/// by what freezing the server takes. Never counted from the answer.
#[must_use]
pub fn holder_until(asked: Mono, ttl: Duration) -> Mono {
    asked.plus((ttl - ttl / DRIFT).saturating_sub(TIME_TO_FENCE))
}

/// From when on nobody serves by a lease whose last renewal was seen at `seen`, by the watcher's own clock.
#[must_use]
pub fn expired_from(seen: Mono, ttl: Duration) -> Mono {
    seen.plus(ttl + ttl / DRIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_stops_before_anybody_may_take_over() {
        let ttl = Duration::from_secs(3);
        // The watcher sees a renewal after it was asked for, never before.
        let (asked, seen) = (Mono(1_000), Mono(1_001));
        let drift = ttl / DRIFT;
        assert!(holder_until(asked, ttl).plus(TIME_TO_FENCE + drift) <= expired_from(seen, ttl).back(drift));
    }
}
