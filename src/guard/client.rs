//! The agent's side of the guard.

use std::{io, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    link::{self, Request},
    rule::Refused,
    spawn::{self, Settings},
    wire::Ask,
};
use crate::model::{GuardFacts, Mono, Stamp};

/// How long an answer may take. The guard answers in microseconds, or while it freezes or encloses a server within
/// tens of milliseconds.
pub(super) const ANSWER: Duration = Duration::from_secs(2);
/// How many requests may wait.
const WAITING: usize = 16;

/// Why a request to the guard came to nothing. Whoever gets one must take the server for unguarded.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// It understood, and did not do it.
    #[error("the guard refused: {0}")]
    Refused(#[from] Refused),
    /// It did not answer in time, or there is none at the moment.
    #[error("the guard does not answer")]
    Silent,
    /// It could not be connected to.
    #[error("cannot connect to the guard: {0}")]
    Unreachable(io::Error),
    /// It could not be started.
    #[error("cannot start the guard: {0}")]
    NotStarted(io::Error),
    /// It is of another release.
    #[error("the running guard is of a different release; it ends once nothing is guarded")]
    OtherRelease,
}

/// The connection to the guard of this host's PostgreSQL. While it lives it keeps one running: a guard that ends is
/// started again and told what the last one was told. Dropping it does nothing to the guard, which goes on counting.
#[derive(Debug)]
pub struct Client {
    requests: mpsc::Sender<Request>,
    facts: watch::Receiver<Option<GuardFacts>>,
    task: JoinHandle<()>,
}

impl Client {
    /// Connects to the guard that is there, which may be armed, else starts one. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`GuardError`]: there is no guard now; nothing is tried further.
    pub async fn attach(settings: Settings) -> Result<Self, GuardError> {
        let opened = timeout(ANSWER * 4, spawn::open(&settings)).await.map_err(|_| GuardError::Silent)??;
        let (requests, asked) = mpsc::channel(WAITING);
        let (tell, facts) = watch::channel(None);
        let (ready, is_ready) = oneshot::channel();
        let task = tokio::spawn(link::keep(settings, opened, asked, tell, ready));
        // Here, so that the task does not outlive a failure.
        let client = Self { requests, facts, task };
        timeout(ANSWER, is_ready)
            .await
            .map_err(|_| GuardError::Silent)?
            .map_err(|_| GuardError::Silent)??;
        Ok(client)
    }

    /// Guards this server from now on; to be armed before it is opened to clients. The same one again changes nothing,
    /// whatever it was before, and notes what is new of it. `generation` is the caller's own number for it: when its
    /// postmaster was started, in clock ticks since the boot, if it is to be guarded wherever its data directory is.
    ///
    /// # Errors
    /// [`GuardError`]; `Guarding` while another server is armed.
    pub async fn watch(&self, postmaster: u32, generation: u64) -> Result<GuardFacts, GuardError> {
        self.ask(Ask::Watch { postmaster, generation }).await
    }

    /// The server may serve until `deadline`, by this host's boot-time clock. An earlier deadline than the last one
    /// changes nothing; a later one of the same epoch lets a frozen server go on.
    ///
    /// # Errors
    /// [`GuardError`]. The deadline before goes on to hold.
    pub async fn arm(&self, deadline: Mono, stamp: Stamp) -> Result<GuardFacts, GuardError> {
        self.ask(Ask::Arm { deadline, stamp }).await
    }

    /// While the server is in recovery, only a deadline that runs lets it leave that: without one it is frozen at that moment,
    /// and stays so until its end. Holds until the server ends or is disarmed.
    ///
    /// # Errors
    /// [`GuardError`]; `Unknown` from a guard of an earlier release, which cannot.
    pub async fn keep(&self) -> Result<GuardFacts, GuardError> {
        self.ask(Ask::Keep).await
    }

    /// The server needs no right to serve: it is no primary, or nobody may take its place without a person.
    ///
    /// # Errors
    /// [`GuardError`]; `Frozen` if it stands still.
    pub async fn disarm(&self, stamp: Stamp) -> Result<GuardFacts, GuardError> {
        self.ask(Ask::Disarm { stamp }).await
    }

    /// A higher epoch, that of `stamp`, is known: kills every process of the server. The answer comes once SIGKILL was
    /// sent, which is no attest that they are gone.
    ///
    /// # Errors
    /// [`GuardError`]
    pub async fn kill(&self, stamp: Stamp) -> Result<GuardFacts, GuardError> {
        self.ask(Ask::Kill { stamp }).await
    }

    /// Ends the guard, so that this connection starts another one in its place. One that has armed a server stays:
    /// False.
    ///
    /// # Errors
    /// [`GuardError`]
    pub async fn replace(&self) -> Result<bool, GuardError> {
        match self.ask(Ask::Quit).await {
            Ok(_) => Ok(true),
            Err(GuardError::Refused(Refused::Guarding)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends the guard, and this connection with it.
    ///
    /// # Errors
    /// [`GuardError`]; `Guarding` while a server is armed or frozen.
    pub async fn quit(self) -> Result<(), GuardError> {
        self.ask(Ask::Quit).await.map(drop)
    }

    /// What the guard last said. None: it is not known, because there is no connection; another guard is being started.
    #[must_use]
    pub fn facts(&self) -> Option<GuardFacts> {
        *self.facts.borrow()
    }

    /// Changes with everything that the guard says.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<GuardFacts>> {
        self.facts.clone()
    }

    async fn ask(&self, ask: Ask) -> Result<GuardFacts, GuardError> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.requests.send(Request { ask, answer }).await.map_err(|_| GuardError::Silent)?;
            answered.await.map_err(|_| GuardError::Silent)?
        };
        timeout(ANSWER, asked).await.map_err(|_| GuardError::Silent)?
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}
