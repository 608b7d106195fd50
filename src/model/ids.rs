//! Names of things. Each is checked once, where it enters, and is then known to be good. Copies share one text: names are
//! copied with every fact and every decision.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// A name that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is not a usable {what}: use 1 to 40 lower-case letters, digits and '-', beginning with a letter"
)]
pub struct BadName {
    /// What it was meant to name.
    pub what: &'static str,
    /// What was given.
    pub name: String,
}

fn check(what: &'static str, name: &str) -> Result<(), BadName> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = (1..=40).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(plain);
    if good { Ok(()) } else { Err(BadName { what, name: name.to_owned() }) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("Checks and takes the name of a ", $what, ".")]
            ///
            /// # Errors
            /// [`BadName`] if it has other characters or the wrong length.
            pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
                let name = name.into();
                check($what, &name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(name: String) -> Result<Self, BadName> {
                Self::new(name)
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadName;
            fn from_str(name: &str) -> Result<Self, BadName> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// One host of the cluster, and the member that runs on it.
    NodeId, "node"
}
name! {
    /// One protected service.
    ClusterName, "cluster"
}
name! {
    /// What clients connect to.
    EndpointName, "endpoint"
}

impl NodeId {
    /// The physical replication slot that a primary keeps for this node: `locum_` and the name with `_` for `-`.
    /// PostgreSQL allows lower-case letters, digits and `_` (manual, 27.2.6).
    #[must_use]
    pub fn slot(&self) -> String {
        format!("locum_{}", self.0.replace('-', "_"))
    }
}

/// The `application_name` under which a node streams: the slot's name and a part that is random per clone, so that
/// a standby made again is never taken for the one it replaced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StandbyName(pub String);

impl fmt::Display for StandbyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// PostgreSQL's system identifier: the same on a primary and everything cloned from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An incident's identifier: the wall-clock second it began and its epoch, for example `20261122-084030-e2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IncidentId(pub String);

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_postgresql_would_not_take_is_refused() {
        for bad in ["", "Seoul", "9th", "a_b", "a b", "a'b", &"a".repeat(41)] {
            assert!(NodeId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(NodeId::new("new-york-2").map(|n| n.slot()), Ok("locum_new_york_2".into()));
    }
}
