//! What every part of the agent shares: the data directory, the connections, the board, the promise file.

use std::{
    path::Path,
    sync::{Arc, Mutex as Flag, PoisonError},
    time::Duration,
};

use tokio::sync::{Mutex, Notify, watch};

use super::{
    AgentError,
    board::{Board, State},
    guarding::Wish,
    orders::Unable,
    peek,
    promise::{Promise, PromiseFile},
    right::{Known, Serving},
    trust::Trust,
};
use crate::{
    config, guard,
    model::{AccessFacts, AgentFacts, Mono, NodeId, Seen, Server},
    ports::Clock,
    postgres::{
        Instance, Postmaster, Source, ThroughEndpoint,
        observe::{LOOK, Look, Observer},
        sql::{Access, CONNECT, Sql, SqlError},
    },
};

/// A look that takes longer than this makes the prober look at once.
const OVERDUE: Duration = Duration::from_millis(200);

/// See the file's head.
pub(super) struct Inner {
    pub(super) node: NodeId,
    pub(super) replication: String,
    /// Bytes a second that a clone may take.
    pub(super) clone_max_rate: Option<u64>,
    /// A server that starts and gets nothing done for this long is given up.
    pub(super) start_timeout: Duration,
    pub(super) instance: Instance,
    pub(super) access: Access,
    /// As a client would connect, and where.
    pub(super) client: ThroughEndpoint,
    pub(super) address: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) serving: Serving,
    /// What was last read of the store for a renewal.
    pub(super) known: Mutex<Known>,
    pub(super) board: Board,
    /// The promise file. Held while it is written, so that no answer overtakes it.
    pub(super) promise: Mutex<PromiseFile>,
    /// What shows that the promise file did not go back in time.
    pub(super) trust: Trust,
    /// The postmaster that is watched now.
    pub(super) attached: watch::Sender<Option<Postmaster>>,
    /// Whoever starts, kills or stops processes holds this: orphans are never sought while a server starts.
    pub(super) life: Mutex<()>,
    /// Whoever writes WAL for a rescue holds this, for as long as anything of it may still be written.
    pub(super) pages: Arc<Mutex<()>>,
    /// One command at a time.
    pub(super) turn: Mutex<()>,
    /// Grows when a command that cannot wait is ordered; holds its urgency.
    pub(super) urgent: watch::Sender<(u64, u8)>,
    /// The command under way, for messages.
    pub(super) under_way: Flag<&'static str>,
    /// Look for a postmaster now.
    pub(super) look_around: Notify,
    /// The kept connection does not answer.
    pub(super) overdue: Notify,
    /// The guard, once there is one.
    pub(super) guard: watch::Sender<Option<Arc<guard::Client>>>,
    /// What the guard is to be told.
    pub(super) wish: watch::Sender<Wish>,
    observer: Mutex<Option<Observer>>,
    hand: Mutex<Option<Arc<Sql>>>,
}

impl Inner {
    /// Reads what is on disk and checks that it belongs together. Blocking, briefly.
    pub(super) fn new(
        cfg: &config::Postgres,
        node: &NodeId,
        state_dir: &Path,
        serving: Serving,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AgentError> {
        let access =
            Access::parse(&cfg.connect).map_err(|why| AgentError::Setting { key: "connect", why })?;
        Source::new(&cfg.replication, &cfg.address)
            .map_err(|e| AgentError::Setting { key: "replication", why: e.to_string() })?;
        let mut promise = PromiseFile::open(state_dir, node)?;
        let instance = Instance::new(cfg, state_dir)
            .map_err(|e| AgentError::DataDir { path: cfg.data_dir.clone(), why: e.to_string() })?;
        instance.recall().map_err(|error| AgentError::StateDir {
            path: state_dir.to_owned(),
            what: "read which server ran here",
            why: error.to_string(),
        })?;
        let seen = peek::control(instance.data_dir())
            .map_err(|e| AgentError::DataDir { path: cfg.data_dir.clone(), why: e.to_string() })?;
        if let Some(seen) = seen {
            promise.bind(seen.system)?;
        }
        let facts = AgentFacts {
            promise: None,
            primary_since: None,
            system: None,
            address: cfg.address.clone(),
            standby_name: promise.held().standby_name.clone(),
            no_failover: cfg.no_failover,
            no_sync: cfg.no_sync,
            no_clone: cfg.no_clone,
            priority: cfg.priority,
            guard: None,
            told: None,
            serves_until: None,
            admitted: None,
            // A word given before this start counts again from here.
            vouched_until: promise.held().vouched.map(|(_, length)| clock.now().plus(length)),
            server: Seen { value: Server::Unknown, at: clock.now() },
            disk_free: None,
            checksum_failures: None,
            recovery_rate: None,
            unfinished: None,
            job: None,
            failed: Vec::new(),
            lost: None,
            strayed: None,
            hindrances: Vec::new(),
            rescued: None,
            app: None,
            access: AccessFacts::default(),
        };
        let board = Board::new(facts, promise.held().clone());
        board.update(|s| s.promised(promise.held()));
        Ok(Self {
            node: node.clone(),
            replication: cfg.replication.clone(),
            clone_max_rate: cfg.clone_max_rate,
            start_timeout: cfg.start_timeout,
            instance,
            access,
            client: ThroughEndpoint::new(&cfg.verify),
            address: cfg.address.clone(),
            clock,
            serving,
            known: Mutex::default(),
            board,
            promise: Mutex::new(promise),
            trust: Trust::default(),
            attached: watch::Sender::new(None),
            life: Mutex::new(()),
            pages: Arc::default(),
            turn: Mutex::new(()),
            urgent: watch::Sender::new((0, 0)),
            under_way: Flag::new(""),
            look_around: Notify::new(),
            overdue: Notify::new(),
            guard: watch::Sender::new(None),
            wish: watch::Sender::new(Wish::default()),
            observer: Mutex::new(None),
            hand: Mutex::new(None),
        })
    }

    pub(super) fn now(&self) -> Mono {
        self.clock.now()
    }

    /// The promise file's content, as it stands on disk.
    pub(super) async fn held(&self) -> Promise {
        self.promise.lock().await.held().clone()
    }

    /// Changes the promise file, durably, and then the board. Runs to its end even if nobody waits for it.
    pub(super) async fn remember(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Promise) + Send + 'static,
    ) -> Result<(), Unable> {
        let inner = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || {
            let mut file = inner.promise.blocking_lock();
            let mut next = file.held().clone();
            change(&mut next);
            file.keep(next)?;
            inner.board.update(|s| s.promised(file.held()));
            Ok::<(), std::io::Error>(())
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Unable::Failed(format!("cannot write the promise file: {error}"))),
            Err(error) => Err(Unable::Failed(format!("cannot write the promise file: {error}"))),
        }
    }

    /// The connection for commands; made anew when it was lost.
    pub(super) async fn sql(&self) -> Result<Arc<Sql>, SqlError> {
        let mut hand = self.hand.lock().await;
        if let Some(sql) = hand.as_ref().filter(|sql| !sql.is_closed()) {
            return Ok(Arc::clone(sql));
        }
        let sql = Arc::new(self.access.connect(CONNECT).await?);
        *hand = Some(Arc::clone(&sql));
        Ok(sql)
    }

    /// Notes that the server refused a login of the agent's own, in its words; None: it let one in.
    pub(super) fn refused(&self, said: Option<String>) {
        let at = self.now();
        self.board.update(|s| {
            s.facts.access.refused = said.map(|value| Seen { value, at });
            if s.facts.access.refused.is_none() {
                s.facts.access.elsewhere = None;
            }
        });
    }

    /// Opens the kept connections to a server that was just found.
    pub(super) async fn open(&self) -> Result<(), SqlError> {
        let observer = Observer::connect(&self.access).await?;
        self.access.forget_dismissal();
        self.refused(None);
        self.board.update(|s| s.facts.access.recovering = false);
        self.note_identity().await;
        *self.observer.lock().await = Some(observer);
        *self.hand.lock().await = None;
        // Made now, so that no command has to wait for it; if that fails, the first command tries again.
        drop(self.sql().await);
        Ok(())
    }

    /// Forgets the connections to a server that is gone.
    pub(super) async fn close(&self) {
        if let Some(observer) = self.observer.lock().await.take() {
            observer.abandon();
        }
        *self.hand.lock().await = None;
    }

    /// Looks at the server and puts what was seen on the board.
    pub(super) async fn look(&self, more: bool) -> Result<(), SqlError> {
        let mut kept = self.observer.lock().await;
        let Some(observer) = kept.as_mut() else {
            return Err(SqlError::NotReady("not connected yet".into()));
        };
        let generation = self.board.read(|s| s.generation);
        // The time is taken before the question: what is reported is never older than it says.
        let mut at = self.now();
        let mut seen = self.answered(observer.look(more)).await;
        if let Ok(look) = &seen
            && self.board.read(|s| s.needs_more(look))
        {
            at = self.now();
            seen = self.answered(observer.look(true)).await;
        }
        if let Ok(look) = &mut seen {
            self.find_timeline(look).await;
        }
        match seen {
            Ok(look) => {
                self.board.update(|s| {
                    if s.generation == generation {
                        s.looked(at, look);
                    }
                });
                drop(kept);
                self.learn_history(generation).await;
                Ok(())
            }
            Err(error) => {
                if let Some(observer) = kept.take() {
                    observer.abandon();
                }
                Err(error)
            }
        }
    }

    /// An answer within [`LOOK`]; the prober is woken when it is overdue.
    async fn answered<T>(&self, asked: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
        tokio::pin!(asked);
        match tokio::time::timeout(OVERDUE, &mut asked).await {
            Ok(answer) => answer,
            Err(_) => {
                self.overdue.notify_one();
                tokio::time::timeout(LOOK, asked).await.unwrap_or(Err(SqlError::Silent(LOOK)))
            }
        }
    }

    /// Of a standby that nobody has seen receive, the control file alone says the timeline, and it is as old as the last checkpoint.
    async fn find_timeline(&self, look: &mut Look) {
        let Look::Standby(quick, Some(more)) = look else { return };
        if quick.received_timeline.is_some() || !self.board.read(State::has_seen_no_receiver) {
            return;
        }
        match self.instance.timeline_at(quick.flushed).await {
            Ok(timeline) => more.timeline = more.timeline.max(timeline.unwrap_or_default()),
            Err(error) => tracing::debug!(%error, "the timeline of the WAL of the standby"),
        }
    }

    async fn learn_history(&self, generation: u64) {
        let Some(timeline) = self.board.read(State::wants_history) else { return };
        if let Ok(switches) = self.instance.history(timeline).await {
            self.board.update(|s| {
                if s.generation == generation {
                    s.learned(timeline, switches);
                }
            });
        }
    }

    /// The postmaster, if the server is a running primary.
    pub(super) fn running_primary(&self) -> Result<Postmaster, Unable> {
        let primary = self.board.read(|s| matches!(s.facts.server.value, Server::Primary(_)));
        self.attached
            .borrow()
            .clone()
            .filter(|_| primary)
            .ok_or_else(|| Unable::Refused("the server is no running primary".into()))
    }

    /// The postmaster, if the server is a running standby.
    pub(super) fn running_standby(&self) -> Result<Postmaster, Unable> {
        let standby = self.board.read(|s| matches!(s.facts.server.value, Server::Standby(_)));
        self.attached
            .borrow()
            .clone()
            .filter(|_| standby)
            .ok_or_else(|| Unable::Refused("the server is no running standby".into()))
    }

    /// What is being done, for people.
    pub(super) fn job(&self, text: Option<String>) {
        self.board.update(|s| s.facts.job = text);
    }

    /// The word for the command under way.
    pub(super) fn busy_with(&self, word: &'static str) {
        *self.under_way.lock().unwrap_or_else(PoisonError::into_inner) = word;
    }
}
