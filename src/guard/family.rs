//! A postmaster and its children, as `/proc` shows them. Allocates nothing once it is open.

use std::{io::Write as _, mem::MaybeUninit, os::fd::OwnedFd};

use rustix::{
    fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw},
    io::{Errno, pread},
    process::{Pid, Signal, kill_process},
};

/// Longer than any path below `/proc` that is looked at here, and than the file names that the system allows.
const NAME: usize = 64;
/// Of a `stat` file, what comes before the parent's number fits in this.
const STAT: usize = 512;
/// A path of the file system.
const PATH: usize = 4096;

/// `/proc`, held open.
pub(super) struct Proc {
    dir: OwnedFd,
    /// Where the server's processes work, without symbolic links.
    data_dir: Box<[u8]>,
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

impl Proc {
    pub(super) fn open(data_dir: &[u8]) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { dir: openat(CWD, "/proc", flags, Mode::empty())?, data_dir: data_dir.into() })
    }

    /// A file of a process, to be read again and again.
    fn file(&self, pid: u32, name: &str) -> rustix::io::Result<OwnedFd> {
        let mut buffer = [0; NAME];
        let path = numbered(&mut buffer, pid, name);
        openat(&self.dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Whether a process works in the data directory. None: it cannot be told.
    pub(super) fn works_here(&self, pid: u32) -> Option<bool> {
        let (mut name, mut buffer) = ([0; NAME], [0_u8; PATH]);
        match readlinkat_raw(&self.dir, numbered(&mut name, pid, "/cwd"), &mut buffer) {
            Ok(length) => Some(buffer[..length] == *self.data_dir),
            Err(Errno::NOENT | Errno::SRCH) => Some(false),
            Err(_) => None,
        }
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
    let state = match fields.next() {
        // In uninterruptible sleep it is not known yet: it goes on for a while once that ends.
        Some(b"T" | b"t" | b"Z" | b"X" | b"x") => Standing::Still,
        Some(_) => Standing::Moves,
        None => Standing::Gone,
    };
    (state, fields.next().map_or(0, number))
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
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = openat(&proc.dir, ".", flags, Mode::empty()) else { return 0 };
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut count = 0;
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name().to_bytes();
        if name.iter().all(u8::is_ascii_digit) {
            let pid = number(name);
            if proc.stat(pid).1 == postmaster {
                call(pid);
                count += 1;
            }
        }
    }
    count
}

/// Sends a signal to a child that works in the data directory, or of which that cannot be told. Its number cannot be
/// anybody else's while its parent stands still: nobody collects it.
pub(super) fn signal(proc: &Proc, pid: u32, signal: Signal) {
    if proc.works_here(pid) != Some(false)
        && let Some(pid) = Pid::from_raw(pid.cast_signed())
    {
        // One that has gone meanwhile needs none, and one that may not be signalled is seen moving.
        let _ = kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Proc {
        Proc::open(std::env::current_dir().expect("a directory").as_os_str().as_encoded_bytes())
            .expect("/proc")
    }

    #[test]
    fn a_name_with_brackets_and_spaces_hides_nothing() {
        assert_eq!(standing(b"12 (a) T 1 (b c) S 34 12 12"), (Standing::Moves, 34));
        assert_eq!(standing(b"12 (postgres) T 34 12 12"), (Standing::Still, 34));
        assert_eq!(standing(b"12 (postgres) D 34 12 12"), (Standing::Moves, 34));
        assert_eq!(standing(b""), (Standing::Gone, 0));
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
        let works_here = proc.works_here(sleeper.id());
        sleeper.kill().expect("kill");
        sleeper.wait().expect("wait");
        assert!(found && works_here == Some(true));
        assert_eq!(
            (proc.standing(sleeper.id()), proc.works_here(sleeper.id())),
            (Standing::Gone, Some(false))
        );
    }
}
