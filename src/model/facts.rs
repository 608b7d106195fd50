//! What one member saw of its own node. Facts are reported as seen; nothing here is a judgement.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    AccessFacts, AppFacts, EndpointFacts, EndpointName, GuardFacts, Hindrance, LostTail, Lsn, Mono, NodeId,
    Noted, Renewals, ReplayEffort, Seen, Stamp, StandbyName, Stray, Switch, SystemId, Timeline, Upstream,
    Version, Wal, WalPosition,
};

/// Everything one member reports: one message of its fact stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberFacts {
    /// Who reports.
    pub node: NodeId,
    /// When the message left, on the sender's clock. All instants in it are of that clock.
    pub sent_at: Mono,
    /// When they were gathered, on the sender's clock for ever: of two messages, which overtake each other, the later one counts.
    #[serde(default)]
    pub left: Mono,
    /// The highest stamp that this member ever read in the store, or heard that somebody knows of: a store that holds less was
    /// put back.
    #[serde(default)]
    pub remembered: Option<Stamp>,
    /// The latest renewal of the primary lease that this member ever read, or heard that somebody knows of.
    #[serde(default)]
    pub renewals: Option<Renewals>,
    /// What a primary told it while the store had left that one alone.
    #[serde(default)]
    pub noted: Option<Noted>,
    /// When it last heard each member.
    #[serde(default)]
    pub hears: BTreeMap<NodeId, Mono>,
    /// What its agent knows; None if the host has no PostgreSQL.
    pub agent: Option<AgentFacts>,
    /// Its endpoints.
    pub endpoints: BTreeMap<EndpointName, EndpointFacts>,
}

/// What an agent knows of its own PostgreSQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentFacts {
    /// The highest stamp it promised to refuse anything below. None: the promise file is missing, which is not zero.
    pub promise: Option<Stamp>,
    /// The epoch under which this node last became primary, if ever. Kept in the promise file.
    pub primary_since: Option<Stamp>,
    /// The identity of its data directory.
    pub system: Option<SystemId>,
    /// Where others reach its PostgreSQL, `host:port`.
    pub address: String,
    /// The `application_name` it streams under as a standby.
    pub standby_name: StandbyName,
    /// Never to be promoted, by configuration.
    pub no_failover: bool,
    /// No commit is to wait for it, by configuration.
    #[serde(default)]
    pub no_sync: bool,
    /// No clone is to be copied from it while it is a standby, by configuration.
    #[serde(default)]
    pub no_clone: bool,
    /// Between equals the higher one is promoted, by configuration.
    #[serde(default)]
    pub priority: usize,
    /// The guard beside it. None: there is none, or it is not known.
    pub guard: Option<GuardFacts>,
    /// Until when it has the right to serve as the primary it was declared to be. None: it has none.
    pub serves_until: Option<Mono>,
    /// Whom it asks before it serves without the store, as noted durably in its epoch as primary. None: not noted yet, so
    /// it does not serve without the store.
    pub admitted: Option<Vec<NodeId>>,
    /// Until when it has given its word not to take part in a higher epoch. None: it has not.
    pub vouched_until: Option<Mono>,
    /// From where it was last told to stream, whatever its server is at the moment.
    pub told: Option<Upstream>,
    /// The server.
    pub server: Seen<Server>,
    /// Bytes that are free for its data and for its WAL: the lesser, where they are apart. None: not known.
    #[serde(default)]
    pub disk_free: Option<u64>,
    /// Pages whose checksum was found wrong since the server's statistics were reset (a crash does that). None: not known,
    /// or there are no checksums.
    #[serde(default)]
    pub checksum_failures: Option<u64>,
    /// WAL that its crash recovery replayed in a second, when it last had much to replay. None: never measured.
    #[serde(default)]
    pub recovery_rate: Option<u64>,
    /// A rewind or clone that began and has not ended: the data directory must not be started.
    pub unfinished: Option<Unfinished>,
    /// What is being done at this moment, with its progress, for people.
    pub job: Option<String>,
    /// Commands that failed since this node last streamed or served, newest last, as `name: reason`.
    pub failed: Vec<(String, String)>,
    /// What its last rewind or clone gave up, and where it is kept; None: it gave up nothing yet.
    pub lost: Option<LostTail>,
    /// It was a standby, left recovery without an order, and has not been rewound or cloned since. None: it has not.
    #[serde(default)]
    pub strayed: Option<Stray>,
    /// What would end its recovery, or hold it up, where it is or becomes a standby.
    #[serde(default)]
    pub hindrances: Vec<Hindrance>,
    /// The last WAL rescue that brought it everything its old primary had. None: there was none since its member started.
    #[serde(default)]
    pub rescued: Option<Rescued>,
    /// Its app server, where one is configured.
    pub app: Option<AppFacts>,
    /// Which server answers, and whom it lets in.
    #[serde(default)]
    pub access: AccessFacts,
}

/// With less, a disk counts as full: a promotion writes a whole new segment, and PostgreSQL ends itself when it cannot make
/// one. Two segments of the usual size. Less: a node is promoted and dies of it. More: one that could have served is not.
const ROOM: u64 = 32 << 20;

impl AgentFacts {
    /// There is no room for a promotion.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.disk_free.is_some_and(|free| free < ROOM)
    }
}

/// WAL that a recruit got from the fenced node whose place it may take, to the last page of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescued {
    /// The stamp of the command.
    pub under: Stamp,
    /// Whose WAL it was.
    pub from: NodeId,
    /// Bytes of WAL that were applied because of it. 0: nothing was missing.
    pub bytes: u64,
}

/// A destructive change of the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unfinished {
    /// `pg_rewind` began.
    Rewind,
    /// `pg_basebackup` began.
    Clone,
}

/// What the server is, as last seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Server {
    /// Not looked at yet, or it cannot be told.
    Unknown,
    /// There is a postmaster, but it does not answer yet (start, crash recovery).
    Starting,
    /// No postmaster.
    Down(Down),
    /// Out of recovery.
    Primary(Primary),
    /// In recovery.
    Standby(Standby),
}

/// A server that is not running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Down {
    /// When it was seen to end, where it was seen.
    pub since: Option<Mono>,
    /// It ended without being told to by the agent.
    pub crashed: bool,
    /// Attested under this stamp: no process of it is left, and the agent will not start it at or below the stamp.
    pub fenced: Option<Stamp>,
    /// The control file.
    pub control: Option<Control>,
    /// The end of valid WAL; None until it has been determined.
    pub wal_end: Option<Lsn>,
    /// The timeline that its WAL ends on, determined with that.
    #[serde(default)]
    pub wal_timeline: Option<Timeline>,
    /// It cannot be determined: the WAL since the last checkpoint is not there any more.
    #[serde(default)]
    pub wal_gone: bool,
    /// The switches that led to that timeline, oldest first.
    #[serde(default)]
    pub history: Vec<Switch>,
    /// A record begins at the end of valid WAL and is unfinished: it would end here.
    #[serde(default)]
    pub unfinished_until: Option<Lsn>,
    /// The agent saw a server of this directory answer as a primary in its present life: the disk cannot have gone back since.
    #[serde(default)]
    pub watched: bool,
    /// Its directory is a standby's (`standby.signal`). None: not looked at yet.
    #[serde(default)]
    pub standby: Option<bool>,
    /// Under which stamp this directory, or the one it was copied from, last became a primary's, as its configuration says.
    #[serde(default)]
    pub primary_since: Option<Stamp>,
}

impl Down {
    /// What is known at first: nothing of its disk was read yet.
    #[must_use]
    pub const fn seen(since: Option<Mono>, crashed: bool) -> Self {
        Self {
            since,
            crashed,
            fenced: None,
            control: None,
            wal_end: None,
            wal_timeline: None,
            wal_gone: false,
            history: Vec::new(),
            unfinished_until: None,
            watched: false,
            standby: None,
            primary_since: None,
        }
    }

    /// The WAL on its disk. None: its end has not been determined.
    #[must_use]
    pub fn wal(&self) -> Option<Wal<'_>> {
        let (timeline, end) = (self.wal_timeline?, self.wal_end?);
        Some(Wal { timeline, switches: &self.history, end, unfinished_until: self.unfinished_until })
    }
}

/// The state that `pg_controldata` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlState {
    /// "shut down": a primary that stopped cleanly.
    ShutDown,
    /// "shut down in recovery": a standby that stopped cleanly.
    ShutDownInRecovery,
    /// Anything else: it did not stop cleanly.
    Other,
}

/// What the control file says (PostgreSQL manual, `pg_controldata`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// How it ended.
    pub state: ControlState,
    /// The identity of the data directory.
    pub system: SystemId,
    /// The timeline of the latest checkpoint.
    pub timeline: Timeline,
    /// The latest checkpoint's record.
    pub checkpoint: Lsn,
    /// Its redo point.
    pub redo: Lsn,
    /// `pg_rewind` can work: data checksums are on, or `wal_log_hints` is.
    pub can_rewind: bool,
}

/// A server out of recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Primary {
    /// Its timeline.
    pub timeline: Timeline,
    /// The timeline in its control file: others rewind from it only once this is `timeline`.
    pub checkpoint_timeline: Timeline,
    /// The redo point of its last checkpoint: where crash recovery would begin. None: not read yet.
    #[serde(default)]
    pub redo: Option<Lsn>,
    /// Where it left the timeline before; None on the first timeline.
    pub switch: Option<Switch>,
    /// What it has flushed to its own disk.
    pub flushed: Lsn,
    /// It takes writes.
    pub writable: bool,
    /// Probes with a new connection and a commit of their own.
    pub probe: Probe,
    /// `synchronous_standby_names`, as configured. None: not in the form Locum writes.
    pub names: Option<Vec<StandbyName>>,
    /// Under which version the names were proven in force, and the flush position taken after.
    pub names_proven: Option<(Version, Lsn)>,
    /// Who streams from it.
    pub senders: Vec<WalSender>,
    /// Its physical slots.
    pub slots: Vec<Slot>,
    /// The names of its lasting logical slots.
    #[serde(default)]
    pub logical_slots: Vec<String>,
    /// Client sessions inside a transaction.
    pub busy: u64,
    /// The handover version under which a checkpoint was completed.
    pub checkpointed: Option<Version>,
}

impl Primary {
    /// The slot that Locum keeps for a node.
    #[must_use]
    pub fn slot(&self, node: &NodeId) -> Option<&Slot> {
        let name = node.slot();
        self.slots.iter().find(|slot| slot.name == name)
    }
}

/// What the probe of a primary found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// When a new connection with a commit of its own last succeeded.
    pub last_ok: Option<Mono>,
    /// How long that took, in microseconds.
    pub took_us: Option<u64>,
    /// Since when no probe has succeeded: the start of the first failing one. None while the last one succeeded.
    pub failing_since: Option<Mono>,
    /// What the last failed probe said.
    pub error: Option<String>,
    /// The SQLSTATE with which the server answered a failing probe's own commit: it lives, and cannot take writes. None: it
    /// did not answer.
    #[serde(default)]
    pub code: Option<String>,
}

/// A line of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WalSender {
    /// `application_name`.
    pub name: StandbyName,
    /// `streaming`, as opposed to `catchup`, `startup`, `backup`.
    pub streaming: bool,
    /// `flush_lsn`.
    pub flushed: Lsn,
    /// `sync_state` is `sync` or `quorum`.
    pub sync: bool,
}

/// A physical replication slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Somebody streams through it.
    pub active: bool,
    /// How much WAL it keeps, in bytes.
    pub retained: u64,
}

/// Whether WAL is being replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// Yes.
    Running,
    /// The agent paused it for a proof that names are in force, under this stamp.
    PausedForProof(Stamp),
    /// Somebody else paused it.
    PausedByPerson,
}

/// A server in recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standby {
    /// The timeline it replays.
    pub timeline: Timeline,
    /// The switches in its timeline history.
    pub history: Vec<Switch>,
    /// Flushed to its disk: what a promotion would have. The greater of received and replayed.
    pub flushed: Lsn,
    /// Replayed.
    pub replayed: Lsn,
    /// A walreceiver is connected and streaming.
    pub streaming: bool,
    /// From where it is configured to stream; None: from nowhere, or from a place Locum did not write.
    pub upstream: Option<Upstream>,
    /// Whether replay goes on.
    pub replay: ReplayState,
    /// Attested under this stamp: cut from the primary on disk, receiver gone, every complete record applied.
    /// `replayed` stands still from then on.
    pub recruited: Option<Stamp>,
    /// The names of logical slots that are kept in step with the primary's (PostgreSQL 17's failover slots), and usable after
    /// a promotion.
    #[serde(default)]
    pub logical_slots: Vec<String>,
    /// What replay has taken here.
    #[serde(default)]
    pub effort: ReplayEffort,
    /// Of a recruit: a record begins where replay stands, and is unfinished on this disk: it would end here.
    #[serde(default)]
    pub unfinished_until: Option<Lsn>,
}

impl Standby {
    /// The WAL that a promotion would have, by what it received and what lies on its disk.
    #[must_use]
    pub fn wal(&self) -> Wal<'_> {
        let (timeline, switches) = (self.timeline, &self.history[..]);
        Wal { timeline, switches, end: self.flushed, unfinished_until: self.unfinished_until }
    }

    /// The end of the complete records that it has applied, with the timeline there.
    #[must_use]
    pub fn applied(&self) -> WalPosition {
        WalPosition::of(self.timeline, &self.history, self.replayed)
    }
}
