//! What one node is, as its own SQL tells it. Plain values; what could not be read is `None`, never empty.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::Hindrance;

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// As in `150018`.
    pub version: u32,
    /// As in `15.18 (Debian 15.18-0+deb12u1)`.
    pub release: String,
    /// What `version()` says: platform and compiler.
    pub built: String,
    /// The system identifier.
    pub system: String,
    /// Bytes of a block.
    pub block: u32,
    /// Whether it is in recovery.
    pub in_recovery: bool,
    /// A standby's receiver streams.
    pub receiving: bool,
    /// A backup is being restored, or the recovery ends at a target: this is no standby.
    pub restoring: bool,
    /// Its replay is paused.
    pub paused: bool,
    /// What would end its recovery, or hold it up. None: it could not be read.
    pub hindrances: Option<Vec<Hindrance>>,
    /// As whom it was asked.
    pub asked_as: String,
    /// That role is a superuser.
    pub superuser: bool,
    /// What the agent does and that role may not, as statements that would allow it.
    pub lacks: Vec<String>,
    /// Its clock less ours, in seconds, and how exactly that is known.
    pub clock: Option<(f64, f64)>,
    /// Every setting.
    pub settings: BTreeMap<String, Setting>,
    /// Its databases.
    pub databases: Vec<Database>,
    /// The versions of collation libraries: by `c` (the C library) and `i` (ICU).
    pub collations: BTreeMap<String, String>,
    /// Extensions whose files are there, with their default version.
    pub available: BTreeMap<String, String>,
    /// Extensions of all databases that could be entered, with the version and the database.
    pub installed: BTreeMap<String, String>,
    /// Databases that could not be entered.
    pub closed: Vec<String>,
    /// Tablespaces with their folder.
    pub tablespaces: BTreeMap<String, String>,
    /// The size of all databases in bytes.
    pub bytes: Option<u64>,
    /// Bytes free where the data directory is.
    pub free: Option<u64>,
    /// The replication role.
    pub replication: Option<Role>,
    /// Who streams from it.
    pub standbys: Vec<Standby>,
    /// Physical slots, by name.
    pub slots: Vec<String>,
    /// `application_name` of sessions that other managers leave, and extensions of theirs.
    pub managers: Vec<String>,
    /// The lines of `pg_hba.conf`.
    pub hba: Option<Vec<HbaRule>>,
    /// The server's certificate.
    pub certificate: Option<Certificate>,
    /// The address we have there, of a connection over TCP.
    pub our_address: Option<String>,
}

/// A setting, as `pg_settings` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Setting {
    /// Its value, in its unit.
    pub value: String,
    /// The same as people write it, with its unit.
    pub shown: Option<String>,
    /// How it is changed.
    pub context: String,
    /// Where it comes from.
    pub source: String,
    /// A new value waits for a restart.
    pub pending: bool,
}

impl Setting {
    /// It asks for nothing: empty, or what it is when nobody sets it.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        ["", "latest", "pause", "0"].contains(&self.value.as_str())
    }
}

/// A database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its encoding.
    pub encoding: String,
    /// Its collation.
    pub collate: String,
    /// `c`, `i` or `b`; None before 15: the C library.
    pub provider: Option<String>,
    /// The version of the collation it was made with.
    pub recorded: Option<String>,
    /// The one that is there now.
    pub actual: Option<String>,
}

/// The replication role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// There is one.
    pub exists: bool,
    /// It may log in.
    pub login: bool,
    /// It may stream.
    pub replication: bool,
    /// It may do everything.
    pub superuser: bool,
    /// Of the functions that `pg_rewind` calls, those it may not.
    pub lacks: Vec<String>,
}

/// Somebody who streams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Standby {
    /// Its `application_name`.
    pub name: String,
    /// From where; None: over the socket.
    pub address: Option<String>,
    /// `streaming`, or what else.
    pub state: String,
}

/// A line of `pg_hba.conf`, as `pg_hba_file_rules` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
pub struct HbaRule {
    /// Its place.
    pub line_number: u32,
    /// `local`, `host`, `hostssl`, …
    pub r#type: Option<String>,
    /// Databases.
    pub database: Option<Vec<String>>,
    /// Roles.
    pub user_name: Option<Vec<String>>,
    /// An address, a host name, or `all`, `samehost`, `samenet`.
    pub address: Option<String>,
    /// The mask of an address.
    pub netmask: Option<String>,
    /// How they prove who they are.
    pub auth_method: Option<String>,
    /// Why the line is of no use.
    pub error: Option<String>,
}

/// A certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Certificate {
    /// Its file.
    pub file: String,
    /// Until when it is good, in seconds since 1970; None: it is not understood.
    pub until: Option<i64>,
}

impl Seen {
    /// The value of a setting.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        Some(self.settings.get(name)?.value.as_str())
    }

    /// A setting that is a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    /// `pg_rewind` can be used.
    #[must_use]
    pub fn can_rewind(&self) -> Option<bool> {
        Some(self.value("data_checksums")? == "on" || self.value("wal_log_hints")? == "on")
    }

    /// The major version.
    #[must_use]
    pub const fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// `primary` or `standby`.
    #[must_use]
    pub const fn role(&self) -> &'static str {
        if self.in_recovery { "standby" } else { "primary" }
    }
}
