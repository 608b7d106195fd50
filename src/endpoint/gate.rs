//! The gate of one connection: whether bytes may pass. Orders turn it; the relay asks it at every write.

use std::{
    future::poll_fn,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// By an order.
    Severed,
    /// The receiving side takes nothing more.
    Deaf,
}

/// Between the orders and the one task that serves the connection. Only that task may wait at it: one is woken.
///
/// The lock is taken at every write and is free but for the moment of an order.
#[derive(Debug)]
pub(super) struct Gate {
    flow: Mutex<Flow>,
    task: AtomicWaker,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self { flow: Mutex::new(Flow::Through), task: AtomicWaker::new() }
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the flow, unless it is severed. When this returns, every write that began before has ended: a write goes on
    /// under the lock that this takes. True if it has changed.
    pub(super) fn set(&self, flow: Flow) -> bool {
        let mut present = self.flow();
        let change = *present != Flow::Severed && *present != flow;
        if change {
            *present = flow;
        }
        drop(present);
        if change {
            self.task.wake();
        }
        change
    }

    /// Ready if an order has severed the connection. Else the task is woken by the next order that changes the flow.
    pub(super) fn poll_severed(&self, cx: &Context<'_>) -> Poll<()> {
        // Before the look: an order that comes after it finds somebody to wake.
        self.task.register(cx.waker());
        if *self.flow() == Flow::Severed { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Runs one write that does not block, if the flow allows it. Pending: it does not now, or the write did not go on.
    /// Whoever asks has asked [`Gate::poll_severed`] in the same poll, which sees to being woken.
    ///
    /// # Errors
    /// [`Stopped`]: nothing was written, and nothing more will be.
    pub(super) fn poll_write(
        &self,
        way: Way,
        write: impl FnOnce() -> Poll<io::Result<usize>>,
    ) -> Poll<Result<usize, Stopped>> {
        // Held until the write has ended: see `Gate::set`.
        let flow = self.flow();
        match (*flow, way) {
            (Flow::Severed, _) => Poll::Ready(Err(Stopped::Severed)),
            (Flow::Parked, Way::Up) => Poll::Pending,
            (Flow::Through, _) | (Flow::Parked, Way::Down) => match write() {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(Stopped::Deaf)),
                Poll::Ready(Ok(n)) => Poll::Ready(Ok(n)),
            },
        }
    }

    /// Waits until an order severs the connection.
    pub(super) async fn severed(&self) {
        poll_fn(|cx| self.poll_severed(cx)).await;
    }

    /// Runs one write that does not block as soon as the flow allows it and it goes on.
    ///
    /// # Errors
    /// As [`Gate::poll_write`].
    pub(super) async fn write(
        &self,
        way: Way,
        mut write: impl FnMut(&mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Result<usize, Stopped> {
        poll_fn(|cx| match self.poll_severed(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Stopped::Severed)),
            Poll::Pending => self.poll_write(way, || write(cx)),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAYS: [Way; 2] = [Way::Up, Way::Down];

    fn write(gate: &Gate, way: Way) -> Poll<Result<usize, Stopped>> {
        gate.poll_write(way, || Poll::Ready(Ok(1)))
    }

    #[test]
    fn what_is_severed_carries_nothing_either_way_whatever_follows() {
        let gate = Gate::new();
        assert_eq!(WAYS.map(|way| write(&gate, way)), [Poll::Ready(Ok(1)); 2]);
        assert!(gate.set(Flow::Severed));
        for later in [Flow::Through, Flow::Parked, Flow::Severed] {
            assert!(!gate.set(later));
            assert_eq!(WAYS.map(|way| write(&gate, way)), [Poll::Ready(Err(Stopped::Severed)); 2]);
        }
    }

    #[test]
    fn what_is_parked_carries_down_only_until_it_is_let_go() {
        let gate = Gate::new();
        assert!(gate.set(Flow::Parked) && !gate.set(Flow::Parked));
        assert_eq!(WAYS.map(|way| write(&gate, way)), [Poll::Pending, Poll::Ready(Ok(1))]);
        assert!(gate.set(Flow::Through));
        assert_eq!(write(&gate, Way::Up), Poll::Ready(Ok(1)));
    }
}
