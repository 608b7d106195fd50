//! The highest stamp and the latest renewal of the primary lease that this member ever read in the store, or heard that somebody
//! knows of, kept on disk: a store that was put back while every member was down is older than that, and whoever knew may not
//! be there when it is looked at.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use crate::model::Known;

const FILE: &str = "remembered.json";
/// The primary renews its lease several times a second, and what was forgotten of the last second is a second's worth of floors.
/// Shorter: more writes. Longer: more is forgotten.
const RENEWALS: Duration = Duration::from_secs(1);

/// The file, and what stands in it.
#[derive(Debug)]
pub struct Remembered {
    known: Known,
    next: watch::Sender<Known>,
}

impl Remembered {
    /// Reads what is remembered. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// It is there and cannot be read: forgetting it silently could be taken for having seen nothing.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(FILE);
        let known = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Known::default(),
            Err(error) => return Err(error),
        };
        let (next, wanted) = watch::channel(known);
        tokio::spawn(keep(path, wanted));
        Ok(Self { known, next })
    }

    /// What stood there when it was opened.
    #[must_use]
    pub const fn opened(&self) -> Known {
        self.known
    }

    /// What is remembered now.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Known> {
        self.next.subscribe()
    }

    /// Has more written, behind the caller's back: the loop waits for no disk.
    pub fn raise(&self, more: Known) {
        self.next.send_if_modified(|known| {
            let raised =
                Known { stamp: known.stamp.max(more.stamp), renewals: known.renewals.max(more.renewals) };
            std::mem::replace(known, raised) != raised
        });
    }
}

async fn keep(path: PathBuf, mut wanted: watch::Receiver<Known>) {
    let mut written = *wanted.borrow();
    loop {
        let known = *wanted.borrow_and_update();
        if known == written {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        }
        let file = path.clone();
        let done = tokio::task::spawn_blocking(move || write(&file, known)).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(%error, file = %path.display(), "what this member has read is not kept on disk");
        }
        if std::mem::replace(&mut written, known).stamp == known.stamp {
            // A stamp does not wait for the renewals.
            _ = timeout(RENEWALS, wanted.wait_for(|now| now.stamp > known.stamp)).await;
        }
    }
}

fn write(path: &Path, known: Known) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(&known)?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}
