//! Giving one's word to a primary that the store has left alone: no higher epoch is known here, and this node takes part
//! in none for so long.
//!
//! The word is written down as a length before it is given, and counts again in full after a restart: a clock that was
//! lost with the process must not shorten it.

use std::{sync::Arc, time::Duration};

use super::inner::Inner;
use crate::model::Stamp;

/// The longest word that is given. A lease lasts some seconds; what asks for more than this is not one.
const LONGEST: Duration = Duration::from_secs(60);
/// Clocks may drift apart by one part in so many.
const DRIFT: u32 = 100;

impl Inner {
    /// Gives the word, unless a higher epoch was promised. For no time at all it is only the answer, and nothing is written.
    pub(super) async fn vouch(self: &Arc<Self>, stamp: Stamp, ttl: Duration) -> bool {
        if ttl > LONGEST || self.knows_beyond(stamp) {
            return false;
        }
        if ttl.is_zero() {
            return !self.held().await.is_beyond(stamp);
        }
        if !self.is_trusted() {
            tracing::warn!(%stamp, "no failsafe time is granted before the store was read: a promise may be forgotten");
            return false;
        }
        let length = ttl + ttl / DRIFT;
        let count_from_now = || {
            let until = self.now().plus(length);
            self.board.update(|s| s.facts.vouched_until = s.facts.vouched_until.max(Some(until)));
        };
        // Before it is written as well: whoever finds it in the file must find until when it binds.
        count_from_now();
        let kept = self.remember(move |p| {
            if !p.is_beyond(stamp) {
                p.promise = p.promise.max(Some(stamp));
                p.vouched = Some((stamp, length));
            }
        });
        if let Err(unable) = kept.await {
            tracing::warn!(?unable, "a word that cannot be written down is not given");
            return false;
        }
        // Counted from after it was written, and only if it is what stands there.
        let given = self.held().await.vouched == Some((stamp, length));
        if given {
            count_from_now();
        }
        given
    }

    /// Waits until a word that was given to a lower epoch has run out. Whoever orders a higher one has promised it here
    /// already, so that no other word is given meanwhile.
    pub(super) async fn keep_word(self: &Arc<Self>, stamp: Stamp) -> Result<(), super::orders::Unable> {
        let forgotten = self.forgotten_grant();
        if !forgotten.is_zero() {
            tracing::info!(
                ?forgotten,
                "failsafe time that was granted before this host started may still run"
            );
            tokio::time::sleep(forgotten).await;
        }
        let Some((to, _)) = self.held().await.vouched.filter(|(to, _)| !to.same_epoch(stamp)) else {
            return Ok(());
        };
        let left =
            self.board.read(|s| s.facts.vouched_until).map_or(Duration::ZERO, |at| at.since(self.now()));
        if !left.is_zero() {
            tracing::info!(%to, ?left, "a word given to an earlier epoch runs out first");
            tokio::time::sleep(left).await;
        }
        self.remember(move |p| p.vouched = p.vouched.filter(|(since, _)| *since != to)).await?;
        self.board.update(|s| s.facts.vouched_until = None);
        Ok(())
    }
}
