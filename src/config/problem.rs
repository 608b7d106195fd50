//! What is wrong with a configuration: which key, where it came from, and the way out.

use std::fmt;

use super::Origin;

/// Whether a problem keeps the member from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It starts; an operator should know.
    Warning,
    /// It does not start.
    Error,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The key, as in `policy.hang`.
    pub key: String,
    /// Where its value came from, if it has one.
    pub origin: Option<Origin>,
    /// What is wrong, in words that follow the key.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    /// A problem that keeps the member from starting.
    pub(super) fn error(key: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Error, key: key.into(), origin: None, what: what.into(), fix: fix.into() }
    }

    /// A problem that an operator should know of.
    pub(super) fn warning(key: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(key, what, fix) }
    }

    /// The same, with the origin of the value.
    pub(super) fn from(self, origin: Option<Origin>) -> Self {
        Self { origin, ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{label}: {} {}", self.key, self.what)?;
        match &self.origin {
            None | Some(Origin::Default) => {}
            Some(origin @ Origin::Derived(_)) => write!(f, " (it {origin})")?,
            Some(origin) => write!(f, " (from {origin})")?,
        }
        write!(f, "\n  {}", self.fix)
    }
}

/// Everything that is wrong; at least one error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// Splits warnings off, or hands everything back if there is an error among it.
pub(super) fn only_warnings(problems: Vec<Problem>) -> Result<Vec<Problem>, Problems> {
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        Err(Problems(problems))
    } else {
        Ok(problems)
    }
}
