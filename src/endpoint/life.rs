//! A life of the target: from the order that points to it until the next one that leads elsewhere or cuts.
//!
//! It knows when its server last sent a byte, and whether it takes connections. While it takes none, one of those who
//! wait tries for all (the scout), at a fixed pace; a crowd that tried each for itself would take the processor that
//! the promotion needs.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedMutexGuard, watch},
    time::{Instant, sleep_until},
};

use super::routing::Target;
use crate::model::Mono;

/// Time between two tries of a target that takes no connections. A route change does not wait for it.
pub(super) const RETRY: Duration = Duration::from_millis(50);

/// The right to try for all who wait.
pub(super) type Scout = OwnedMutexGuard<()>;

/// What has passed between clients and one node, over all its lives.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) open: AtomicU64,
    pub(super) bytes_up: AtomicU64,
    pub(super) bytes_down: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Life {
    pub(super) target: Target,
    pub(super) meter: Arc<Meter>,
    /// Microseconds of `Mono`; 0: none yet.
    first_byte_us: AtomicU64,
    /// The same.
    last_byte_us: AtomicU64,
    /// Since when it takes connections, if it does: a life begins by being trusted.
    well_since: Mutex<Instant>,
    refusing: watch::Sender<bool>,
    scout: Arc<tokio::sync::Mutex<()>>,
    refused_at: Mutex<Option<Instant>>,
}

impl Life {
    pub(super) fn new(target: Target, meter: Arc<Meter>) -> Self {
        Self {
            target,
            meter,
            first_byte_us: AtomicU64::new(0),
            well_since: Mutex::new(Instant::now()),
            last_byte_us: AtomicU64::new(0),
            refusing: watch::Sender::new(false),
            scout: Arc::default(),
            refused_at: Mutex::default(),
        }
    }

    /// Notes that the server sent a byte.
    pub(super) fn heard(&self, now: Mono) {
        if self.last_byte_us.fetch_max(now.0, Ordering::Relaxed) == 0 {
            self.first_byte_us.store(now.0, Ordering::Relaxed);
        }
    }

    pub(super) fn first_byte(&self) -> Option<Mono> {
        Some(Mono(self.first_byte_us.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
    }

    pub(super) fn last_byte(&self) -> Option<Mono> {
        Some(Mono(self.last_byte_us.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
    }

    /// The target took no connection. True if it is the first time since it last took one.
    pub(super) fn refuses(&self) -> bool {
        *self.refused_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        !self.refusing.send_replace(true)
    }

    /// The target takes connections: whoever waits for it goes on at once. True if it did not before.
    pub(super) fn accepts(&self) -> bool {
        let changed = self.refusing.send_if_modified(std::mem::take);
        if changed {
            *self.well_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        changed
    }

    /// How long it has taken connections, if it does.
    pub(super) fn well_for(&self) -> Duration {
        self.well_since.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    pub(super) fn is_refusing(&self) -> bool {
        *self.refusing.borrow()
    }

    /// Waits until it is worth a try: at once while the target takes connections, else in turn and at the pace of
    /// [`RETRY`], and then with the right that makes the others wait.
    pub(super) async fn turn(&self) -> Option<Scout> {
        let mut refusing = self.refusing.subscribe();
        tokio::select! {
            biased;
            _ = refusing.wait_for(|refusing| !refusing) => None,
            scout = self.paced() => Some(scout),
        }
    }

    async fn paced(&self) -> Scout {
        let scout = Arc::clone(&self.scout).lock_owned().await;
        let last = *self.refused_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last {
            sleep_until(last + RETRY).await;
        }
        scout
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail that way")]
mod tests {
    use super::*;
    use crate::model::NodeId;

    #[test]
    fn one_that_takes_connections_again_begins_anew_to_be_well() {
        let target = Target { node: NodeId::new("seoul").unwrap(), address: "127.0.0.1:1".into() };
        let life = Life::new(target, Arc::default());
        let while_well = Duration::from_millis(20);
        while life.well_for() < while_well {
            std::thread::yield_now();
        }
        assert!(!life.accepts() && life.well_for() >= while_well, "it has not refused anybody");
        assert!(life.refuses() && !life.refuses());
        let back = Instant::now();
        assert!(life.accepts());
        assert!(life.well_for() <= back.elapsed());
    }
}
