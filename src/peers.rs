//! The other members, as far as they are known: each connected once, for the controller and for the agent alike.
//!
//! Who they are comes from the store, and is kept in a file, so that a member that starts while the store is away still
//! knows whom to ask. The file decides nothing: whoever answers there must be who is meant.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    controller::Feed,
    model::NodeId,
    ports::{Member, Peers},
    store::Registration,
};

const FILE: &str = "peers.json";

type Connect = dyn Fn(&Registration) -> Feed + Send + Sync;

/// See the file's head.
pub struct PeerBook {
    node: NodeId,
    file: PathBuf,
    connect: Box<Connect>,
    known: Mutex<BTreeMap<NodeId, (Registration, Feed)>>,
}

impl PeerBook {
    /// Reads what was known before, and connects. Must be called within a Tokio runtime.
    #[must_use]
    pub fn open(node: NodeId, state_dir: &std::path::Path, connect: Box<Connect>) -> Arc<Self> {
        let book = Self { node, file: state_dir.join(FILE), connect, known: Mutex::default() };
        let read = std::fs::read(&book.file).ok();
        let before: Vec<Registration> =
            read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        for registration in before.iter().filter(|registration| registration.node != book.node) {
            let feed = (book.connect)(registration);
            book.lock().insert(registration.node.clone(), (registration.clone(), feed));
        }
        Arc::new(book)
    }

    /// The feed of a member that registered; connected anew when its address is another.
    pub fn feed(&self, registration: &Registration) -> Feed {
        let mut known = self.lock();
        if let Some((before, feed)) = known.get(&registration.node)
            && before.peer_address == registration.peer_address
        {
            return feed.clone();
        }
        let feed = (self.connect)(registration);
        known.insert(registration.node.clone(), (registration.clone(), feed.clone()));
        let all: Vec<&Registration> = known.values().map(|(registration, _)| registration).collect();
        if let Err(error) = self.keep(&all) {
            tracing::warn!(%error, file = %self.file.display(), "the other members are not kept on disk");
        }
        feed
    }

    fn keep(&self, all: &[&Registration]) -> std::io::Result<()> {
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec_pretty(all)?)?;
        std::fs::rename(&fresh, &self.file)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, (Registration, Feed)>> {
        // Nothing panics while it is held, so a poisoned map is still whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers for PeerBook {
    fn member(&self, node: &NodeId) -> Option<Arc<dyn Member>> {
        self.lock().get(node).map(|(_, feed)| Arc::clone(&feed.member))
    }

    fn all(&self) -> Vec<NodeId> {
        self.lock().keys().cloned().collect()
    }
}
