//! Everything a plan is made from, besides `now` and the policy. All instants are of the leader's clock.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    AgentFacts, EndpointFacts, EndpointName, Intent, LeaseRecord, LiveRpo, Mono, NodeId, Noted, Renewals,
    Seen, Stamp, StepKey,
};

/// What the leader knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// This member.
    pub node: Option<NodeId>,
    /// This member holds the leader lease.
    pub leading: bool,
    /// Who holds it, as far as this member knows.
    pub leader: Option<NodeId>,
    /// The wall clock, which may jump. Nothing is decided by it but whether a time that a person named has come.
    pub wall: Timestamp,
    /// Since when this member has run without a stall: what it had not heard by then says nothing.
    pub awake_since: Mono,
    /// The store does not answer, and why.
    pub store_error: Option<String>,
    /// The highest stamp that this member ever read in the store, or heard that somebody knows of.
    pub remembered: Option<Stamp>,
    /// The latest renewal of the primary lease that this member ever read, or heard that somebody knows of.
    pub renewals: Option<Renewals>,
    /// The last renewal of the primary lease.
    pub lease: LeaseSeen,
    /// A node that the fence command has confirmed to be fenced, and under which stamp.
    pub fenced_by_command: Option<(NodeId, Stamp)>,
    /// The members that the store lists: who must be heard before a first cluster is declared.
    pub members: BTreeSet<NodeId>,
    /// The stored intent; None: the store holds none.
    pub intent: Option<Intent>,
    /// What each member last reported.
    pub nodes: BTreeMap<NodeId, NodeView>,
    /// The live RPO as last known.
    pub rpo: Option<LiveRpo>,
    /// The stamp under which a commit through every database endpoint last succeeded.
    pub verified: Option<Stamp>,
    /// The stamp under which sessions were drained.
    pub drained: Option<Stamp>,
    /// What an operator asks for, oldest first.
    pub requests: Vec<Request>,
    /// Steps that were begun and have not ended; they are not begun again meanwhile.
    pub underway: BTreeSet<StepKey>,
    /// Steps whose last try failed.
    pub attempts: BTreeMap<StepKey, Attempt>,
    /// When the last failovers were decided: what the flap limit counts.
    pub failovers: Vec<Mono>,
}

/// What is known of the primary lease.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeaseSeen {
    /// The last renewal, and when this member first saw it. None: none was ever seen.
    pub last: Option<Seen<LeaseRecord>>,
    /// The intent under which it was read: the read began after that intent was known to stand. If that intent declares a
    /// vacancy, there can be no later renewal.
    pub read_under: Option<Stamp>,
    /// The latest renewal that was known of when that read began: it cannot have missed it.
    pub known: Option<Renewals>,
    /// This member has seen it renewed: what was told to it since the last renewal, it knows.
    pub renewed: bool,
}

/// What is known of one member.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    /// When it was last heard.
    pub heard: Mono,
    /// The highest stamp that it ever read in the store, or heard that somebody knows of.
    pub remembered: Option<Stamp>,
    /// The latest renewal of the primary lease that it ever read, or heard that somebody knows of.
    pub renewals: Option<Renewals>,
    /// What a primary told it while the store had left that one alone.
    pub noted: Option<Noted>,
    /// When it last heard each member.
    pub hears: BTreeMap<NodeId, Mono>,
    /// What its agent said; None if it has none.
    pub agent: Option<AgentFacts>,
    /// Its endpoints.
    pub endpoints: BTreeMap<EndpointName, Seen<EndpointFacts>>,
}

/// An order that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// How often in a row.
    pub failures: u32,
    /// When last.
    pub at: Mono,
    /// What was said.
    pub error: String,
}

/// Something that an operator asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The operation's identifier.
    pub operation: String,
    /// What.
    pub kind: RequestKind,
}

/// What an operator can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestKind {
    /// Hand over to this node, or to the best one.
    Switchover {
        /// To whom.
        to: Option<NodeId>,
    },
    /// Hand over at a later time.
    Schedule {
        /// To whom; None: to the best one then.
        to: Option<NodeId>,
        /// When.
        at: Timestamp,
    },
    /// Drop the switchover that is scheduled.
    Cancel,
    /// Take a node out of service.
    Drain {
        /// Which.
        node: NodeId,
    },
    /// Take a node into service again that was drained or removed.
    Restore {
        /// Which.
        node: NodeId,
    },
    /// Take a drained node out of the cluster.
    Remove {
        /// Which.
        node: NodeId,
    },
    /// Suspend automatic action.
    Pause,
    /// Lift the suspension.
    Resume,
    /// Bring a node back now, whatever failed on it before.
    Rejoin {
        /// Which.
        node: NodeId,
        /// Clone it, although less might do.
        from_scratch: bool,
    },
    /// Believe a store that was wiped or restored, on a person's word.
    AcceptStore,
}

impl View {
    /// The agent's facts of a node, however old.
    #[must_use]
    pub fn agent(&self, node: &NodeId) -> Option<&AgentFacts> {
        self.nodes.get(node)?.agent.as_ref()
    }

    /// The agent's facts of a node that was heard within `limit`.
    #[must_use]
    pub fn fresh(&self, node: &NodeId, now: Mono, limit: std::time::Duration) -> Option<&AgentFacts> {
        let view = self.nodes.get(node)?;
        if now.since(view.heard) <= limit { view.agent.as_ref() } else { None }
    }
}
