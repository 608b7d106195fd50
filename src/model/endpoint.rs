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
