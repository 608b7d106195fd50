//! A SQLite file of Locum's: made whole or not at all, recognised before it is touched, its errors put in words once.
//!
//! It must never be opened and closed by other means while this process uses it: closing *any* descriptor of a file
//! drops all POSIX locks that the process has on it (sqlite.org/howtocorrupt.html, 2.2).

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use crate::{
    clock::SystemClock,
    model::Mono,
    ports::{Clock, StoreError},
};

/// How long a transaction waits for another process's. Transactions take milliseconds; past this the other one is
/// frozen or its disk hangs, and whoever waits must hear of it while its lease still runs.
pub(super) const LOCK_WAIT: Duration = Duration::from_millis(500);
/// The pause between two tries for the lock; SQLite's own grow to 100 ms, which would be felt in a failover.
const LOCK_RETRY: Duration = Duration::from_millis(2);

/// What is kept of the write-ahead log after a checkpoint, in bytes: SQLite's own checkpoint threshold.
const WAL_KEPT: i64 = 4 << 20;
/// Page cache of a connection, in KiB (negative is SQLite's way to say so).
const CACHE: i64 = -512;

/// What a file is for.
#[derive(Debug)]
pub(super) struct Kind {
    /// As messages call it.
    pub(super) what: &'static str,
    /// In the file's header, so that no other program's database is taken for ours.
    pub(super) application_id: i32,
    /// The layout's version, in the header too.
    pub(super) format: i32,
    /// What makes the tables.
    pub(super) schema: &'static str,
    /// `FULL`: a commit is on the disk when it returns. `NORMAL`: a power cut may cost the last ones.
    pub(super) synchronous: &'static str,
}

/// One file, in place.
#[derive(Clone, Debug)]
pub(super) struct Database {
    path: PathBuf,
    kind: &'static Kind,
    /// Device and inode of what was opened.
    identity: (u64, u64),
}

impl Database {
    /// Finds the file, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the way out, if it cannot be used; [`StoreError::Busy`].
    pub(super) fn open(path: &Path, kind: &'static Kind) -> Result<Self, StoreError> {
        let path = std::path::absolute(path).map_err(|e| cannot(kind, path, "find", &e))?;
        let identity = match identity(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make(&path, kind)?;
                identity(&path)
            }
            found => found,
        };
        let identity = identity.map_err(|e| cannot(kind, &path, "open", &e))?;
        Ok(Self { path, kind, identity })
    }

    /// A new connection, after making sure that the file is what it should be.
    pub(super) fn connect(&self) -> Result<Connection, StoreError> {
        let explain = |error| self.explain(error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags).map_err(explain)?;
        connection.busy_handler(Some(wait_for_lock())).map_err(explain)?;
        self.recognise(&connection)?;
        if connection.is_readonly("main").map_err(explain)? {
            return Err(self.refused("is not writable by this user: run as its owner"));
        }
        self.prepare(&connection)?;
        self.in_place()?;
        Ok(connection)
    }

    /// Nothing is written to a file before it is known to be ours.
    fn recognise(&self, connection: &Connection) -> Result<(), StoreError> {
        let header = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        let owner = header("application_id").map_err(|e| self.explain(e))?;
        if owner != self.kind.application_id {
            let what = self.kind.what;
            return Err(self.refused(&format!(
                "is not a Locum {what}: name another file, or move this one away; it was left as it is"
            )));
        }
        let (format, ours) = (header("user_version").map_err(|e| self.explain(e))?, self.kind.format);
        if format != ours {
            return Err(self.refused(&format!(
                "has format {format}, and this version of Locum reads format {ours}: run the version that wrote \
                 it, or name another file; it was left as it is"
            )));
        }
        Ok(())
    }

    fn prepare(&self, connection: &Connection) -> Result<(), StoreError> {
        let explain = |error| self.explain(error);
        // A copy made with VACUUM INTO comes back without it.
        let to_wal = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let mode =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", to_wal).map_err(explain)?;
        if mode != "wal" {
            return Err(self.refused(&format!("stays in journal mode {mode}: put it on a local file system")));
        }
        let set = |name, value| connection.pragma_update(None, name, value).map_err(explain);
        connection.pragma_update(None, "synchronous", self.kind.synchronous).map_err(explain)?;
        set("journal_size_limit", WAL_KEPT)?;
        set("cache_size", CACHE)
    }

    /// Makes sure that the path still leads to the file that was opened: two processes on two files of one name
    /// would each elect a leader.
    pub(super) fn in_place(&self) -> Result<(), StoreError> {
        match identity(&self.path) {
            Ok(now) if now == self.identity => Ok(()),
            _ => {
                Err(self
                    .refused("was removed or replaced while in use: put it back, or restart every member"))
            }
        }
    }

    /// What an error of SQLite's means to the caller. The only place that decides this.
    pub(super) fn explain(&self, error: rusqlite::Error) -> StoreError {
        let rusqlite::Error::SqliteFailure(failure, _) = &error else {
            return self.refused(&format!("cannot be used: {error}"));
        };
        let what = self.kind.what;
        match failure.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
                StoreError::Busy(format!(
                    "another process has been writing to {} for more than {LOCK_WAIT:?}",
                    self.path.display()
                ))
            }
            ErrorCode::DiskFull => self.full(),
            // How SQLite reports that it cannot extend its shared-memory file.
            ErrorCode::SystemIoFailure if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => self.full(),
            ErrorCode::SystemIoFailure => {
                StoreError::Outage(format!("{what} {}: {error}", self.path.display()))
            }
            ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen => {
                self.refused(&format!(
                    "cannot be opened or written ({error}): it must be a file that this user may write, in a \
                     folder that this user may write"
                ))
            }
            ErrorCode::NotADatabase => self.refused(&format!(
                "is not a Locum {what}, nor any SQLite file: name another file, or move this one away; it was \
                 left as it is"
            )),
            ErrorCode::DatabaseCorrupt => self.refused(
                "is damaged: stop every member, keep it for a look, and put back a copy or begin with a new one",
            ),
            _ => self.refused(&format!("cannot be used: {error}")),
        }
    }

    fn full(&self) -> StoreError {
        self.refused("cannot grow, its file system is full: free some space; what was to be written was not")
    }

    fn refused(&self, what: &str) -> StoreError {
        StoreError::Refused(format!("{} {} {what}", self.kind.what, self.path.display()))
    }
}

/// What SQLite asks, with the number of tries so far, whether to try again. By the real clock, whatever clock the
/// leases run on; not by the number of tries, which last longer on a crowded machine.
#[expect(
    clippy::disallowed_methods,
    reason = "SQLite cannot wait for another process's lock in any other way"
)]
fn wait_for_lock() -> impl FnMut(i32) -> bool + Send + 'static {
    let mut since = Mono::default();
    move |tries| {
        if tries == 0 {
            since = SystemClock.now();
        }
        thread::sleep(LOCK_RETRY);
        SystemClock.now().since(since) < LOCK_WAIT
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

fn cannot(kind: &Kind, path: &Path, verb: &str, error: &io::Error) -> StoreError {
    StoreError::Refused(format!(
        "cannot {verb} {} {}: {error}; it must be a file that this user may write, in a folder that exists and \
         that this user may write",
        kind.what,
        path.display()
    ))
}

/// Makes the file under another name and gives it its own once it is whole, so that no other process ever sees half
/// of it. That another process was first is no error.
fn make(path: &Path, kind: &'static Kind) -> Result<(), StoreError> {
    let failed = |error: io::Error| cannot(kind, path, "make", &error);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if Path::new(&log).exists() {
        // SQLite would replay it into the new file.
        return Err(StoreError::Refused(format!(
            "{} {} is missing, but its log {} is there: put the file back, or remove the log too",
            kind.what,
            path.display(),
            Path::new(&log).display()
        )));
    }
    // In a folder of its own, so that nothing SQLite puts beside it is left when this fails. Made with mode 0600; the
    // log and shared memory get the same from SQLite.
    let drafts = tempfile::Builder::new().prefix(".locum-").tempdir_in(folder).map_err(failed)?;
    let draft = tempfile::NamedTempFile::new_in(drafts.path()).map_err(failed)?.into_temp_path();
    let explain = {
        let draft = Database { path: path.to_owned(), kind, identity: (0, 0) };
        move |error| draft.explain(error)
    };
    fill(&draft, kind).map_err(explain)?;
    match draft.persist_noclobber(path) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => return Err(failed(error.error)),
        _ => {}
    }
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn fill(draft: &Path, kind: &Kind) -> rusqlite::Result<()> {
    let connection = Connection::open(draft)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.execute_batch(kind.schema)?;
    connection.pragma_update(None, "user_version", kind.format)?;
    connection.pragma_update(None, "application_id", kind.application_id)?;
    // Closing brings everything from the log into the file, and removes the log.
    connection.close().map_err(|(_, error)| error)
}

#[cfg(test)]
mod tests {
    use super::*;

    static KIND: Kind = Kind {
        what: "test file",
        application_id: 77,
        format: 3,
        schema: "CREATE TABLE t(a)",
        synchronous: "FULL",
    };

    fn refusal(result: Result<Connection, StoreError>) -> String {
        match result {
            Err(StoreError::Refused(why)) => why,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn open(path: &Path) -> Result<Connection, StoreError> {
        Database::open(path, &KIND)?.connect()
    }

    #[test]
    fn a_full_disk_is_refused_with_the_file_and_the_way_out() {
        let folder = tempfile::tempdir().expect("folder");
        let database = Database::open(&folder.path().join("db"), &KIND).expect("open");
        let connection = database.connect().expect("connect");
        connection.pragma_update(None, "max_page_count", 4).expect("limit");
        let error = connection.execute("INSERT INTO t VALUES (zeroblob(100000))", []).expect_err("full");
        let why = refusal(Err(database.explain(error)));
        assert!(why.contains("/db cannot grow, its file system is full: free some space"), "{why}");
    }

    #[test]
    fn a_file_of_another_kind_or_format_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("db");
        for (content, expected) in [
            ("some text of the user's, long enough to be read as a header", "nor any SQLite"),
            ("", "not a Locum"),
        ] {
            fs::write(&path, content).expect("write");
            let why = refusal(open(&path));
            assert!(why.contains(expected) && why.contains("/db "), "{why}");
            assert_eq!(fs::read_to_string(&path).expect("read"), content);
        }
        fs::remove_file(&path).expect("remove");
        drop(open(&path).expect("made"));
        Connection::open(&path).and_then(|c| c.pragma_update(None, "user_version", 4)).expect("update");
        let why = refusal(open(&path));
        assert!(why.contains("has format 4") && why.contains("reads format 3"), "{why}");
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let why = refusal(open(Path::new("/nowhere/at/all/db")));
        assert!(why.contains("/nowhere/at/all/db") && why.contains("folder that exists"), "{why}");
    }

    #[test]
    fn a_log_without_its_file_is_not_replayed_into_a_new_one() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("db-wal"), "old").expect("write");
        let why = refusal(open(&folder.path().join("db")));
        assert!(why.contains("db-wal") && !folder.path().join("db").exists(), "{why}");
    }
}
