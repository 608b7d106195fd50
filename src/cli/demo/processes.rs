//! The processes that belong to a demo: how they are started, found again, and ended.
//!
//! Whatever may have gone wrong before, they are found by what they are: one of PostgreSQL's programs or this
//! program, working in the demo's directory or started with it as an argument. Nothing else is ever signalled.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{process::Command, sync::watch, time::timeout};

use super::{
    folder::{FULL, Folder},
    machine::Machine,
};

/// Environment variables with these beginnings would change what the programs do.
const UNWANTED: [&str; 3] = ["PG", "LOCUM_", "LC_"];
/// How long a killed process may take to vanish.
const GONE_LIMIT: Duration = Duration::from_secs(10);
/// How often the end of processes that are not our children is looked for.
const GONE_POLL: Duration = Duration::from_millis(10);

/// A command for one of PostgreSQL's programs, run by the user it must run as.
pub(crate) fn postgres_program(machine: &Machine, name: &str, cwd: &Path) -> Command {
    let mut command = bare(&machine.bin_dir.join(name), cwd);
    if let Some(account) = &machine.account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// A command for this program.
pub(crate) fn locum_program(machine: &Machine, cwd: &Path) -> Command {
    bare(&machine.locum, cwd)
}

/// A command in a process group of its own, so that Ctrl-C reaches only the demo, which then ends all in order.
fn bare(program: &Path, cwd: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(cwd).process_group(0).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if UNWANTED.iter().any(|beginning| name.to_string_lossy().starts_with(beginning)) {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C");
    command
}

/// Runs a program to its end.
///
/// # Errors
/// It cannot be started, takes longer than `limit`, or fails; the message holds what it said.
pub(crate) async fn run(mut command: Command, limit: Duration) -> Result<String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().with_context(|| format!("start {name}"))?;
    let ended = timeout(limit, child.wait_with_output()).await;
    let output =
        ended.with_context(|| format!("{name} took longer than {limit:?}"))?.context("wait for it")?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    if said.contains("No space left on device") {
        bail!("{FULL}\n{said}");
    }
    bail!("{name} failed ({}): {said}", output.status)
}

/// A server that was started and is expected to go on running. Its end is noticed and collected at once: a killed
/// postmaster that nobody collects would look alive to whoever checks its lock file.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// What it is, for messages.
    pub(crate) name: String,
    /// Its process.
    pub(crate) pid: Pid,
    ended: watch::Receiver<Option<String>>,
}

impl Running {
    /// Starts it, with its output in a log of that name.
    pub(crate) fn start(name: &str, mut command: Command, folder: &Folder) -> Result<Self> {
        let log = folder.log(name);
        let open = || File::options().create(true).append(true).open(&log);
        let (out, err) = (open().context("open its log")?, open().context("open its log")?);
        let mut child = command.stdout(out).stderr(err).spawn().with_context(|| format!("start {name}"))?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = pid.with_context(|| format!("{name} ended at once"))?;
        let (send, ended) = watch::channel(None);
        tokio::spawn(async move {
            let how = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
            send.send_replace(Some(how));
        });
        Ok(Self { name: name.to_owned(), pid, ended })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    #[cfg(test)]
    /// Waits until it has ended.
    pub(crate) async fn wait(&self, limit: Duration) -> Result<String> {
        let mut ended = self.ended.clone();
        let how = timeout(limit, ended.wait_for(Option::is_some)).await;
        let how = how.with_context(|| format!("{} did not end within {limit:?}", self.name))?;
        Ok(how.ok().and_then(|how| how.clone()).unwrap_or_default())
    }

    /// Sends a signal, unless it has ended and was collected.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.ended().is_none() {
            // The only error left is that it has ended meanwhile, which is what signals are for.
            let _ = kill_process(self.pid, signal);
        }
    }
}

/// A process number. Zero and below are none: a server in single-user mode writes its own with a minus sign into its
/// lock file.
pub(crate) fn pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.trim().parse().ok().filter(|number| *number > 0)?)
}

/// A process that belongs to a demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: Pid,
    /// What it was started with; PostgreSQL's children show their title there.
    pub(crate) arguments: Vec<String>,
    /// Where it works.
    pub(crate) cwd: PathBuf,
    /// It is a child of PostgreSQL's or one of its tools, as opposed to this program.
    pub(crate) postgres: bool,
}

/// Every process of the demo in `folder`.
pub(crate) fn of_folder(folder: &Path, machine: &Machine) -> Vec<Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| pid(entry.file_name().to_str()?))
        .filter(|pid| *pid != rustix::process::getpid())
        .filter_map(|pid| look(pid, folder, machine))
        .collect()
}

/// Every process of the server, running or orphaned, whose data directory this is: PostgreSQL works in it.
pub(crate) fn of_data_dir(data_dir: &Path, machine: &Machine) -> Vec<Process> {
    of_folder(data_dir, machine).into_iter().filter(|p| p.postgres && p.cwd == data_dir).collect()
}

fn look(pid: Pid, folder: &Path, machine: &Machine) -> Option<Process> {
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let exe = fs::read_link(proc.join("exe")).ok()?;
    let cwd = fs::read_link(proc.join("cwd")).ok()?;
    let raw = fs::read(proc.join("cmdline")).ok()?;
    let arguments: Vec<String> = raw
        .split(|byte| *byte == 0)
        .map(|part| OsString::from_vec(part.to_vec()).to_string_lossy().into_owned())
        .collect();
    let named = folder.to_string_lossy();
    let here = cwd.starts_with(folder) || arguments.iter().any(|argument| argument.contains(named.as_ref()));
    let program = exe.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    let postgres = Path::new(&program).parent() == Some(&machine.bin_dir) && !program.ends_with("/psql");
    let verb = arguments.get(1).map(String::as_str);
    let ours = Path::new(&program) == machine.locum && matches!(verb, Some("run" | "guard" | "demo-app"));
    (here && (postgres || ours)).then_some(Process { pid, arguments, cwd, postgres })
}

/// Ends every process of the demo, whatever state it is in, and waits until none is left.
///
/// # Errors
/// Some are still there after ten seconds; they are named.
pub(crate) async fn end_all(folder: &Path, machine: &Machine) -> Result<()> {
    let deadline = tokio::time::Instant::now() + GONE_LIMIT;
    loop {
        let left = of_folder(folder, machine);
        if left.is_empty() {
            return Ok(());
        }
        for process in &left {
            let _ = kill_process(process.pid, Signal::KILL);
        }
        if tokio::time::Instant::now() > deadline {
            let pids: Vec<_> = left.iter().map(|p| p.pid.as_raw_nonzero().to_string()).collect();
            bail!("these processes did not end: {}", pids.join(", "));
        }
        tokio::time::sleep(GONE_POLL).await;
    }
}
