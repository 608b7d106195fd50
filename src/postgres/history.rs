//! Timeline history files (PostgreSQL manual, 26.3.5).

use super::{Instance, PgError};
use crate::model::{Switch, Timeline};

/// A line that does not belong in a history file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a line of a timeline history: {0:?}")]
pub struct BadHistory(pub String);

/// The switches in a history file, oldest first.
///
/// # Errors
/// [`BadHistory`]: a line that makes no sense, or timelines that do not grow.
pub fn parse_history(text: &str) -> Result<Vec<Switch>, BadHistory> {
    let _ = text;
    todo!()
}

impl Instance {
    /// The switches that led to `timeline`, from its history file; empty for the first timeline.
    ///
    /// # Errors
    /// [`PgError`], also if there is no such file.
    pub async fn history(&self, timeline: Timeline) -> Result<Vec<Switch>, PgError> {
        let _ = timeline;
        todo!()
    }
}
