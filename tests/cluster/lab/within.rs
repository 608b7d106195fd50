//! A thread in a network namespace, with a runtime: every socket that is opened on it is on that host.

use std::{
    fs::File,
    future::Future,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{runtime::Handle, sync::oneshot};

/// The thread. Dropping it ends it, with all that runs on it.
pub(crate) struct Within {
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Within {
    /// Starts a thread in that namespace.
    ///
    /// # Errors
    /// There is no such namespace, or this is not root.
    pub(crate) fn enter(namespace: &str) -> Result<Self> {
        let path = format!("/run/netns/{namespace}");
        let file = File::open(&path).with_context(|| format!("open {path}"))?;
        let (send, receive) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name(namespace.to_owned()).spawn(move || {
            use std::os::fd::AsFd as _;
            let entered = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match (entered, runtime) {
                (Ok(()), Ok(runtime)) => {
                    let _nobody_waits_any_more = send.send(Ok(runtime.handle().clone()));
                    let _dropped_is_stopped = runtime.block_on(stopped);
                }
                (Err(error), _) => drop(send.send(Err(std::io::Error::from(error)))),
                (_, Err(error)) => drop(send.send(Err(error))),
            }
        });
        let thread = thread.context("start a thread")?;
        let runtime = receive.recv().context("a thread in a namespace")?.context("enter a namespace")?;
        Ok(Self { runtime, stop: Some(stop), thread: Some(thread) })
    }

    /// Runs something there to its end.
    pub(crate) async fn run<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> T {
        match self.runtime.spawn(what).await {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Starts something there.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        what: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(what)
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _it_panicked_and_said_so = thread.join();
        }
    }
}

/// Looks every few milliseconds until `condition` holds; false if it does not within `limit`. For processes and files,
/// of whose changes nobody tells.
pub(crate) fn within_limit(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    /// Between two looks.
    const LOOK: Duration = Duration::from_millis(5);
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}
