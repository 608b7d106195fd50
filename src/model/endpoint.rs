//! What is known of a virtual endpoint, and what it can be ordered to do.

use serde::{Deserialize, Serialize};

use super::{Mono, NodeId, Stamp};

/// What an endpoint leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointKind {
    /// The writable primary's PostgreSQL.
    Primary,
    /// The PostgreSQL of every standby that is close enough behind the primary.
    Standbys,
    /// The active app server.
    App,
    /// Every app server that is healthy.
    Apps,
}

impl EndpointKind {
    /// Its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standbys => "standbys",
            Self::App | Self::Apps => "app",
        }
    }
}

/// Whether an endpoint lets new connections through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// New connections go to the target.
    Open,
    /// New connections are accepted and wait, bounded in number and time; existing ones go on.
    Holding,
    /// New connections wait, and the existing ones were cut.
    Cut,
}

/// What carries out the orders of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// The TCP proxy in the member.
    #[default]
    Proxy,
    /// The console of a PgBouncer.
    Pgbouncer,
    /// An IP address that moves between the hosts.
    Vip,
    /// A signed HTTP request to somebody who does it.
    Webhook,
    /// A program.
    Exec,
    /// The commands of the app server beside the member.
    App,
}

impl Driver {
    /// Its word in the configuration and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Pgbouncer => "pgbouncer",
            Self::Vip => "vip",
            Self::Webhook => "webhook",
            Self::Exec => "exec",
            Self::App => "app",
        }
    }
}

/// The last order to lead clients to somebody, and how far that has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repoint {
    /// The stamp of the order.
    pub under: Stamp,
    /// When it was taken.
    pub began: Mono,
    /// When it was confirmed that clients are led there. None: not yet.
    pub confirmed: Option<Mono>,
    /// It was tried for as long as its limit allows, and is not waited for any more.
    pub given_up: bool,
}

/// One endpoint, as its member reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointFacts {
    /// What it leads to.
    pub kind: EndpointKind,
    /// Where it listens, `host:port`.
    pub listen: String,
    /// The stamp of the last order it took. Lower ones are refused.
    pub stamp: Stamp,
    /// Whom it leads to.
    pub target: Option<NodeId>,
    /// Whether new connections get through.
    pub mode: Mode,
    /// Connections that are open to the target.
    pub open: u64,
    /// New connections that wait.
    pub held: u64,
    /// Connections cut by orders so far.
    pub cut_total: u64,
    /// Connections that waited and were then served, so far.
    pub held_total: u64,
    /// Connections given up: too many waited, or for too long, so far.
    pub refused_total: u64,
    /// When the target's server last sent a byte.
    pub last_server_byte: Option<Mono>,
    /// When the server of the target *before this one* last sent a byte: the onset of an outage that a repoint ended.
    pub last_byte_before: Option<Mono>,
    /// What carries out its orders.
    #[serde(default)]
    pub driver: Driver,
    /// The last order to lead clients to somebody. None: there was none since its member started.
    #[serde(default)]
    pub repoint: Option<Repoint>,
    /// Why what it was last ordered is not done, as of the last try. None: it is done, or being done for the first time.
    #[serde(default)]
    pub problem: Option<String>,
    /// What has passed.
    #[serde(default)]
    pub traffic: Traffic,
}

/// What has passed through an endpoint since its member started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// The longest time between the last byte of a target's server and the first byte of the next one's, in
    /// microseconds: what those clients saw who ask all the time. None: it never moved on.
    pub longest_gap_us: Option<u64>,
    /// The same, of the last time that it moved on.
    pub last_gap_us: Option<u64>,
    /// Each node that it leads to or has led to, in the order of their names.
    pub targets: Vec<TargetTraffic>,
}

/// What has passed between clients and one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetTraffic {
    /// The node.
    pub node: NodeId,
    /// New connections go to it.
    pub serving: bool,
    /// Connections that are open to it.
    pub open: u64,
    /// Bytes from clients to it, so far.
    pub bytes_up: u64,
    /// Bytes from it to clients, so far.
    pub bytes_down: u64,
}

/// An order to an endpoint. Each travels with a stamp.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteOrder {
    /// Lead new connections to this node, and serve those that wait. Connections to another target are cut.
    Point {
        /// The target.
        node: NodeId,
        /// Its address, `host:port`.
        address: String,
    },
    /// Let new connections wait; existing ones go on.
    Hold,
    /// Cut the existing connections, let new ones wait.
    Cut,
}
