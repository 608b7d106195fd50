//! The promise file: what an agent must remember even when the power goes.
//!
//! It is written with fsync, rename, and fsync of the folder **before** the agent answers or acts, and it lies
//! outside the data directory, where no clone or rewind copies it. A missing file is not a promise of zero.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::AgentError;
use crate::model::{LostTail, NodeId, Stamp, StandbyName, Stray, SystemId, Unfinished, Upstream};

const FILE: &str = "promise.json";
const LOCK: &str = "agent.lock";

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Promise {
    /// Whose file it is.
    pub(super) node: NodeId,
    /// Whose data; None until a data directory was seen.
    pub(super) system: Option<SystemId>,
    /// The highest stamp taken; anything below is refused. None: none was ever taken.
    pub(super) promise: Option<Stamp>,
    /// Under which stamp this node last became primary.
    pub(super) primary_since: Option<Stamp>,
    /// The name it streams under.
    pub(super) standby_name: StandbyName,
    /// A rewind or clone that has not ended.
    pub(super) unfinished: Option<Unfinished>,
    /// Cut from its primary under this stamp, and not led to another since.
    pub(super) recruited: Option<Stamp>,
    /// Replay was paused for a proof under this stamp, and not resumed since.
    pub(super) paused: Option<Stamp>,
    /// From where it was told to stream.
    pub(super) upstream: Option<Upstream>,
    /// What the last rewind or clone gave up.
    pub(super) lost: Option<LostTail>,
    /// It left recovery without an order, and has not been rewound or cloned since.
    #[serde(default)]
    pub(super) strayed: Option<Stray>,
    /// WAL that its crash recovery replayed in a second, when it last had much to replay.
    #[serde(default)]
    pub(super) recovery_rate: Option<u64>,
    /// Who may be promoted in its place, noted under this stamp: whom it asks before it serves without the store.
    #[serde(default)]
    pub(super) admitted: Option<(Stamp, Vec<NodeId>)>,
    /// The word given to the primary of this stamp's epoch, as a length: it counts again in full after a restart.
    #[serde(default)]
    pub(super) vouched: Option<(Stamp, Duration)>,
}

impl Promise {
    /// A higher epoch than the stamp's was promised.
    pub(super) fn is_beyond(&self, stamp: Stamp) -> bool {
        self.promise.is_some_and(|promise| promise > stamp && !promise.same_epoch(stamp))
    }
}

/// The file, and the lock that keeps a second agent out.
#[derive(Debug)]
pub(super) struct PromiseFile {
    path: PathBuf,
    held: Promise,
    _lock: File,
}

impl PromiseFile {
    /// Locks the folder and reads the file. Blocking.
    pub(super) fn open(state_dir: &Path, node: &NodeId) -> Result<Self, AgentError> {
        let broken =
            |what: &'static str, why: String| AgentError::StateDir { path: state_dir.to_owned(), what, why };
        fs::create_dir_all(state_dir).map_err(|e| broken("create it", e.to_string()))?;
        let lock =
            File::create(state_dir.join(LOCK)).map_err(|e| broken("create its lock", e.to_string()))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| AgentError::StateInUse { path: state_dir.to_owned() })?;
        let path = state_dir.join(FILE);
        let held = Promise::read(state_dir)?.unwrap_or_else(|| Promise::fresh(node));
        if held.node != *node {
            return Err(AgentError::ForeignPromise { path, names: held.node, node: node.clone() });
        }
        Ok(Self { path, held, _lock: lock })
    }

    /// What is held, as it stands on disk.
    pub(super) const fn held(&self) -> &Promise {
        &self.held
    }

    /// Makes `next` durable. Writes nothing if it is what stands there. Blocking.
    pub(super) fn keep(&mut self, next: Promise) -> io::Result<()> {
        if next != self.held {
            write_durably(&self.path, &serde_json::to_vec_pretty(&next)?)?;
            self.held = next;
        }
        Ok(())
    }

    /// Checks that the data directory is the one the file is about; a first one is taken.
    pub(super) fn bind(&mut self, system: SystemId) -> Result<(), AgentError> {
        match self.held.system {
            Some(known) if known != system && self.held.unfinished.is_none() => {
                Err(AgentError::ForeignSystem { path: self.path.clone(), known, found: system })
            }
            _ => {
                // Written with the first promise: a file must not come to be by mere looking.
                self.held.system = Some(system);
                Ok(())
            }
        }
    }
}

impl Promise {
    /// What a state directory's file holds; None if there is none. Blocking.
    pub(super) fn read(state_dir: &Path) -> Result<Option<Self>, AgentError> {
        let path = state_dir.join(FILE);
        let unreadable = |why| AgentError::PromiseUnreadable { path: path.clone(), why };
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(error.to_string()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }

    fn fresh(node: &NodeId) -> Self {
        Self {
            node: node.clone(),
            system: None,
            promise: None,
            primary_since: None,
            standby_name: new_name(node),
            unfinished: None,
            recruited: None,
            paused: None,
            upstream: None,
            lost: None,
            strayed: None,
            recovery_rate: None,
            admitted: None,
            vouched: None,
        }
    }
}

/// A name that no earlier life of this standby had: `locum_<node>_` and eight random hexadecimal digits.
pub(super) fn new_name(node: &NodeId) -> StandbyName {
    let mut random = [0_u8; 4];
    // Without the kernel's randomness there is still the time, which no earlier life shares either.
    if getrandom::fill(&mut random).is_err() {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        random = (now.tv_sec ^ now.tv_nsec).to_le_bytes().first_chunk().copied().unwrap_or(random);
    }
    StandbyName(format!("{}_{:08x}", node.slot(), u32::from_le_bytes(random)))
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Incarnation, Version};

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("good name")
    }

    fn stamp(epoch: u64) -> Stamp {
        Stamp { incarnation: Incarnation(1), epoch: Epoch(epoch), version: Version(1) }
    }

    #[test]
    fn what_was_promised_is_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("dir");
        let mut file = PromiseFile::open(dir.path(), &node("a")).expect("open");
        assert_eq!(file.held().promise, None, "missing is not zero");
        let next = Promise { promise: Some(stamp(7)), ..file.held().clone() };
        file.keep(next.clone()).expect("keep");
        drop(file);
        assert_eq!(PromiseFile::open(dir.path(), &node("a")).expect("open").held(), &next);
    }

    #[test]
    fn looking_makes_no_file() {
        let dir = tempfile::tempdir().expect("dir");
        let mut file = PromiseFile::open(dir.path(), &node("a")).expect("open");
        file.bind(SystemId(5)).expect("first system");
        assert!(!dir.path().join(FILE).exists());
    }

    #[test]
    fn the_promise_of_another_node_or_system_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let mut file = PromiseFile::open(dir.path(), &node("a")).expect("open");
        file.bind(SystemId(5)).expect("bind");
        let next = Promise { promise: Some(stamp(1)), ..file.held().clone() };
        file.keep(next).expect("keep");
        assert!(matches!(file.bind(SystemId(6)), Err(AgentError::ForeignSystem { .. })));
        drop(file);
        assert!(matches!(PromiseFile::open(dir.path(), &node("b")), Err(AgentError::ForeignPromise { .. })));
    }

    #[test]
    fn a_second_agent_is_kept_out() {
        let dir = tempfile::tempdir().expect("dir");
        let _first = PromiseFile::open(dir.path(), &node("a")).expect("open");
        assert!(matches!(PromiseFile::open(dir.path(), &node("a")), Err(AgentError::StateInUse { .. })));
    }

    #[test]
    fn no_two_lives_share_a_name() {
        assert_ne!(new_name(&node("a-b")), new_name(&node("a-b")));
        assert!(new_name(&node("a-b")).0.starts_with("locum_a_b_"));
    }
}
