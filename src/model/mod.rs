//! Plain values: what Locum knows, wants and does. No I/O, no clock, no logging.
//!
//! Everything above (planner, controller, api, cli) and below (adapters) speaks in these words;
//! they are the words of the README's glossary, one per thing.

mod access;
mod app;
mod effort;
mod endpoint;
mod epoch;
mod facts;
mod finding;
mod floor;
mod guard;
mod hindrance;
mod ids;
mod incident;
mod intent;
pub mod lease;
mod loss;
mod lsn;
mod policy;
mod rebase;
mod rpo;
mod snapshot;
mod step;
mod stray;
mod time;
mod view;

pub use access::{AccessFacts, ClientLook, ServerIdentity};
pub use app::{AppFacts, AppFailure};
pub use effort::ReplayEffort;
pub use endpoint::{Driver, EndpointFacts, EndpointKind, Mode, Repoint, RouteOrder, TargetTraffic, Traffic};
pub use epoch::{BadStamp, Epoch, Incarnation, Stamp, Version};
pub use facts::{
    AgentFacts, Control, ControlState, Down, MemberFacts, Primary, Probe, ReplayState, Rescued, Server, Slot,
    Standby, Unfinished, WalSender,
};
pub use finding::{Finding, Hold};
pub use floor::{Floor, Floors, Note, Noted, Reached, Wal, WalPosition};
pub use guard::{GuardFacts, GuardLack, GuardMethod, GuardState};
pub use hindrance::Hindrance;
pub use ids::{BadName, ClusterName, EndpointName, IncidentId, NodeId, StandbyName, SystemId};
pub use incident::{
    Cause, Incident, IncidentKind, Mark, MarkName, Objectives, Phase, Repointed, RpoAtOnset, Verdict,
    Verdicts,
};
pub use intent::{Durability, Handover, Intent, Member, Rejoin, Scheduled};
pub use lease::{Known, LeaseRecord, Reign, Renewals};
pub use loss::{LOST_SHOWN, LossList, LostState, LostTable, LostTail, LostTransaction};
pub use lsn::{BadLsn, Lsn, Switch, Timeline};
pub use policy::{AppTie, GuardMode, OnCrash, Policy, RECOVERY_HANGS};
pub use rpo::{LiveRpo, PositionLog};
pub use snapshot::{
    AppStatus, EndpointStatus, FindingText, NodeStatus, Operation, OperationState, Role, RpoStatus, Snapshot,
};
pub use step::{Command, CopySource, Reply, Step, StepKey, Upstream};
pub use stray::Stray;
pub use time::{Mono, Seen};
pub use view::{Attempt, LeaseSeen, NodeView, Request, RequestKind, View};
