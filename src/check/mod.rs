//! Before adoption: what one node lacks, and what differs between two. [`differences`] and [`wants`] are functions of
//! what was [`Seen`]; only [`read`] asks a server. Nothing here changes anything.

mod certificate;
mod compare;
mod hba;
mod read;
mod seen;
mod settings;
mod wants;
mod way;

use serde::Serialize;

pub use certificate::expiry;
pub use compare::differences;
pub use hba::{Way, may_enter};
pub(crate) use read::{REWIND, identifier};
pub use read::{Unread, may_stream, read};
pub use seen::{Certificate, Database, HbaRule, Role, Seen, Setting, Standby};
pub use wants::{Wanted, wants};
pub use way::ways_in;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Notice,
    /// To be changed by a reload.
    Reload,
    /// To be changed by a restart of PostgreSQL.
    Restart,
    /// The pair must not be adopted like that.
    Blocks,
}

impl Severity {
    /// As people read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Reload => "reload",
            Self::Restart => "restart needed",
            Self::Blocks => "blocks",
        }
    }
}

/// Whom a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// Both: they differ.
    Both,
    /// This node: it is not as it must be.
    Here,
    /// The other node: it is not as it must be.
    There,
}

/// One thing that differs, or is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What.
    pub what: String,
    /// Whom it is about.
    pub about: About,
    /// As it is on this node; of what concerns one node alone, as it is there.
    pub here: String,
    /// As it is on the other one; of what concerns one node alone, as it should be.
    pub there: String,
    /// Why it matters, and what to do.
    pub why: String,
    /// How much.
    pub severity: Severity,
}

impl Line {
    pub(crate) fn new(
        severity: Severity,
        what: impl Into<String>,
        (here, there): (impl Into<String>, impl Into<String>),
        why: impl Into<String>,
    ) -> Self {
        let (here, there) = (here.into(), there.into());
        Self { what: what.into(), about: About::Both, here, there, why: why.into(), severity }
    }

    /// The same as a thing of one node alone.
    pub(crate) fn about(self, about: About) -> Self {
        Self { about, ..self }
    }
}

/// The worst first; within that as they were found.
#[must_use]
pub fn sorted(mut lines: Vec<Line>) -> Vec<Line> {
    lines.sort_by_key(|line| std::cmp::Reverse(line.severity));
    lines
}
