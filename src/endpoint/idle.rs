//! The idle deadline of one connection, where one is set.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// Ends when nothing has been carried for so long.
pub(super) struct Idle {
    limit: Duration,
    carried: u64,
    since: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Idle {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, carried: 0, since: Instant::now(), sleep: Box::pin(sleep(limit)) }
    }

    /// Ready when the time is over. `carried` is how many bytes were, so far.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>, carried: u64) -> Poll<()> {
        if self.carried != carried {
            (self.carried, self.since) = (carried, Instant::now());
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            let end = self.since + self.limit;
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            // Only now: a timer that is set anew for every byte costs more than one that rings once too often.
            self.sleep.as_mut().reset(end);
        }
        Poll::Pending
    }
}
