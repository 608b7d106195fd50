//! The primary lease: the right to serve, as far as the store grants it.
//!
//! It is a plain key that the primary's own agent renews by guarded transactions; the store's own leases are not used
//! for it, because what keeps those alive is answered by a deposed store leader too (SAFETY, "Lease").

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Epoch, Floors, Incarnation, Intent, Lsn, Mono, NodeId, Reached, Stamp, Timeline, WalPosition};

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

/// How often the primary lease was renewed in a life of the store. The renewals carry the floors, and change no intent: whoever
/// remembers more of them than the store tells of has seen a later state of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Renewals {
    /// The life of the store.
    pub incarnation: Incarnation,
    /// How many there were, over all epochs.
    pub count: u64,
}

/// What a member remembers of the store: an older one was put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The highest stamp that it ever read, or heard that somebody knows of.
    #[serde(flatten)]
    pub stamp: Option<Stamp>,
    /// The latest renewal of the primary lease that it ever read, or heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewals: Option<Renewals>,
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
    /// How many renewals there were, over all epochs: two renewals never look the same, and a store that has fewer than
    /// somebody remembers was put back.
    pub count: u64,
    /// How far the holder was known to have flushed its WAL then. Whoever promotes another one may have last heard of it long
    /// before this. None: it did not know.
    #[serde(default)]
    pub reached: Option<Lsn>,
    /// The timeline at that position. None: it was written by a release that did not say it.
    #[serde(default)]
    pub timeline: Option<Timeline>,
    /// What the holder has seen each standby confirm in this epoch, those included that are connected no longer.
    #[serde(default)]
    pub floors: Floors,
}

impl LeaseRecord {
    /// The renewal after `last`, by the primary `node` that serves under `stamp` and knows so much of its WAL. None: a server
    /// that is starting says nothing, and has what it had.
    #[must_use]
    pub fn next(
        last: Option<&Self>,
        node: NodeId,
        stamp: Stamp,
        ttl: Duration,
        known: Option<&Reached>,
    ) -> Self {
        let (incarnation, epoch) = (stamp.incarnation, stamp.epoch);
        let own =
            last.filter(|last| last.node == node && (last.incarnation, last.epoch) == (incarnation, epoch));
        let mut floors = own.map(|own| own.floors.clone()).unwrap_or_default();
        let before = own.and_then(|own| own.position());
        let position = match known {
            Some(known) => {
                // What was beyond the end of crash recovery was an unfinished record, and is overwritten.
                floors.cap(known.began);
                floors.merge(&known.floors);
                floors.freshen(&known.streamed);
                before.map(|before| before.min(known.began)).max(Some(known.at))
            }
            None => before,
        };
        Self {
            incarnation,
            epoch,
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            count: last.map_or(0, |last| last.count + 1),
            reached: position.map(|position| position.lsn).or(own.and_then(|own| own.reached)),
            timeline: position.map(|position| position.timeline),
            floors,
            node,
        }
    }

    /// How often the lease was renewed up to this.
    #[must_use]
    pub const fn renewals(&self) -> Renewals {
        Renewals { incarnation: self.incarnation, count: self.count }
    }

    /// How far the holder was known to have flushed, with the timeline. None: one of both is not known.
    #[must_use]
    pub fn position(&self) -> Option<WalPosition> {
        Some(WalPosition { timeline: self.timeline?, lsn: self.reached? })
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

    fn at(lsn: u64) -> WalPosition {
        WalPosition { timeline: Timeline(1), lsn: Lsn(lsn) }
    }

    #[test]
    fn a_renewal_carries_what_the_ones_before_it_carried_in_this_epoch() {
        let (node, name) =
            (NodeId::new("a").expect("good name"), crate::model::StandbyName("locum_b_1".into()));
        let stamp = |epoch| Stamp {
            incarnation: Incarnation(1),
            epoch: Epoch(epoch),
            version: crate::model::Version(1),
        };
        let mut floors = Floors::default();
        floors.raise(&name, at(40));
        let known = Reached { at: at(50), began: at(30), floors, streamed: [name.clone()].into() };
        let renew = |last: Option<&LeaseRecord>, epoch, known: Option<&Reached>| {
            LeaseRecord::next(last, node.clone(), stamp(epoch), Duration::from_secs(3), known)
        };
        let first = renew(None, 1, Some(&known));
        let silent = renew(Some(&first), 1, None);
        assert_eq!(
            (silent.position(), silent.floors.get(&name)),
            (Some(at(50)), Some(at(40))),
            "it starts again"
        );
        let restarted = Reached { at: at(46), began: at(45), floors: Floors::default(), streamed: [].into() };
        let again = renew(Some(&silent), 1, Some(&restarted));
        assert_eq!((again.position(), again.floors.get(&name)), (Some(at(46)), Some(at(40))));
        assert!(first.floors.is_fresh(&name) && silent.floors.is_fresh(&name));
        assert!(!again.floors.is_fresh(&name), "it has not streamed since the crash");
        let streams = Reached { streamed: [name.clone()].into(), ..restarted };
        assert!(renew(Some(&again), 1, Some(&streams)).floors.is_fresh(&name));
        let lower = Reached { at: at(39), began: at(38), floors: Floors::default(), streamed: [].into() };
        let cut = renew(Some(&silent), 1, Some(&lower));
        assert_eq!(
            (cut.position(), cut.floors.get(&name)),
            (Some(at(39)), Some(at(38))),
            "recovery ended before it"
        );
        assert!(
            renew(Some(&silent), 2, None).floors.is_empty(),
            "another epoch begins with what it knows itself"
        );
    }

    #[test]
    fn what_an_older_release_remembered_is_read_and_it_reads_what_is_remembered() {
        let stamp = Stamp { incarnation: Incarnation(1), epoch: Epoch(2), version: crate::model::Version(3) };
        let old = r#"{"incarnation":1,"epoch":2,"version":3}"#;
        let read: Known = serde_json::from_str(old).expect("read");
        assert_eq!(read, Known { stamp: Some(stamp), renewals: None });
        let known = Known { renewals: Some(Renewals { incarnation: Incarnation(1), count: 7 }), ..read };
        let written = serde_json::to_string(&known).expect("written");
        assert_eq!(serde_json::from_str::<Known>(&written).expect("read"), known);
        assert_eq!(serde_json::from_str::<Stamp>(&written).expect("read by an older release"), stamp);
    }

    #[test]
    fn the_holder_stops_before_anybody_may_take_over() {
        let ttl = Duration::from_secs(3);
        // The watcher sees a renewal after it was asked for, never before.
        let (asked, seen) = (Mono(1_000), Mono(1_001));
        let drift = ttl / DRIFT;
        assert!(holder_until(asked, ttl).plus(TIME_TO_FENCE + drift) <= expired_from(seen, ttl).back(drift));
    }
}
