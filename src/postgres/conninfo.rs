//! libpq keyword strings (PostgreSQL manual, 34.1.1.1).

use std::{fmt, str::FromStr};

/// A text that is no keyword string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a libpq connection string: {0}")]
pub struct BadConninfo(pub String);

/// A libpq keyword string, taken apart. Of a keyword given twice the last counts. `Display` quotes what needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conninfo(pub(super) Vec<(String, String)>);

impl Conninfo {
    /// The value of a keyword; an empty one counts as absent.
    #[must_use]
    pub fn get(&self, keyword: &str) -> Option<&str> {
        let _ = keyword;
        todo!()
    }
    /// Sets a keyword.
    #[must_use]
    pub fn with(self, keyword: &str, value: &str) -> Self {
        let _ = (keyword, value);
        todo!()
    }
    /// `host:port` as in `config::Postgres::address`; the port defaults to 5432. None without host.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        todo!()
    }
}

impl FromStr for Conninfo {
    type Err = BadConninfo;
    fn from_str(text: &str) -> Result<Self, BadConninfo> {
        let _ = text;
        todo!()
    }
}

impl fmt::Display for Conninfo {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

/// Another server, as this node's replication role reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source(pub(super) Conninfo);

impl Source {
    /// From `config::Postgres::replication` and an address `host:port` (an IPv6 host in brackets).
    ///
    /// # Errors
    /// [`BadConninfo`]: one of them makes no sense.
    pub fn new(replication: &str, address: &str) -> Result<Self, BadConninfo> {
        let _ = (replication, address);
        todo!()
    }
    /// The value for `primary_conninfo`: with `application_name`, keep-alives, `tcp_user_timeout`.
    #[must_use]
    pub fn primary_conninfo(&self, application_name: &str) -> String {
        let _ = application_name;
        todo!()
    }
    /// For a plain session in a database.
    #[must_use]
    pub fn session(&self, dbname: &str) -> String {
        let _ = dbname;
        todo!()
    }
}
