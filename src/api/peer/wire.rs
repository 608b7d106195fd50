//! What both sides of the peer port agree on.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::model::{Command, EndpointName, RouteOrder, Stamp};

/// The cluster that the caller belongs to. Another one's is refused: a shared address must not lead to shared orders.
pub(super) const CLUSTER: &str = "x-locum-cluster";
/// The node that the caller means to talk to. Another one refuses: an address that now belongs to another host must
/// not make that host promote.
pub(super) const NODE: &str = "x-locum-node";

/// The node that calls. Only with TLS, where its certificate must say the same.
pub(super) const CALLER: &str = "x-locum-caller";

/// The fact stream.
pub(super) const FACTS: &str = "/peer/facts";
/// An order to the agent.
pub(super) const ORDER: &str = "/peer/order";
/// An order to an endpoint.
pub(super) const ROUTE: &str = "/peer/route";
/// The word for a primary that the store has left alone.
pub(super) const VOUCH: &str = "/peer/vouch";
/// How far everybody is, from a primary that the store has left alone.
pub(super) const NOTE: &str = "/peer/note";
/// What a member says of a path that its release does not have.
pub(super) const NO_PATH: &str = "there is no path";
/// The client sessions of the primary.
pub(super) const SESSIONS: &str = "/peer/sessions";
/// The connections of an endpoint that may not forward.
pub(super) const PARK: &str = "/peer/park";

/// WAL of the fenced server, as it stands in its files.
pub(super) const WAL: &str = "/peer/wal";

/// Time between two messages of a fact stream with no change, and between two signs of life of an order.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(100);
/// The largest message either side takes: room for tens of thousands of sessions or parked ports.
pub(super) const MESSAGE_BYTES: usize = 2 << 20;

/// Body of [`ORDER`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderCall {
    pub(super) stamp: Stamp,
    pub(super) command: Command,
}

/// Body of [`VOUCH`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VouchCall {
    pub(super) stamp: Stamp,
    pub(super) ttl_ms: u64,
}

/// Body of [`ROUTE`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteCall {
    pub(super) endpoint: EndpointName,
    pub(super) stamp: Stamp,
    pub(super) order: RouteOrder,
}

/// Body of [`PARK`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ParkCall {
    pub(super) endpoint: EndpointName,
    pub(super) stamp: Stamp,
    pub(super) ports: BTreeSet<u16>,
}

/// What a call returns: any number of newlines, one for every heartbeat it took, and then this.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Returned<T> {
    /// What the member said.
    Answer(T),
    /// The member took the call and cannot say what came of it.
    NoAnswer(String),
}
