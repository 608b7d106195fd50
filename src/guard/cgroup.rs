//! A control group (v2) of the server's own: frozen and killed as one, whatever its processes are doing.
//!
//! It is a child of the group that the postmaster is in, so that every limit that holds there goes on to hold.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::FileExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::pread,
};

use super::family::{Children, Proc};

/// What the groups are called, before the number of the postmaster.
const PREFIX: &str = "locum-guard-";
/// How often the processes are moved until none is left outside. Each pass takes the children born during the last.
const PASSES: usize = 50;

/// The group of one server, with its files held open.
pub(super) struct Cgroup {
    path: PathBuf,
    procs: File,
    freeze: File,
    events: File,
    /// From Linux 5.14 on.
    kill: Option<File>,
}

impl Cgroup {
    /// Moves a postmaster and all its children into a group of their own, or takes the one they are in already.
    pub(super) fn enclose(proc: &Proc, postmaster: u32, children: &Children) -> io::Result<Self> {
        let own = format!("{PREFIX}{postmaster}");
        let present = group_of(postmaster)?;
        let path = if present.ends_with(&own) {
            present
        } else {
            remove_forgotten(&present);
            present.join(own)
        };
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let open = |name: &str| File::options().write(true).open(path.join(name));
        let group = Self {
            procs: File::options().read(true).write(true).open(path.join("cgroup.procs"))?,
            freeze: open("cgroup.freeze")?,
            events: File::open(path.join("cgroup.events"))?,
            kill: open("cgroup.kill").ok(),
            path: path.clone(),
        };
        let filled = group.fill(proc, postmaster, children);
        filled.inspect_err(|_| group.remove_if_empty())?;
        Ok(group)
    }

    fn fill(&self, proc: &Proc, postmaster: u32, children: &Children) -> io::Result<()> {
        let mut done = Vec::new();
        for _ in 0..PASSES {
            let inside = self.members()?;
            let (before, mut failed) = (done.len(), None);
            let mut take = |pid: u32| {
                // Nobody but the server's own: others may share the group that it is in.
                let is_own = pid == postmaster || proc.parent(pid) == postmaster;
                if inside.contains(&pid) || done.contains(&pid) || !is_own {
                    return;
                }
                match (&self.procs).write_pid(pid) {
                    // One that is ending is not moved, and the kernel says nothing; it runs none of its code any more.
                    Ok(()) => done.push(pid),
                    // It has gone meanwhile.
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
                    Err(error) => failed = Some(error),
                }
            };
            // The postmaster first: whoever it starts from then on is born inside.
            take(postmaster);
            children.each(proc, take);
            match failed {
                Some(error) => return Err(error),
                None if done.len() == before => return Ok(()),
                None => {}
            }
        }
        Err(io::Error::other("processes are left outside"))
    }

    fn members(&self) -> io::Result<Vec<u32>> {
        let text = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Calls for each process in it. Allocates nothing.
    pub(super) fn each(&self, mut call: impl FnMut(u32)) {
        let (mut buffer, mut offset, mut pid) = ([0_u8; 4096], 0, 0_u32);
        while let Ok(length @ 1..) = pread(&self.procs, &mut buffer, offset) {
            for byte in &buffer[..length] {
                if byte.is_ascii_digit() {
                    pid = pid.wrapping_mul(10).wrapping_add(u32::from(byte - b'0'));
                } else if pid != 0 {
                    call(std::mem::take(&mut pid));
                }
            }
            offset += length as u64;
        }
    }

    /// Lets all of it stand still, or go on.
    pub(super) fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        self.freeze.write_all_at(if frozen { b"1" } else { b"0" }, 0)
    }

    /// SIGKILL to all of it, those included that are born meanwhile. False: this kernel cannot.
    pub(super) fn kill(&self) -> bool {
        self.kill.as_ref().is_some_and(|file| file.write_all_at(b"1", 0).is_ok())
    }

    /// True: every process stands still.
    pub(super) fn is_frozen(&self) -> bool {
        self.event(b"frozen 1")
    }

    /// True: nobody is left in it.
    pub(super) fn is_empty(&self) -> bool {
        self.event(b"populated 0")
    }

    fn event(&self, line: &[u8]) -> bool {
        let mut buffer = [0_u8; 256];
        let Ok(length) = pread(&self.events, &mut buffer, 0) else { return false };
        buffer[..length].split(|byte| *byte == b'\n').any(|found| found == line)
    }

    /// Waits for a change of what it tells, for at most that long.
    pub(super) fn wait(&self, at_most: Timespec) {
        let mut fds = [PollFd::from_borrowed_fd(self.events.as_fd(), PollFlags::PRI)];
        // Whatever comes of it, the caller looks.
        let _ = poll(&mut fds, Some(&at_most));
    }

    /// Removes the group. False: somebody is in it.
    pub(super) fn remove(&self) -> bool {
        match fs::remove_dir(&self.path) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    fn remove_if_empty(&self) {
        // With somebody in it, it stays, and does no harm.
        let _ = self.remove();
    }
}

trait WritePid {
    fn write_pid(self, pid: u32) -> io::Result<()>;
}

impl WritePid for &File {
    fn write_pid(self, pid: u32) -> io::Result<()> {
        self.write_all_at(pid.to_string().as_bytes(), 0)
    }
}

/// Removes the groups of servers that ended while they had no guard.
fn remove_forgotten(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // One with somebody in it cannot be removed, and stays.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// True if there is a version 2 hierarchy at all.
pub(super) fn is_there() -> bool {
    mount().is_ok()
}

/// The folder of the group that a process is in.
fn group_of(pid: u32) -> io::Result<PathBuf> {
    let (root, point) = mount()?;
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path.ok_or_else(|| io::Error::other("it is in no group of version 2"))?;
    inside(&root, &point, Path::new(path))
        .ok_or_else(|| io::Error::other(format!("its group {path} is not visible here")))
}

/// Where a group is in the file system, if it is visible there.
fn inside(root: &Path, point: &Path, group: &Path) -> Option<PathBuf> {
    let below = group.strip_prefix(root).ok()?;
    (!below.components().any(|part| part == std::path::Component::ParentDir)).then(|| point.join(below))
}

/// The root and the mount point of the version 2 hierarchy.
fn mount() -> io::Result<(PathBuf, PathBuf)> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    find_mount(&text).ok_or_else(|| io::Error::other("no control groups of version 2 are mounted"))
}

/// `ID PARENT DEVICE ROOT POINT OPTIONS [TAGS…] - TYPE SOURCE OPTIONS` (`proc_pid_mountinfo(5)`).
fn find_mount(text: &str) -> Option<(PathBuf, PathBuf)> {
    text.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut fields = front.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        back.starts_with("cgroup2 ").then(|| (PathBuf::from(root), PathBuf::from(point)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_2_hierarchy_is_found_wherever_it_is_mounted() {
        let hybrid = "30 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(hybrid), Some(("/".into(), "/sys/fs/cgroup/unified".into())));
        assert_eq!(find_mount("30 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"), None);
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_not_guessed_at() {
        let at = |root: &str, group: &str| inside(Path::new(root), Path::new("/m"), Path::new(group));
        assert_eq!(at("/", "/system.slice/a.service"), Some("/m/system.slice/a.service".into()));
        assert_eq!(at("/box", "/box/a"), Some("/m/a".into()));
        assert_eq!(at("/box", "/other"), None);
        assert_eq!(at("/", "/../other"), None);
    }
}
