//! A certificate and its key on disk: whole or not at all, the key for its owner alone.

use std::{
    fs::{DirBuilder, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::tls::issue::Made;

/// Where both are.
pub(super) struct Pair {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl Pair {
    pub(super) fn of(dir: &Path, name: &str) -> Self {
        Self { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) }
    }

    /// The first of the two that is there.
    pub(super) fn existing(&self) -> Option<&Path> {
        [&self.cert, &self.key].into_iter().find(|path| path.symlink_metadata().is_ok()).map(PathBuf::as_path)
    }

    /// Writes both, the key first: a certificate without its key is of no use, and shows less.
    ///
    /// # Errors
    /// What could not be written, and why. Nothing that was there is replaced without `force`.
    pub(super) fn write(&self, made: &Made, force: bool) -> Result<(), (String, io::Error)> {
        let dir = self.cert.parent().unwrap_or_else(|| Path::new("."));
        let told = |path: &Path, error| (path.display().to_string(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| told(dir, error))?;
        for (path, text, mode) in [(&self.key, &made.key, 0o600), (&self.cert, &made.cert, 0o644)] {
            put(dir, path, text, mode, force).map_err(|error| told(path, error))?;
        }
        Ok(())
    }
}

fn put(dir: &Path, path: &Path, text: &str, mode: u32, force: bool) -> io::Result<()> {
    // Made with mode 0600, and only then opened as far as it is to be.
    let mut file =
        tempfile::NamedTempFile::new_in(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    if force {
        file.persist(path)?;
    } else {
        file.persist_noclobber(path)?;
    }
    Ok(())
}
