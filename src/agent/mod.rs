//! The agent: owns the PostgreSQL of its host. It reports facts, carries out commands, and remembers on disk what it
//! promised. It never decides about the cluster, and it leaves PostgreSQL running when it ends.

mod alone;
mod board;
mod client;
mod error;
mod failsafe;
mod fence;
mod floors;
mod follow;
mod guarding;
mod hindrances;
mod inner;
mod memory;
mod meter;
mod names;
mod orders;
mod peek;
mod place;
mod probing;
mod promise;
mod promote;
mod rebuild;
mod recruit;
mod rescue;
mod right;
mod slots;
mod space;
mod start;
mod stray;
mod tail;
mod trust;
mod vouch;
mod watch;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch as channel, task::JoinHandle};

pub use error::AgentError;
use inner::Inner;
pub use memory::{Memory, await_first_clone, memory};
pub use right::Serving;

use crate::{
    app::Server as AppServer,
    config,
    model::{AgentFacts, Command, NodeId, Reply, Stamp},
    ports::{Clock, Session, WalAsk},
    postgres::session,
};

/// A running agent. Dropping it, like [`Agent::stop`], leaves PostgreSQL as it is.
pub struct Agent {
    inner: Arc<Inner>,
    app: Option<Arc<AppServer>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Agent {
    /// Reads the promise file and begins to watch. PostgreSQL is neither started nor stopped by this: a running one is
    /// attached to, one that is down stays down until a leader says otherwise. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`AgentError`]: something does not belong together; nothing was touched.
    pub fn start(
        cfg: &config::Postgres,
        app: Option<Arc<AppServer>>,
        node: &NodeId,
        state_dir: &Path,
        serving: Serving,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, AgentError> {
        let inner = Arc::new(Inner::new(cfg, node, state_dir, serving, clock)?);
        let mut tasks = vec![
            tokio::spawn(watch::run(Arc::clone(&inner))),
            tokio::spawn(right::run(Arc::clone(&inner))),
            tokio::spawn(space::run(Arc::clone(&inner))),
            tokio::spawn(trust::run(Arc::clone(&inner))),
            tokio::spawn(hindrances::run(Arc::clone(&inner))),
            tokio::spawn(place::run(Arc::clone(&inner))),
        ];
        if let Some(guard) = inner.serving.guard.clone() {
            tasks.push(tokio::spawn(guarding::run(Arc::clone(&inner), guard)));
        }
        if let Some(app) = &app {
            tasks.push(tokio::spawn(mind_app(Arc::clone(&inner), Arc::clone(app))));
        }
        Ok(Arc::new(Self { inner, app, tasks: Mutex::new(tasks) }))
    }

    /// What it knows now. Cheap.
    #[must_use]
    pub fn facts(&self) -> AgentFacts {
        let app = self.app.as_ref().map(|app| app.facts());
        AgentFacts { app, ..self.inner.board.facts() }
    }

    /// Changes whenever `facts` would differ in anything worth acting on; not for mere positions.
    #[must_use]
    pub fn changes(&self) -> channel::Receiver<u64> {
        self.inner.board.changes()
    }

    /// Carries out a command, unless it is of a lower stamp than one taken before. The promise is on disk before
    /// anything happens. The command goes on even if the caller does not wait.
    pub async fn order(&self, stamp: Stamp, command: Command) -> Reply {
        self.inner.order(stamp, command).await
    }

    /// Its word to the primary of a stamp's epoch, for so long. False: it promised a higher one.
    pub async fn vouch(&self, stamp: Stamp, ttl: Duration) -> bool {
        self.inner.vouch(stamp, ttl).await
    }

    /// The WAL of a fenced server, for whoever is to take its place.
    ///
    /// # Errors
    /// A sentence: it is not fenced, or there is no such WAL.
    pub async fn wal(&self, ask: WalAsk) -> Result<Vec<u8>, String> {
        self.inner.hand_out(ask).await
    }

    /// The client sessions of its server. None: it does not tell.
    pub async fn sessions(&self) -> Option<Vec<Session>> {
        let asked = async { session::sessions(&*self.inner.sql().await?).await };
        asked.await.inspect_err(|error| tracing::debug!(%error, "no list of sessions")).ok()
    }

    /// Looks at the app server now.
    pub fn probe_app(&self) {
        if let Some(app) = &self.app {
            app.look();
        }
    }

    /// Nobody takes this server's place without a person, so the guard is to leave it alone.
    pub async fn disarm(&self) {
        if let Err(error) = self.inner.disarm().await {
            tracing::warn!(%error, "the guard is not disarmed: it freezes this primary when its lease has run out");
        }
    }

    /// Ends the watch. PostgreSQL goes on.
    pub async fn stop(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        self.inner.close().await;
    }
}

/// Passes on what changes with the app, and has it probed at once when its database's role changes.
async fn mind_app(inner: Arc<Inner>, app: Arc<AppServer>) {
    let (mut board, mut health) = (inner.board.changes(), app.changes());
    let role = || inner.board.read(|s| std::mem::discriminant(&s.facts.server.value));
    let mut last = role();
    loop {
        tokio::select! {
            changed = health.changed() => {
                if changed.is_err() {
                    return;
                }
                inner.board.bump();
            }
            changed = board.changed() => {
                if changed.is_err() {
                    return;
                }
                if last != role() {
                    last = role();
                    app.look();
                }
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        for task in self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}
