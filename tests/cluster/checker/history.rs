//! What the clients did and were told, attempt by attempt.
//!
//! Written as JSON lines, so that others can check it. Each line is an object; `line` says what it is:
//!
//! * `attempt`: one commit of one row that no other attempt has. `writer`, `seq`: the row. `via`: where it was sent, an
//!   endpoint (`{"endpoint": HOST}`) or a node's own socket (`{"node": HOST}`). `start_us`, `end_us`: when it was sent and
//!   when its outcome was known, microseconds on one clock for all lines. `outcome`: see [`Outcome`]. `node`,
//!   `timeline`: who served it, as it said itself, where it said so. `error`: what was said otherwise.
//! * `read`: the highest `seq` of `writer` that was read through an endpoint; `seen` 0: none. Times as above.
//! * `fault`: `text`, `begin_us`, `heal_us`.
//! * `stray`: `node`, `began`: a server that was in recovery when that was ended by hand. `server` of an attempt says which run of a
//!   server acknowledged it.
//! * `row`: `writer`, `seq`, `count`: what the surviving primary holds in the end.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
};

use serde::{Serialize, Serializer};

use super::Survivor;

/// Where clients send what they send.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Via {
    /// The endpoint on this host.
    Endpoint(String),
    /// The socket of this host's PostgreSQL.
    Node(String),
}

/// What a client knows of its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// ReadyForQuery came: it must never be lost.
    Acknowledged,
    /// The same, with the warning that the wait for a standby was cancelled: the client was told that it may be lost.
    Warned,
    /// Refused by the server, or never sent: it must not be there.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// One attempt to commit one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Attempt {
    /// Who.
    pub(crate) writer: u32,
    /// Its number, unique for the writer.
    pub(crate) seq: u64,
    /// Where it was sent.
    #[serde(serialize_with = "shared")]
    pub(crate) via: Arc<Via>,
    /// When it was sent.
    pub(crate) start_us: u64,
    /// When its outcome was known.
    pub(crate) end_us: u64,
    /// Its outcome.
    pub(crate) outcome: Outcome,
    /// Who served it.
    #[serde(serialize_with = "shared_if_any")]
    pub(crate) node: Option<Arc<str>>,
    /// On which timeline.
    pub(crate) timeline: Option<u32>,
    /// When the server began that acknowledged it, as it said itself: one server leaves recovery once at most.
    #[serde(serialize_with = "shared_if_any")]
    pub(crate) server: Option<Arc<str>>,
    /// Why not.
    #[serde(serialize_with = "shared_if_any")]
    pub(crate) error: Option<Arc<str>>,
}

impl Attempt {
    /// The server said that it is committed, with or without a warning.
    #[must_use]
    pub(crate) fn is_told_committed(&self) -> bool {
        matches!(self.outcome, Outcome::Acknowledged | Outcome::Warned)
    }
}

/// One read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Read {
    /// Where.
    #[serde(serialize_with = "shared")]
    pub(crate) via: Arc<Via>,
    /// Whose rows.
    pub(crate) writer: u32,
    /// The highest number that was there; 0: none.
    pub(crate) seen: u64,
    /// When it was sent.
    pub(crate) start_us: u64,
    /// When the answer was there.
    pub(crate) end_us: u64,
    /// Who served it.
    #[serde(serialize_with = "shared_if_any")]
    pub(crate) node: Option<Arc<str>>,
}

/// When something was broken and healed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Broken {
    /// What.
    pub(crate) text: String,
    /// When it began.
    pub(crate) begin_us: u64,
    /// When it was healed; None: it was not.
    pub(crate) heal_us: Option<u64>,
}

/// Everything that clients saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// In the order in which they ended.
    pub(crate) attempts: Vec<Attempt>,
    /// The same.
    pub(crate) reads: Vec<Read>,
    /// Faults.
    pub(crate) faults: Vec<Broken>,
    /// Servers that were in recovery when it was ended by hand.
    pub(crate) strays: Vec<Server>,
}

/// One run of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Server {
    /// Its node.
    #[serde(serialize_with = "shared")]
    pub(crate) node: Arc<str>,
    /// When it began, in its own words.
    #[serde(serialize_with = "shared")]
    pub(crate) began: Arc<str>,
}

#[derive(Serialize)]
#[serde(tag = "line", rename_all = "lowercase")]
enum Line<'a> {
    Attempt(&'a Attempt),
    Read(&'a Read),
    Fault(&'a Broken),
    Stray(&'a Server),
    Row { writer: u32, seq: u64, count: u32 },
}

fn shared<T: Serialize + ?Sized, S: Serializer>(value: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
    T::serialize(value, to)
}

fn shared_if_any<S: Serializer>(value: &Option<Arc<str>>, to: S) -> Result<S::Ok, S::Error> {
    value.as_deref().serialize(to)
}

impl History {
    /// Writes it, and what survived, as JSON lines.
    ///
    /// # Errors
    /// As `out` says.
    pub(crate) fn write(&self, survivor: &Survivor, out: &mut impl Write) -> io::Result<()> {
        let mut line = |line: &Line<'_>| {
            serde_json::to_writer(&mut *out, line).map_err(io::Error::from)?;
            out.write_all(b"\n")
        };
        self.faults.iter().try_for_each(|fault| line(&Line::Fault(fault)))?;
        self.strays.iter().try_for_each(|stray| line(&Line::Stray(stray)))?;
        self.attempts.iter().try_for_each(|attempt| line(&Line::Attempt(attempt)))?;
        self.reads.iter().try_for_each(|read| line(&Line::Read(read)))?;
        let rows: BTreeMap<_, _> = survivor.rows.iter().collect();
        rows.into_iter().try_for_each(|(&(writer, seq), &count)| line(&Line::Row { writer, seq, count }))
    }

    /// It was acknowledged by a server that had left recovery by hand.
    #[must_use]
    pub(crate) fn is_stray(&self, attempt: &Attempt) -> bool {
        let by = |stray: &Server| {
            attempt.node.as_ref() == Some(&stray.node) && attempt.server.as_ref() == Some(&stray.began)
        };
        self.strays.iter().any(by)
    }

    /// How often each error was met, most frequent first.
    #[must_use]
    pub(crate) fn errors(&self) -> Vec<(Arc<str>, usize)> {
        let mut counts: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for error in self.attempts.iter().filter_map(|attempt| attempt.error.clone()) {
            *counts.entry(error).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }
}
