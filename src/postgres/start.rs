//! Starting the server.

use std::{
    fs::{self, File, OpenOptions},
    path::Path,
    process::Stdio,
    time::Duration,
};

use rustix::event::Timespec;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::{
    Instance, PgError, Postmaster, disk,
    identity::{DirId, ProcessId},
    proc,
};

/// How long a start may take until the server listens. One that takes longer is left running: it is not dead.
const LISTEN: Duration = Duration::from_secs(15);

/// How long killed processes may take to go.
const LEAVING: Duration = Duration::from_secs(3);

/// How often `postmaster.pid` is looked at meanwhile: nobody tells us when it is written.
const LOOK: Duration = Duration::from_millis(2);

/// `postmaster.pid` has so many lines once the server listens (its status is the last one; `miscadmin.h`).
const LINES_WHEN_LISTENING: usize = 8;

/// At this size the log is put aside at a start, and the one put aside before is dropped.
const LOG_BYTES: u64 = 32 << 20;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One is running already.
    #[error("PostgreSQL is already running, as process {0}")]
    Running(u32),
    /// It ended before it had taken its lock file and ports.
    #[error("PostgreSQL ended at once ({status}): {log}")]
    Ended {
        /// How it ended.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// It could not even be tried.
    #[error(transparent)]
    Pg(#[from] PgError),
}

impl Instance {
    /// Starts `postgres` as a child in a process group of its own; it outlives this process. Returns once it holds its
    /// lock file and listens; whether it accepts connections is seen by connecting, and a later end by
    /// [`Postmaster::exited`] with [`Instance::log_tail`].
    ///
    /// # Errors
    /// [`StartError`], with the last lines of the log.
    pub async fn start(&self) -> Result<Postmaster, StartError> {
        let mut command = self.command("postgres");
        if let Some(pid) = self.past_the_dead(&mut command).await? {
            return Err(StartError::Running(pid));
        }
        // Whoever starts a server takes its directory for whole.
        self.forget_conf().await?;
        let path = self.log_file.clone();
        let (log, log_start) = self.disk.run("open the log", disk::SMALL, move || open_log(&path)).await?;
        let errors = disk::io("open", &self.log_file, log.try_clone())?;
        command.arg("-D").arg(&self.data_dir).args(&self.options);
        // After the options: of a setting given twice the last one counts.
        self.stay_in_recovery(&mut command).await?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0).kill_on_drop(false);

        let failed = |error| PgError::Io { what: "run postgres".to_owned(), error };
        let mut child = command.spawn().map_err(failed)?;
        let postmaster = match child.id() {
            Some(pid) => Postmaster::open(pid).map_err(failed)?,
            None => None,
        };
        // Known before anything else can happen to it: a start that is given up leaves it running.
        if let Some(id) = postmaster.as_ref().and_then(Postmaster::id) {
            self.known.look(id, None);
        }
        // Collects it whenever it ends, so that no zombie stands in the way of the next start.
        let collected = tokio::spawn(async move { child.wait().await });
        let ended = async {
            let status = match collected.await {
                Ok(Ok(status)) => status.to_string(),
                _ => "not known how".to_owned(),
            };
            StartError::Ended { status, log: self.log_tail_from(log_start).await }
        };
        let Some(postmaster) = postmaster else { return Err(ended.await) };
        tokio::select! {
            biased;
            error = ended => return Err(error),
            () = self.listens(postmaster.pid()) => {}
        }
        self.note(&postmaster);
        Ok(postmaster)
    }

    /// Lets a server start over what a dead one left. Some: it is not dead, a server is running.
    ///
    /// The lock file may name a zombie that its parent has not collected, or somebody else who got the number since:
    /// PostgreSQL believes in both ("lock file already exists"). It does not believe in one that its own grandparent
    /// wrote, and still checks that no orphan is attached to the shared memory named in it (`miscinit.c`).
    pub(super) async fn past_the_dead(&self, command: &mut Command) -> Result<Option<u32>, PgError> {
        if let Some(known) = self.known.living() {
            return Ok(Some(known.postmaster.pid));
        }
        let dir = self.dir_id().await?;
        if let Some(dir) = dir {
            self.let_leave(dir).await?;
        }
        let Some(pid) = self.lock_holder().await?.filter(|pid| proc::exists(*pid)) else { return Ok(None) };
        if dir.is_some_and(|dir| proc::serves(pid, dir)) {
            return Ok(Some(pid));
        }
        command.env("PG_GRANDPARENT_PID", pid.to_string());
        Ok(None)
    }

    /// Waits for killed processes that still give their memory back: PostgreSQL takes one for an orphan that is attached
    /// ("pre-existing shared memory block … is still in use"). One that does not go is left for PostgreSQL to name.
    async fn let_leave(&self, dir: DirId) -> Result<(), PgError> {
        let work = move || {
            let began = Instant::now();
            let look = |error| PgError::Io { what: "look through /proc".to_owned(), error };
            for pid in proc::all().map_err(look)? {
                let Some(process) = ProcessId::of(pid).filter(|_| proc::is_leaving(pid, dir)) else {
                    continue;
                };
                let left = LEAVING.saturating_sub(began.elapsed());
                process.wait(Timespec::try_from(left).unwrap_or_default());
            }
            Ok(())
        };
        // Nothing here touches the data directory; it is the waiting that blocks.
        self.disk.run("wait for killed processes", disk::SMALL, work).await
    }

    /// Until the server listens, or for as long as is waited for that.
    async fn listens(&self, pid: u32) {
        let until = Instant::now() + LISTEN;
        let own = pid.to_string();
        while Instant::now() < until {
            let lines = self.lock_file().await.unwrap_or_default();
            if lines.len() >= LINES_WHEN_LISTENING && lines.first() == Some(&own) {
                return;
            }
            sleep(LOOK).await;
        }
    }
}

/// Opens the log to append to, and says where what comes now begins.
fn open_log(path: &Path) -> Result<(File, u64), PgError> {
    let size = fs::metadata(path).map_or(0, |meta| meta.len());
    if size > LOG_BYTES {
        disk::io("put aside", path, fs::rename(path, path.with_extension("log.1")))?;
    }
    let log = disk::io("open", path, OpenOptions::new().create(true).append(true).open(path))?;
    Ok((log, if size > LOG_BYTES { 0 } else { size }))
}
