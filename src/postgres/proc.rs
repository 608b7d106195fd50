//! `/proc`: which processes there are, what they are about, and where they work.

use std::{
    ffi::OsStr,
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use super::{
    identity::{DirId, ProcessId, Reach},
    interlock,
};

/// What PostgreSQL's server binary is called, also after its package was upgraded under it. Only a postmaster that has no
/// segment yet is told by it, together with the directory that it works in.
const SERVER: [&str; 2] = ["postgres", "postgres (deleted)"];

/// Of the flags of a process: it is ending, and runs none of its program any more (`PF_EXITING`, `sched.h`).
const EXITING: u64 = 0x4;

/// SIGKILL in a mask of signals.
const KILL: u64 = 1 << 8;

/// Every process id there is.
pub(super) fn all() -> io::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Every process of a user.
pub(super) fn all_of(uid: u32) -> io::Result<Vec<u32>> {
    let owned = |pid: &u32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|meta| meta.uid() == uid);
    Ok(all()?.into_iter().filter(owned).collect())
}

/// Whether an error says that the process looked at has ended.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Whether a process works in the directory. A zombie works nowhere.
pub(super) fn works_in(pid: u32, dir: DirId) -> bool {
    DirId::of_cwd(pid).is_ok_and(|cwd| cwd == dir)
}

/// Whether this is a living server process that works in the directory: it is attached to shared memory, or is a
/// postmaster that has made none yet. A zombie is none, nor is a process that gives its memory back.
pub(super) fn serves(pid: u32, dir: DirId) -> bool {
    let is_server = |exe: &OsStr| SERVER.iter().any(|name| exe == *name);
    let exe = || fs::read_link(format!("/proc/{pid}/exe"));
    works_in(pid, dir) && (is_attached(pid) || exe().is_ok_and(|exe| exe.file_name().is_some_and(is_server)))
}

/// Whether a process is attached to any shared memory of this kind, or may be.
pub(super) fn is_attached(pid: u32) -> bool {
    match interlock::mapped(pid) {
        Ok(segments) => !segments.is_empty(),
        Err(error) => !is_gone(&error),
    }
}

/// The processes that can write the directory's data, whosever children they are. `uid`: its owner; others are not looked
/// at. Not the logger, nor what an `archive_command` has left.
pub(super) fn writers_in(dirs: &[DirId], uid: u32) -> io::Result<Vec<ProcessId>> {
    if dirs.is_empty() {
        return Ok(Vec::new());
    }
    let here = |pid: &u32| DirId::of_cwd(*pid).is_ok_and(|cwd| dirs.contains(&cwd)) && is_attached(*pid);
    Ok(all_of(uid)?.into_iter().filter(here).filter_map(ProcessId::of).collect())
}

/// Whether this process works in the directory and is on its way out: it runs no more, but may still give its memory back,
/// which took a tenth of a second for a gigabyte. The kernel takes the directory from it last (`do_exit`).
pub(super) fn is_leaving(pid: u32, dir: DirId) -> bool {
    works_in(pid, dir) && life(pid).is_some_and(|life| life.leaving && !life.ended)
}

/// How far a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// When it was started, in clock ticks since the boot of the host.
    pub(super) started: u64,
    /// It is ending.
    pub(super) leaving: bool,
    /// It has ended, and was not collected.
    pub(super) ended: bool,
}

/// None: there is no such process.
pub(super) fn life(pid: u32) -> Option<Life> {
    life_in(&stat(pid)?)
}

fn life_in(stat: &[String]) -> Option<Life> {
    let flags: u64 = stat.get(6)?.parse().ok()?;
    let ended = matches!(stat.first()?.as_str(), "Z" | "X" | "x");
    Some(Life { started: stat.get(19)?.parse().ok()?, leaving: flags & EXITING != 0, ended })
}

/// Whether SIGKILL is pending for a process: it runs none of its program any more, wherever in the kernel it waits.
pub(super) fn is_killed(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| has_kill_pending(&status))
}

fn has_kill_pending(status: &str) -> bool {
    let pending = |line: &str| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    };
    status.lines().filter_map(pending).any(|mask| mask & KILL != 0)
}

/// Whether there is a process with this id, zombies included.
pub(super) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The fields of `/proc/PID/stat` after the name, which may itself hold spaces and brackets: state, parent, group, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// Its parent.
pub(super) fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Its children. The kernel's own list where it has one, else all processes are looked through.
pub(super) fn children(pid: u32) -> Vec<u32> {
    match fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        Ok(list) => list.split_whitespace().filter_map(|id| id.parse().ok()).collect(),
        Err(_) => all().unwrap_or_default().into_iter().filter(|&child| parent(child) == Some(pid)).collect(),
    }
}

/// The children of this very process; none once it has ended.
pub(super) fn children_of(process: ProcessId) -> Vec<ProcessId> {
    let listed = children(process.pid).into_iter().filter_map(ProcessId::of);
    // Looked at afterwards: one that was collected meanwhile, and its number given to another, has another parent.
    let found: Vec<ProcessId> = listed.filter(|child| parent(child.pid) == Some(process.pid)).collect();
    if process.reach() == Reach::Dead { Vec::new() } else { found }
}

/// Its arguments; of a server process its title.
pub(super) fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|b| *b == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The file name of its executable.
pub(super) fn program(pid: u32) -> Option<String> {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(exe.file_name()?.to_string_lossy().into_owned())
}

/// A number that changes while any process of the group gets anything done: CPU time, bytes read or written.
pub(super) fn activity(group: u32) -> u64 {
    let of = |pid: u32| {
        let stat = stat(pid)?;
        let its = stat.get(2)?.parse() == Ok(group);
        its.then(|| cpu_ticks(&stat).wrapping_add(bytes_moved(pid)))
    };
    all().unwrap_or_default().into_iter().filter_map(of).fold(0, u64::wrapping_add)
}

/// What a process has done, in bytes read and written; a millisecond of CPU time counts like a page. 0 once it is gone.
pub(super) fn work_done(pid: u32) -> u64 {
    const PAGE: u64 = 8192;
    /// The kernel shows CPU time in hundredths of a second, whatever it counts in (`USER_HZ`).
    const TICK_MS: u64 = 10;
    let cpu = stat(pid).map_or(0, |stat| cpu_ticks(&stat));
    bytes_moved(pid).saturating_add(cpu.saturating_mul(TICK_MS * PAGE))
}

/// What a process has had of the CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// It ran for so long.
    pub used: Duration,
    /// It would have run, and others did.
    pub waited: Duration,
}

/// None: it is gone, or the kernel does not count this.
pub(super) fn cpu_time(pid: u32) -> Option<CpuTime> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let mut nanos = text.split_whitespace().map(|word| word.parse().map(Duration::from_nanos));
    Some(CpuTime { used: nanos.next()?.ok()?, waited: nanos.next()?.ok()? })
}

fn cpu_ticks(stat: &[String]) -> u64 {
    stat.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).fold(0, u64::wrapping_add)
}

fn bytes_moved(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    io.lines().take(2).filter_map(|line| line.split_once(": ")?.1.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_process_is_told_by_the_kernels_mask_whichever_thread_was_meant() {
        let status = |own: &str, shared: &str| {
            format!("Name:\tx\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\t0000000000000100\n")
        };
        assert!(has_kill_pending(&status("0000000000000100", "0000000000000000")));
        assert!(has_kill_pending(&status("0000000000000000", "0000000000000102")));
        assert!(!has_kill_pending(&status("0000000000000000", "0000000000004000")));
    }

    #[test]
    fn a_life_is_read_from_behind_any_name() {
        let fields = |state: &str, flags: u64| -> Vec<String> {
            let text = format!("{state} 1 2 3 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 4711 8");
            text.split_whitespace().map(str::to_owned).collect()
        };
        let life = |leaving, ended| Some(Life { started: 4_711, leaving, ended });
        assert_eq!(life_in(&fields("S", 0x40_0040)), life(false, false));
        assert_eq!(life_in(&fields("R", 0x40_0044)), life(true, false));
        assert_eq!(life_in(&fields("Z", 0x4)), life(true, true));
        assert!(life_in(&[]).is_none());
    }
}
