//! Ending the server: by force, with an attest that nothing of it is left, and in order, for a hand-over.

use std::{sync::Arc, time::Duration};

use super::{inner::Inner, orders::Unable};
use crate::{
    model::{ControlState, Down, Server, Stamp},
    postgres::Stopped,
};

/// How long a fast shutdown may take before it is helped along: a standby that hangs would hold it up, and a hand-over
/// is taken back after 15 s unless the policy says otherwise.
const FAST: Duration = Duration::from_secs(12);

impl Inner {
    /// Ends PostgreSQL, whatever it is doing, and attests that no process of it is left.
    pub(super) async fn fence(self: &Arc<Self>, stamp: Stamp) -> Result<(), Unable> {
        // Set before the lock: an end that comes meanwhile is still told as the crash it is only if it came earlier.
        self.board.update(|s| s.expected = true);
        let attested = {
            let _life = self.life.lock().await;
            let known = self.attached.borrow().clone();
            self.instance.kill_all(known.as_ref()).await
        };
        if let Err(error) = attested {
            self.board.update(|s| s.expected = false);
            return Err(error.into());
        }
        self.attest_down(stamp);
        let generation = self.board.read(|s| s.generation);
        let inner = Arc::clone(self);
        tokio::spawn(async move { inner.read_remains(generation).await });
        Ok(())
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
