//! Ending every process that can write a server's data, at once.
//!
//! Killing the postmaster alone is not enough: its orphans acknowledge commits for up to 31 ms more, and one that waits for a
//! program that it runs does not notice its death at all. Whom this is about is told by what cannot be renamed
//! (`identity.rs`): the servers that were seen here, wherever their directory is now, and whoever works in the directory
//! that the path leads to. The logger and programs that the server runs hold up nothing.

use std::{collections::BTreeSet, time::Duration};

use rustix::{
    event::{PollFd, Timespec, poll},
    process::Signal,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    Instance, Postmaster,
    identity::{DirId, ProcessId, Reach, ServerId},
    proc,
};

/// How long killed processes may take to go. Milliseconds are usual; only a hung disk takes longer.
const GONE: Duration = Duration::from_secs(3);
/// How long the path of the data directory may take to be looked up. It is in memory, or the file system hangs; then what it
/// led to before counts.
const LOOK_UP: Duration = Duration::from_millis(100);
/// Processes that are attached and were not found where they belong are sought among all processes after this, which takes
/// 0.1 ms for each.
const SEARCH: Duration = Duration::from_millis(20);
/// Between two looks at processes that were killed.
const STEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// No process is left that could write the data, or acknowledge anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed {
    /// How many processes were found and killed.
    pub processes: usize,
    /// How many of them run none of their program any more and have not ended: what they asked the kernel to write may still
    /// be written, so the end of WAL is not final. Always 0 after [`Instance::kill_all`].
    pub doomed: usize,
    /// How long it took.
    pub took: Duration,
}

/// Processes of the server may be left.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// These were sent SIGKILL and have not gone, as in uninterruptible sleep. They acknowledge nothing more, but
    /// their WAL is not final.
    #[error("processes {pids:?} were killed and have not gone after {after:?}; the disk may hang")]
    Left {
        /// Their ids.
        pids: Vec<u32>,
        /// How long was waited.
        after: Duration,
    },
    /// The kernel counts processes that are attached to the server's shared memory, and shows none: they may be in another
    /// container, or another user's.
    #[error(
        "{count} processes are attached to the server's shared memory and cannot be found from here (ipcs -m, ipcs -p)"
    )]
    Unseen {
        /// How many.
        count: u64,
    },
    /// They could not be looked for, or not be killed: permissions.
    #[error("cannot kill the processes of the data directory: {0}")]
    Refused(#[from] std::io::Error),
}

/// When a hunt is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Nobody runs any of its program any more.
    Harmless,
    /// Everybody has ended, and nobody is attached.
    Gone,
}

impl Instance {
    /// SIGSTOP to the postmaster, SIGKILL to its children, SIGKILL to it, then until no process is left that could write
    /// this server's data, orphans included. Works without touching the data directory, on a thread of its own. `known`: the
    /// postmaster that is watched. Also right when nothing runs.
    ///
    /// # Errors
    /// [`KillError`]: something may be left.
    pub async fn kill_all(&self, known: Option<&Postmaster>) -> Result<Killed, KillError> {
        self.hunt(known, Until::Gone).await
    }

    /// The same after the postmaster's death: its orphans go on acknowledging commits for a while.
    ///
    /// # Errors
    /// [`KillError`]: something may be left.
    pub async fn kill_orphans(&self) -> Result<Killed, KillError> {
        self.kill_all(None).await
    }

    /// The same, but without waiting for processes that SIGKILL has reached and that a disk keeps from ending: they
    /// acknowledge nothing any more. Their WAL is final only after [`Instance::kill_all`].
    ///
    /// # Errors
    /// [`KillError`]: something may be left that acknowledges commits.
    pub async fn fence(&self, known: Option<&Postmaster>) -> Result<Killed, KillError> {
        self.hunt(known, Until::Harmless).await
    }

    /// True if nothing is left of any server that was seen here.
    #[must_use]
    pub fn nothing_is_left(&self) -> bool {
        self.known.all().iter().all(ServerId::is_gone)
    }

    async fn hunt(&self, known: Option<&Postmaster>, until: Until) -> Result<Killed, KillError> {
        if let Some(postmaster) = known.and_then(Postmaster::id) {
            self.known.look(postmaster, None);
        }
        let dir = match timeout(LOOK_UP, self.dir_id()).await {
            Ok(Ok(dir)) => dir,
            Ok(Err(_)) | Err(_) => self.known.dir(),
        };
        let servers = self.known.all();
        let mut hunt = Hunt {
            dirs: servers.iter().filter_map(|server| server.dir).chain(dir).collect(),
            servers,
            uid: self.owner.uid,
            began: Instant::now(),
            until,
            killed: BTreeSet::new(),
        };
        let (tell, told) = oneshot::channel();
        // Not one of the runtime's blocking threads: all of them may hang in the file system.
        std::thread::Builder::new().name("kill".to_owned()).spawn(move || {
            let ended = hunt.run();
            let _nobody_waits = tell.send((ended, hunt.servers));
        })?;
        let (ended, servers) = told.await.map_err(|_| std::io::Error::other("the thread ended"))?;
        if ended.is_ok() && until == Until::Gone {
            self.known.forget(&servers);
        } else {
            // It may have been seen with a segment that was new.
            servers.into_iter().for_each(|server| self.known.note(server));
        }
        if self.known.is_unsaved() {
            self.save_known();
        }
        ended
    }
}

struct Hunt {
    servers: Vec<ServerId>,
    /// Where they work or worked, and where the path of the data directory leads to.
    dirs: Vec<DirId>,
    uid: u32,
    began: Instant,
    until: Until,
    /// Everybody who was sent SIGKILL.
    killed: BTreeSet<ProcessId>,
}

impl Hunt {
    fn run(&mut self) -> Result<Killed, KillError> {
        for at in 0..self.servers.len() {
            self.end_server(at)?;
        }
        let (mut first, mut searched) = (true, false);
        loop {
            let doomed = self.doomed()?;
            let attached = self.attached();
            let over = self.is_over(&doomed, attached, searched);
            let is_late = self.began.elapsed() > GONE;
            if over || std::mem::take(&mut first) {
                let others = self.found(proc::writers_in(&self.dirs, self.uid)?);
                if over && others.is_empty() {
                    let (processes, took) = (self.killed.len(), self.began.elapsed());
                    return Ok(Killed { processes, doomed: doomed.len(), took });
                }
                self.end(&others)?;
            } else if !is_late && self.began.elapsed() > SEARCH {
                let others = self.found(self.search()?);
                searched = others.is_empty();
                self.end(&others)?;
            }
            if is_late {
                return Err(self.failure(&doomed, attached));
            }
            match doomed.first() {
                Some(process) => process.wait(STEP),
                None => pause(),
            }
        }
    }

    /// Of those who were killed: who has not ended. One that SIGKILL has not reached is sent it again.
    fn doomed(&self) -> Result<Vec<ProcessId>, KillError> {
        let mut doomed = Vec::new();
        for process in &self.killed {
            match process.reach() {
                Reach::Dead => continue,
                Reach::Doomed => {}
                Reach::Runs => _ = process.signal(Signal::KILL)?,
            }
            doomed.push(*process);
        }
        Ok(doomed)
    }

    /// How many processes are attached to the servers' segments. None: it cannot be told of each.
    fn attached(&self) -> Option<u64> {
        self.servers.iter().map(ServerId::attached).sum()
    }

    fn is_over(&self, doomed: &[ProcessId], attached: Option<u64>, searched: bool) -> bool {
        let is_reached = |process: &ProcessId| process.reach() != Reach::Runs;
        let dead = |server: &ServerId| server.postmaster.reach() == Reach::Dead;
        match (self.until, attached) {
            (Until::Gone, Some(attached)) => attached == 0 && self.servers.iter().all(dead),
            (Until::Gone, None) => searched && doomed.is_empty(),
            (Until::Harmless, _) if !doomed.iter().all(is_reached) => false,
            (Until::Harmless, Some(0)) => true,
            // Each of those is attached once, so that more would be somebody who was not found.
            (Until::Harmless, Some(attached)) => searched && attached <= doomed.len() as u64,
            (Until::Harmless, None) => searched,
        }
    }

    fn failure(&self, doomed: &[ProcessId], attached: Option<u64>) -> KillError {
        match attached {
            Some(count) if count > 0 && doomed.is_empty() => KillError::Unseen { count },
            _ => KillError::Left { pids: doomed.iter().map(|process| process.pid).collect(), after: GONE },
        }
    }

    /// Every process that maps a segment of the servers, whoever's child it is and wherever it works.
    fn search(&self) -> Result<Vec<ProcessId>, KillError> {
        let maps = |pid: &u32| self.servers.iter().any(|server| server.is_mapped_by(*pid) == Some(true));
        Ok(proc::all()?.into_iter().filter(maps).filter_map(ProcessId::of).collect())
    }

    /// Without those that were killed already.
    fn found(&self, mut processes: Vec<ProcessId>) -> Vec<ProcessId> {
        processes.retain(|process| !self.killed.contains(process));
        processes
    }

    /// Stops the postmaster, so that it starts no more children; then kills the children, so that nobody is told of a commit
    /// any more; then the postmaster.
    fn end_server(&mut self, at: usize) -> Result<(), KillError> {
        let postmaster = self.servers[at].postmaster;
        if postmaster.reach() == Reach::Dead {
            return Ok(());
        }
        postmaster.signal(Signal::STOP)?;
        for child in proc::children_of(postmaster) {
            self.kill(child)?;
        }
        // It may have made another segment since it was looked at last.
        self.servers[at].look_again(None);
        self.kill(postmaster)
    }

    /// The same for processes that nobody watched: orphans, and servers that somebody else started.
    fn end(&mut self, found: &[ProcessId]) -> Result<(), KillError> {
        // Who has no parent among them is a postmaster, or an orphan, for which to be stopped first does no harm.
        let is_child = |one: &ProcessId| {
            proc::parent(one.pid).is_some_and(|parent| found.iter().any(|p| p.pid == parent))
        };
        let (children, heads): (Vec<ProcessId>, Vec<ProcessId>) = found.iter().partition(|one| is_child(one));
        heads.iter().try_for_each(|head| head.signal(Signal::STOP).map(drop))?;
        children.into_iter().chain(heads).try_for_each(|one| self.kill(one))
    }

    fn kill(&mut self, process: ProcessId) -> Result<(), KillError> {
        if process.signal(Signal::KILL)? {
            self.killed.insert(process);
        }
        Ok(())
    }
}

/// Waits for a step, blocking.
pub(super) fn pause() {
    let mut none: [PollFd<'_>; 0] = [];
    // Whatever comes of it, the caller looks.
    let _ = poll(&mut none, Some(&STEP));
}
