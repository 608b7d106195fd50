//! A thread with a SQLite connection of its own: SQLite blocks, and nothing here may block the runtime.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    thread,
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::ports::StoreError;

/// How many jobs may wait. One member has a handful under way; more means that the disk does not keep up.
const QUEUE: usize = 64;

/// How long a caller waits for its answer: the longest wait for the file's lock ([`super::database::LOCK_WAIT`]), and
/// a second for the disk. A hung disk must not hang those who lead.
const ANSWER: Duration = Duration::from_millis(1_500);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// What a worker has just done when it asks how long to wait.
pub(super) enum Idle<'a> {
    /// A job.
    Served,
    /// It waited in vain, for as long as it was told.
    Waited(&'a mut Connection),
}

/// The thread. It ends, and closes its connection, when this is dropped and what was queued is done.
pub(super) struct Worker {
    jobs: SyncSender<Job>,
}

impl Worker {
    /// Starts a thread named `name` that owns `connection`.
    pub(super) fn start(name: &str, connection: Connection) -> io::Result<Self> {
        Self::with_idle(name, connection, |_| None)
    }

    /// The same; when there is nothing to do, it asks `idle` how long to wait for a job until `idle` is to be asked
    /// again. None: as long as it takes.
    pub(super) fn with_idle(
        name: &str,
        mut connection: Connection,
        mut idle: impl FnMut(Idle<'_>) -> Option<Duration> + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut wait = None;
            loop {
                match next(&queue, wait) {
                    Ok(job) => {
                        job(&mut connection);
                        wait = idle(Idle::Served);
                    }
                    Err(RecvTimeoutError::Timeout) => wait = idle(Idle::Waited(&mut connection)),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
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

fn next(queue: &Receiver<Job>, wait: Option<Duration>) -> Result<Job, RecvTimeoutError> {
    match wait {
        Some(wait) => queue.recv_timeout(wait),
        None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

fn ended() -> StoreError {
    StoreError::Outage("the thread that serves the file has ended".to_owned())
}
