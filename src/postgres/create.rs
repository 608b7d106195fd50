//! `initdb`: a new database cluster, made beside its place and put there only once it is whole.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, time::timeout};

use super::{
    Instance, PgError, disk,
    run::{self, Limit},
};

/// What it is called until it is whole.
const MAKING_SUFFIX: &str = ".locum-init";
/// How long `initdb` may show no sign of life.
const STALL: Limit = Limit::Stall(Duration::from_secs(120));
/// How long the statements may take.
const STATEMENTS: Duration = Duration::from_secs(60);

/// What a new cluster is to be like.
#[derive(Clone, Debug, Default)]
pub struct NewCluster {
    /// Further arguments for `initdb`.
    pub initdb: Vec<String>,
    /// Lines for the end of `postgresql.conf`: what both nodes have alike.
    pub conf: String,
    /// Settings for `postgresql.auto.conf`: what is this node's alone.
    pub own: Vec<(String, String)>,
    /// The whole of `pg_hba.conf`.
    pub hba: String,
    /// Lines for the end of `pg_ident.conf`.
    pub ident: String,
    /// Statements, each ended by a semicolon and an empty line.
    pub sql: String,
}

impl Instance {
    /// Where a new cluster is being made.
    #[must_use]
    pub fn making_dir(&self) -> PathBuf {
        self.beside(MAKING_SUFFIX)
    }

    /// Makes a cluster with these settings and roles, and puts it in its place, which must be empty or not there. It
    /// is not started. `progress` gets a line for people at each step.
    ///
    /// # Errors
    /// [`PgError`]; nothing is left of it then.
    pub async fn create(&self, new: &NewCluster, progress: impl Fn(&str)) -> Result<(), PgError> {
        let (making, owner) = (self.making_dir(), self.owner.clone());
        let begin = {
            let making = making.clone();
            move || {
                disk::io("make", &making, fs::DirBuilder::new().mode(0o700).create(&making))?;
                disk::io("give away", &making, owner.give(&making))
            }
        };
        self.disk.run("make the new data directory", disk::SMALL, begin).await?;
        let made = self.fill(new, &making, &progress).await;
        if made.is_err() {
            self.discard_creation().await?;
        }
        made
    }

    /// Removes what an interrupted [`Instance::create`] left. True: there was something.
    ///
    /// # Errors
    /// [`PgError`]
    pub async fn discard_creation(&self) -> Result<bool, PgError> {
        let making = self.making_dir();
        let remove = move || {
            let there = making.exists();
            disk::remove_folder(&making)?;
            Ok(there)
        };
        self.disk.run("remove what was begun", disk::LARGE, remove).await
    }

    async fn fill(&self, new: &NewCluster, making: &Path, progress: &impl Fn(&str)) -> Result<(), PgError> {
        progress("initdb writes the files");
        let mut command = self.command("initdb");
        command.arg("-D").arg(making).arg("--data-checksums").args(&new.initdb);
        let (ran, _) = run::run("initdb", command, STALL, &|_| (), std::io::read_to_string).await?;
        if !ran.status.success() {
            return Err(ran.failure("initdb"));
        }
        progress("settings, and who may come in");
        let inside = Self { data_dir: making.to_owned(), ..self.clone() };
        inside.add_to("postgresql.conf", &new.conf).await?;
        inside.add_to("pg_ident.conf", &new.ident).await?;
        inside.replace("pg_hba.conf", &new.hba).await?;
        let own: Vec<_> = new.own.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        inside.set(&own).await?;
        if !new.sql.is_empty() {
            progress("roles");
            inside.alone(&new.sql).await?;
        }
        let (from, to) = (making.to_owned(), self.data_dir.clone());
        let place = move || {
            disk::io("put the new data directory at", &to, fs::rename(&from, &to))?;
            disk::sync_folder_of(&to)
        };
        self.disk.run("put the new data directory in place", disk::SMALL, place).await
    }

    async fn add_to(&self, name: &str, lines: &str) -> Result<(), PgError> {
        let (path, owner, lines) = (self.file(name), self.owner.clone(), lines.to_owned());
        let add = move || {
            let text = disk::read_text(&path)?.unwrap_or_default();
            disk::write_durably(&path, format!("{text}{lines}").as_bytes(), &owner)
        };
        self.disk.run("add settings", disk::SMALL, add).await
    }

    async fn replace(&self, name: &str, text: &str) -> Result<(), PgError> {
        let (path, owner, text) = (self.file(name), self.owner.clone(), text.to_owned());
        let write = move || disk::write_durably(&path, text.as_bytes(), &owner);
        self.disk.run("write settings", disk::SMALL, write).await
    }

    /// Runs statements in a server of its own that nobody can connect to (PostgreSQL manual, "postgres --single").
    async fn alone(&self, sql: &str) -> Result<(), PgError> {
        let mut command = self.command("postgres");
        // Statements that fail are not told: they may hold a password.
        command.args(["--single", "-j", "-c", "exit_on_error=true", "-c", "log_min_error_statement=panic"]);
        command.args(["-c", "log_statement=none", "-c", "search_path=pg_catalog", "-D"]).arg(&self.data_dir);
        command.arg("postgres").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let failed = |error| PgError::Io { what: "run postgres --single".to_owned(), error };
        let mut child = command.kill_on_drop(true).spawn().map_err(failed)?;
        let (stdin, sql) = (child.stdin.take(), sql.to_owned());
        let write = async move {
            match stdin {
                Some(mut stdin) => stdin.write_all(sql.as_bytes()).await,
                None => Ok(()),
            }
        };
        let said = |said: String| PgError::Program { program: "postgres --single".into(), said };
        let both = async { tokio::join!(write, child.wait_with_output()) };
        let Ok((written, done)) = timeout(STATEMENTS, both).await else {
            return Err(said(format!("not done after {STATEMENTS:?}, killed")));
        };
        let done = done.map_err(failed)?;
        if !done.status.success() {
            return Err(said(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
        }
        written.map_err(failed)
    }

    /// Makes the state directory, if it is not there, and gives it and what is directly in it to the owner of the data
    /// directory, where this process may: a member that runs as that user must be able to go on with it.
    ///
    /// # Errors
    /// [`PgError`]
    pub async fn own_state_dir(&self) -> Result<(), PgError> {
        let (dir, owner) = (self.state_dir.clone(), self.owner.clone());
        let give = move || {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            disk::io("make", &dir, made)?;
            disk::io("give away", &dir, owner.give(&dir))?;
            let mut folders = vec![dir];
            while let Some(folder) = folders.pop() {
                for entry in disk::io("read", &folder, fs::read_dir(&folder))? {
                    let entry = disk::io("read", &folder, entry)?;
                    disk::io("give away", &entry.path(), owner.give(&entry.path()))?;
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name() == "kept" {
                        folders.push(entry.path());
                    }
                }
            }
            Ok(())
        };
        self.disk.run("make the state directory", disk::SMALL, give).await
    }

    /// Keeps settings for the directory that a first clone will bring: the upstream's own would have its address.
    ///
    /// # Errors
    /// [`PgError`]
    pub async fn keep_own_settings(&self, own: &[(String, String)]) -> Result<(), PgError> {
        let folder = self.state_dir.join(super::kept::FOLDER);
        let inside = Self { data_dir: folder.clone(), ..self.clone() };
        let make = {
            let folder = folder.clone();
            move || disk::io("make", &folder, fs::create_dir_all(&folder))
        };
        self.disk.run("keep settings", disk::SMALL, make).await?;
        let own: Vec<_> = own.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        inside.set(&own).await?;
        inside.replace(super::kept::WHOLE, "").await
    }

    /// Why this is no place for a new data directory, and what to do, if so. Blocking.
    #[must_use]
    pub fn no_place(&self) -> Option<(String, String)> {
        let shown = self.data_dir.display();
        let making = self.making_dir();
        if making.exists() {
            let what = format!("{} was left by an init that was interrupted", making.display());
            return Some((
                what,
                format!("Nobody uses it. Remove it, and try again: rm -r {}", making.display()),
            ));
        }
        match fs::read_dir(&self.data_dir).map(|mut entries| entries.next().is_some()) {
            Ok(true) if self.data_dir.join("PG_VERSION").exists() => Some((
                format!("{shown} holds a database cluster already"),
                format!(
                    "To take over a running one: locum adopt. If an init was interrupted before its start: pg_ctl -D \
                     {shown} start, then locum run. Locum never removes one; if it is of no use: rm -r {shown}"
                ),
            )),
            Ok(true) => {
                let fix = "Name an empty directory, or one that does not exist yet; below a mount point, not the mount point itself.";
                Some((format!("{shown} is not empty"), fix.into()))
            }
            Ok(false) if mounted(&self.data_dir) => Some((
                format!(
                    "{shown} is a mount point: a clone, which is made beside it, could never take its place"
                ),
                format!("Use a directory below it: data_dir = \"{shown}/data\"."),
            )),
            Ok(false) => None,
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => Some((format!("{shown} cannot be used: {error}"), "Run it as root.".into())),
        }
    }
}

fn mounted(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    dir.parent().is_some_and(|parent| device(dir) != device(parent))
}

/// Whether others than its owner may read a file: libpq passes over such a password file.
#[must_use]
pub fn open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}
