//! What the planner can ask for. A step leaves no meaningful choice to whoever carries it out.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{EndpointName, Epoch, Intent, NodeId, RouteOrder, Stamp, StandbyName, Switch, WalPosition};

/// Where a standby streams from, and as whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Upstream {
    /// The node streamed from.
    pub node: NodeId,
    /// Its address, `host:port`.
    pub address: String,
    /// The slot on it.
    pub slot: String,
}

/// A standby that a clone is copied from, in place of the primary that it will stream from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CopySource {
    /// The standby.
    pub node: NodeId,
    /// Its address, `host:port`.
    pub address: String,
}

/// A command to one agent. Each is idempotent and travels with a stamp.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// End PostgreSQL, however it is, and attest that no process of it is left.
    Fence,
    /// Cut the standby from its primary, on disk first; apply every complete record; attest the position.
    Recruit,
    /// Fetch the WAL that only a fenced node still has, write it where the recruited standby looks for more, apply it, and
    /// attest the recruit anew. Given up after `within`, with what has come by then.
    Rescue {
        /// Whose WAL.
        from: NodeId,
        /// How long the copy may take; what was copied is applied all the same.
        within: Duration,
    },
    /// Promote the recruited standby.
    Promote {
        /// Its sync names are set to these before it is primary: those it inherited may name itself. Empty, but where
        /// commits must never be acknowledged by one node alone.
        names: Vec<StandbyName>,
        /// The physical slots it makes before it is primary, for who will follow it: its first checkpoint removes WAL that
        /// no slot keeps.
        slots: Vec<String>,
        /// What its WAL must contain: what it had when it was declared. With less, its disk went back in time.
        #[serde(default)]
        floor: Option<WalPosition>,
    },
    /// Start a stopped primary in place, or attest that it runs, under the stamp's epoch.
    Serve {
        /// What its WAL must contain where it is stopped. With less, its disk went back since it was looked at.
        #[serde(default)]
        floor: Option<WalPosition>,
    },
    /// Write a checkpoint now, so that the stop that follows is short.
    Checkpoint,
    /// Stop a primary cleanly for a hand-over.
    Stop,
    /// Stream from the upstream: by reload where that is enough, else by a start.
    Follow(Upstream),
    /// Start a stopped standby without an upstream, to see how far it has come. Refused where the primary that it
    /// followed answers.
    StartAlone,
    /// Rewind the data directory to the upstream's history, then follow. What it has beyond the switch is saved first.
    Rewind(Upstream, Option<Switch>),
    /// Replace the data directory by a copy of the upstream's, then follow. What it has beyond the switch is saved first. The
    /// copy is taken from the standby that is named, if one is, and from the upstream if that does not work.
    Clone(Upstream, Option<Switch>, Option<CopySource>),
    /// Set `synchronous_standby_names` to any one of these; empty: wait for nobody.
    SetNames(Vec<StandbyName>),
    /// Prove that the names are in force: see a commit of its own wait. Replay is paused on the standbys meanwhile.
    ProveNames,
    /// Pause replay, for the proof.
    PauseReplay,
    /// Let replay go on.
    ResumeReplay,
    /// Forget what failed here: everything may be tried anew.
    Forget,
    /// Promise the stamp, and do nothing: what was ordered in an earlier life of the store is refused from then on.
    Promise,
    /// Note durably who may be promoted in this primary's place: whom it must ask before it serves without the store.
    Admit(Vec<NodeId>),
    /// Have exactly these physical slots, of those whose names begin with `locum_`.
    KeepSlots(Vec<String>),
}

impl Command {
    /// One word for logs, metrics and messages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Recruit => "recruit",
            Self::Rescue { .. } => "rescue",
            Self::Promote { .. } => "promote",
            Self::Serve { .. } => "serve",
            Self::Checkpoint => "checkpoint",
            Self::Stop => "stop",
            Self::Follow(_) => "follow",
            Self::StartAlone => "start alone",
            Self::Rewind(..) => "rewind",
            Self::Clone(..) => "clone",
            Self::SetNames(_) => "set names",
            Self::ProveNames => "prove names",
            Self::PauseReplay => "pause replay",
            Self::ResumeReplay => "resume replay",
            Self::Forget => "forget",
            Self::Promise => "promise",
            Self::Admit(_) => "admit",
            Self::KeepSlots(_) => "keep slots",
        }
    }
}

/// What an agent answers to a command. What the command brought about is in the facts that come with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done, or was already so.
    Done,
    /// Not done, and not to be repeated as it is: a lower stamp, or an order that does not fit the server's state.
    Refused(String),
    /// Tried and failed; may be repeated.
    Failed(String),
}

/// One action of the planner.
#[expect(missing_docs, reason = "the fields are named by their types")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Replace the stored intent, if it still is the one the plan was made on.
    Declare(Intent),
    /// The same by the primary's own member, whether it leads or not, where the rules allow it.
    Amend(Intent),
    /// Run the fence command of the configuration against a node.
    FenceCommand { node: NodeId, stamp: Stamp },
    /// Order an agent.
    Order { node: NodeId, command: Command, stamp: Stamp },
    /// Order an endpoint.
    Route { member: NodeId, endpoint: EndpointName, order: RouteOrder, stamp: Stamp },
    /// Let sessions finish their transactions, then keep them from beginning another, until none is left inside one
    /// or the drain time is over.
    Drain { node: NodeId, stamp: Stamp },
    /// Commit through the endpoints, as a client would.
    Verify { stamp: Stamp },
    /// Tell the operator that the request is refused, and why.
    Refuse { operation: String, blockers: Vec<String> },
}

/// What a step is about, whatever its version: a step under way is not begun again only because an unrelated part of
/// the intent changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepKey {
    /// Whom it concerns; None: the store.
    pub node: Option<NodeId>,
    /// It is a command to an agent, which carries out one at a time.
    pub agent: bool,
    /// The epoch it belongs to.
    pub epoch: Epoch,
    /// The action with its arguments.
    pub what: String,
}

impl Step {
    /// What it is about.
    #[must_use]
    pub fn key(&self) -> StepKey {
        let (node, epoch, what) = match self {
            Self::Declare(intent) => (None, intent.epoch, "declare".to_owned()),
            Self::Amend(intent) => (None, intent.epoch, "amend".to_owned()),
            Self::FenceCommand { node, stamp } => (Some(node), stamp.epoch, "fence command".to_owned()),
            Self::Order { node, command, stamp } => (Some(node), stamp.epoch, format!("{command:?}")),
            Self::Route { member, endpoint, order, stamp } => {
                (Some(member), stamp.epoch, format!("{endpoint} {order:?}"))
            }
            Self::Drain { node, stamp } => (Some(node), stamp.epoch, "drain".to_owned()),
            Self::Verify { stamp } => (None, stamp.epoch, "verify".to_owned()),
            Self::Refuse { operation, .. } => (None, Epoch(0), format!("refuse {operation}")),
        };
        StepKey { node: node.cloned(), agent: matches!(self, Self::Order { .. }), epoch, what }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declare(intent) => match &intent.primary {
                Some(node) => write!(f, "declare {} with primary {node}", intent.stamp()),
                None => write!(f, "declare {} with no primary", intent.stamp()),
            },
            Self::Amend(intent) => write!(f, "amend {}", intent.stamp()),
            Self::FenceCommand { node, stamp } => write!(f, "fence {node} by command ({stamp})"),
            Self::Order { node, command, stamp } => write!(f, "{} {node} ({stamp})", command.name()),
            Self::Route { member, endpoint, order, stamp } => {
                let what = match order {
                    RouteOrder::Point { node, .. } => format!("point to {node}"),
                    RouteOrder::Hold => "hold".to_owned(),
                    RouteOrder::Cut => "cut".to_owned(),
                };
                write!(f, "{what} {endpoint}@{member} ({stamp})")
            }
            Self::Drain { node, stamp } => write!(f, "drain {node} ({stamp})"),
            Self::Verify { stamp } => write!(f, "verify ({stamp})"),
            Self::Refuse { operation, blockers } => write!(f, "refuse {operation}: {}", blockers.join("; ")),
        }
    }
}
