//! `locum` as a command that a person types.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

/// What it said, and how it ended.
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Told {
    /// Everything in one text, for messages.
    pub(crate) fn all(&self) -> String {
        format!("exit {}\n{}{}", self.code, self.out, self.err)
    }

    /// The output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.all()))
    }

    /// Fails unless it ended like this and said all of these.
    pub(crate) fn expect(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, code, "{}", self.all());
        for part in parts {
            assert!(self.all().contains(part), "expected {part:?} in {}", self.all());
        }
        self
    }
}

/// The command, not started.
pub(crate) fn command(arguments: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
    command.args(arguments).arg("-c").arg(config).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn locum(arguments: &[&str], config: &Path) -> Told {
    told(command(arguments, config).output().expect("locum runs"))
}

pub(crate) fn told(done: Output) -> Told {
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Told { code: done.status.code().unwrap_or(-1), out: text(done.stdout), err: text(done.stderr) }
}
