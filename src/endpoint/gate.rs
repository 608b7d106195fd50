//! The gate of one connection: whether bytes may pass. Orders turn it; the relay asks it at every write.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

use tokio::sync::watch;

/// What may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Everything.
    Through,
    /// Nothing from client to server.
    Parked,
    /// Nothing, ever again.
    Severed,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From client to server.
    Up,
    /// From server to client.
    Down,
}

/// The connection was severed by an order, or the write failed.
#[derive(Debug)]
pub(super) enum Stopped {
    /// By an order.
    Severed,
    /// The receiving side takes nothing more.
    Deaf,
}

/// The side that orders turn.
#[derive(Debug)]
pub(super) struct Gate(watch::Sender<Flow>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Flow::Through))
    }

    /// Sets the flow, unless it is severed. When this returns, every write that began before has ended: a write goes
    /// on under the watch's read lock, and this takes its write lock. True if it has changed.
    pub(super) fn set(&self, flow: Flow) -> bool {
        self.0.send_if_modified(|present| {
            let change = *present != Flow::Severed && *present != flow;
            if change {
                *present = flow;
            }
            change
        })
    }

    pub(super) fn passage(&self) -> Passage {
        Passage(self.0.subscribe())
    }
}

/// The side that the relay asks.
#[derive(Clone, Debug)]
pub(super) struct Passage(watch::Receiver<Flow>);

impl Passage {
    /// Waits until an order severs the connection.
    pub(super) async fn severed(&mut self) {
        // An error means that the gate is gone, and the connection's registration with it.
        let _ = self.0.wait_for(|flow| *flow == Flow::Severed).await;
    }

    /// Waits while client to server is parked.
    pub(super) async fn unparked(&mut self) {
        let _ = self.0.wait_for(|flow| *flow != Flow::Parked).await;
    }

    /// Runs one write that does not block, if the flow allows it; waits while it does not.
    ///
    /// # Errors
    /// [`Stopped`]: nothing was written, and nothing more will be.
    pub(super) async fn write(
        &mut self,
        way: Way,
        mut write: impl FnMut(&mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Result<usize, Stopped> {
        loop {
            let wrote = poll_fn(|cx| {
                // Held until the write has ended: see `Gate::set`.
                let flow = self.0.borrow();
                match (*flow, way) {
                    (Flow::Severed, _) => Poll::Ready(Err(Stopped::Severed)),
                    (Flow::Parked, Way::Up) => Poll::Ready(Ok(None)),
                    (Flow::Through, _) | (Flow::Parked, Way::Down) => match write(cx) {
                        Poll::Pending => Poll::Pending,
                        Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(Stopped::Deaf)),
                        Poll::Ready(Ok(n)) => Poll::Ready(Ok(Some(n))),
                    },
                }
            });
            match wrote.await? {
                Some(n) => return Ok(n),
                None => self.unparked().await,
            }
        }
    }
}
