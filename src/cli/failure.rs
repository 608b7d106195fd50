//! How a command ends, and what it says when it did not do what was asked.

use std::process::ExitCode;

use super::output;

/// The exit codes of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Refused, or the cluster is not well.
    Refused,
    /// Wrong usage.
    Usage,
    /// Timed out with the outcome unknown.
    Unknown,
    /// This node was removed from the cluster, so its member ended. A service manager must not start it again.
    Removed,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::Unknown => 3,
            Exit::Removed => 4,
        })
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// Whoever read our output has gone. Not a failure at all: `locum report | head`.
    Closed,
    /// To be told: what is wrong, then what was left untouched and what to do, one line each.
    Told {
        /// The exit code.
        exit: Exit,
        /// What is wrong.
        what: String,
        /// What was left untouched, and what to do.
        hints: Vec<String>,
    },
}

impl Failure {
    /// Refused, with hints.
    pub(super) fn refused(what: impl Into<String>, hints: &[&str]) -> Self {
        Self::new(Exit::Refused, what, hints)
    }

    /// Any other.
    pub(super) fn new(exit: Exit, what: impl Into<String>, hints: &[&str]) -> Self {
        let hints = hints.iter().map(|&hint| hint.to_owned()).collect();
        Self::Told { exit, what: what.into(), hints }
    }

    /// Says it on stderr.
    pub(super) fn tell(self) -> ExitCode {
        match self {
            Self::Closed => Exit::Done.into(),
            Self::Told { exit, what, hints } => {
                let label =
                    if what.starts_with("error:") || what.starts_with("warning:") { "" } else { "error: " };
                output::talk(&format!("{label}{what}"));
                for hint in hints {
                    output::talk(&format!("  {hint}"));
                }
                exit.into()
            }
        }
    }
}

impl From<output::Closed> for Failure {
    fn from(_: output::Closed) -> Self {
        Self::Closed
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Refused, format!("{error:#}"), &[])
    }
}

impl From<crate::config::Problems> for Failure {
    fn from(problems: crate::config::Problems) -> Self {
        Self::new(Exit::Refused, problems.to_string(), &["Nothing was started or changed."])
    }
}
