//! What tells a server, a directory and a process for as long as they exist, whatever they are called: a server by its
//! postmaster's id with its start time and by its interlock segments, a directory by device and inode.
//!
//! A path, a name and a process title are text that anybody may change: a directory can be moved or removed under the server
//! that runs in it, and another be put in its place.

use std::{io, os::fd::AsFd, path::Path};

use rustix::{
    event::Timespec,
    fs::{AtFlags, CWD, StatxFlags, statx},
    process::{Signal, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};

use super::{interlock, proc, process};

/// A directory by what cannot be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DirId {
    device: (u32, u32),
    inode: u64,
}

impl DirId {
    /// Of the directory that is found under a path now.
    ///
    /// # Errors
    /// There is none, or it cannot be looked at.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        // Without a question to a file server, which may not answer.
        let seen = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO)?;
        Ok(Self { device: (seen.stx_dev_major, seen.stx_dev_minor), inode: seen.stx_ino })
    }

    /// Of the directory that a process works in, also when that was moved or removed.
    ///
    /// # Errors
    /// It has gone, or may not be looked at.
    pub(super) fn of_cwd(pid: u32) -> io::Result<Self> {
        Self::of(Path::new(&format!("/proc/{pid}/cwd")))
    }
}

/// A process that can never be mistaken for one that got its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pub(super) pid: u32,
    /// When it was started, in clock ticks since the boot of the host.
    pub(super) started: u64,
}

impl ProcessId {
    /// None: there is no such process.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: proc::life(pid)?.started })
    }

    /// What it can still do.
    pub(super) fn reach(self) -> Reach {
        match proc::life(self.pid) {
            Some(life) if life.started == self.started && !life.ended => {
                if life.leaving || proc::is_killed(self.pid) { Reach::Doomed } else { Reach::Runs }
            }
            _ => Reach::Dead,
        }
    }

    /// Sends a signal to this very process. False: it has ended.
    ///
    /// # Errors
    /// It may not be signalled.
    pub(super) fn signal(self, signal: Signal) -> io::Result<bool> {
        use rustix::io::Errno;
        let fd = match process::open(self.pid) {
            Err(Errno::SRCH) => return Ok(false),
            opened => opened?,
        };
        // With the pidfd in hand: what is looked at now is what is signalled.
        if Self::of(self.pid) != Some(self) {
            return Ok(false);
        }
        match pidfd_send_signal(&fd, signal) {
            Err(Errno::SRCH) => Ok(false),
            sent => Ok(sent.map(|()| true)?),
        }
    }

    /// Waits, blocking, until it has ended, for at most that long.
    pub(super) fn wait(self, at_most: Timespec) {
        let Ok(fd) = process::open(self.pid) else { return };
        if Self::of(self.pid) == Some(self) {
            process::ended(fd.as_fd(), at_most);
        }
    }
}

/// What a process can still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It runs its program, or may.
    Runs,
    /// It runs none of its program any more: SIGKILL is pending, or it is ending. What it asked the kernel to write may
    /// still be written.
    Doomed,
    /// It has ended.
    Dead,
}

/// One life of a server, from the start of its postmaster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServerId {
    pub(super) postmaster: ProcessId,
    /// What its segments' ids are of.
    namespace: u64,
    /// Every interlock segment it was seen with: it makes a new one when it recovers behind its postmaster.
    segments: Vec<u32>,
    /// Where its postmaster works.
    pub(super) dir: Option<DirId>,
}

impl ServerId {
    /// Of a living postmaster. `told`: the segment that its lock file names. None: it has ended.
    pub(super) fn of(postmaster: ProcessId, told: Option<u32>) -> Option<Self> {
        let mut server = Self {
            postmaster,
            namespace: interlock::namespace(postmaster.pid).unwrap_or_default(),
            segments: Vec::new(),
            dir: None,
        };
        server.look_again(told);
        (postmaster.reach() != Reach::Dead).then_some(server)
    }

    /// Adds what its postmaster shows now, if it lives.
    pub(super) fn look_again(&mut self, told: Option<u32>) {
        let pid = self.postmaster.pid;
        let mapped = interlock::mapped(pid).unwrap_or_default();
        let is_known = mapped.iter().any(|id| self.segments.contains(id));
        let segments = if is_known { Ok(Vec::new()) } else { interlock::of_postmaster(pid, told) };
        let dir = DirId::of_cwd(pid);
        // Looked at afterwards: only then was it this process that was looked at.
        if self.postmaster.reach() != Reach::Dead {
            self.segments.extend(segments.unwrap_or_default());
            self.dir = dir.ok().or(self.dir);
        }
    }

    /// Every interlock segment it was seen with.
    pub(super) fn segments(&self) -> &[u32] {
        &self.segments
    }

    /// What another look at the same server has shown.
    pub(super) fn merge(&mut self, other: &Self) {
        let new: Vec<u32> = other.segments.iter().copied().filter(|id| !self.segments.contains(id)).collect();
        self.segments.extend(new);
        self.dir = other.dir.or(self.dir);
    }

    /// Whether a process maps one of its segments. None: it may not be looked at.
    pub(super) fn is_mapped_by(&self, pid: u32) -> Option<bool> {
        if self.segments.is_empty() {
            return Some(false);
        }
        match interlock::mapped(pid) {
            Ok(ids) => Some(
                ids.iter().any(|id| self.segments.contains(id))
                    && interlock::namespace(pid).is_ok_and(|namespace| namespace == self.namespace),
            ),
            Err(error) if proc::is_gone(&error) => Some(false),
            Err(_) => None,
        }
    }

    /// How many processes are attached to its segments. None: it cannot be told from here.
    pub(super) fn attached(&self) -> Option<u64> {
        let told = !self.segments.is_empty() && interlock::own_namespace() == Some(self.namespace);
        told.then(|| interlock::attached(&self.segments)).flatten()
    }

    /// True if nothing of it is left that could write.
    pub(super) fn is_gone(&self) -> bool {
        self.postmaster.reach() == Reach::Dead && self.attached() == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    const SOON: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

    #[test]
    fn a_directory_stays_itself_when_it_is_moved_or_removed_and_another_in_its_place_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir(&first).unwrap();
        let id = DirId::of(&first).unwrap();
        let mut sleeper = Command::new("sleep").arg("60").current_dir(&first).spawn().unwrap();
        fs::rename(&first, &second).unwrap();
        fs::create_dir(&first).unwrap();
        assert_eq!(DirId::of_cwd(sleeper.id()).unwrap(), id);
        assert_eq!(DirId::of(&second).unwrap(), id);
        assert_ne!(DirId::of(&first).unwrap(), id);
        fs::remove_dir(&second).unwrap();
        assert_eq!(DirId::of_cwd(sleeper.id()).unwrap(), id);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }

    #[test]
    fn a_process_that_got_the_number_of_another_one_is_not_taken_for_it() {
        let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
        let this = ProcessId::of(sleeper.id()).unwrap();
        // What is remembered of one that had this number before.
        let before = ProcessId { started: this.started - 1, ..this };
        assert_eq!((before.reach(), this.reach()), (Reach::Dead, Reach::Runs));
        assert!(!before.signal(Signal::KILL).unwrap());
        assert!(ServerId::of(before, None).is_none());
        before.wait(SOON);
        assert_eq!(this.reach(), Reach::Runs);
        assert!(this.signal(Signal::KILL).unwrap());
        this.wait(SOON);
        assert_eq!(this.reach(), Reach::Dead, "a zombie is dead");
        sleeper.wait().unwrap();
        assert!(!this.signal(Signal::KILL).unwrap());
    }

    #[test]
    fn a_server_whose_segments_are_not_known_is_never_called_gone() {
        let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
        let server = ServerId::of(ProcessId::of(sleeper.id()).unwrap(), None).unwrap();
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert_eq!((server.attached(), server.is_gone()), (None, false));
    }
}
