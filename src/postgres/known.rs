//! The servers that were seen here and not yet seen gone: who must be dead before it may be said that nothing is left.
//!
//! Kept in memory, and in a file of the state directory for the next life of the agent, which would find no trace of a
//! server whose data directory was moved or removed meanwhile. The file is of one boot of the host: after another boot
//! nothing in it lives. It is not synced for that reason.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    Instance, PgError, Postmaster, disk,
    identity::{DirId, ProcessId, Reach, ServerId},
};

/// The file, in the state directory.
const FILE: &str = "servers.json";
/// How many are remembered; the oldest is given up. More than one is left only where something cannot be killed.
const MOST: usize = 16;

/// What is remembered.
#[derive(Debug, Default)]
struct Memory {
    servers: Vec<ServerId>,
    /// Something of them is not in the file yet.
    unsaved: bool,
    /// What the path of the data directory led to when that was last seen.
    dir: Option<DirId>,
}

/// See the file's head. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<Mutex<Memory>>);

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    boot: String,
    servers: Vec<ServerId>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at a postmaster, unless it has ended. `told`: the segment that its lock file names.
    pub(super) fn look(&self, postmaster: ProcessId, told: Option<u32>) {
        let mut known = self.all().into_iter().find(|known| known.postmaster == postmaster);
        if let Some(known) = &mut known {
            known.look_again(told);
        }
        if let Some(server) = known.or_else(|| ServerId::of(postmaster, told)) {
            self.note(server);
        }
    }

    /// Adds a server, or what is new of it.
    pub(super) fn note(&self, server: ServerId) {
        let mut memory = self.lock();
        if let Some(known) = memory.servers.iter_mut().find(|known| known.postmaster == server.postmaster) {
            let before = known.clone();
            known.merge(&server);
            let is_new = before != *known;
            memory.unsaved |= is_new;
            return;
        }
        memory.servers.retain(|known| !known.is_gone());
        memory.servers.push(server);
        let over = memory.servers.len().saturating_sub(MOST);
        memory.servers.drain(..over);
        memory.unsaved = true;
    }

    /// Something was noted since it was written down last.
    pub(super) fn is_unsaved(&self) -> bool {
        self.lock().unsaved
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<ServerId> {
        self.lock().servers.clone()
    }

    /// The one whose postmaster lives, the first if there are more.
    pub(super) fn living(&self) -> Option<ServerId> {
        self.all().into_iter().find(|server| server.postmaster.reach() != Reach::Dead)
    }

    /// Of these nothing is left.
    pub(super) fn forget(&self, gone: &[ServerId]) {
        let is_gone = |server: &ServerId| gone.iter().any(|gone| gone.postmaster == server.postmaster);
        let mut memory = self.lock();
        memory.unsaved |= memory.servers.iter().any(is_gone);
        memory.servers.retain(|server| !is_gone(server));
    }

    /// Notes what the path of the data directory leads to.
    pub(super) fn note_dir(&self, dir: DirId) {
        self.lock().dir = Some(dir);
    }

    /// What the path of the data directory led to when that was last seen.
    pub(super) fn dir(&self) -> Option<DirId> {
        self.lock().dir
    }

    fn save(&self, state_dir: &Path) -> io::Result<()> {
        // Held while it is written, so that a later content is not overtaken by an earlier one.
        let mut memory = self.lock();
        let kept = Kept { boot: boot()?, servers: memory.servers.clone() };
        let (path, fresh) = (file(state_dir), file(state_dir).with_extension("json.tmp"));
        fs::write(&fresh, serde_json::to_vec(&kept)?)?;
        fs::rename(fresh, path)?;
        memory.unsaved = false;
        Ok(())
    }

    fn load(&self, state_dir: &Path) -> io::Result<()> {
        let text = match fs::read(file(state_dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read?,
        };
        match serde_json::from_slice::<Kept>(&text) {
            Ok(kept) if kept.boot == boot()? => kept.servers.into_iter().for_each(|server| self.note(server)),
            Ok(_) => {}
            // A loss of power may have torn it, and then nothing of before lives.
            Err(error) => tracing::warn!(%error, "{FILE} is not readable; what ran here before is not known"),
        }
        Ok(())
    }
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

impl Instance {
    /// Takes up what an earlier life of this agent knew of the servers here. Blocking, briefly; call it at start.
    ///
    /// # Errors
    /// The file is there and cannot be read: a server that it names may run. A torn one is taken for none.
    pub fn recall(&self) -> io::Result<()> {
        self.known.load(&self.state_dir)
    }

    /// Looks at a postmaster that is watched, and remembers by what its processes are told: also when its data directory
    /// was moved or removed later. To be repeated: a server that recovers behind its postmaster makes a new segment.
    /// Touches no file of it.
    pub fn note(&self, postmaster: &Postmaster) {
        if let Some(id) = postmaster.id() {
            self.known.look(id, None);
        }
        if self.known.is_unsaved() {
            self.save_known();
        }
    }

    /// The interlock segments that a server was seen with: another one is there once it has recovered behind its postmaster.
    #[must_use]
    pub fn interlocks(&self, postmaster: &Postmaster) -> Vec<u32> {
        let known = self.known.all().into_iter().find(|known| Some(known.postmaster) == postmaster.id());
        known.map(|known| known.segments().to_vec()).unwrap_or_default()
    }

    /// Writes the file, without being waited for: where the disk hangs, the memory still counts.
    pub(super) fn save_known(&self) {
        let (known, state_dir) = (self.known.clone(), self.state_dir.clone());
        let save = move || {
            if let Err(error) = known.save(&state_dir) {
                tracing::warn!(%error, "which server runs here is not written down for the next life of this member");
            }
        };
        let _ended_by_itself = std::thread::Builder::new().name("known".to_owned()).spawn(save);
    }

    /// What the path of the data directory leads to now. None: nothing is there.
    pub(super) async fn dir_id(&self) -> Result<Option<DirId>, PgError> {
        let (path, known) = (self.data_dir.clone(), self.known.clone());
        let look = move || match DirId::of(&path) {
            Ok(dir) => {
                known.note_dir(dir);
                Ok(Some(dir))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => disk::io("look at", &path, Err(error)),
        };
        self.disk.run("look at the data directory", disk::SMALL, look).await
    }

    /// What became of the data directory of a running server, where its path does not lead there any more; None: it does, or
    /// the server has ended.
    ///
    /// # Errors
    /// [`PgError`]: one of them cannot be looked at, or the file system hangs.
    pub async fn moved(&self, postmaster: &Postmaster) -> Result<Option<String>, PgError> {
        let (path, process) = (self.data_dir.clone(), postmaster.id());
        let look = move || process.map_or(Ok(None), |process| moved(&path, process));
        self.disk.run("look for the data directory", disk::SMALL, look).await
    }
}

/// What became of the directory that a server works in, where a path does not lead there; None: it does, or the server has ended.
/// Blocking.
pub(super) fn moved(path: &Path, postmaster: ProcessId) -> Result<Option<String>, PgError> {
    let cwd = PathBuf::from(format!("/proc/{}/cwd", postmaster.pid));
    let works_in = DirId::of(&cwd).and_then(|dir| Ok((dir, fs::read_link(&cwd)?)));
    let there = match DirId::of(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        looked => Some(disk::io("look at", path, looked)?),
    };
    if postmaster.reach() == Reach::Dead {
        return Ok(None);
    }
    let (dir, now) = disk::io("look at", &cwd, works_in)?;
    Ok((there != Some(dir)).then(|| became_of(path, &now)))
}

/// In words, by what Linux calls the directory that a process works in.
fn became_of(path: &Path, now: &Path) -> String {
    match now.to_string_lossy().strip_suffix(" (deleted)") {
        Some(_) => "removed".to_owned(),
        None if now == path => "hidden by what is mounted over it".to_owned(),
        None => format!("moved to {}", now.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn this() -> ServerId {
        ServerId::of(ProcessId::of(std::process::id()).unwrap(), None).unwrap()
    }

    #[test]
    fn what_was_known_is_known_in_the_next_life_of_the_agent_and_not_after_another_boot() {
        let folder = tempfile::tempdir().unwrap();
        let known = Known::default();
        known.note(this());
        known.save(folder.path()).unwrap();
        known.note(this());
        assert!(!known.is_unsaved(), "nothing is new");
        let next = Known::default();
        next.load(folder.path()).unwrap();
        assert_eq!(next.living(), Some(this()));

        let text = fs::read_to_string(file(folder.path())).unwrap();
        fs::write(file(folder.path()), text.replace(&boot().unwrap(), "another")).unwrap();
        let after = Known::default();
        after.load(folder.path()).unwrap();
        assert_eq!(after.all(), []);
        fs::write(file(folder.path()), "{").unwrap();
        after.load(folder.path()).unwrap();
        assert_eq!(after.all(), []);
    }

    #[test]
    fn a_server_is_known_until_it_was_seen_gone() {
        let known = Known::default();
        known.note(this());
        known.forget(&[]);
        assert_eq!(known.all(), [this()]);
        known.forget(&[this()]);
        assert_eq!(known.all(), []);
    }
}
