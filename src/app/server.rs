//! The app server of this host as its member handles it: probed, and made active or passive by commands.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{Database, Probe};
use crate::{
    command, config,
    model::{AppFacts, Mono, NodeId, Stamp, Version},
    ports::Clock,
};

/// How long a start that failed counts as a reason against this one. Shorter: two that cannot start take turns quickly.
const START_FAILED: Duration = Duration::from_secs(60);
/// How long the active one fails until it is started again in its place. Shorter: before another one could take over.
const START_AGAIN: Duration = Duration::from_secs(5);

/// See the file's head. Dropping it ends the probe, and nothing else.
pub struct Server {
    node: NodeId,
    commands: config::Commands,
    probe: Probe,
    clock: Arc<dyn Clock>,
    start: Mutex<Start>,
    database: watch::Sender<Option<Database>>,
}

/// How the last start went.
#[derive(Clone, Copy, Default)]
struct Start {
    /// When it began, while it lasts or has yet to show.
    began: Option<Mono>,
    failed: Option<Mono>,
}

impl Server {
    /// Begins to probe. Must be called within a tokio runtime.
    #[must_use]
    pub fn open(config: &config::App, node: &NodeId, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            node: node.clone(),
            commands: config.commands.clone(),
            probe: Probe::start(config, Arc::clone(&clock)),
            clock,
            start: Mutex::default(),
            database: watch::Sender::default(),
        })
    }

    /// What is known of it.
    #[must_use]
    pub fn facts(&self) -> AppFacts {
        let (now, start) = (self.clock.now(), *self.started());
        let failed = start.failed.is_some_and(|at| now.since(at) < START_FAILED);
        let facts = self.probe.facts();
        let begun = start.began.filter(|at| now.since(*at) < self.commands.timeout);
        AppFacts {
            startable: self.commands.start.is_some() && !failed,
            starting: begun.is_some_and(|at| facts.last_ok.is_none_or(|well| well < at)),
            ..facts
        }
    }

    /// See [`Probe::changes`].
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.probe.changes()
    }

    /// See [`Probe::now`].
    pub fn look(&self) {
        self.probe.now();
    }

    /// Where to say where its database is.
    #[must_use]
    pub fn database(&self) -> watch::Sender<Option<Database>> {
        self.database.clone()
    }

    /// Makes it the active one, in the epoch of `stamp`: started if it is not well, and then told.
    ///
    /// # Errors
    /// What could not be done, for a person.
    pub async fn activate(&self, stamp: Stamp) -> Result<(), String> {
        self.knows_database(stamp).await?;
        if !self.probe.first().await.healthy {
            self.run_start().await?;
        }
        self.run(self.commands.promote.as_deref()).await
    }

    /// Tells it that it goes on being the active one, in the epoch of `stamp`: its database may have moved, and it need not be well
    /// at this moment.
    ///
    /// # Errors
    /// It could not be told.
    pub async fn go_on(&self, stamp: Stamp) -> Result<(), String> {
        self.knows_database(stamp).await?;
        self.run(self.commands.promote.as_deref()).await
    }

    /// The order came from who knows where the database is, and what this member sees follows within moments.
    async fn knows_database(&self, stamp: Stamp) -> Result<(), String> {
        let epoch = Stamp { version: Version(0), ..stamp };
        let mut database = self.database.subscribe();
        let known = |database: &Option<Database>| database.as_ref().is_some_and(|told| told.stamp >= epoch);
        database.wait_for(known).await.map(|_| ()).map_err(|_| "the member ends".to_owned())
    }

    /// Starts the active one again if it has failed for long, and nobody could take over.
    ///
    /// # Errors
    /// It could not be started.
    pub async fn keep_up(&self) -> Result<(), String> {
        let facts = self.facts();
        let long = facts.failing_since.is_some_and(|since| self.clock.now().since(since) >= START_AGAIN);
        if long && !facts.starting { self.run_start().await } else { Ok(()) }
    }

    /// Makes it a passive one.
    ///
    /// # Errors
    /// It could not be stopped.
    pub async fn rest(&self) -> Result<(), String> {
        self.started().began = None;
        self.run(self.commands.stop.as_deref()).await
    }

    /// For people.
    #[must_use]
    pub fn shows(&self) -> String {
        self.probe.facts().address
    }

    fn started(&self) -> MutexGuard<'_, Start> {
        self.start.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run_start(&self) -> Result<(), String> {
        let Some(start) = &self.commands.start else { return Ok(()) };
        *self.started() = Start { began: Some(self.clock.now()), failed: None };
        let ran = self.run(Some(start)).await;
        if ran.is_err() {
            *self.started() = Start { began: None, failed: Some(self.clock.now()) };
        }
        self.probe.now();
        ran
    }

    /// Runs a command, if there is one, with what it may need in its environment.
    async fn run(&self, program: Option<&Path>) -> Result<(), String> {
        let Some(program) = program else { return Ok(()) };
        let database = self.database.borrow().clone();
        command::run(program, |command| {
            command.env("LOCUM_NODE", self.node.as_str());
            command.envs(database.iter().flat_map(Database::variables));
        })
        .await
    }
}
