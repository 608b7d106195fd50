//! What a member shows of the cluster at one moment: the body of `GET /v1/status`, and what the CLI prints.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ClusterName, Driver, EndpointKind, EndpointName, Finding, Incident, Intent, Lsn, Mode, NodeId, Stamp,
    Timeline, Traffic,
};

/// The cluster, as one member sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The cluster.
    pub cluster: ClusterName,
    /// The member that shows it.
    pub node: NodeId,
    /// When, for people.
    pub at: Timestamp,
    /// The elected leader, as far as this member knows.
    pub leader: Option<NodeId>,
    /// Why the store does not answer; None while it does.
    pub store_error: Option<String>,
    /// What the cluster should be.
    pub intent: Option<Intent>,
    /// Every member.
    pub nodes: Vec<NodeStatus>,
    /// Every endpoint.
    pub endpoints: Vec<EndpointStatus>,
    /// The live RPO; None: never known.
    pub rpo: Option<RpoStatus>,
    /// Named problems, with their sentence.
    pub findings: Vec<FindingText>,
    /// What the leader would do or waits for, as sentences. The body of `locum explain`.
    pub plan: Vec<String>,
    /// What would be done if the postmaster of the primary died now, as sentences.
    #[serde(default)]
    pub if_it_crashed: Vec<String>,
    /// The incident that is open.
    pub incident: Option<Incident>,
    /// The last one that ended.
    pub last_incident: Option<Incident>,
    /// What operators asked for, newest last; bounded.
    pub operations: Vec<Operation>,
}

impl Snapshot {
    /// The leader has new clients of the primary wait. In a switchover that is after the checkpoint, which may take long; where
    /// no member has such an endpoint, it is not known when, and counts from the beginning.
    #[must_use]
    pub fn holds_clients(&self) -> bool {
        let Some(intent) = &self.intent else { return false };
        let since = intent.handover.as_ref().map_or(intent.version, |handover| handover.since);
        let mut of_primary =
            self.endpoints.iter().filter(|endpoint| endpoint.kind == EndpointKind::Primary).peekable();
        if of_primary.peek().is_none() {
            return intent.handover.is_some();
        }
        // One that missed the latest order says nothing of it.
        of_primary.any(|endpoint| {
            let told = endpoint.stamp.same_epoch(intent.stamp()) && endpoint.stamp.version >= since;
            told && endpoint.mode != Mode::Open
        })
    }

    /// `node` is being stopped for a switchover, and its clients are to begin nothing more.
    #[must_use]
    pub fn hands_over(&self, node: &NodeId) -> bool {
        let its = |intent: &Intent| intent.handover.is_some() && intent.primary.as_ref() == Some(node);
        self.intent.as_ref().is_some_and(its) && self.holds_clients()
    }
}

/// A finding and its sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingText {
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// The sentence.
    pub text: String,
}

/// What a node's PostgreSQL is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Out of recovery.
    Primary,
    /// In recovery.
    Standby,
    /// Running, but not yet answering.
    Starting,
    /// Not running.
    Down,
    /// Not known, or not heard of for too long.
    Unknown,
    /// The host has no PostgreSQL.
    None,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The member.
    pub node: NodeId,
    /// Where its public API is reached, `host:port`. None: not registered yet.
    #[serde(default)]
    pub api_address: Option<String>,
    /// Where others reach its PostgreSQL, `host:port`. None: not known, or it has none.
    #[serde(default)]
    pub database: Option<String>,
    /// How long ago it was heard, in milliseconds.
    pub heard_ms: f64,
    /// What its PostgreSQL is.
    pub role: Role,
    /// It is the declared primary of the current epoch, takes writes and has the right to serve.
    pub serving: bool,
    /// It is in the sync set: acknowledged commits are on it.
    pub sync: bool,
    /// A standby that streams.
    pub streaming: bool,
    /// Its timeline.
    pub timeline: Option<Timeline>,
    /// What it has flushed.
    pub lsn: Option<Lsn>,
    /// Bytes it has not flushed, of what the primary has. None: unknown.
    pub lag_bytes: Option<u64>,
    /// Bytes it has flushed and not replayed.
    pub replay_bytes: Option<u64>,
    /// Bytes that are free for its data and its WAL. None: not known.
    #[serde(default)]
    pub disk_free_bytes: Option<u64>,
    /// What its guard is doing, in words. None: there is none, or it is not known.
    #[serde(default)]
    pub guard: Option<String>,
    /// What would end its recovery, or hold it up, where it is or becomes a standby; one sentence each.
    #[serde(default)]
    pub hindrances: Vec<String>,
    /// What it promised.
    pub promise: Option<Stamp>,
    /// What is being done on it.
    pub job: Option<String>,
    /// The last thing that failed on it.
    pub error: Option<String>,
    /// Its app server, where one is configured.
    pub app: Option<AppStatus>,
}

/// One app server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Where it serves.
    pub address: String,
    /// Its health probe found it well.
    pub healthy: bool,
    /// The endpoint leads to it.
    pub active: bool,
    /// It need not run until it is wanted: its member can start it.
    #[serde(default)]
    pub startable: bool,
    /// It is being started.
    #[serde(default)]
    pub starting: bool,
    /// What the last failed probe said.
    pub error: Option<String>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// The member it runs in.
    pub member: NodeId,
    /// Its name.
    pub name: EndpointName,
    /// What it leads to.
    pub kind: EndpointKind,
    /// Where clients connect.
    pub listen: String,
    /// Whom it leads to.
    pub target: Option<NodeId>,
    /// Whether new connections get through.
    pub mode: Mode,
    /// Open connections.
    pub open: u64,
    /// Waiting connections.
    pub held: u64,
    /// The stamp of its last order.
    pub stamp: Stamp,
    /// What carries out its orders.
    #[serde(default)]
    pub driver: Driver,
    /// Why its last order is not done.
    #[serde(default)]
    pub problem: Option<String>,
    /// Connections cut by orders, since its member started.
    #[serde(default)]
    pub cut_total: u64,
    /// Connections that waited and were then served.
    #[serde(default)]
    pub held_total: u64,
    /// Connections given up: too many waited, or for too long.
    #[serde(default)]
    pub refused_total: u64,
    /// What has passed.
    #[serde(default)]
    pub traffic: Traffic,
}

/// The live RPO, for people and load balancers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RpoStatus {
    /// Bytes at risk as of the reading. None: unknown.
    pub bytes: Option<u64>,
    /// Milliseconds of work at risk as of the reading. None: unknown.
    pub ms: Option<f64>,
    /// Age of the reading, in milliseconds.
    pub as_of_ms: f64,
    /// Upper estimate while the primary cannot be read: `bytes` plus write rate × age.
    pub at_most_bytes: Option<u64>,
    /// Every acknowledged commit is on a standby; `bytes` is a tail that nobody was told about.
    pub acknowledged_is_safe: bool,
    /// The best standby.
    pub standby: Option<NodeId>,
}

/// Where an operator's request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// Accepted, not begun.
    Pending,
    /// Accepted, to begin at its time.
    Scheduled,
    /// Being done.
    Running,
    /// Done.
    Done,
    /// Refused: nothing was changed.
    Refused,
    /// Begun and taken back, or given up.
    Failed,
}

/// An operator's request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its identifier.
    pub id: String,
    /// What: `switchover`, `pause`, `resume`.
    pub kind: String,
    /// Where it stands.
    pub state: OperationState,
    /// One sentence each: blockers, or what happened.
    pub messages: Vec<String>,
    /// The incident it led to, with its phases as they happen.
    pub incident: Option<Incident>,
}
