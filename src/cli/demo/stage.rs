//! Where a demo runs, and how it is cleared away: the directory and all processes that belong to it.
//!
//! What is cleared away is found by looking, not by remembering: a failover starts servers that the demo never
//! started, and an interrupted start leaves ones that nobody had time to write down.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{folder, folder::Folder, machine::Machine, node::STOP_LIMIT, processes};

/// How long members and app servers may take to stop when told to.
const MEMBERS_LIMIT: Duration = Duration::from_secs(4);
/// How often their end is looked for.
const POLL: Duration = Duration::from_millis(10);
/// The file that says that a directory is a demo's, and which programs it runs.
const MARKER: &str = "demo.json";

/// What the marker says.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    folder: PathBuf,
    bin_dir: PathBuf,
    locum: PathBuf,
}

/// A directory with the processes that belong to it.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// What runs there.
    pub(crate) machine: Machine,
    /// Where it is.
    pub(crate) folder: Folder,
}

impl Stage {
    /// Makes a new one.
    pub(crate) fn set_up() -> Result<Self> {
        let machine = Machine::look()?;
        let folder = Folder::create(machine.account.as_ref())?;
        let stage = Self { machine, folder };
        let written = stage.write_marker();
        if written.is_err() {
            // It is empty but for a log directory; nothing runs there yet.
            let _ = stage.folder.remove();
        }
        written.map(|()| stage)
    }

    fn write_marker(&self) -> Result<()> {
        let Machine { bin_dir, locum, .. } = &self.machine;
        let folder = self.folder.path();
        let marker = Marker { folder: folder.to_owned(), bin_dir: bin_dir.clone(), locum: locum.clone() };
        self.folder.secret(MARKER, &serde_json::to_string(&marker)?, false).map(drop)
    }

    /// One that another process left running.
    ///
    /// # Errors
    /// `dir` is not a demo's directory.
    pub(crate) fn find(dir: &Path) -> Result<Self> {
        let path = dir.canonicalize().with_context(|| format!("there is no directory {}", dir.display()))?;
        let refuse =
            || format!("{} is not a directory that `locum demo` made; nothing was touched", path.display());
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(folder::PREFIX));
        let text = fs::read_to_string(path.join(MARKER)).with_context(refuse)?;
        let marker: Marker = serde_json::from_str(&text).with_context(refuse)?;
        if !named || marker.folder != path {
            bail!(refuse());
        }
        let machine =
            Machine { bin_dir: marker.bin_dir, version: String::new(), account: None, locum: marker.locum };
        Ok(Self { machine, folder: Folder::at(path) })
    }

    fn processes(&self) -> Vec<processes::Process> {
        processes::of_folder(self.folder.path(), &self.machine)
    }

    /// Stops everything and removes the directory: members and app servers first, so that nobody fails over, then
    /// PostgreSQL by an immediate stop, then by force whatever is left. All that it holds is thrown away: a fast stop
    /// would wait, up to its limit, for a backup or a standby that has just been ended itself.
    ///
    /// # Errors
    /// Something is left; it is named.
    pub(crate) async fn clear(&self) -> Result<()> {
        self.quiet().await?;
        let path = self.folder.path().display();
        self.folder
            .remove()
            .with_context(|| format!("everything has stopped, but {path} could not be removed"))
    }

    /// Stops everything, and leaves the directory.
    ///
    /// # Errors
    /// Something is left; it is named.
    pub(crate) async fn quiet(&self) -> Result<()> {
        self.ask(Signal::TERM, |process| !process.postgres, MEMBERS_LIMIT).await;
        let postmasters: Vec<_> = self.data_dirs().iter().filter_map(|dir| lock_file(dir)?.pid).collect();
        self.ask(Signal::QUIT, |process| postmasters.contains(&process.pid), STOP_LIMIT).await;
        processes::end_all(self.folder.path(), &self.machine).await?;
        // Only now: who ended in order took its lock file along, and who was killed left it.
        self.data_dirs().iter().for_each(|dir| free_shared_memory(dir));
        Ok(())
    }

    /// Signals the processes that `which` picks, and waits until none of them is left. Stopped ones are continued,
    /// for a stopped process cannot end in order.
    async fn ask(&self, signal: Signal, which: impl Fn(&processes::Process) -> bool, limit: Duration) {
        let asked: Vec<_> = self.processes().into_iter().filter(|process| which(process)).collect();
        for process in &asked {
            // An error means that it has ended, which is what is wanted.
            let _ = kill_process(process.pid, signal);
        }
        for process in self.processes() {
            let _ = kill_process(process.pid, Signal::CONT);
        }
        let deadline = Instant::now() + limit;
        let left = || self.processes().iter().any(|process| asked.iter().any(|one| one.pid == process.pid));
        while left() && Instant::now() < deadline {
            sleep(POLL).await;
        }
    }

    /// Every data directory in it.
    fn data_dirs(&self) -> Vec<PathBuf> {
        let nodes = fs::read_dir(self.folder.path()).into_iter().flatten().flatten();
        let inside = nodes.flat_map(|node| fs::read_dir(node.path()).into_iter().flatten().flatten());
        inside.map(|entry| entry.path()).filter(|path| path.join("postmaster.pid").exists()).collect()
    }
}

/// What a `postmaster.pid` says (PostgreSQL source, `miscadmin.h`): line 1 the process, line 7 the key and number of
/// its System V shared memory segment.
struct LockFile {
    pid: Option<Pid>,
    /// The same of a server that is no postmaster: `initdb` runs such, and they write their number with a minus.
    maker: Option<i32>,
    segment: Option<u32>,
}

fn lock_file(data_dir: &Path) -> Option<LockFile> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let (pid, maker) = (processes::pid(first), first.trim().parse().ok().map(i32::wrapping_abs));
    let segment = lines.nth(5).and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    Some(LockFile { pid, maker, segment })
}

/// A killed server leaves a tiny System V segment behind, which a restart would free. Frees it, if it is still the
/// one that this server made and nobody is attached. Does what it can: a leftover of 56 bytes is no failure.
pub(crate) fn free_shared_memory(data_dir: &Path) {
    let Some(LockFile { maker: Some(maker), segment: Some(segment), .. }) = lock_file(data_dir) else {
        return;
    };
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    if is_orphan(&table, segment, maker) {
        let _ = std::process::Command::new("ipcrm").arg("-m").arg(segment.to_string()).output();
    }
}

/// True if `/proc/sysvipc/shm` (key shmid perms size cpid lpid nattch …) lists the segment as made by `pid` and
/// attached by nobody.
fn is_orphan(table: &str, segment: u32, pid: i32) -> bool {
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |column: usize| fields.get(column).and_then(|field| field.parse::<i64>().ok());
        number(1) == Some(i64::from(segment)) && number(4) == Some(i64::from(pid)) && number(6) == Some(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unattached_segment_of_that_very_server_is_freed() {
        let table = "       key      shmid perms                  size  cpid  lpid nattch   uid\n\
                     1234567         42   600                    56   777   778      0   101\n\
                     1234568         43   600                    56   779   779      2   101\n";
        assert!(is_orphan(table, 42, 777));
        assert!(!is_orphan(table, 42, 778), "another server's");
        assert!(!is_orphan(table, 43, 779), "somebody is attached");
    }

    #[test]
    fn a_directory_that_is_no_demo_is_not_touched() {
        let dir = tempfile::Builder::new().prefix(folder::PREFIX).tempdir().expect("directory");
        let error = Stage::find(dir.path()).expect_err("no marker").to_string();
        assert!(error.contains("nothing was touched"), "{error}");
        assert!(dir.path().exists());
    }
}
