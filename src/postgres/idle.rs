//! Making sure that nobody works on a data directory before it is changed underneath.

use std::{path::Path, time::Duration};

use rustix::{event::Timespec, process::Signal};
use tokio::time::Instant;

use super::{
    Instance, PgError,
    identity::{DirId, ProcessId, Reach, ServerId},
    kill, proc,
};

/// Programs that write a data directory and take no lock on it. One may be left from a Locum that was killed. They are
/// told by their name: nothing else is certain of a program that was started from anywhere.
const WRITERS: [&str; 2] = ["pg_rewind", "pg_basebackup"];

/// How long a killed one may take to go.
const GONE: Timespec = Timespec { tv_sec: 3, tv_nsec: 0 };

/// How long those that have no more than their memory to give back may take.
const LEAVING: Duration = Duration::from_secs(3);

impl Instance {
    /// Ends leftover rewinds and clones of this directory, and fails if a server runs on it.
    pub(super) async fn make_idle(&self) -> Result<(), PgError> {
        let (data_dir, new, uid) =
            (self.data_dir.clone(), self.beside(super::clone::NEW_SUFFIX), self.owner.uid);
        let known = self.known.all();
        let work = move || {
            let here = DirId::of(&data_dir).ok();
            let targets: Vec<DirId> = [here, DirId::of(&new).ok()].into_iter().flatten().collect();
            let look = |error| PgError::Io { what: "look through /proc".to_owned(), error };
            for pid in proc::all().map_err(look)? {
                let is_writer = proc::program(pid).is_some_and(|name| WRITERS.contains(&name.as_str()));
                if let Some(process) = ProcessId::of(pid).filter(|_| is_writer)
                    && proc::arguments(pid).iter().any(|argument| is_one_of(argument, pid, &targets))
                {
                    end(process)?;
                }
            }
            let dirs: Vec<DirId> = known.iter().filter_map(|server| server.dir).chain(here).collect();
            let mut left = proc::writers_in(&dirs, uid).map_err(look)?;
            left.extend(known.iter().map(|server| server.postmaster));
            // Those that were killed may take a moment to end.
            left.iter()
                .filter(|process| process.reach() == Reach::Doomed)
                .for_each(|process| process.wait(GONE));
            left.retain(|process| process.reach() != Reach::Dead);
            let began = Instant::now();
            while left.is_empty() && known.iter().any(is_attached) && began.elapsed() < LEAVING {
                kill::pause();
            }
            if left.is_empty() && !known.iter().any(is_attached) {
                return Ok(());
            }
            let pids: Vec<u32> = left.iter().map(|process| process.pid).collect();
            Err(PgError::Nonsense(format!("PostgreSQL still runs on the data directory: processes {pids:?}")))
        };
        // Nothing here touches the data directory; it is the waiting that blocks.
        self.disk.run("look for processes", super::disk::SMALL, work).await
    }
}

fn is_attached(server: &ServerId) -> bool {
    server.attached().is_some_and(|attached| attached > 0)
}

/// Whether an argument names one of these directories, as the process sees it: `DIR`, `-DDIR` or `--option=DIR`.
fn is_one_of(argument: &str, pid: u32, targets: &[DirId]) -> bool {
    let value = match argument.strip_prefix("--") {
        Some(option) => option.split_once('=').map_or("", |(_, value)| value),
        None => argument.strip_prefix("-D").unwrap_or(argument),
    };
    // An absolute path takes the place of what it is joined to.
    let path = Path::new(&format!("/proc/{pid}/cwd")).join(value);
    !value.is_empty() && DirId::of(&path).is_ok_and(|dir| targets.contains(&dir))
}

fn end(process: ProcessId) -> Result<(), PgError> {
    let pid = process.pid;
    let refused = |error| PgError::Io { what: format!("kill process {pid}"), error };
    if !process.signal(Signal::KILL).map_err(refused)? {
        return Ok(());
    }
    process.wait(GONE);
    if process.reach() == Reach::Dead {
        tracing::warn!(pid, "killed a leftover rewind or clone of this data directory");
        return Ok(());
    }
    Err(PgError::Nonsense(format!("a leftover rewind or clone, process {pid}, cannot be killed")))
}
