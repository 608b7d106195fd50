//! A copy of the data directory as it was given up, so that people can look at its rows afterwards (`locum salvage open`).
//! Blocking.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
};

/// What is of another run, or of no use for looking at rows.
const LEFT_OUT: [&str; 4] = ["postmaster.pid", "postmaster.opts", "log", "pg_stat_tmp"];
/// In the top folder: nobody may take the copy for a standby, or wait for what it would recover from.
const SIGNALS: [&str; 3] = ["standby.signal", "recovery.signal", "recovery.conf"];

/// Copies it. What was not copied and why, in words; None: all is there.
///
/// # Errors
/// The file system refused.
pub(super) fn keep(data_dir: &Path, to: &Path, most: u64) -> io::Result<Option<String>> {
    if most == 0 {
        return Ok(Some("the data directory: salvage.max_copy is 0".to_owned()));
    }
    // A tablespace is elsewhere, and a link to it would lead to what is rewound.
    if fs::read_dir(data_dir.join("pg_tblspc"))?.next().is_some() {
        return Ok(Some("the data directory: it has tablespaces of its own".to_owned()));
    }
    let bytes = size(data_dir)?;
    if bytes > most {
        return Ok(Some(format!("the data directory: it has {bytes} bytes, and salvage.max_copy is {most}")));
    }
    copy(data_dir, to).map(|()| None)
}

/// Bytes of everything that would be copied.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in wanted(folder)? {
        let meta = fs::metadata(&entry)?;
        bytes += if meta.is_dir() { size(&entry)? } else { meta.len() };
    }
    Ok(bytes)
}

fn wanted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !LEFT_OUT.iter().chain(&SIGNALS).any(|left| name == *left) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Copies a folder with its owners and permissions; a link to another folder (`pg_wal`) becomes a folder. Where the file
/// system shares blocks, the kernel does.
///
/// # Errors
/// The file system refused.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::metadata(from)?;
    fs::create_dir(to)?;
    for entry in wanted(from)? {
        let target = to.join(entry.file_name().unwrap_or_default());
        let meta = fs::metadata(&entry)?;
        if meta.is_dir() {
            copy(&entry, &target)?;
        } else {
            fs::copy(&entry, &target)?;
            give(&target, &meta)?;
        }
    }
    fs::set_permissions(to, meta.permissions())?;
    give(to, &meta)
}

/// Only root gives files away; anybody else is their owner already.
fn give(path: &Path, like: &fs::Metadata) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        chown(path, Some(like.uid()), Some(like.gid()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_of_another_run_is_left_out_and_what_is_too_large_is_said() {
        let dir = tempfile::tempdir().expect("dir");
        let (from, to) = (dir.path().join("data"), dir.path().join("copy"));
        for folder in ["base/5", "pg_tblspc", "log"] {
            fs::create_dir_all(from.join(folder)).expect("folder");
        }
        for (name, bytes) in
            [("base/5/1259", 100), ("standby.signal", 0), ("postmaster.pid", 5), ("log/a", 900)]
        {
            fs::write(from.join(name), vec![b'x'; bytes]).expect("file");
        }
        assert!(keep(&from, &to, 99).expect("readable").is_some_and(|why| why.contains("100 bytes")));
        assert!(!to.exists());
        assert_eq!(keep(&from, &to, 100).expect("copied"), None);
        assert_eq!(fs::read(to.join("base/5/1259")).expect("a file").len(), 100);
        assert!(["standby.signal", "postmaster.pid", "log"].iter().all(|name| !to.join(name).exists()));
        symlink("/elsewhere", from.join("pg_tblspc/16400")).expect("a link");
        let why = keep(&from, &dir.path().join("another"), 1000).expect("readable");
        assert!(why.is_some_and(|why| why.contains("tablespaces")));
    }
}
