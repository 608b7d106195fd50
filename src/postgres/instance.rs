//! One data directory with the programs that work on it.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use super::PgError;
use crate::config;

/// The user PostgreSQL's programs run as when Locum is root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

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

/// One PostgreSQL: where its files are and how its programs are run. Cheap to share behind an `Arc`.
#[derive(Clone, Debug)]
pub struct Instance {
    pub(super) data_dir: PathBuf,
    pub(super) bin_dir: PathBuf,
    pub(super) options: Vec<String>,
    pub(super) log_file: PathBuf,
    pub(super) state_dir: PathBuf,
    pub(super) owner: Owner,
}
impl Instance {
    /// Looks at the data directory once (blocking; call it at start). If it does not exist yet, its future owner is this
    /// process's user or, as root, the user `postgres`.
    ///
    /// # Errors
    /// [`InstanceError`]: nothing can be done with this directory.
    pub fn new(config: &config::Postgres, state_dir: &Path) -> Result<Self, InstanceError> {
        let _ = (config, state_dir);
        todo!()
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
    /// A program of PostgreSQL, ready to be given arguments.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let _ = program;
        todo!()
    }
    /// The major version of the server binary: 14 to 18 are known to work.
    ///
    /// # Errors
    /// [`PgError`] if `postgres --version` does not work.
    pub async fn version(&self) -> Result<u32, PgError> {
        todo!()
    }
    /// The last lines of the log file, at most some 4 KB; empty if there is none.
    pub async fn log_tail(&self) -> String {
        let _ = Duration::ZERO;
        todo!()
    }
}
