//! Ending the server: by force, with a confirmation that nothing of it writes any more, and in order, for a hand-over.
//!
//! The fence is confirmed once every writer is dead or has SIGKILL pending: neither acknowledges anything. Where the WAL ends is
//! told only once all are dead and nobody is attached to the shared memory any more.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{board::State, inner::Inner, orders::Unable};
use crate::{
    model::{ControlState, Down, Server, Stamp},
    postgres::Stopped,
};

/// How long a fast shutdown may take before it is helped along: a standby that hangs would hold it up, and a hand-over
/// is taken back after 15 s unless the policy says otherwise.
const FAST: Duration = Duration::from_secs(12);
/// Between two tries to see killed processes gone that a disk holds up.
const AGAIN: Duration = Duration::from_millis(200);

impl Inner {
    /// Ends PostgreSQL, whatever it is doing, and confirms that nothing of it writes or acknowledges any more.
    pub(super) async fn fence(self: &Arc<Self>, stamp: Stamp) -> Result<(), Unable> {
        // Set before the lock: an end that comes meanwhile is still told as the crash it is only if it came earlier.
        self.board.update(|s| s.expected = true);
        let attested = {
            let _life = self.life.lock().await;
            let known = self.attached.borrow().clone();
            self.instance.fence(known.as_ref()).await
        };
        let killed = attested.inspect_err(|_| self.board.update(|s| s.expected = false))?;
        if killed.processes > 0 {
            // Where its WAL ended was read too early, if at all: these may have written since.
            self.board.update(State::forget_remains);
        }
        self.attest_down(stamp);
        let generation = self.board.read(|s| s.generation);
        let inner = Arc::clone(self);
        if killed.doomed > 0 {
            tracing::warn!(
                processes = killed.doomed,
                "killed, and held up by a disk: the end of WAL is not final"
            );
            tokio::spawn(async move { inner.await_end(generation).await });
        } else {
            tokio::spawn(async move { inner.read_remains(generation).await });
        }
        Ok(())
    }

    /// Reads what a server left once nothing of it can write any more.
    async fn await_end(self: Arc<Self>, generation: u64) {
        loop {
            {
                let _life = self.life.lock().await;
                // A server that was started since is nothing to be killed here.
                if self.board.read(|s| s.generation != generation) {
                    return;
                }
                match self.instance.kill_all(None).await {
                    Ok(_) => break,
                    Err(error) => tracing::warn!(%error, "the end of WAL is not final yet"),
                }
            }
            sleep(AGAIN).await;
        }
        self.read_remains(generation).await;
    }

    /// Puts on the board that nothing is left, under this stamp.
    fn attest_down(&self, stamp: Stamp) {
        let at = self.now();
        self.board.update(|s| {
            s.down(at, Some(at), false);
            s.facts.server.at = at;
            if let Some(down) = s.down_mut() {
                down.fenced = Some(stamp);
            }
        });
    }

    /// Stops a primary in order: its shutdown checkpoint is the last record, and the standby can have it.
    pub(super) async fn stop_clean(self: &Arc<Self>, stamp: Stamp) -> Result<(), Unable> {
        if self.stopped_in_order() {
            self.attest_down(stamp);
            return Ok(());
        }
        let postmaster = self.running_primary()?;
        self.board.update(|s| s.expected = true);
        let stopped = {
            let _life = self.life.lock().await;
            self.instance.stop_fast(&postmaster, FAST).await
        };
        let stopped = stopped.inspect_err(|_| self.board.update(|s| s.expected = false))?;
        self.attest_down(stamp);
        let generation = self.board.read(|s| s.generation);
        // How it ended is what a hand-over waits for; where its WAL ends is nothing to it.
        self.read_control(generation).await;
        let inner = Arc::clone(self);
        tokio::spawn(async move { inner.read_remains(generation).await });
        match stopped {
            Stopped::Clean if self.stopped_in_order() => Ok(()),
            how => Err(Unable::Failed(format!("it has stopped, but not in order: {how:?}"))),
        }
    }

    fn stopped_in_order(&self) -> bool {
        self.board.read(|s| match &s.facts.server.value {
            Server::Down(Down { control: Some(control), .. }) => control.state == ControlState::ShutDown,
            _ => false,
        })
    }
}
