//! File work off the caller's loop: on a blocking thread, with a deadline, a bounded number at a time.
//!
//! A hung file system (NFS, a frozen volume) blocks a system call for ever and no one can interrupt it. So the caller
//! stops waiting; the thread stays behind and keeps its permit, so that no more than [`JOBS`] threads ever hang.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Semaphore, time::timeout};

use super::{Owner, PgError};

/// How many jobs may be under way, or hang, at a time for one data directory.
const JOBS: usize = 8;

/// How every program words ENOSPC under `LC_ALL=C`.
pub(super) const FULL: &str = "No space left on device";

/// For work on a few small files.
pub(super) const SMALL: Duration = Duration::from_secs(5);

/// For copying or removing whole trees: in proportion to their size, so this only ends what hangs.
pub(super) const LARGE: Duration = Duration::from_secs(1800);

/// Where file work is done.
#[derive(Clone, Debug)]
pub(super) struct Disk(Arc<Semaphore>);

impl Disk {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(JOBS)))
    }

    /// Does `job` on a blocking thread. After `deadline` it is left to itself.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        deadline: Duration,
        job: impl FnOnce() -> Result<T, PgError> + Send + 'static,
    ) -> Result<T, PgError> {
        let hung = PgError::Hung { what, after: deadline };
        let work = async {
            let permit = Arc::clone(&self.0).acquire_owned().await;
            let job = tokio::task::spawn_blocking(move || {
                let _held_until_it_returns = permit;
                job()
            });
            job.await.unwrap_or_else(|failed| Err(PgError::Nonsense(format!("{what}: {failed}"))))
        };
        timeout(deadline, work).await.unwrap_or(Err(hung))
    }
}

/// Turns an I/O error into one that says what was attempted on which path.
pub(super) fn io<T>(verb: &str, path: &Path, result: io::Result<T>) -> Result<T, PgError> {
    result.map_err(|error| PgError::Io { what: format!("{verb} {}", path.display()), error })
}

/// Replaces or creates a file so that after a crash either the old or the new one is there, whole.
pub(super) fn write_durably(path: &Path, bytes: &[u8], owner: &Owner) -> Result<(), PgError> {
    let mode = fs::metadata(path).map_or(0o600, |old| old.permissions().mode() & 0o7777);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!("{name}.locum-tmp"));
    let put = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        owner.give(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    io("write", path, put())?;
    sync_folder_of(path)
}

/// Removes a file durably. True: it was there.
pub(super) fn remove_durably(path: &Path) -> Result<bool, PgError> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder_of(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => io("remove", path, Err(error)),
    }
}

/// Makes names made or removed in the folder of `path` durable.
pub(super) fn sync_folder_of(path: &Path) -> Result<(), PgError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    io("sync", folder, File::open(folder).and_then(|f| f.sync_all()))
}

/// Reads a text file; None if it does not exist. Bytes that are no UTF-8 are replaced.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, PgError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => io("read", path, Err(error)),
    }
}

impl Owner {
    /// Makes a file this user's, where this process may do that.
    ///
    /// # Errors
    /// The file system refused.
    pub fn give(&self, path: &Path) -> io::Result<()> {
        if self.is_other() { chown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }
}

/// Removes a folder with all that is in it, if it is there.
pub(super) fn remove_folder(path: &Path) -> Result<(), PgError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => io("remove", path, Err(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const BRIEF: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_file_system_that_hangs_holds_up_nobody_and_not_without_bound() {
        let disk = Disk::new();
        let mut hung = Vec::new();
        for _ in 0..JOBS {
            let (thaw, frozen) = mpsc::channel::<()>();
            hung.push(thaw);
            let job = move || Ok(frozen.recv().is_ok());
            assert!(matches!(disk.run("write", BRIEF, job).await, Err(PgError::Hung { .. })));
        }
        // No further thread is given to it, …
        assert!(matches!(disk.run("write", BRIEF, || Ok(())).await, Err(PgError::Hung { .. })));
        // … until one comes back.
        drop(hung);
        assert!(disk.run("write", SMALL, || Ok(())).await.is_ok());
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (path, owner) = (folder.path().join("a.conf"), Owner::this_process());
        write_durably(&path, b"one", &owner).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write_durably(&path, b"two", &owner).unwrap();
        assert_eq!(read_text(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(remove_durably(&path).unwrap() && !remove_durably(&path).unwrap());
        assert_eq!(read_text(&path).unwrap(), None);
    }
}
