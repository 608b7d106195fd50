//! The highest stamp that this member ever read in the store, or heard that somebody knows of, kept on disk: a store that was
//! put back while every member was down is older than that, and whoever knew may not be there when it is looked at.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use tokio::sync::watch;

use crate::model::Stamp;

const FILE: &str = "remembered.json";

/// The file, and what stands in it.
#[derive(Debug)]
pub struct Remembered {
    stamp: Option<Stamp>,
    next: watch::Sender<Option<Stamp>>,
}

impl Remembered {
    /// Reads what is remembered. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// It is there and cannot be read: forgetting it silently could be taken for having seen nothing.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(FILE);
        let stamp = match fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (next, wanted) = watch::channel(stamp);
        tokio::spawn(keep(path, wanted));
        Ok(Self { stamp, next })
    }

    /// What stood there when it was opened.
    #[must_use]
    pub const fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// What is remembered now.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<Stamp>> {
        self.next.subscribe()
    }

    /// Has a higher stamp written, behind the caller's back: the loop waits for no disk.
    pub fn raise(&self, stamp: Option<Stamp>) {
        self.next.send_if_modified(|known| stamp > *known && std::mem::replace(known, stamp) != stamp);
    }
}

async fn keep(path: PathBuf, mut wanted: watch::Receiver<Option<Stamp>>) {
    while wanted.changed().await.is_ok() {
        let Some(stamp) = *wanted.borrow_and_update() else { continue };
        let file = path.clone();
        let written = tokio::task::spawn_blocking(move || write(&file, stamp)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, file = %path.display(), "what this member has read is not kept on disk");
        }
    }
}

fn write(path: &Path, stamp: Stamp) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(&stamp)?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}
