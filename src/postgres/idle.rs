//! Making sure that nobody works on a data directory before it is changed underneath.

use rustix::{
    event::Timespec,
    process::{Pid, Signal, kill_process},
};

use super::{Instance, PgError, proc, process};

/// Programs that write a data directory and take no lock on it. One may be left from a Locum that was killed.
const WRITERS: [&str; 2] = ["pg_rewind", "pg_basebackup"];

/// How long a killed one may take to go.
const GONE: Timespec = Timespec { tv_sec: 3, tv_nsec: 0 };

impl Instance {
    /// Ends leftover rewinds and clones of this directory, and fails if a server runs on it.
    pub(super) async fn make_idle(&self) -> Result<(), PgError> {
        let (data_dir, new, uid) =
            (self.data_dir.clone(), self.beside(super::clone::NEW_SUFFIX), self.owner.uid);
        let work = move || {
            let targets = [data_dir.to_string_lossy().into_owned(), new.to_string_lossy().into_owned()];
            let look = |error| PgError::Io { what: "look through /proc".to_owned(), error };
            for pid in proc::all().map_err(look)? {
                let is_writer = proc::program(pid).is_some_and(|name| WRITERS.contains(&name.as_str()));
                if is_writer && proc::arguments(pid).iter().any(|argument| targets.contains(argument)) {
                    end(pid)?;
                }
            }
            let servers = proc::servers(&data_dir, uid).map_err(look)?;
            if servers.is_empty() {
                return Ok(());
            }
            Err(PgError::Nonsense(format!(
                "PostgreSQL still runs on the data directory: processes {servers:?}"
            )))
        };
        // Nothing here touches the data directory; it is the waiting that blocks.
        self.disk.run("look for processes", super::disk::SMALL, work).await
    }
}

fn end(pid: u32) -> Result<(), PgError> {
    let (Ok(fd), Some(id)) = (process::open(pid), Pid::from_raw(pid.cast_signed())) else { return Ok(()) };
    let _gone_already = kill_process(id, Signal::KILL);
    if process::ended(&fd, GONE) {
        tracing::warn!(pid, "killed a leftover rewind or clone of this data directory");
        return Ok(());
    }
    Err(PgError::Nonsense(format!("a leftover rewind or clone, process {pid}, cannot be killed")))
}
