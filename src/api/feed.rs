//! The controller's snapshot, and how old it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{model::Snapshot, ports::Console};

/// Where handlers take the snapshot from.
pub(super) struct Feed {
    console: Arc<dyn Console>,
    began: Instant,
    /// When the last snapshot was published, in microseconds after `began`.
    published: AtomicU64,
}

/// A snapshot and its age.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) age: Duration,
}

impl Feed {
    pub(super) fn new(console: Arc<dyn Console>) -> Self {
        Self { console, began: Instant::now(), published: AtomicU64::new(0) }
    }

    /// Notes when snapshots are published, for ever. If the controller is gone, nothing is noted any more: the last
    /// snapshot grows old, and the health paths tell.
    pub(super) async fn follow(&self) {
        let mut snapshots = self.console.snapshots();
        while snapshots.changed().await.is_ok() {
            self.published.store(self.elapsed(), Ordering::Relaxed);
        }
        std::future::pending().await
    }

    /// The snapshot now.
    pub(super) fn current(&self) -> Current {
        let age = self.elapsed().saturating_sub(self.published.load(Ordering::Relaxed));
        Current { snapshot: self.console.snapshot(), age: Duration::from_micros(age) }
    }

    /// Snapshots as they come.
    pub(super) fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.console.snapshots()
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Current {
    /// The snapshot with its age added to every age in it, so that one which nobody renews does not look young.
    /// `at` stays the moment it was taken.
    pub(super) fn aged(&self) -> Snapshot {
        let mut snapshot = Snapshot::clone(&self.snapshot);
        let age_ms = self.age.as_secs_f64() * 1000.0;
        for node in &mut snapshot.nodes {
            node.heard_ms += age_ms;
        }
        if let Some(rpo) = &mut snapshot.rpo {
            rpo.as_of_ms += age_ms;
        }
        snapshot
    }
}
