//! A postmaster and its children, as `/proc` shows them. Allocates nothing once it is open.
//!
//! Who belongs to the server is told by what cannot be renamed: its children by their parent, and orphans by the interlock
//! segment (`segments.rs`). Where its data directory is now, and whether it is there at all, is nothing to them.

use std::{
    io::Write as _,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RawDir, StatxFlags, openat, statx},
    io::pread,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// Longer than any path below `/proc` that is looked at here, and than the file names that the system allows.
const NAME: usize = 64;
/// Of a `stat` file, what comes before the time of the start fits in this.
const STAT: usize = 512;
/// Of a process's flags: it is ending, and runs none of its program any more (`PF_EXITING`).
const EXITING: u32 = 0x4;
/// Of a title, the part that is looked at: the cluster's name, of at most 63 bytes, and what the process is.
const TITLE: usize = 128;

/// `/proc`, held open.
pub(super) struct Proc {
    dir: OwnedFd,
    /// Where the server is expected to work. Looked at only when a server is put under guard.
    data_dir: PathBuf,
}

/// What a process is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It stands still, or has run for the last time.
    Still,
    /// It runs, or may.
    Moves,
    /// There is no such process.
    Gone,
}

/// What a child of a postmaster does for the end of recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The startup process, which ends it.
    Startup,
    /// The startup process waits for it.
    Helper,
    /// Anything else, every session among it.
    Other,
}

impl Proc {
    pub(super) fn open(data_dir: &Path) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { dir: openat(CWD, "/proc", flags, Mode::empty())?, data_dir: data_dir.to_owned() })
    }

    /// A file of a process, to be read again and again.
    pub(super) fn file(&self, pid: u32, name: &str) -> rustix::io::Result<OwnedFd> {
        let mut buffer = [0; NAME];
        let path = numbered(&mut buffer, pid, name);
        openat(&self.dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Whether a process works in the directory that the data directory's path leads to now.
    pub(super) fn works_here(&self, pid: u32) -> bool {
        let mut name = [0; NAME];
        let look = |dir: &OwnedFd, path: &Path| statx(dir, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO);
        let works = look(&self.dir, Path::new(numbered(&mut name, pid, "/cwd")));
        // Absolute: the folder before it does not matter.
        works.and_then(|works| Ok((works, look(&self.dir, &self.data_dir)?))).is_ok_and(|(works, here)| {
            let id = |seen: &rustix::fs::Statx| (seen.stx_dev_major, seen.stx_dev_minor, seen.stx_ino);
            id(&works) == id(&here)
        })
    }

    /// When a process was started, in clock ticks since the boot of the host. None: there is none.
    pub(super) fn started(&self, pid: u32) -> Option<u64> {
        let mut buffer = [0_u8; STAT];
        let length = self.file(pid, "/stat").and_then(|file| pread(&file, &mut buffer, 0)).ok()?;
        started(&buffer[..length])
    }

    /// Whose process it is. None: there is none.
    pub(super) fn owner(&self, pid: u32) -> Option<u32> {
        let mut name = [0; NAME];
        let seen = statx(&self.dir, numbered(&mut name, pid, ""), AtFlags::empty(), StatxFlags::UID);
        seen.ok().map(|seen| seen.stx_uid)
    }

    /// Whether it is a process of that user.
    pub(super) fn is_of(&self, pid: u32, uid: u32) -> bool {
        self.owner(pid) == Some(uid)
    }

    /// What it does for the end of recovery, by its title.
    pub(super) fn role(&self, pid: u32) -> Role {
        let mut buffer = [0_u8; TITLE];
        let read = self.file(pid, "/cmdline").and_then(|file| pread(&file, &mut buffer, 0));
        read.map_or(Role::Other, |length| role(&buffer[..length]))
    }

    /// Its parent; 0: there is no such process.
    pub(super) fn parent(&self, pid: u32) -> u32 {
        self.stat(pid).1
    }

    /// What a process is about, and its parent.
    fn stat(&self, pid: u32) -> (Standing, u32) {
        let mut buffer = [0_u8; STAT];
        let read = self.file(pid, "/stat").and_then(|file| pread(&file, &mut buffer, 0));
        let Ok(length) = read else { return (Standing::Gone, 0) };
        standing(&buffer[..length])
    }

    /// What a process is about.
    pub(super) fn standing(&self, pid: u32) -> Standing {
        self.stat(pid).0
    }
}

/// Of the text of a `stat` file: the name in it may itself hold spaces and brackets.
fn standing(stat: &[u8]) -> (Standing, u32) {
    let Some(end) = stat.iter().rposition(|byte| *byte == b')') else { return (Standing::Gone, 0) };
    let mut fields = stat[end + 1..].split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    let state = fields.next();
    let parent = fields.next().map_or(0, number);
    let is_ending = fields.nth(4).is_some_and(|flags| number(flags) & EXITING != 0);
    let standing = match state {
        // In uninterruptible sleep it is not known yet: it goes on for a while once that ends.
        Some(b"T" | b"t" | b"Z" | b"X" | b"x") => Standing::Still,
        // To give back a large memory takes a while, and no stop reaches it any more.
        Some(_) if is_ending => Standing::Still,
        Some(_) => Standing::Moves,
        None => Standing::Gone,
    };
    (standing, parent)
}

/// Of a title: `postgres: startup recovering …`, or with a cluster's name `postgres: NAME: startup …`. A session's title begins with
/// its role and its database, which may be called anything, so what follows counts as well.
fn role(title: &[u8]) -> Role {
    let Some(title) = title.strip_prefix(b"postgres: ") else { return Role::Other };
    let end = title.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
    let title = &title[..end];
    let begins = title.windows(2).enumerate().filter(|(_, two)| *two == b": ").map(|(at, _)| at + 2);
    let of = |begin: usize| {
        let rest = |name: &[u8]| title[begin..].strip_prefix(name);
        let is_one_of =
            |rest: &[u8], words: &[&[u8]]| rest.is_empty() || words.iter().any(|word| rest.starts_with(word));
        if rest(b"startup").is_some_and(|rest| is_one_of(rest, &[b" recovering 0", b" waiting for 0"])) {
            return Role::Startup;
        }
        let is_checkpointer = rest(b"checkpointer").is_some_and(|rest| is_one_of(rest, &[b" performing "]));
        // From version 18 on.
        let is_io_worker = rest(b"io worker ").is_some_and(|rest| rest.iter().all(u8::is_ascii_digit));
        if is_checkpointer || is_io_worker { Role::Helper } else { Role::Other }
    };
    std::iter::once(0).chain(begins).map(of).find(|role| *role != Role::Other).unwrap_or(Role::Other)
}

/// The 22nd field, of which the first two are the number and the name.
fn started(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = stat[end + 1..].split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    str::from_utf8(fields.nth(19)?).ok()?.trim_end().parse().ok()
}

fn number(digits: &[u8]) -> u32 {
    digits
        .iter()
        .fold(0_u32, |sum, digit| sum.wrapping_mul(10).wrapping_add(u32::from(digit.wrapping_sub(b'0'))))
}

/// The path of a process's file, relative to `/proc`.
fn numbered<'a>(buffer: &'a mut [u8; NAME], pid: u32, name: &str) -> &'a str {
    let mut rest = &mut buffer[..];
    // Names are short and constant.
    let _fits = write!(rest, "{pid}{name}");
    let left = rest.len();
    str::from_utf8(&buffer[..NAME - left]).unwrap_or_default()
}

/// The children of one postmaster.
pub(super) struct Children {
    postmaster: u32,
    /// The kernel's own list, where it has one.
    list: Option<OwnedFd>,
}

impl Children {
    pub(super) fn of(proc: &Proc, postmaster: u32) -> Self {
        let mut buffer = [0; NAME];
        let mut name = &mut buffer[..];
        let _fits = write!(name, "/task/{postmaster}/children");
        let left = name.len();
        let name = str::from_utf8(&buffer[..NAME - left]).unwrap_or_default();
        Self { postmaster, list: proc.file(postmaster, name).ok() }
    }

    /// Calls for each child, those included that have ended and were not collected, and returns how many there are.
    pub(super) fn each(&self, proc: &Proc, mut call: impl FnMut(u32)) -> usize {
        match &self.list {
            Some(list) => each_listed(list, &mut call),
            None => each_found(proc, self.postmaster, &mut call),
        }
    }
}

fn each_listed(list: &OwnedFd, call: &mut impl FnMut(u32)) -> usize {
    let (mut buffer, mut offset) = ([0_u8; 4096], 0);
    let (mut count, mut pid) = (0, 0_u32);
    while let Ok(length @ 1..) = pread(list, &mut buffer, offset) {
        for byte in &buffer[..length] {
            if byte.is_ascii_digit() {
                pid = pid.wrapping_mul(10).wrapping_add(u32::from(byte - b'0'));
            } else if pid != 0 {
                call(std::mem::take(&mut pid));
                count += 1;
            }
        }
        offset += length as u64;
    }
    count
}

/// A kernel without that list: all processes are looked through.
fn each_found(proc: &Proc, postmaster: u32, call: &mut impl FnMut(u32)) -> usize {
    let mut count = 0;
    proc.each_process(|pid| {
        if proc.parent(pid) == postmaster {
            call(pid);
            count += 1;
        }
    });
    count
}

impl Proc {
    /// Calls for each process that there is.
    pub(super) fn each_process(&self, mut call: impl FnMut(u32)) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(dir) = openat(&self.dir, ".", flags, Mode::empty()) else { return };
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut entries = RawDir::new(dir, &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name().to_bytes();
            if name.iter().all(u8::is_ascii_digit) {
                call(number(name));
            }
        }
    }
}

/// Sends a signal to a process that still is what it was taken for.
pub(super) fn signal(pid: u32, signal: Signal, is_still: impl FnOnce() -> bool) {
    let Some(pid) = Pid::from_raw(pid.cast_signed()) else { return };
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // With the pidfd in hand: the number may have become somebody else's before.
    if is_still() {
        // One that has gone meanwhile needs none, and one that may not be signalled is seen moving.
        let _ = pidfd_send_signal(&held, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Proc {
        Proc::open(&std::env::current_dir().expect("a directory")).expect("/proc")
    }

    #[test]
    fn a_name_with_brackets_and_spaces_hides_nothing() {
        assert_eq!(standing(b"12 (a) T 1 (b c) S 34 12 12"), (Standing::Moves, 34));
        assert_eq!(standing(b"12 (postgres) T 34 12 12"), (Standing::Still, 34));
        assert_eq!(standing(b"12 (postgres) D 34 12 12"), (Standing::Moves, 34));
        assert_eq!(standing(b""), (Standing::Gone, 0));
        assert_eq!(standing(b"12 (a) R 34 12 12 0 -1 4194308 0"), (Standing::Still, 34), "it is ending");
        assert_eq!(standing(b"12 (a) R 34 12 12 0 -1 4194304 0"), (Standing::Moves, 34));
        let whole = b"12 (a) T (b) S 34 12 12 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4711 8 9";
        assert_eq!((started(whole), started(b"12 (a) S 34")), (Some(4_711), None));
    }

    #[test]
    fn the_processes_that_end_recovery_are_told_from_sessions() {
        assert_eq!(role(b"postgres: startup recovering 000000010000000000000003"), Role::Startup);
        assert_eq!(role(b"postgres: main: startup waiting for 000000010000000000000003"), Role::Startup);
        assert_eq!(role(b"postgres: 18/main: checkpointer \0"), Role::Helper);
        assert_eq!(role(b"postgres: io worker 2"), Role::Helper);
        assert_eq!(role(b"postgres: checkpointer performing shutdown checkpoint"), Role::Helper);
        assert_eq!(role(b"postgres: app shop [local] startup"), Role::Other);
        assert_eq!(role(b"postgres: startup shop [local] INSERT"), Role::Other, "a role of that name");
        assert_eq!(role(b"postgres: main: checkpointer shop ::1(5) idle"), Role::Other, "and of this");
        assert_eq!(role(b"postgres: io worker ::1(5) idle"), Role::Other, "a role and its database");
        assert_eq!(role(b"/usr/lib/postgresql/15/bin/postgres\0-D\0/data"), Role::Other);
        assert_eq!(role(b""), Role::Other);
    }

    #[test]
    fn both_ways_to_find_children_find_the_same() {
        let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let proc = own();
        let mut children = Children::of(&proc, std::process::id());
        // The kernel lists the children of a thread, and this test has more than one.
        children.list = None;
        let mut found = false;
        children.each(&proc, |pid| found |= pid == sleeper.id());
        let seen = (proc.works_here(sleeper.id()), proc.parent(sleeper.id()), proc.started(sleeper.id()));
        sleeper.kill().expect("kill");
        sleeper.wait().expect("wait");
        assert!(found && seen.0 && seen.1 == std::process::id() && seen.2 > proc.started(1));
        assert_eq!((proc.standing(sleeper.id()), proc.works_here(sleeper.id())), (Standing::Gone, false));
    }
}
