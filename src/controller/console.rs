//! The controller as the API and the CLI see it.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::{Deps, Event};
use crate::{
    model::{Incident, LossList, NodeId, Policy, Request, RequestKind, Snapshot, View},
    planner,
    ports::{Clock, Console, Member, SessionsLook, StoreError, SubmitError},
    postgres,
    sidecars::Sidecars,
    store::Records,
};

/// Shows the cluster, takes requests.
pub struct Handle {
    node: NodeId,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    view: Arc<Mutex<View>>,
    policy: Policy,
    clock: Arc<dyn Clock>,
    events: mpsc::Sender<Event>,
    records: Records,
    state_dir: PathBuf,
    local: Arc<dyn Member>,
    /// The last look at the sessions.
    sessions: tokio::sync::Mutex<Option<SessionsLook>>,
    sidecars: Arc<Sidecars>,
    count: AtomicU64,
}

/// How many lost transactions are answered at most, some 200 bytes each. More: a larger answer. Fewer: more people must
/// look into the file.
const LISTED: usize = 10_000;

/// A list of sessions serves for so long: anybody may ask, and the server is about to stop. Longer: sessions are parked late.
const FRESH: Duration = Duration::from_millis(5);

/// The controller's end of it.
pub(super) struct Publisher {
    snapshots: watch::Sender<Arc<Snapshot>>,
    view: Arc<Mutex<View>>,
}

pub(super) fn new(deps: &Deps, events: mpsc::Sender<Event>) -> (Handle, Publisher) {
    let (sender, snapshots) = watch::channel(Arc::new(super::show::empty(deps)));
    let view = Arc::new(Mutex::new(View::default()));
    let publisher = Publisher { snapshots: sender, view: view.clone() };
    let handle = Handle {
        node: deps.node.clone(),
        snapshots,
        view,
        policy: deps.policy.clone(),
        clock: deps.clock.clone(),
        events,
        records: deps.records.clone(),
        state_dir: deps.state_dir.clone(),
        local: deps.local.member.clone(),
        sessions: tokio::sync::Mutex::default(),
        sidecars: Arc::clone(&deps.sidecars),
        count: AtomicU64::new(0),
    };
    (handle, publisher)
}

impl Publisher {
    pub(super) fn publish(&self, snapshot: Snapshot, view: View) {
        // A poisoned lock means that a reader panicked while it held a plain value: the value is still whole.
        *self.view.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = view;
        self.snapshots.send_replace(Arc::new(snapshot));
    }
}

#[async_trait]
impl Console for Handle {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    fn submit(&self, kind: RequestKind) -> Result<String, SubmitError> {
        let snapshot = self.snapshot();
        if snapshot.leader.as_ref() != Some(&self.node) {
            return Err(SubmitError::NotLeader(snapshot.leader.clone()));
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let operation = format!("{}-{}-{count}", self.node, self.clock.wall().strftime("%Y%m%d%H%M%S"));
        let request = Request { operation: operation.clone(), kind };
        let sent = self.events.try_send(Event::Asked(request));
        sent.map_err(|_| {
            SubmitError::Busy("the controller is too busy to take a request; try again".to_owned())
        })?;
        Ok(operation)
    }

    fn blockers(&self, kind: &RequestKind) -> Vec<String> {
        let view = self.view.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        planner::blockers(&view, &self.policy, self.clock.now(), kind)
    }

    async fn incidents(&self, last: usize) -> Result<Vec<Incident>, StoreError> {
        self.records.incidents(last).await
    }

    async fn lost(&self, folder: &str) -> Result<Option<LossList>, String> {
        let (dir, folder) = (self.state_dir.clone(), folder.to_owned());
        let read = move || postgres::read_list(&dir, &folder, LISTED).map_err(|error| error.to_string());
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn sessions(&self) -> Option<SessionsLook> {
        if !self.snapshot().hands_over(&self.node) {
            return None;
        }
        let mut kept = self.sessions.lock().await;
        let at = self.clock.now();
        if let Some(look) = kept.as_ref().filter(|look| at.since(look.at) < FRESH) {
            return Some(look.clone());
        }
        let look = SessionsLook { at, sessions: self.local.sessions().await.ok()?? };
        *kept = Some(look.clone());
        Some(look)
    }

    fn sidecars(&self) -> Option<Arc<Sidecars>> {
        Some(Arc::clone(&self.sidecars))
    }
}
