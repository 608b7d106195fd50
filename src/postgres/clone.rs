//! `pg_basebackup`: a new copy beside the old one, which is put aside only once the new one is whole.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::time::Instant;

use super::{
    Instance, Owner, PgError, Source, disk, kept,
    progress::Progress,
    run::{self, Limit},
};

/// What the old data directory is renamed to, after its name. The next clone that succeeds removes it.
pub const OLD_SUFFIX: &str = ".locum-old";

/// What the new one is called until it is whole.
pub(super) const NEW_SUFFIX: &str = ".locum-new";

/// How long `pg_basebackup` may show no sign of life: the upstream's checkpoint comes first.
const STALL: Limit = Limit::Stall(Duration::from_secs(120));

/// How long a question to the upstream may take.
const ASK: Limit = Limit::Total(Duration::from_secs(10));

/// Tablespaces other than the two every cluster has.
const TABLESPACES: &str =
    "SELECT spcname FROM pg_catalog.pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')";

/// From where to clone.
#[derive(Clone, Debug)]
pub struct CloneFrom {
    /// The server: the upstream, or a standby of it.
    pub source: Source,
    /// The physical slot on it that keeps WAL meanwhile and after; it must exist. None: one that ends with the copy.
    pub slot: Option<String>,
    /// How many bytes a second may be taken from it at most, 32 KiB to 1 GiB; None: as many as there are.
    pub max_rate: Option<u64>,
}

/// Why there is no clone. The old data directory is untouched in every case.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// It will not work until a person changes something: tablespaces, a mount point, a linked `pg_wal`.
    #[error("cannot be cloned: {0}")]
    Refused(String),
    /// Not enough room for a second copy.
    #[error("the disk is full; the old data directory is untouched: {0}")]
    DiskFull(String),
    /// It did not work this time.
    #[error(transparent)]
    Failed(PgError),
}

impl From<PgError> for CloneError {
    fn from(error: PgError) -> Self {
        if error.is_disk_full() { Self::DiskFull(error.to_string()) } else { Self::Failed(error) }
    }
}

impl Instance {
    /// Replaces the stopped server's directory by a copy of the upstream's. The directory keeps its own configuration
    /// files if it had any, and is a standby's when this returns. `progress` gets a line for people now and then: how
    /// much is copied, at what rate, how long it will take. Given up when there has been no sign of life for two minutes.
    /// Dropping the future kills what runs.
    ///
    /// # Errors
    /// [`CloneError`].
    pub async fn clone_upstream(
        &self,
        from: &CloneFrom,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<(), CloneError> {
        self.make_idle().await?;
        self.refuse_what_cannot_be_cloned(&from.source).await?;
        let place = Place {
            data_dir: self.data_dir.clone(),
            new: self.beside(NEW_SUFFIX),
            old: self.beside(OLD_SUFFIX),
            conf: self.own_conf(),
            owner: self.owner.clone(),
        };
        let made = place.clone();
        self.disk.run("make the new data directory", disk::LARGE, move || made.begin()).await?;
        if let Err(error) = self.base_backup(from, &place.new, &progress).await {
            // A disk that is full of half a copy helps nobody.
            let new = place.new.clone();
            let clear = move || disk::io("remove", &new, fs::remove_dir_all(&new));
            let _the_next_clone_tries_again = self.disk.run("remove half a copy", disk::LARGE, clear).await;
            return Err(error.into());
        }
        self.disk.run("put the new data directory in place", disk::LARGE, move || place.finish()).await?;
        Ok(self.forget_conf().await?)
    }

    /// A path beside the data directory, on the same file system.
    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.data_dir.file_name().map(OsString::from).unwrap_or_default();
        name.push(suffix);
        self.data_dir.with_file_name(name)
    }

    async fn refuse_what_cannot_be_cloned(&self, source: &Source) -> Result<(), CloneError> {
        let data_dir = self.data_dir.clone();
        let look = move || Ok(cannot_replace(&data_dir));
        if let Some(reason) = self.disk.run("look at the data directory", disk::SMALL, look).await? {
            return Err(CloneError::Refused(reason));
        }
        let mut command = self.command("psql");
        command.env("PGOPTIONS", super::psql::OPTIONS);
        command.args(["-X", "-A", "-t", "-w", "-c", TABLESPACES, "-d"]).arg(source.session("postgres"));
        let spaces = run::text("psql", command, ASK).await?;
        if spaces.trim().is_empty() {
            return Ok(());
        }
        let spaces = spaces.split_whitespace().collect::<Vec<_>>().join(", ");
        Err(CloneError::Refused(format!(
            "the upstream has tablespaces ({spaces}), whose folders may be taken here; clone by hand"
        )))
    }

    async fn base_backup(
        &self,
        from: &CloneFrom,
        new: &Path,
        progress: &(impl Fn(&str) + Send + Sync),
    ) -> Result<(), PgError> {
        let mut command = self.command("pg_basebackup");
        command.arg("--pgdata").arg(new).arg("--dbname").arg(from.source.replication());
        command.args(["--wal-method=stream", "--checkpoint=fast", "--progress", "--no-password"]);
        if let Some(slot) = &from.slot {
            command.arg(format!("--slot={slot}"));
        }
        if let Some(rate) = from.max_rate {
            command.arg(format!("--max-rate={}k", rate >> 10));
        }
        let tell = in_words(progress);
        let (ran, _) = run::run("pg_basebackup", command, STALL, &tell, std::io::read_to_string).await?;
        if ran.status.success() { Ok(()) } else { Err(ran.failure("pg_basebackup")) }
    }
}

/// What a program prints of its progress, as people want to read it.
pub(super) fn in_words(progress: &(impl Fn(&str) + Send + Sync)) -> impl Fn(&str) + Send + Sync {
    let (began, copy) = (Instant::now(), Mutex::new(Progress::default()));
    move |line| {
        // A poisoned one is some numbers short, no more.
        let text = copy.lock().unwrap_or_else(PoisonError::into_inner).tell(began.elapsed(), line);
        progress(&text);
    }
}

/// Why a directory cannot be replaced by another of the same name, if it cannot.
fn cannot_replace(data_dir: &Path) -> Option<String> {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    let parent = data_dir.parent()?;
    if data_dir.exists() && device(data_dir) != device(parent) {
        let advice = "a copy cannot be put in its place; use a folder below it";
        return Some(format!("{} is a mount point: {advice}", data_dir.display()));
    }
    let wal = data_dir.join("pg_wal");
    if fs::symlink_metadata(&wal).is_ok_and(|meta| meta.is_symlink()) {
        return Some(format!("{} is a symbolic link; clone by hand", wal.display()));
    }
    None
}

/// The three directories side by side.
#[derive(Clone, Debug)]
struct Place {
    data_dir: PathBuf,
    new: PathBuf,
    old: PathBuf,
    /// Where this node's own configuration files are.
    conf: PathBuf,
    owner: Owner,
}

impl Place {
    /// Makes the empty directory to copy into; of one left from before nothing is kept.
    fn begin(&self) -> Result<(), PgError> {
        disk::remove_folder(&self.new)?;
        disk::io("make", &self.new, fs::DirBuilder::new().mode(0o700).create(&self.new))?;
        disk::io("give away", &self.new, self.owner.give(&self.new))
    }

    /// Gives the new directory what it needs, puts it in place, and puts the old one aside. At every moment one whole
    /// copy is there.
    fn finish(&self) -> Result<(), PgError> {
        // The node's own, from the directory it had, or put into safety for the first one it gets.
        if self.data_dir.join("PG_VERSION").exists() || self.conf != self.data_dir {
            kept::copy_conf(&self.conf, &self.new, &self.owner)?;
        }
        disk::write_durably(&self.new.join("standby.signal"), b"", &self.owner)?;
        if !self.data_dir.exists() {
            disk::io("rename", &self.new, fs::rename(&self.new, &self.data_dir))?;
            return disk::sync_folder_of(&self.data_dir);
        }
        match renameat_with(CWD, &self.new, CWD, &self.data_dir, RenameFlags::EXCHANGE) {
            Ok(()) => {
                disk::sync_folder_of(&self.data_dir)?;
                disk::remove_folder(&self.old)?;
                disk::io("put aside", &self.new, fs::rename(&self.new, &self.old))?;
            }
            // A file system that cannot exchange: for a moment there is no data directory, but both copies are there.
            Err(_) => {
                disk::remove_folder(&self.old)?;
                disk::io("put aside", &self.data_dir, fs::rename(&self.data_dir, &self.old))?;
                disk::io("rename", &self.new, fs::rename(&self.new, &self.data_dir))?;
            }
        }
        disk::sync_folder_of(&self.data_dir)
    }
}
