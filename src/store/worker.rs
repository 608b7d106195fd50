//! A thread with a SQLite connection of its own: SQLite blocks, and nothing here may block the runtime.

use std::{
    io,
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread,
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::ports::StoreError;

/// How many jobs may wait. One member has a handful under way; more means that the disk does not keep up.
const QUEUE: usize = 64;

/// How long a caller waits for its answer: the longest wait for the file's lock ([`super::database::LOCK_WAIT`]) and
/// as much again for the disk. A hung disk must not hang those who lead.
const ANSWER: Duration = Duration::from_millis(1_000);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The thread. It ends, and closes its connection, when this is dropped and what was queued is done.
pub(super) struct Worker {
    jobs: SyncSender<Job>,
}

impl Worker {
    /// Starts a thread named `name` that owns `connection`.
    pub(super) fn start(name: &str, mut connection: Connection) -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Ok(job) = queue.recv() {
                job(&mut connection);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Has `job` done and waits for its result. A job whose caller has given up before it began is not begun.
    ///
    /// # Errors
    /// Those of the job; [`StoreError::Busy`] if too many wait; [`StoreError::Outage`] without an answer in time: the
    /// job may still be done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.post(move |connection| {
            if !reply.is_closed() {
                // Nobody left to tell: the caller gave up meanwhile, and knows that it does not know.
                let _ = reply.send(job(connection));
            }
        })?;
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ended()),
            Err(_) => Err(StoreError::Outage(format!("no answer from the disk within {ANSWER:?}"))),
        }
    }

    /// Has `job` done some time, for nobody in particular.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if too many wait.
    pub(super) fn post(&self, job: impl FnOnce(&mut Connection) + Send + 'static) -> Result<(), StoreError> {
        self.jobs.try_send(Box::new(job)).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy(format!("{QUEUE} requests wait for the disk already")),
            TrySendError::Disconnected(_) => ended(),
        })
    }
}

fn ended() -> StoreError {
    StoreError::Outage("the thread that serves the file has ended".to_owned())
}
