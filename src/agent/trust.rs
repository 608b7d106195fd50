//! Whether what this agent remembers of earlier lives may be relied on.
//!
//! The promise file lies on a disk that can go back in time: then a promise, a recruit, a failsafe grant or the list of who
//! may be promoted is forgotten, and nothing on that disk says so. Two things show that it did not go back: a postmaster
//! that this agent finds running, since nobody replaces the disk under a running server; or the term of the primary, read
//! from the store in this life. Until then the agent confirms nothing that it only remembers, grants no failsafe time and
//! takes no order but a fence.

use std::{
    sync::{Arc, Mutex as Flag, PoisonError},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::{inner::Inner, orders::Unable};
use crate::model::{Mono, Stamp, Version};

/// How long the store may take to say who is primary.
const CALL: Duration = Duration::from_millis(800);
/// Between two tries to read that.
const AGAIN: Duration = Duration::from_millis(250);

/// What shows in this life that the memory is whole.
#[derive(Debug, Default)]
pub(super) struct Trust(Flag<Shown>);

#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    /// Whether a postmaster was found running at the first look. None: not looked yet.
    outlived: Option<bool>,
    /// Until when failsafe time may last that an earlier life granted. None: that life's memory counts.
    granted_until: Option<Mono>,
    /// The store was read: the term that it declares. Some(None): it declares none yet.
    term: Option<Option<Stamp>>,
}

impl Trust {
    fn get(&self) -> Shown {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Inner {
    /// The first look for a postmaster in this life was taken. Where none runs, failsafe time that an earlier life granted may
    /// be forgotten: it is kept for as long as it can last. A node that has promised nothing has granted nothing.
    pub(super) fn looked_first(&self, runs: bool) {
        if self.trust.get().outlived.is_some() {
            return;
        }
        let longest = self.serving.ttl + self.serving.ttl / 100;
        let promised = self.board.read(|s| s.facts.promise.is_some());
        let granted_until = (!runs && promised).then(|| self.now().plus(longest));
        self.trust.set(|shown| (shown.outlived, shown.granted_until) = (Some(runs), granted_until));
        self.board.update(|s| {
            s.memory_is_whole |= runs;
            s.refresh_memory();
        });
    }

    /// What is only remembered may be relied on.
    pub(super) fn is_trusted(&self) -> bool {
        let shown = self.trust.get();
        shown.outlived == Some(true) || shown.term.is_some()
    }

    /// The store declared a term beyond the stamp's when it was read.
    pub(super) fn knows_beyond(&self, stamp: Stamp) -> bool {
        let term = self.trust.get().term.flatten();
        term.is_some_and(|term| term > stamp && !term.same_epoch(stamp))
    }

    /// How long failsafe time may still run that was granted before this host was started, and is forgotten.
    pub(super) fn forgotten_grant(&self) -> Duration {
        self.trust.get().granted_until.map_or(Duration::ZERO, |until| until.since(self.now()))
    }

    /// Reads the term from the store, unless the memory is trusted already, and promises it.
    ///
    /// # Errors
    /// The store does not answer; or the promise cannot be written.
    pub(super) async fn read_term(self: &Arc<Self>) -> Result<(), Unable> {
        if self.is_trusted() {
            return Ok(());
        }
        let silent = |why: String| {
            Unable::Failed(format!(
                "this agent has not read the store since it started, and its memory may be old: {why}"
            ))
        };
        let read = timeout(CALL, self.serving.lease.reign()).await;
        let read = read.map_err(|_| silent(format!("no answer within {CALL:?}")))?;
        let term = read.map_err(|error| silent(error.to_string()))?.map(|(reign, _)| Stamp {
            incarnation: reign.incarnation,
            epoch: reign.epoch,
            version: Version(0),
        });
        // Without a promise file it goes on to have promised nothing: that is not a promise of zero.
        self.remember(move |p| {
            p.promise = p.promise.map(|promise| term.map_or(promise, |term| promise.max(term)))
        })
        .await?;
        self.trust.set(|shown| shown.term = Some(term));
        Ok(())
    }
}

/// Reads the term as soon as the store answers.
pub(super) async fn run(inner: Arc<Inner>) {
    while let Err(unable) = inner.read_term().await {
        tracing::debug!(?unable, "the term of the primary is not read yet");
        sleep(AGAIN).await;
    }
}
