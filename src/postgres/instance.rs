//! One data directory with the programs that work on it.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::process::Command;

use super::{
    Owner, PgError, SalvageLimits,
    disk::{self, Disk},
    known::Known,
    run::{self, Limit},
};
use crate::config;

/// How much of the end of the log is shown to people.
const TAIL_BYTES: u64 = 4096;

/// For programs that only read a small file and print.
pub(super) const QUICK: Limit = Limit::Total(Duration::from_secs(10));

/// What systemd tells a service by, and no child of it.
const SYSTEMD: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// How a unit file says that PostgreSQL's children are the first to be killed when memory runs out (PostgreSQL
/// manual, 19.4.4): the one setting of the surroundings that the server is to have.
const OOM: &str = "PG_OOM_ADJUST_";

/// Why a data directory cannot be worked with. A person must look.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The file system refused.
    #[error("{what}: {error}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why not.
        error: io::Error,
    },
    /// PostgreSQL does not run as root.
    #[error("{0} belongs to root; PostgreSQL refuses to run as root: give it to the user it shall run as")]
    OwnedByRoot(PathBuf),
    /// There is no such user.
    #[error("there is no user {0:?} on this host; PostgreSQL must not run as root")]
    NoUser(String),
}

/// One PostgreSQL: where its files are and how its programs are run. Cheap to clone; clones share their bounds.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Without symbolic links. Only where files are: what runs there is told by [`Known`].
    pub(super) data_dir: PathBuf,
    pub(super) bin_dir: PathBuf,
    /// Arguments for `postgres`, one word each.
    pub(super) options: Vec<String>,
    pub(super) log_file: PathBuf,
    pub(super) state_dir: PathBuf,
    pub(super) owner: Owner,
    pub(super) disk: Disk,
    /// The servers that were seen here and not yet seen gone.
    pub(super) known: Known,
    /// One change of `postgresql.auto.conf` at a time.
    pub(super) conf: Arc<Mutex<()>>,
    /// One salvage at a time works on its folder; the number of the last one that began.
    pub(super) salvages: Arc<Mutex<u64>>,
    pub(super) salvage_limits: SalvageLimits,
}

impl Instance {
    /// Looks at the data directory once (blocking; call it at start). If it does not exist yet, its future owner is
    /// this process's user or, as root, the user `postgres`.
    ///
    /// # Errors
    /// [`InstanceError`]: nothing can be done with this directory.
    pub fn new(config: &config::Postgres, state_dir: &Path) -> Result<Self, InstanceError> {
        let data_dir = resolve(&config.data_dir).map_err(|error| InstanceError::Io {
            what: format!("find {}", config.data_dir.display()),
            error,
        })?;
        Ok(Self {
            owner: Owner::of(&data_dir)?,
            data_dir,
            bin_dir: config.bin_dir.clone(),
            options: words(&config.options),
            log_file: state_dir.join("postgres.log"),
            state_dir: state_dir.to_owned(),
            disk: Disk::new(),
            known: Known::default(),
            conf: Arc::default(),
            salvages: Arc::default(),
            salvage_limits: config.salvage,
        })
    }

    /// The data directory, without symbolic links.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where what PostgreSQL says before its own logging begins is kept.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log_file
    }

    /// Who PostgreSQL's programs run as.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// A program of PostgreSQL, ready to be given arguments: as the owner, in English, from a folder that does not
    /// hang, and without this process's own `PG…` settings, which could send it elsewhere. Nor does it get systemd's:
    /// PostgreSQL would speak to it in the member's name.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.owner.command(self.bin_dir.join(program).as_os_str());
        for (name, _) in std::env::vars_os() {
            let name_shown = name.to_string_lossy();
            if name_shown.starts_with("PG") && !name_shown.starts_with(OOM) {
                command.env_remove(name);
            }
        }
        SYSTEMD.iter().for_each(|name| _ = command.env_remove(name));
        command.env("LC_ALL", "C").current_dir("/");
        command
    }

    /// The major version of the server binary: 14 to 18 are known to work.
    ///
    /// # Errors
    /// [`PgError`] if `postgres --version` does not work.
    pub async fn version(&self) -> Result<u32, PgError> {
        let mut command = self.command("postgres");
        command.arg("--version");
        let text = run::text("postgres", command, QUICK).await?;
        parse_version(&text).ok_or_else(|| PgError::Nonsense(format!("no version of PostgreSQL: {text:?}")))
    }

    /// Bytes that are free where the data directory and `pg_wal` are: the lesser of both, if they are apart.
    ///
    /// # Errors
    /// [`PgError`]: one of them is not there, or the file system hangs.
    pub async fn disk_free(&self) -> Result<u64, PgError> {
        let folders = [self.data_dir.clone(), self.file("pg_wal")];
        let look = move || {
            let free = folders.iter().map(|folder| {
                let seen = rustix::fs::statvfs(folder).map_err(io::Error::from);
                disk::io("look at the file system of", folder, seen).map(|seen| seen.f_bavail * seen.f_frsize)
            });
            free.collect::<Result<Vec<_>, _>>().map(|free| free.into_iter().min().unwrap_or(0))
        };
        self.disk.run("look for free space", disk::SMALL, look).await
    }

    /// The last lines of the log file, at most some 4 KB; empty if there is none.
    pub async fn log_tail(&self) -> String {
        self.log_tail_from(0).await
    }

    /// The last lines that were written at or after byte `start`.
    pub(super) async fn log_tail_from(&self, start: u64) -> String {
        let path = self.log_file.clone();
        let read = move || disk::io("read", &path, tail(&path, start));
        self.disk.run("read the log", disk::SMALL, read).await.unwrap_or_default()
    }

    /// A file or folder of the data directory.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.data_dir.join(name)
    }
}

/// The path without symbolic links. The last part need not exist.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            Ok(fs::canonicalize(parent)?.join(name))
        }
        (found, _, _) => found,
    }
}

/// Options as single words: a person may write `-c name=value` as one.
fn words(options: &[String]) -> Vec<String> {
    let split = |option: &String| match option.split_once(char::is_whitespace) {
        Some(("-c", setting)) => vec!["-c".to_owned(), setting.trim_start().to_owned()],
        _ => vec![option.clone()],
    };
    options.iter().flat_map(split).collect()
}

fn parse_version(text: &str) -> Option<u32> {
    let number = text.strip_prefix("postgres (PostgreSQL) ")?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn tail(path: &Path, start: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_with_its_value_in_one_word_is_taken_apart() {
        let given = ["-c config_file=/etc/a b.conf".to_owned(), "-c".to_owned(), "port=1".to_owned()];
        assert_eq!(words(&given), ["-c", "config_file=/etc/a b.conf", "-c", "port=1"]);
    }

    #[test]
    fn the_version_is_the_first_number() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_version("something else 15"), None);
    }
}
