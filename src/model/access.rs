//! Which server answers at a node, and whom it lets in: the agent itself, and a client.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Mono, Seen, SystemId};

/// A refused login is a sign of life for this long. Longer than the pause between two probes of an idle server. Shorter: a
/// living server is taken for a hanging one. Longer: one that stops answering after refusals is replaced later.
const REFUSAL_COUNTS: Duration = Duration::from_secs(5);
/// What a client met counts for this long: twice the pause between two looks, and one look more.
const CLIENT_COUNTS: Duration = Duration::from_secs(15);

/// Which running postmaster answers on a connection. A copy or a clone shares the system identifier and every setting with its
/// source, but not the moment of its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerIdentity {
    /// The identity of its data directory.
    pub system: SystemId,
    /// `pg_postmaster_start_time()`, in microseconds since 1970 by that host's clock.
    pub started_us: i64,
    /// The nonce that its agent wrote after this start (`locum.server`), once new sessions have it. None: not yet.
    pub nonce: Option<String>,
}

impl ServerIdentity {
    /// Why `other`, read over a connection, is not the server whose agent reports this; None: it is.
    ///
    /// A nonce that is not in force yet is not compared: the start alone tells then.
    #[must_use]
    pub fn differs_from(&self, other: &Self) -> Option<String> {
        if self.system != other.system {
            return Some(format!("its system identifier is {}, not {}", other.system, self.system));
        }
        if self.started_us != other.started_us {
            return Some(
                "its postmaster was started at another time: it is another server, or a copy".into(),
            );
        }
        (self.nonce.is_some() && self.nonce != other.nonce)
            .then(|| "it does not have the nonce that the agent wrote (locum.server)".into())
    }
}

/// What a client would meet: a fresh login with the role and database of `postgres.verify`, at the node's own address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "meets", rename_all = "snake_case")]
pub enum ClientLook {
    /// It is let in, and its transactions may write once this server is the primary.
    Service,
    /// It is let in, but its transactions are read-only by default.
    ReadOnly {
        /// The setting.
        setting: String,
        /// Where it is set.
        source: String,
    },
    /// It is not let in, or another server answers at the address.
    Refused {
        /// In PostgreSQL's own words where it answered.
        said: String,
    },
}

impl fmt::Display for ClientLook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service => f.write_str("clients are served"),
            Self::ReadOnly { setting, source } => {
                write!(f, "clients could not write: {setting} is on, set by {source}")
            }
            Self::Refused { said } => write!(f, "clients could not log in: {said}"),
        }
    }
}

/// Who is let in at a node's server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AccessFacts {
    /// The postmaster that the agent watches. None: it has not been logged into yet.
    pub identity: Option<ServerIdentity>,
    /// The last login of the agent's own that its server refused, in PostgreSQL's words; None: the last one was let in.
    pub refused: Option<Seen<String>>,
    /// `postgres.connect` leads to a server that is not this node's: what was seen there.
    pub elsewhere: Option<String>,
    /// The path of the data directory does not lead to where this server runs any more: what became of it.
    #[serde(default)]
    pub moved: Option<String>,
    /// The server had let its agent in, and now says that it is not ready: it recovers by itself behind its living postmaster.
    #[serde(default)]
    pub recovering: bool,
    /// What a client last met. None: not looked at yet, or nobody answered in time.
    pub client: Option<Seen<ClientLook>>,
}

impl AccessFacts {
    /// The server answers, but its own agent is not let in: what it says. None: it is let in, or the server has not answered
    /// lately.
    #[must_use]
    pub fn refusal(&self, now: Mono) -> Option<&str> {
        let fresh = self.refused.as_ref().filter(|seen| now.since(seen.at) <= REFUSAL_COUNTS);
        fresh.map(|seen| seen.value.as_str())
    }

    /// What a client met lately. None: not known.
    #[must_use]
    pub fn client(&self, now: Mono) -> Option<&ClientLook> {
        self.client.as_ref().filter(|seen| now.since(seen.at) <= CLIENT_COUNTS).map(|seen| &seen.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_told_by_its_start_and_a_stranger_by_its_system() {
        let own = ServerIdentity { system: SystemId(1), started_us: 5, nonce: Some("a".into()) };
        assert_eq!(own.differs_from(&own.clone()), None);
        let copy = ServerIdentity { started_us: 6, ..own.clone() };
        assert!(own.differs_from(&copy).is_some_and(|why| why.contains("copy")));
        let other = ServerIdentity { system: SystemId(2), ..own.clone() };
        assert!(own.differs_from(&other).is_some_and(|why| why.contains("system identifier")));
        let without = ServerIdentity { nonce: None, ..own.clone() };
        assert!(own.differs_from(&without).is_some(), "the nonce was reported, and is missing");
        assert_eq!(without.differs_from(&own), None, "it is not in force yet as far as the agent knows");
    }

    #[test]
    fn a_refusal_that_grew_old_is_no_sign_of_life() {
        let refused = Some(Seen { value: "no entry (28000)".to_owned(), at: Mono(10_000_000) });
        let facts = AccessFacts { refused, ..AccessFacts::default() };
        assert_eq!(facts.refusal(Mono(14_000_000)), Some("no entry (28000)"));
        assert_eq!(facts.refusal(Mono(16_000_000)), None);
    }
}
