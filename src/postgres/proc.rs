//! `/proc`: which processes work on a data directory. Never touches a file system that could hang.

use std::{ffi::OsStr, fs, io::ErrorKind, os::unix::fs::MetadataExt, path::Path, time::Duration};

/// What PostgreSQL's server binary is called, also after its package was upgraded under it.
const SERVER: [&str; 2] = ["postgres", "postgres (deleted)"];

/// Every process id there is.
pub(super) fn all() -> std::io::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Whether this is a living server process of the data directory. A zombie has neither executable nor directory any
/// more and is not; nor is one on its way out, which has closed its sockets by then or runs no more of its own code.
pub(super) fn serves(pid: u32, data_dir: &Path) -> bool {
    let is_server = |exe: &OsStr| SERVER.iter().any(|name| exe == *name);
    let exe = fs::read_link(format!("/proc/{pid}/exe"));
    exe.is_ok_and(|exe| exe.file_name().is_some_and(is_server))
        && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data_dir)
}

/// The server processes of a data directory. `uid`: its owner; others are not looked at.
pub(super) fn servers(data_dir: &Path, uid: u32) -> std::io::Result<Vec<u32>> {
    let owned = |pid: &u32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|meta| meta.uid() == uid);
    Ok(all()?.into_iter().filter(|pid| owned(pid) && serves(*pid, data_dir)).collect())
}

/// Whether this was such a process and is on its way out: it runs no more, but may still give its memory back, which
/// took a tenth of a second for a gigabyte. The kernel takes the executable from it first, the directory last
/// (`do_exit`).
pub(super) fn is_leaving(pid: u32, data_dir: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_err_and(|error| error.kind() == ErrorKind::NotFound)
        && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data_dir)
        && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == SERVER[0])
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
