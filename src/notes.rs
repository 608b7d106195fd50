//! What a primary that the store had left alone told this member, kept on disk: whoever is promoted after that must have it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use crate::model::{Note, Noted};

const FILE: &str = "noted.json";
/// A primary tells several times a second. Shorter: more writes. Longer: a host that is lost with its primary forgets more.
const KEPT: Duration = Duration::from_secs(1);

/// The file, and what stands in it.
#[derive(Debug)]
pub struct Notes(watch::Sender<Option<Noted>>);

impl Notes {
    /// Reads what was told to earlier lives. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// It is there and cannot be read: forgetting it silently could be taken for having been told nothing.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(FILE);
        let note: Option<Note> = match fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (next, wanted) = watch::channel(note.map(|note| Noted { note, watched: false }));
        tokio::spawn(keep(path, wanted));
        Ok(Self(next))
    }

    /// Takes a note, and has it written behind the caller's back.
    pub fn take(&self, note: Note) {
        self.0.send_modify(|noted| {
            let note = note.over(noted.take().map(|noted| noted.note));
            *noted = Some(Noted { note, watched: true });
        });
    }

    /// What was told last.
    #[must_use]
    pub fn get(&self) -> Option<Noted> {
        self.0.borrow().clone()
    }
}

async fn keep(path: PathBuf, mut wanted: watch::Receiver<Option<Noted>>) {
    while wanted.changed().await.is_ok() {
        let Some(noted) = wanted.borrow_and_update().clone() else { continue };
        let file = path.clone();
        let done = tokio::task::spawn_blocking(move || write(&file, &noted.note)).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(%error, file = %path.display(), "what the primary told is not kept on disk");
        }
        sleep(KEPT).await;
    }
}

fn write(path: &Path, note: &Note) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(note)?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Epoch, Floors, Incarnation, Lsn, NodeId, Renewals, Stamp, StandbyName, Timeline, Version, WalPosition,
    };

    fn note(epoch: u64, renewals: u64, at: u64) -> Note {
        let incarnation = Incarnation(1);
        let position = WalPosition { timeline: Timeline(1), lsn: Lsn(at) };
        let mut floors = Floors::default();
        floors.raise(&StandbyName(format!("locum_b_{at}")), position);
        Note {
            node: NodeId::new("a").expect("good name"),
            stamp: Stamp { incarnation, epoch: Epoch(epoch), version: Version(1) },
            renewals: Some(Renewals { incarnation, count: renewals }),
            reached: Some(position),
            floors,
        }
    }

    fn count(note: &Note) -> (u64, usize) {
        (note.reached.expect("a position").lsn.0, note.floors.iter().count())
    }

    #[test]
    fn a_later_note_of_a_term_forgets_nothing_but_what_a_renewal_has_carried() {
        let first = note(2, 7, 10);
        assert_eq!(count(&note(2, 7, 20).over(Some(first.clone()))), (20, 2));
        assert_eq!(count(&note(2, 27, 5).over(Some(first.clone()))), (10, 2), "of a life that knows less");
        let carried = Note { reached: None, floors: Floors::default(), ..note(2, 8, 20) };
        assert_eq!(carried.clone().over(Some(first.clone())), carried);
        assert_eq!(count(&note(3, 7, 20).over(Some(first.clone()))), (20, 1), "of another term");
        assert_eq!(count(&note(1, 9, 20).over(Some(first))), (10, 1), "it comes late");
    }

    #[tokio::test]
    async fn what_was_told_is_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("dir");
        let notes = Notes::open(dir.path()).expect("open");
        assert_eq!(notes.get(), None);
        notes.take(note(2, 7, 10));
        assert!(notes.get().is_some_and(|noted| noted.watched));
        while !dir.path().join(FILE).exists() {
            tokio::task::yield_now().await;
        }
        let again = Notes::open(dir.path()).expect("open").get().expect("it was kept");
        assert_eq!((again.note, again.watched), (note(2, 7, 10), false));
    }
}
