//! The demo's temporary directory: everything it makes lies in it, and it is removed at the end.
//!
//! Nothing outside it is ever written.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::machine::Account;

/// What a run needs at most: two data directories with their WAL, a clone being made, and logs.
const NEEDED_BYTES: u64 = 400 << 20;
/// A socket's path may have 107 bytes (`sockaddr_un`); `/seoul/run/.s.PGSQL.65535` and room to spare.
const LONGEST_PATH: usize = 107 - 40;
/// What the directory's name begins with.
pub(crate) const PREFIX: &str = "locum-demo-";
/// How many lines of each log are shown when something fails.
const TAIL_LINES: usize = 8;
/// What to say when the disk ran full on the way.
pub(crate) const FULL: &str =
    "the disk of the temporary directory is full; make room, or set TMPDIR to a directory on another disk";
/// What PostgreSQL says to a connection that comes too early: the demo's own attempts, of no interest.
const NOISE: &str = "the database system is starting up";

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    account: Option<Account>,
}

impl Folder {
    /// Makes it, under `TMPDIR` or `/tmp`. Others may pass through it when PostgreSQL runs as another user, but not
    /// list it.
    ///
    /// # Errors
    /// The place is not writable, too full, or its name too long for a socket.
    pub(crate) fn create(account: Option<&Account>) -> Result<Self> {
        let parent = std::env::temp_dir();
        let way_out = "set TMPDIR to a directory that is writable";
        let parent = fs::canonicalize(&parent)
            .with_context(|| format!("temporary directory {} cannot be used; {way_out}", parent.display()))?;
        if parent.as_os_str().len() + PREFIX.len() + 6 > LONGEST_PATH {
            bail!(
                "the name of {} is too long for PostgreSQL's sockets; set TMPDIR to a shorter one",
                parent.display()
            );
        }
        enough_space(&parent)?;
        let made = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent);
        let path = made.with_context(|| format!("cannot write in {}; {way_out}", parent.display()))?.keep();
        let folder = Self { path, account: account.cloned() };
        let mode = if account.is_some() { 0o711 } else { 0o700 };
        fs::set_permissions(&folder.path, fs::Permissions::from_mode(mode)).context("set permissions")?;
        folder.private("log")?;
        Ok(folder)
    }

    /// One that exists already, and in which nothing will be made any more.
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self { path, account: None }
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// A log file in it.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.path.join("log").join(format!("{name}.log"))
    }

    /// Makes a subdirectory that only we may enter.
    pub(crate) fn private(&self, name: &str) -> Result<PathBuf> {
        let path = self.join(name);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).context("set permissions")?;
        Ok(path)
    }

    /// Makes a subdirectory that belongs to the user PostgreSQL runs as, and that only it may enter.
    pub(crate) fn for_postgres(&self, name: &str) -> Result<PathBuf> {
        let path = self.private(name)?;
        self.give(&path)?;
        Ok(path)
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn secret(&self, name: &str, text: &str, for_postgres: bool) -> Result<PathBuf> {
        let path = self.join(name);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("create {}", path.display()))?;
        file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))?;
        if for_postgres {
            self.give(&path)?;
        }
        Ok(path)
    }

    fn give(&self, path: &Path) -> Result<()> {
        match &self.account {
            Some(to) => chown(path, Some(to.uid), Some(to.gid))
                .with_context(|| format!("give {} to user {}", path.display(), to.name)),
            None => Ok(()),
        }
    }

    /// The last lines of every log, for a person who must find out what went wrong.
    pub(crate) fn tails(&self) -> String {
        let mut text = String::new();
        let mut logs: Vec<_> =
            fs::read_dir(self.join("log")).into_iter().flatten().flatten().map(|e| e.path()).collect();
        logs.sort();
        for log in logs {
            let content = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
            let lines: Vec<_> = content.lines().filter(|line| !line.contains(NOISE)).collect();
            if !lines.is_empty() {
                let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n    ");
                text.push_str(&format!("  {name}:\n    {tail}\n"));
            }
        }
        text
    }

    /// Removes it with all that is in it. Only after everything that runs in it has ended.
    pub(crate) fn remove(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Refuses to begin what a full disk would end.
fn enough_space(parent: &Path) -> Result<()> {
    let space = rustix::fs::statvfs(parent).with_context(|| format!("look at {}", parent.display()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < NEEDED_BYTES {
        bail!(
            "{} has {} MB left, and the demo needs up to {} MB; make room, or set TMPDIR to a directory on another disk",
            parent.display(),
            free >> 20,
            NEEDED_BYTES >> 20
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_readable_by_their_owner_only_and_nothing_is_left() {
        let folder = Folder::create(None).expect("folder");
        let secret = folder.secret("token", "x", false).expect("secret");
        assert_eq!(fs::metadata(secret).expect("metadata").permissions().mode() & 0o777, 0o600);
        fs::write(folder.log("seoul"), "one\ntwo\n").expect("write");
        assert!(folder.tails().contains("seoul.log:\n    one\n    two"));
        folder.remove().expect("remove");
        assert!(!folder.path().exists());
        folder.remove().expect("removing what is gone is no error");
    }
}
