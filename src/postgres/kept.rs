//! A node's own configuration files, kept through a rewind or clone, which would bring the other node's.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Instance, Owner, PgError, disk};

/// What belongs to the host rather than to the data: ports, memory, paths, who may come in.
const OWN: [&str; 4] = ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"];

/// Where they wait while a rewind is under way, below the state directory.
pub(super) const FOLDER: &str = "kept";

/// Says that everything that belongs into safety is there.
pub(super) const WHOLE: &str = "whole";

impl Instance {
    /// Puts the files into safety. What is there from a rewind that was broken off is older, and stays.
    pub(super) async fn keep_conf(&self) -> Result<(), PgError> {
        let (data_dir, folder) = (self.data_dir.clone(), self.state_dir.join(FOLDER));
        let work = move || {
            if folder.join(WHOLE).exists() {
                return Ok(());
            }
            disk::io("make", &folder, fs::create_dir_all(&folder))?;
            // No business of PostgreSQL's user while it is here.
            let ours = Owner::this_process();
            copy_conf(&data_dir, &folder, &ours)?;
            disk::write_durably(&folder.join(WHOLE), b"", &ours)
        };
        self.disk.run("keep the configuration", disk::SMALL, work).await
    }

    /// Puts them back, and makes the directory a standby's: it must never come up as a second primary.
    pub(super) async fn give_conf_back(&self) -> Result<(), PgError> {
        let (data_dir, folder, owner) =
            (self.data_dir.clone(), self.state_dir.join(FOLDER), self.owner.clone());
        let work = move || {
            copy_conf(&folder, &data_dir, &owner)?;
            disk::write_durably(&data_dir.join("standby.signal"), b"", &owner)?;
            disk::remove_folder(&folder)
        };
        self.disk.run("put the configuration back", disk::SMALL, work).await
    }

    /// Forgets them: the directory is whole with the files it has.
    pub(super) async fn forget_conf(&self) -> Result<(), PgError> {
        let folder = self.state_dir.join(FOLDER);
        self.disk.run("forget kept configuration", disk::SMALL, move || disk::remove_folder(&folder)).await
    }

    /// Where the node's own files are: in safety, if a rewind was broken off and may have overwritten them.
    pub(super) fn own_conf(&self) -> PathBuf {
        let folder = self.state_dir.join(FOLDER);
        if folder.join(WHOLE).exists() { folder } else { self.data_dir.clone() }
    }
}

/// Copies the files that are there.
pub(super) fn copy_conf(from: &Path, to: &Path, owner: &Owner) -> Result<(), PgError> {
    for name in OWN {
        let path = from.join(name);
        match fs::read(&path) {
            Ok(bytes) => disk::write_durably(&to.join(name), &bytes, owner)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return disk::io("read", &path, Err(error)),
        }
    }
    Ok(())
}
