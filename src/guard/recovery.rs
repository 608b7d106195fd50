//! The moment a server leaves recovery, as its control file says it, and the sign that comes before.
//!
//! PostgreSQL 14 to 18 end recovery in one place (`StartupXLOG`): the state in shared memory is set, so that backends may
//! write, and the control file is written with `DB_IN_PRODUCTION` right after, before it is synced. The write wakes the
//! guard through inotify: earlier than the end of the startup process, which comes after the sync, and whichever process
//! the startup process is by now. It is the *change* from archive recovery to production that counts: the file of a
//! server that is being started shows what its last run, or the server it was copied from, left there.
//!
//! Before that the startup process removes `standby.signal`, whatever ended recovery: between the two it syncs the data
//! directory, the first WAL of the new timeline and the control file, and runs `recovery_end_command`. A person may
//! remove the file as well, so it is a sign only.
//!
//! Nothing here waits for a disk: the file is read only where the page cache has it, and what was just written is there.

use std::{
    io::IoSliceMut,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    fs::{CWD, Mode, OFlags, inotify, openat},
    io::{Errno, ReadWriteFlags, preadv2},
};

/// `ControlFileData` begins with the system identifier, two versions and the state, since PostgreSQL 11 (`pg_control.h`).
const HEAD: usize = 20;
/// Where the state is in it.
const STATE: usize = 16;
/// `DB_IN_ARCHIVE_RECOVERY`: a standby, or a restore.
const IN_RECOVERY: u32 = 5;
/// `DB_IN_PRODUCTION`.
const IN_PRODUCTION: u32 = 6;
/// The file is looked at so often where the kernel has no inotify left for this user, or could not read it from memory.
/// Longer: more is acknowledged until the server is frozen. Shorter: a core is kept busy by looking.
const POLL: Duration = Duration::from_millis(2);
/// What makes a server a standby, in its data directory.
const SIGNAL: &[u8] = b"standby.signal";

/// What a look at a server has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Nothing new.
    Nothing,
    /// It is in recovery, and `standby.signal` was removed since the last look.
    Leaving,
    /// It was in recovery, and is not any more. Told once.
    Left,
}

/// The control file of a server that runs.
pub(super) struct Recovery {
    control: OwnedFd,
    /// Readable when the file was written to, or a file of the data directory was removed. None: the kernel gave none.
    written: Option<OwnedFd>,
    /// It was seen in recovery.
    seen: bool,
    /// The last look found nothing in memory.
    unread: bool,
}

impl Recovery {
    /// Opens the control file of the directory in which the postmaster works, whatever its path is called by now. The
    /// caller holds a pidfd of the postmaster. None: it cannot be read, so the moment cannot be seen here.
    pub(super) fn of(postmaster: u32) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let path = format!("/proc/{postmaster}/cwd/global/pg_control");
        let control = openat(CWD, path.as_str(), flags, Mode::empty()).ok()?;
        let written = watch(&control).ok();
        if let Some(written) = &written {
            // Without it the moment itself is still seen.
            let (path, flags) = (
                format!("/proc/{postmaster}/cwd"),
                inotify::WatchFlags::DELETE | inotify::WatchFlags::ONLYDIR,
            );
            let _ = inotify::add_watch(written, path.as_str(), flags);
        }
        let mut recovery = Self { control, written, seen: false, unread: false };
        // Once here, so that every page of it is in memory when it matters.
        recovery.look();
        Some(recovery)
    }

    /// Readable when there is something to look at.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.written.as_ref().map(AsFd::as_fd)
    }

    /// True while the server is known to be in recovery.
    pub(super) const fn is_seen(&self) -> bool {
        self.seen
    }

    /// After this it is to be looked at again, whatever wakes the guard. None: the file will say.
    pub(super) fn again(&self) -> Option<Duration> {
        (self.unread || self.written.is_none()).then_some(POLL)
    }

    /// Looks at what has happened.
    pub(super) fn look(&mut self) -> Sight {
        let removed = self.drain();
        let state = self.state();
        self.unread = state.is_err_and(|error| error == Errno::AGAIN);
        match state {
            Ok(IN_RECOVERY) => self.seen = true,
            Ok(IN_PRODUCTION) if std::mem::take(&mut self.seen) => return Sight::Left,
            _ => {}
        }
        if removed && self.seen { Sight::Leaving } else { Sight::Nothing }
    }

    fn state(&self) -> Result<u32, Errno> {
        let mut head = [0_u8; HEAD];
        // A file system that cannot promise not to wait is read all the same: what was just written is in memory there too.
        let length =
            match preadv2(&self.control, &mut [IoSliceMut::new(&mut head)], 0, ReadWriteFlags::NOWAIT) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => rustix::io::pread(&self.control, &mut head, 0)?,
                read => read?,
            };
        if length < HEAD {
            return Err(Errno::IO);
        }
        Ok(u32::from_ne_bytes([head[STATE], head[STATE + 1], head[STATE + 2], head[STATE + 3]]))
    }

    /// Takes the events. True: `standby.signal` was removed; the others only say that something was written.
    fn drain(&self) -> bool {
        let Some(written) = &self.written else { return false };
        let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
        let mut events = inotify::Reader::new(written, &mut buffer);
        let mut removed = false;
        while let Ok(event) = events.next() {
            removed |= event.file_name().is_some_and(|name| name.to_bytes() == SIGNAL);
        }
        removed
    }
}

fn watch(file: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let written = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    inotify::add_watch(&written, path.as_str(), inotify::WatchFlags::MODIFY)?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt as _, path::Path};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn control(folder: &Path, state: u32) -> fs::File {
        let mut bytes = vec![0_u8; 8192];
        bytes[STATE..STATE + 4].copy_from_slice(&state.to_ne_bytes());
        fs::create_dir_all(folder.join("global")).expect("a folder");
        fs::write(folder.join("global/pg_control"), bytes).expect("a file");
        fs::File::options().write(true).open(folder.join("global/pg_control")).expect("a file")
    }

    fn put(file: &fs::File, state: u32) {
        file.write_all_at(&state.to_ne_bytes(), STATE as u64).expect("a write");
    }

    /// Of a process that works in the folder.
    fn with(folder: &Path, test: impl FnOnce(&mut Recovery)) {
        let mut process =
            std::process::Command::new("sleep").arg("60").current_dir(folder).spawn().expect("sleep");
        let mut recovery = Recovery::of(process.id()).expect("a control file");
        test(&mut recovery);
        process.kill().expect("kill");
        process.wait().expect("wait");
    }

    fn woken(recovery: &Recovery) -> bool {
        let fd = recovery.fd().expect("inotify");
        poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&Timespec::default())).expect("poll")
            > 0
    }

    #[test]
    fn the_change_to_production_wakes_and_is_told_once() {
        let dir = tempfile::tempdir().expect("dir");
        let file = control(dir.path(), IN_RECOVERY);
        with(dir.path(), |recovery| {
            assert!(recovery.is_seen() && !woken(recovery));
            put(&file, IN_RECOVERY);
            assert!(woken(recovery));
            assert!(recovery.look() == Sight::Nothing && !woken(recovery), "a restartpoint");
            put(&file, IN_PRODUCTION);
            assert!(woken(recovery));
            assert_eq!((recovery.look(), recovery.look()), (Sight::Left, Sight::Nothing));
        });
    }

    #[test]
    fn what_the_last_run_left_is_no_end_of_recovery() {
        let dir = tempfile::tempdir().expect("dir");
        let file = control(dir.path(), IN_PRODUCTION);
        with(dir.path(), |recovery| {
            assert!(!recovery.is_seen() && recovery.look() == Sight::Nothing);
            // Crash recovery of a primary, and then its service.
            put(&file, 4);
            assert_eq!(recovery.look(), Sight::Nothing);
            put(&file, IN_PRODUCTION);
            assert_eq!(recovery.look(), Sight::Nothing);
        });
    }

    #[test]
    fn a_standby_that_is_shut_down_has_not_left_recovery() {
        let dir = tempfile::tempdir().expect("dir");
        let file = control(dir.path(), IN_RECOVERY);
        with(dir.path(), |recovery| {
            put(&file, 2);
            assert_eq!(recovery.look(), Sight::Nothing);
        });
    }

    #[test]
    fn the_directory_is_found_under_whatever_name_it_has() {
        let dir = tempfile::tempdir().expect("dir");
        let (before, after) = (dir.path().join("data"), dir.path().join("moved"));
        fs::create_dir(&before).expect("a folder");
        let file = control(&before, IN_RECOVERY);
        let mut process =
            std::process::Command::new("sleep").arg("60").current_dir(&before).spawn().expect("sleep");
        fs::rename(&before, &after).expect("a move");
        let mut recovery = Recovery::of(process.id()).expect("a control file");
        put(&file, IN_PRODUCTION);
        let ended = recovery.look();
        process.kill().expect("kill");
        process.wait().expect("wait");
        assert_eq!(ended, Sight::Left);
    }

    #[test]
    fn the_removal_of_the_signal_is_told_once_and_only_of_a_server_in_recovery() {
        let dir = tempfile::tempdir().expect("dir");
        let (file, signal) = (control(dir.path(), IN_RECOVERY), dir.path().join("standby.signal"));
        fs::write(&signal, "").expect("a file");
        fs::write(dir.path().join("backup_label.old"), "").expect("a file");
        with(dir.path(), |recovery| {
            fs::remove_file(dir.path().join("backup_label.old")).expect("removed");
            assert_eq!(recovery.look(), Sight::Nothing, "another file");
            fs::remove_file(&signal).expect("removed");
            assert!(woken(recovery));
            assert_eq!((recovery.look(), recovery.look()), (Sight::Leaving, Sight::Nothing));
            put(&file, IN_PRODUCTION);
            assert_eq!(recovery.look(), Sight::Left);
            fs::write(&signal, "").expect("a file");
            fs::remove_file(&signal).expect("removed");
            assert_eq!(recovery.look(), Sight::Nothing, "it has left recovery");
        });
    }
}
