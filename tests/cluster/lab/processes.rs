//! Processes of a laboratory, found by the network namespace they are in.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{plan::Plan, within::within_limit};

/// How long killed processes may take to vanish; one that waits for a frozen disk takes as long as that.
const GONE: Duration = Duration::from_secs(10);

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: i32,
    /// The program.
    pub(crate) exe: PathBuf,
    /// Its arguments; PostgreSQL's children show their title there.
    pub(crate) line: Vec<String>,
    /// As in `/proc/PID/stat`: `T` is stopped, `Z` has ended.
    pub(crate) state: char,
}

impl Process {
    fn program(&self) -> &str {
        let name = self.exe.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.trim_end_matches(" (deleted)")
    }

    /// The first process of a PostgreSQL.
    #[must_use]
    pub(crate) fn is_postmaster(&self) -> bool {
        self.program() == "postgres" && self.line.iter().any(|word| word == "-D")
    }

    /// Any process of a PostgreSQL.
    #[must_use]
    pub(crate) fn is_postgres(&self) -> bool {
        self.program() == "postgres"
    }

    /// A child of PostgreSQL with this in its title.
    #[must_use]
    pub(crate) fn is_titled(&self, title: &str) -> bool {
        self.is_postgres() && !self.is_postmaster() && self.line.iter().any(|word| word.contains(title))
    }

    /// The program under test, run with this verb.
    #[must_use]
    pub(crate) fn is_locum(&self, verb: &str) -> bool {
        self.program() == "locum" && self.line.get(1).is_some_and(|word| word == verb)
    }

    /// A member of etcd.
    #[must_use]
    pub(crate) fn is_etcd(&self) -> bool {
        self.program() == "etcd"
    }
}

fn pids() -> impl Iterator<Item = i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A process's state and the time of its start, in the kernel's ticks.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// This process, in a way that is still right when its number was given to another.
#[must_use]
pub(crate) fn this() -> Option<(i32, u64)> {
    let pid = std::process::id().cast_signed();
    Some((pid, stat(pid)?.1))
}

/// True if that process runs.
#[must_use]
pub(crate) fn runs((pid, started): (i32, u64)) -> bool {
    stat(pid).is_some_and(|(state, at)| at == started && state != 'Z')
}

fn look(pid: i32) -> Option<Process> {
    let (state, _) = stat(pid)?;
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let raw = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = raw.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    let line = line.map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    (state != 'Z').then_some(Process { pid, exe, line, state })
}

/// Everything in a namespace but this process.
#[must_use]
pub(crate) fn of_namespace(namespace: &str) -> Vec<Process> {
    let Ok(meta) = fs::metadata(format!("/run/netns/{namespace}")) else { return Vec::new() };
    let here = |pid: &i32| fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| ns.ino() == meta.ino());
    let own = std::process::id().cast_signed();
    pids().filter(|pid| *pid != own).filter(here).filter_map(look).collect()
}

/// Everything on a host.
#[must_use]
pub(crate) fn of_host(plan: &Plan, host: &str) -> Vec<Process> {
    of_namespace(&plan.namespace(host))
}

/// Sends a signal; a process that has ended meanwhile needs none.
pub(crate) fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 1) {
        let _ended_meanwhile = kill_process(pid, signal);
    }
}

/// Kills whatever `find` finds until it finds nothing more.
///
/// # Errors
/// Some are still there after a while.
pub(crate) fn end(find: impl Fn() -> Vec<Process>) -> Result<()> {
    let gone = within_limit(GONE, || {
        let left = find();
        left.iter().for_each(|process| send(process.pid, Signal::KILL));
        left.is_empty()
    });
    if gone { Ok(()) } else { bail!("these processes did not end: {:?}", find()) }
}

/// Stops whatever `find` finds until all of it is stopped: who is stopped last may have started others.
///
/// # Errors
/// Some still run after a while.
pub(crate) fn stop(find: impl Fn() -> Vec<Process>) -> Result<()> {
    let stopped = within_limit(GONE, || {
        let running: Vec<_> = find().into_iter().filter(|process| process.state != 'T').collect();
        running.iter().for_each(|process| send(process.pid, Signal::STOP));
        // One that waits for a disk stops when it is done with that.
        running.iter().all(|process| process.state == 'D')
    });
    if stopped { Ok(()) } else { bail!("these processes did not stop: {:?}", find()) }
}
