//! What `adopt` changes, one thing at a time, each with the way back.

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::postgres::Psql;

/// One change.
pub(super) struct Action {
    /// What for.
    pub(super) what: String,
    /// What is done, as a person would.
    pub(super) command: String,
    /// How to take it back.
    pub(super) undo: String,
    pub(super) deed: Deed,
}

/// How it is done.
pub(super) enum Deed {
    /// A file gets this text; its owner and mode stay.
    Write(PathBuf, String),
    /// A program.
    Run(Vec<String>),
    /// Statements on the node's own server.
    Sql(String),
}

impl Action {
    /// Does it.
    pub(super) async fn perform(&self, psql: &Psql, conninfo: &str) -> Result<(), String> {
        match &self.deed {
            Deed::Write(path, text) => {
                fs::write(path, text).map_err(|error| format!("write {}: {error}", path.display()))
            }
            Deed::Run(words) => {
                let (program, arguments) = words.split_first().ok_or("no program")?;
                let ran = Command::new(program).args(arguments).output();
                let ran = ran.map_err(|error| format!("run {program}: {error}"))?;
                let said = String::from_utf8_lossy(&ran.stderr);
                if ran.status.success() { Ok(()) } else { Err(format!("{program}: {}", said.trim())) }
            }
            Deed::Sql(sql) => psql.ask(conninfo, sql).await.map(|_| ()).map_err(|error| error.to_string()),
        }
    }

    pub(super) fn as_json(&self, done: bool) -> Value {
        json!({ "what": self.what, "command": self.command, "undo": self.undo, "done": done })
    }
}
