//! Keeping what a rewind or clone would destroy.

use std::path::PathBuf;

use super::{Instance, LostTail, PgError};
use crate::model::{Lsn, Timeline};

/// A salvage folder, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// The folder.
    pub dir: PathBuf,
    /// What the lost range holds.
    pub tail: LostTail,
    /// What was left out and why, if anything was.
    pub left_out: Option<String>,
}

impl Instance {
    /// Copies the WAL of the lost range and its listing into `<state_dir>/salvage/<id>/`. To be called before anything
    /// rewinds the data directory. Calling it again with the same `id` does it again, in place of the first.
    ///
    /// # Errors
    /// [`PgError`]; then nothing must be rewound without a person's word.
    pub async fn salvage(&self, id: &str, timeline: Timeline, from: Lsn) -> Result<Salvaged, PgError> {
        let _ = (id, timeline, from);
        todo!()
    }
}
