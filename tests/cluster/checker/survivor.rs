//! What is left in the end.

use std::collections::HashMap;

use anyhow::{Context as _, Result};

use super::judge::Row;
use crate::lab::{Lab, postgres};

/// What the surviving primary holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survivor {
    /// Its name.
    pub(crate) node: String,
    /// Each row, and how often it is there.
    pub(crate) rows: HashMap<Row, u32>,
}

impl Survivor {
    /// Reads it from the declared primary, over its socket: rows of writers from `first` on.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn read(lab: &Lab, first: u32) -> Result<Self> {
        let node = lab.primary().await;
        let sql = format!("SELECT writer, seq, count(*) FROM journal WHERE writer >= {first} GROUP BY 1, 2");
        let text = postgres::ask(&lab.plan, &node, &sql)?;
        let row = |line: &str| {
            let mut fields = line.split('|');
            let mut next = || fields.next()?.parse::<u64>().ok();
            Some(((u32::try_from(next()?).ok()?, next()?), u32::try_from(next()?).ok()?))
        };
        let rows = text.lines().map(|line| row(line).with_context(|| format!("a row: {line:?}")));
        Ok(Self { node, rows: rows.collect::<Result<_>>()? })
    }
}
