//! What the cluster should be: the one stored record that decisions are checked against.
//!
//! It changes only by compare-and-swap. Each change here raises the version, so two different effects never share
//! a stamp. A failover is a checklist against this record; there is no other memory of how far one got.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Epoch, Floors, Incarnation, Lsn, NodeId, Stamp, StandbyName, Switch, Version, WalPosition};

/// How much an acknowledged commit promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Commits wait for a standby while one is proven; when it is lost for longer than `write_wait`, they go on.
    Sync,
    /// Commits wait for a standby, for ever if need be.
    SyncStrict,
    /// Commits never wait; a failover may lose what the standby had not flushed.
    Async,
}

/// A switchover in progress. Part of the intent, so that any leader can finish it or take it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// Who is to become primary.
    pub to: NodeId,
    /// The operation that asked for it.
    pub operation: String,
    /// The version that accepted it: orders of this handover carry at least this version.
    pub since: Version,
}

/// A switchover that a person wants at a later time. Part of the intent, so that whoever leads then begins it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    /// Who is to become primary; None: the best standby then.
    pub to: Option<NodeId>,
    /// When, by the wall clock of whoever leads.
    pub at: Timestamp,
    /// The operation that asked for it.
    pub operation: String,
}

/// A node that a person wants back now. Part of the intent, so that any leader goes on with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejoin {
    /// Which.
    pub node: NodeId,
    /// It is cloned, although a rewind, or nothing at all, might do.
    pub from_scratch: bool,
    /// The operation that asked for it.
    pub operation: String,
    /// The name it had then. A clone gets another one: with that it has been cloned since.
    pub name: StandbyName,
}

impl Rejoin {
    /// `node`, whose name is this now, has still to be cloned.
    #[must_use]
    pub fn wants_clone(&self, node: &NodeId, name: &StandbyName) -> bool {
        self.from_scratch && self.node == *node && self.name == *name
    }
}

/// What the cluster should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The life of the store this intent belongs to.
    pub incarnation: Incarnation,
    /// The fencing token.
    pub epoch: Epoch,
    /// Raised by every change.
    pub version: Version,
    /// Nobody, between taking the pen from the old primary and declaring the new one.
    pub primary: Option<NodeId>,
    /// The primary of the epoch before, if any.
    pub previous: Option<NodeId>,
    /// In a vacancy: how far the last primary was known to be when it was declared. Who fills it may have heard less of that
    /// primary, and must not call a loss smaller for it. None: it was not known.
    #[serde(default)]
    pub reached: Option<Lsn>,
    /// What the WAL of whoever is the primary of this epoch, or is to become it, must contain. A disk that has less went back
    /// in time. None: nothing is known.
    #[serde(default)]
    pub primary_floor: Option<WalPosition>,
    /// What the members of the sync sets were proven to have. The renewals of the lease raise these.
    #[serde(default)]
    pub floors: Floors,
    /// The timeline that the last primary left when it was promoted, and where. A vacancy keeps it. None: it left none,
    /// or has not reported it yet.
    pub switch: Option<Switch>,
    /// `switch` is what it is. False from the declaration of a candidate until that has reported where it left its
    /// timeline: until then nobody else can be told to share its history.
    #[serde(default = "yes")]
    pub settled: bool,
    /// Standbys that every acknowledged commit is on (one of them at least: ANY 1). Empty: nothing is promised.
    pub sync: Vec<Member>,
    /// The set being moved to. Equal to `sync` when nothing is moving; a failover must satisfy both.
    pub sync_next: Vec<Member>,
    /// What an acknowledgement should promise.
    pub durability: Durability,
    /// The node whose app server is active.
    pub app: Option<NodeId>,
    /// A switchover in progress.
    pub handover: Option<Handover>,
    /// A switchover that is to begin later. Another epoch ends it: it was asked for under other roles.
    #[serde(default)]
    pub scheduled: Option<Scheduled>,
    /// A node that a person wants back. Another epoch ends it: then everybody is brought back anyway.
    #[serde(default)]
    pub rejoin: Option<Rejoin>,
    /// Nodes that a person took out of service: nothing is promised of them, none of them is promoted, and nothing is done on
    /// them, until the person takes that back.
    #[serde(default)]
    pub drained: Vec<NodeId>,
    /// Nodes that a person took out of the cluster. They were drained before.
    #[serde(default)]
    pub removed: Vec<NodeId>,
    /// Automatic action is suspended by a person.
    pub paused: bool,
    /// Who may be promoted. Grows only after the primary's agent has durably noted whom it must ask before it serves
    /// without the store; so this is never more than what the primary knows.
    #[serde(default)]
    pub promotable: Vec<NodeId>,
    /// The member beside the primary runs, and its guard counts. False: it was stopped in order, so that nothing would stop
    /// this primary from acknowledging commits; nobody is promoted until it is back or a person asks for it. Only that
    /// member itself says that it is back: to a leader it may seem to be there while it is just leaving.
    #[serde(default = "yes")]
    pub attended: bool,
}

const fn yes() -> bool {
    true
}

/// A standby as a member of a sync set: the node, and the exact name its walreceiver streams under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its `application_name`, random per clone.
    pub name: StandbyName,
}

impl Intent {
    /// The first intent of a store: the running primary keeps its place, nothing is promised yet.
    #[must_use]
    pub fn first(incarnation: Incarnation, epoch: Epoch, primary: NodeId, durability: Durability) -> Self {
        Self {
            incarnation,
            epoch,
            version: Version(1),
            app: Some(primary.clone()),
            primary: Some(primary),
            previous: None,
            reached: None,
            primary_floor: None,
            floors: Floors::default(),
            switch: None,
            settled: true,
            sync: Vec::new(),
            sync_next: Vec::new(),
            durability,
            handover: None,
            scheduled: None,
            rejoin: None,
            drained: Vec::new(),
            removed: Vec::new(),
            paused: false,
            promotable: Vec::new(),
            attended: true,
        }
    }

    /// What an effect decided on this intent carries.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        Stamp { incarnation: self.incarnation, epoch: self.epoch, version: self.version }
    }

    /// Declares the next epoch with nobody as primary: the first line of every failover. `reached`: how far the primary is
    /// known to be.
    #[must_use]
    pub fn vacated(&self, reached: Option<Lsn>) -> Self {
        let previous = self.primary.clone().or_else(|| self.previous.clone());
        let (epoch, reached) = (self.epoch.next(), reached.max(self.reached));
        Self {
            epoch,
            primary: None,
            previous,
            reached,
            handover: None,
            scheduled: None,
            rejoin: None,
            ..self.clone()
        }
        .raised()
    }

    /// Declares `node` the primary of this epoch, in which nobody is primary yet. The point of no return.
    /// Its sync set is empty in the very same write: what it inherits may name itself. `position`: what it has, which its disk
    /// must contain from then on. None: it is not known, and what was asked of the old primary goes on to be asked.
    #[must_use]
    pub fn declared(&self, node: NodeId, position: Option<WalPosition>) -> Self {
        Self {
            primary: Some(node),
            reached: None,
            primary_floor: position.or(self.primary_floor),
            floors: Floors::default(),
            switch: None,
            settled: false,
            sync: Vec::new(),
            sync_next: Vec::new(),
            attended: true,
            ..self.clone()
        }
        .raised()
    }

    /// The primary has reported where it left the timeline before.
    #[must_use]
    pub fn switched(&self, switch: Switch) -> Self {
        Self { switch: Some(switch), settled: true, ..self.clone() }.raised()
    }

    /// Declares `node` primary of the next epoch in one write: a hand-over, where the old primary has already
    /// stopped cleanly and the candidate has everything.
    #[must_use]
    pub fn handed_over(&self, node: NodeId, position: Option<WalPosition>) -> Self {
        self.vacated(None).declared(node, position)
    }

    /// Declares the previous primary again, with the next epoch. Only while nobody was declared in this one. `floor`: what its
    /// WAL must contain, of all that it and the members of its sync sets were seen to have.
    #[must_use]
    pub fn reinstated(&self, floor: Option<WalPosition>) -> Option<Self> {
        let old = self.previous.clone().filter(|_| self.primary.is_none())?;
        Some(
            Self {
                epoch: self.epoch.next(),
                primary: Some(old),
                reached: None,
                primary_floor: self.primary_floor.max(floor),
                floors: Floors::default(),
                sync: Vec::new(),
                sync_next: Vec::new(),
                attended: true,
                ..self.clone()
            }
            .raised(),
        )
    }

    /// What a person's word makes of a store that is not believed: the first intent of a new life of it, which every agent
    /// has promised as `life`. The running primary keeps its place, and nothing is promised until it is proven anew.
    #[must_use]
    pub fn accepted(life: Stamp, primary: NodeId, durability: Durability) -> Self {
        // Whether a guard counts beside it is not known from here: its own member will say so.
        Self { attended: false, ..Self::first(life.incarnation, life.epoch, primary, durability) }
    }

    /// Nothing is promised any more: safe from anywhere, as long as the store is told before PostgreSQL is.
    #[must_use]
    pub fn unpromised(&self) -> Self {
        Self { sync: Vec::new(), sync_next: Vec::new(), ..self.clone() }.raised()
    }

    /// This intent with the next version: for every change that keeps the epoch.
    #[must_use]
    pub fn raised(self) -> Self {
        Self { version: self.version.next(), ..self }
    }

    /// True if `node` stands in either sync set.
    #[must_use]
    pub fn in_sync(&self, node: &NodeId) -> bool {
        self.sync.iter().chain(&self.sync_next).any(|m| m.node == *node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("good name")
    }

    #[test]
    fn every_change_raises_the_version() {
        let first = Intent::first(Incarnation(1), Epoch(1), node("a"), Durability::Sync);
        let vacant = first.vacated(None);
        let declared = vacant.declared(node("b"), None);
        assert!(vacant.stamp() > first.stamp() && declared.stamp() > vacant.stamp());
        assert_eq!(
            (declared.epoch, declared.primary, declared.previous),
            (Epoch(2), Some(node("b")), Some(node("a")))
        );
    }

    #[test]
    fn vacating_twice_keeps_the_last_real_primary_as_previous() {
        let first = Intent::first(Incarnation(1), Epoch(1), node("a"), Durability::Sync);
        assert_eq!(first.vacated(None).vacated(None).previous, Some(node("a")));
    }

    #[test]
    fn nobody_is_reinstated_once_a_candidate_is_declared() {
        let first = Intent::first(Incarnation(1), Epoch(1), node("a"), Durability::Sync);
        assert_eq!(first.vacated(None).declared(node("b"), None).reinstated(None), None);
        assert_eq!(first.vacated(None).reinstated(None).and_then(|i| i.primary), Some(node("a")));
    }
}
