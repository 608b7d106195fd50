//! An incident: one failover, switchover or app failover, with its phases, its evidence and its verdict.
//!
//! RTO counts from the last moment service was known good to the first moment it is proven good again through the
//! virtual endpoint. A phase is the gap between one mark and the next in the order reached, so phases up to
//! *app ready* add up to the RTO by construction.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Driver, EndpointName, Epoch, IncidentId, LiveRpo, LostTable, LostTransaction, Mono, NodeId, StandbyName,
};

/// What kind of incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentKind {
    /// The primary failed and another node took over.
    Failover,
    /// The primary failed and was started again in place.
    Restart,
    /// A planned hand-over.
    Switchover,
    /// An app server failed and another took over; the database stayed.
    AppFailover,
    /// A standby left recovery without an order. Service went on; what was acknowledged there may be lost.
    LeftRecovery,
}

/// Instants worth a name, in their usual order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarkName {
    /// Service was last known good.
    Onset,
    /// The problem was first noticed.
    Suspected,
    /// It was decided to act; in a switchover: new connections wait from here.
    Confirmed,
    /// The old primary can acknowledge nothing more.
    Fenced,
    /// A standby has got what only the old primary had. Not set where there was no WAL rescue.
    Rescued,
    /// The new primary was declared.
    Chosen,
    /// It takes writes.
    Promoted,
    /// Every endpoint leads to it.
    Repointed,
    /// A commit through the endpoint succeeded.
    Verified,
    /// The active app server is healthy. The end of the RTO.
    AppReady,
    /// A standby streams again. Reported apart; not part of the RTO.
    RedundancyRestored,
}

impl MarkName {
    /// The name as reports print it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Onset => "onset",
            Self::Suspected => "suspected",
            Self::Confirmed => "confirmed",
            Self::Fenced => "fenced",
            Self::Rescued => "rescued",
            Self::Chosen => "chosen",
            Self::Promoted => "promoted",
            Self::Repointed => "repointed",
            Self::Verified => "verified",
            Self::AppReady => "app ready",
            Self::RedundancyRestored => "redundancy restored",
        }
    }
}

/// A named instant, on the reporting controller's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which.
    pub name: MarkName,
    /// When.
    pub at: Mono,
}

/// The time from one mark to the next one reached; named after the mark that ends it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// The mark that ends it.
    pub name: String,
    /// How long it took.
    pub ms: f64,
}

/// Why it happened, with the evidence at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The finding, or who asked for it.
    pub summary: String,
    /// What was seen: probe results, ages, errors; one sentence each.
    pub evidence: Vec<String>,
}

/// What was at stake when it began, and what it really cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RpoAtOnset {
    /// The live RPO as last known before: bytes. None: unknown.
    pub live_bytes: Option<u64>,
    /// The same in milliseconds.
    pub live_ms: Option<f64>,
    /// How old that knowledge was at the onset; 0 if it was read after.
    pub as_of_ms: f64,
    /// Every acknowledged commit was on the standby by protocol: `live_bytes` is a tail nobody was told about.
    pub acknowledged_is_safe: bool,
    /// Bytes that the old primary wrote after that reading. None: not yet known.
    pub written_after_bytes: Option<u64>,
    /// Bytes of WAL that the old primary had beyond the switch position. None: not yet known.
    pub lost_bytes: Option<u64>,
    /// Committed transactions in them. None: not yet known.
    pub lost_transactions: Option<u64>,
    /// Bytes of WAL that only the old primary had and that the new one got before it was promoted. None: no rescue ended.
    #[serde(default)]
    pub rescued_bytes: Option<u64>,
    /// Why it is not known whether everything acknowledged is in the new primary, until the old one's disk has been read.
    #[serde(default)]
    pub doubt: Option<String>,
    /// Where the lost ones are kept.
    pub salvage: Option<String>,
    /// Why it is not and will not be known what was lost: WAL of the old primary was gone.
    #[serde(default)]
    pub lost_unknown: Option<String>,
    /// The tables that most rows were lost in.
    #[serde(default)]
    pub lost_tables: Vec<LostTable>,
    /// The first of the lost transactions; the whole list is in the salvage.
    #[serde(default)]
    pub lost_first: Vec<LostTransaction>,
    /// What could not be kept or named of them.
    #[serde(default)]
    pub lost_notes: Vec<String>,
}

/// What the business asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objectives {
    /// The longest acceptable outage.
    pub rto_ms: f64,
    /// The longest acceptable stretch of lost work.
    pub rpo_ms: f64,
}

/// Whether an objective was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was.
    Met,
    /// It was not.
    Missed,
    /// It is not known (yet).
    Unknown,
}

/// The verdict on each objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// On the RTO.
    pub rto: Verdict,
    /// On the RPO.
    pub rpo: Verdict,
}

/// How one endpoint came to lead clients to the new node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repointed {
    /// The member it belongs to.
    pub member: NodeId,
    /// Its name.
    pub endpoint: EndpointName,
    /// What carried it out.
    pub driver: Driver,
    /// From the order to its confirmation, in milliseconds. None: it is not confirmed.
    pub took_ms: Option<f64>,
    /// From the onset to the confirmation, in milliseconds. None: it is not confirmed.
    pub after_ms: Option<f64>,
    /// Why it is not.
    pub error: Option<String>,
}

/// One incident, as it is stored. `report::Printed` is what others read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its identifier.
    pub id: IncidentId,
    /// What kind.
    pub kind: IncidentKind,
    /// Why.
    pub cause: Cause,
    /// The operation that asked for it, if a person did.
    pub operation: Option<String>,
    /// The epoch it led to.
    pub epoch: Epoch,
    /// Who served before.
    pub from: Option<NodeId>,
    /// The name that one had as a standby: another one means that its data directory was replaced since. None: not known.
    #[serde(default)]
    pub from_name: Option<StandbyName>,
    /// Who served after. None: nobody yet, or nothing was begun.
    pub to: Option<NodeId>,
    /// Wall-clock time of the onset, for people; durations never come from it.
    pub started_at: Timestamp,
    /// The member that led and reports.
    pub leader: NodeId,
    /// The marks, in the order reached.
    pub marks: Vec<Mark>,
    /// What was at stake and what was lost.
    pub rpo: RpoAtOnset,
    /// The reading that `rpo` comes from.
    pub live: Option<LiveRpo>,
    /// What was asked for.
    pub objectives: Objectives,
    /// Connections that the endpoints cut, and let wait and then served, during it.
    pub connections_cut: u64,
    /// Connections that waited and were then served.
    pub connections_held: u64,
    /// The endpoints, as they came to lead to whoever serves after.
    #[serde(default)]
    pub repoints: Vec<Repointed>,
    /// Connections that were given up: too many waited, or for too long.
    #[serde(default)]
    pub connections_refused: u64,
    /// The longest time without a byte from a server at an endpoint that was in use, in milliseconds. None: not known.
    #[serde(default)]
    pub longest_gap_ms: Option<f64>,
    /// What went otherwise than planned: retries, refusals, rollbacks.
    pub deviations: Vec<String>,
    /// It was given up or rolled back, and why.
    pub abandoned: Option<String>,
    /// Nothing more will be added.
    pub closed: bool,
}

impl Incident {
    /// When a mark was reached.
    #[must_use]
    pub fn at(&self, name: MarkName) -> Option<Mono> {
        self.marks.iter().find(|mark| mark.name == name).map(|mark| mark.at)
    }

    /// Sets a mark once; a mark is never moved. One that would lie before the mark reached last is set to that
    /// instant: marks of two clocks may differ by the mapping error, and a phase is never negative.
    pub fn mark(&mut self, name: MarkName, at: Mono) {
        if self.at(name).is_none() {
            let floor = self.marks.last().map_or(at, |last| last.at);
            self.marks.push(Mark { name, at: at.max(floor) });
        }
    }

    /// Onset to *app ready*, in milliseconds; None while it lasts.
    #[must_use]
    pub fn rto_ms(&self) -> Option<f64> {
        Some(self.at(MarkName::AppReady)?.ms_since(self.at(MarkName::Onset)?))
    }

    /// Onset to *verified*, in milliseconds: the database's own part, where the app server was ready later. None: there is no such
    /// part (yet).
    #[must_use]
    pub fn database_ms(&self) -> Option<f64> {
        Some(self.at(MarkName::Verified)?.ms_since(self.at(MarkName::Onset)?))
    }

    /// The phases up to *app ready*: they add up to the RTO.
    #[must_use]
    pub fn phases(&self) -> Vec<Phase> {
        let end =
            self.marks.iter().position(|m| m.name == MarkName::AppReady).map_or(self.marks.len(), |i| i + 1);
        let gap = |pair: &[Mark]| Phase {
            name: pair[1].name.as_str().to_owned(),
            ms: pair[1].at.ms_since(pair[0].at),
        };
        self.marks[..end].windows(2).map(gap).collect()
    }

    /// *App ready* to *redundancy restored*, in milliseconds.
    #[must_use]
    pub fn redundancy_ms(&self) -> Option<f64> {
        Some(self.at(MarkName::RedundancyRestored)?.ms_since(self.at(MarkName::Onset)?))
    }

    /// True if it was given up before clients could notice anything.
    #[must_use]
    pub fn was_unnoticed(&self) -> bool {
        self.abandoned.is_some() && self.at(MarkName::Onset).is_none()
    }

    /// The verdict, from what is known now.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        let judge = |value: Option<f64>, limit: f64| match value {
            Some(value) if value <= limit => Verdict::Met,
            Some(_) => Verdict::Missed,
            None => Verdict::Unknown,
        };
        let lost_ms = match (self.kind, self.rpo.lost_transactions) {
            (IncidentKind::Switchover | IncidentKind::Restart | IncidentKind::AppFailover, _)
            | (_, Some(0)) => Some(0.0),
            _ if self.rpo.acknowledged_is_safe => Some(0.0),
            // What is missing reaches back as far as the live RPO did, and forward to the onset.
            (_, Some(_)) => self.rpo.live_ms.map(|ms| ms + self.rpo.as_of_ms),
            (_, None) => None,
        };
        let unnoticed = self.was_unnoticed() || self.kind == IncidentKind::LeftRecovery;
        Verdicts {
            rto: judge(self.rto_ms().or(unnoticed.then_some(0.0)), self.objectives.rto_ms),
            rpo: judge(lost_ms, self.objectives.rpo_ms),
        }
    }
}
