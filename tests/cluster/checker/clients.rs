//! Writers and readers. Each row is attempted once and never again, whatever was said.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    Attempt, History, Outcome, Read, Via,
    history::{Broken, Server},
    session::{Address, BEGAN, Session},
};
use crate::lab::{
    Fault, Lab,
    plan::{ENDPOINT_PORT, POSTGRES_PORT},
    postgres,
    status::SOON,
};

/// Between two attempts of one writer: what is tested is Locum, and not how fast two cores can write.
const PACE: Duration = Duration::from_millis(4);
/// After one that failed.
const RETRY: Duration = Duration::from_millis(20);
/// Between two attempts at a node directly: most of the nodes are standbys, which refuse.
const DIRECT: Duration = Duration::from_millis(40);
/// Between two attempts of those who wait for a standby to take writes: its guard freezes it within some milliseconds.
const EAGER: Duration = Duration::from_millis(2);
/// Between two reads.
const READ: Duration = Duration::from_millis(25);
/// How long the last attempts may take.
const LAST: Duration = Duration::from_secs(20);
/// A fault's own history may say that somebody waits; how often that is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// Who writes and reads.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Writers at each endpoint.
    pub(crate) at_endpoints: u32,
    /// Writers at each node's own socket.
    pub(crate) at_nodes: u32,
    /// Writers at each node's own socket that keep their connection when they are refused, and try again at once: they are there
    /// when a standby begins to take writes.
    pub(crate) eager: u32,
    /// Writers at each node's own socket that cancel what takes longer than this.
    pub(crate) impatient: Option<Duration>,
    /// Readers at each endpoint.
    pub(crate) readers: u32,
    /// The number of the first writer: no two loads of one laboratory may share numbers.
    pub(crate) first: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self { at_endpoints: 2, at_nodes: 1, eager: 0, impatient: None, readers: 1, first: 1 }
    }
}

/// How one writer goes about it.
#[derive(Clone, Copy)]
struct Manner {
    /// Between two attempts.
    pace: Duration,
    /// After one that failed.
    retry: Duration,
    /// A commit is cancelled after this.
    patience: Option<Duration>,
    /// It keeps a connection on which it was refused.
    stays: bool,
}

impl Manner {
    const AT_ENDPOINT: Self = Self { pace: PACE, retry: RETRY, patience: None, stays: false };
    const DIRECT: Self = Self { pace: DIRECT, retry: DIRECT, patience: None, stays: false };
    const EAGER: Self = Self { pace: DIRECT, retry: EAGER, patience: None, stays: true };
}

struct Log {
    began: Instant,
    history: Mutex<History>,
    stop: AtomicBool,
}

impl Log {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Running clients. Dropping them tells them to end.
pub(crate) struct Clients {
    log: Arc<Log>,
    tasks: Vec<JoinHandle<()>>,
    names: BTreeMap<u32, Arc<Via>>,
}

impl Clients {
    /// Starts them, and returns once every endpoint's writers have had a row acknowledged.
    pub(crate) async fn start(lab: &Lab, load: &Load) -> Self {
        let history = Mutex::default();
        let log = Arc::new(Log { began: Instant::now(), history, stop: AtomicBool::new(false) });
        let mut clients = Self { log, tasks: Vec::new(), names: BTreeMap::new() };
        let mut number = load.first;
        for host in lab.plan.members() {
            let via = Arc::new(Via::Endpoint(host.name.clone()));
            let address = Address::Tcp(host.ip.to_string(), ENDPOINT_PORT);
            for _ in 0..load.at_endpoints {
                clients.write(lab, &via, &address, number, Manner::AT_ENDPOINT);
                number += 1;
            }
            for _ in 0..load.readers {
                // The first writer's rows: that there is one is all that a reader needs.
                clients.read(lab, &via, &address, load.first);
            }
        }
        for host in lab.plan.servers() {
            let via = Arc::new(Via::Node(host.name.clone()));
            let address = Address::Socket(lab.plan.socket_of(&host.name), POSTGRES_PORT);
            for _ in 0..load.at_nodes {
                clients.write(lab, &via, &address, number, Manner::DIRECT);
                number += 1;
            }
            for _ in 0..load.eager {
                clients.write(lab, &via, &address, number, Manner::EAGER);
                number += 1;
            }
            if load.impatient.is_some() {
                let manner = Manner { patience: load.impatient, ..Manner::DIRECT };
                clients.write(lab, &via, &address, number, manner);
                number += 1;
            }
        }
        clients.goes_on().await;
        clients
    }

    fn write(&mut self, lab: &Lab, via: &Arc<Via>, address: &Address, writer: u32, manner: Manner) {
        let Manner { pace, retry, patience, stays } = manner;
        self.names.insert(writer, Arc::clone(via));
        let (log, via, address) = (Arc::clone(&self.log), Arc::clone(via), address.clone());
        self.tasks.push(lab.clients().spawn(async move {
            let (mut seq, mut session) = (0, None);
            while !log.stopped() {
                seq += 1;
                let start_us = log.now();
                let open = match session.take() {
                    Some(open) => Ok(open),
                    None => Session::open(&address).await,
                };
                let told = match &open {
                    Ok(open) => open.commit(writer, seq, patience).await,
                    Err(error) => super::session::Told {
                        outcome: Outcome::Failed,
                        node: None,
                        timeline: None,
                        server: None,
                        error: Some(error.clone()),
                    },
                };
                let well = matches!(told.outcome, Outcome::Acknowledged | Outcome::Warned);
                // What refused may be a standby for long, or an old primary: the next one may not be.
                let refused = stays && told.outcome == Outcome::Failed;
                session = open.ok().filter(|_| well || refused);
                let attempt = Attempt {
                    writer,
                    seq,
                    via: Arc::clone(&via),
                    start_us,
                    end_us: log.now(),
                    outcome: told.outcome,
                    node: told.node.map(Into::into),
                    timeline: told.timeline,
                    server: told.server.map(Into::into),
                    error: told.error.map(Into::into),
                };
                log.lock().attempts.push(attempt);
                sleep(if well { pace } else { retry }).await;
            }
        }));
    }

    fn read(&mut self, lab: &Lab, via: &Arc<Via>, address: &Address, writer: u32) {
        let (log, via, address) = (Arc::clone(&self.log), Arc::clone(via), address.clone());
        self.tasks.push(lab.clients().spawn(async move {
            let mut session = None;
            while !log.stopped() {
                let open = match session.take() {
                    Some(open) => Ok(open),
                    None => Session::open(&address).await,
                };
                if let Ok(open) = open {
                    let start_us = log.now();
                    if let Ok((seen, node)) = open.highest(writer).await {
                        let via = Arc::clone(&via);
                        let node = node.map(Into::into);
                        let read = Read { via, writer, seen, start_us, end_us: log.now(), node };
                        log.lock().reads.push(read);
                        session = Some(open);
                    }
                }
                sleep(READ).await;
            }
        }));
    }

    /// Now, on the history's clock.
    #[must_use]
    pub(crate) fn now_us(&self) -> u64 {
        self.log.now()
    }

    /// Begins a fault, and notes when.
    ///
    /// # Errors
    /// As [`Lab::begin`].
    pub(crate) fn begin(&self, lab: &Lab, fault: &Fault) -> anyhow::Result<u64> {
        let begin_us = self.now_us();
        self.log.lock().faults.push(Broken { text: fault.text(), begin_us, heal_us: None });
        if let Some(host) = fault.ends_recovery_of() {
            // Before it is ended: what this server acknowledges, it acknowledges because of the fault.
            let sql = format!("SELECT {BEGAN} WHERE pg_is_in_recovery()");
            let began = postgres::keep(&lab.plan, host, &sql)?;
            anyhow::ensure!(!began.is_empty(), "{host} is not in recovery");
            self.log.lock().strays.push(Server { node: host.into(), began: began.into() });
        }
        lab.begin(fault)?;
        Ok(begin_us)
    }

    /// Heals it, and notes when.
    ///
    /// # Errors
    /// As [`Lab::heal`].
    pub(crate) fn heal(&self, lab: &Lab, fault: &Fault) -> anyhow::Result<u64> {
        lab.heal(fault)?;
        let now = self.now_us();
        let text = fault.text();
        let mut history = self.log.lock();
        if let Some(noted) = history.faults.iter_mut().rev().find(|noted| noted.text == text) {
            noted.heal_us = Some(now);
        }
        Ok(now)
    }

    /// Whether, after `since_us`, a row that was sent after it was acknowledged to some writer of each of `endpoints`.
    #[must_use]
    pub(crate) fn served_since(&self, since_us: u64, endpoints: &[&str]) -> bool {
        let history = self.log.lock();
        let recent = || history.attempts.iter().rev().take_while(|attempt| attempt.end_us > since_us);
        endpoints.iter().all(|host| {
            recent().any(|attempt| {
                attempt.start_us >= since_us
                    && attempt.outcome == Outcome::Acknowledged
                    && matches!(attempt.via.as_ref(), Via::Endpoint(at) if at == host)
            })
        })
    }

    /// Waits until a row that is sent from now on is acknowledged through each endpoint.
    pub(crate) async fn goes_on(&self) {
        let all = self.names.values().filter_map(|via| match via.as_ref() {
            Via::Endpoint(host) => Some(host.as_str()),
            Via::Node(_) => None,
        });
        let all: Vec<_> = all.collect();
        self.goes_on_at(&all).await;
    }

    /// The same for some endpoints.
    pub(crate) async fn goes_on_at(&self, endpoints: &[&str]) {
        let since = self.now_us();
        let served = self.is_served_within(SOON, since, endpoints).await;
        let errors = self.log.lock().errors();
        assert!(served, "no commit through {endpoints:?} within {SOON:?}: {errors:?}");
    }

    /// Waits for that; false: not within `limit`.
    pub(crate) async fn is_served_within(&self, limit: Duration, since_us: u64, endpoints: &[&str]) -> bool {
        let served = async {
            while !self.served_since(since_us, endpoints) {
                sleep(LOOK).await;
            }
        };
        timeout(limit, served).await.is_ok()
    }

    /// How many commits were acknowledged so far.
    #[must_use]
    pub(crate) fn acknowledged(&self) -> usize {
        self.log.lock().attempts.iter().filter(|attempt| attempt.outcome == Outcome::Acknowledged).count()
    }

    /// What was seen so far.
    #[must_use]
    pub(crate) fn history(&self) -> History {
        self.log.lock().clone()
    }

    /// Ends them and returns what they saw.
    pub(crate) async fn finish(mut self) -> History {
        self.log.stop.store(true, Ordering::Relaxed);
        let deadline = tokio::time::Instant::now() + LAST;
        for task in &mut self.tasks {
            let ended = tokio::time::timeout_at(deadline, task).await;
            assert!(ended.is_ok(), "a client does not end");
        }
        self.history()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.log.stop.store(true, Ordering::Relaxed);
    }
}
