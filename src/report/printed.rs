//! An incident as programs read it. Fields may be added; none is renamed or taken away.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    Epoch, Incident, IncidentId, IncidentKind, LostTable, NodeId, Phase, Repointed, Verdicts,
};

/// What `locum report --format json` prints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Oldest first.
    pub incidents: Vec<Printed>,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Printed {
    /// Its identifier.
    pub id: IncidentId,
    /// `failover`, `restart`, `switchover` or `app-failover`.
    pub kind: IncidentKind,
    /// Why, in one sentence.
    pub cause: String,
    /// What was seen at that moment, one sentence each.
    pub evidence: Vec<String>,
    /// The epoch it led to.
    pub epoch: Epoch,
    /// Who served before.
    pub from: Option<NodeId>,
    /// Who served after.
    pub to: Option<NodeId>,
    /// Wall-clock time of the onset, for people.
    pub started_at: Timestamp,
    /// Onset to *app ready*, in milliseconds. Null while it lasts, or if it was given up.
    pub rto_ms: Option<f64>,
    /// Onset to *verified*, in milliseconds: the database's own part, where the app server was ready later. Null: there is none.
    #[serde(default)]
    pub database_ms: Option<f64>,
    /// From mark to mark, each named after the mark that ends it; up to *app ready* they add up to `rto_ms`.
    pub phases: Vec<Phase>,
    /// What was at stake, and what it cost.
    pub rpo: PrintedRpo,
    /// What was asked for.
    pub objectives: PrintedObjectives,
    /// `met`, `missed` or `unknown`.
    pub verdict: Verdicts,
    /// Onset to *redundancy restored*, in milliseconds. Not part of the RTO.
    pub redundancy_ms: Option<f64>,
    /// The member that led and reports.
    pub leader: NodeId,
    /// Connections that the endpoints cut.
    pub connections_cut: u64,
    /// Connections that waited and were then served.
    pub connections_held: u64,
    /// The endpoints, as they came to lead to whoever serves after.
    #[serde(default)]
    pub repoints: Vec<Repointed>,
    /// Connections that were given up: too many waited, or for too long.
    pub connections_refused: u64,
    /// The longest time without a byte from a server at an endpoint that was in use. Null: not known.
    pub longest_gap_ms: Option<f64>,
    /// What went otherwise than planned.
    pub deviations: Vec<String>,
    /// Why it was given up or rolled back, if it was.
    pub abandoned: Option<String>,
}

/// The live RPO at the onset, and the fact beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrintedRpo {
    /// The live RPO as last known before the onset, in bytes. Null: unknown.
    pub live_bytes: Option<u64>,
    /// The same in milliseconds.
    pub live_ms: Option<f64>,
    /// How old that knowledge was at the onset, in milliseconds.
    pub as_of_ms: f64,
    /// Every acknowledged commit was on the standby by protocol; `live_bytes` is a tail that nobody was told about.
    pub acknowledged_is_safe: bool,
    /// Bytes that the old primary wrote after that reading. Null: not yet known.
    pub written_after_bytes: Option<u64>,
    /// Bytes of WAL that the old primary had beyond the switch position. Null: not yet known.
    pub lost_bytes: Option<u64>,
    /// Committed transactions in them. Null: not yet known.
    pub lost_transactions: Option<u64>,
    /// Bytes of WAL that only the old primary had and that the new one got before it was promoted. Null: no rescue ended.
    #[serde(default)]
    pub rescued_bytes: Option<u64>,
    /// Where the lost ones are kept.
    pub salvage: Option<String>,
    /// Why it will not be known what was lost. Null: it is known, or may still be.
    #[serde(default)]
    pub lost_unknown: Option<String>,
    /// The tables that most rows were lost in. `locum report --lost ID` has all of them, and the transactions.
    #[serde(default)]
    pub lost_tables: Vec<LostTable>,
}

/// What the business asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrintedObjectives {
    /// The longest acceptable outage.
    pub rto_ms: f64,
    /// The longest acceptable stretch of lost work.
    pub rpo_ms: f64,
}

impl From<&Incident> for Printed {
    fn from(incident: &Incident) -> Self {
        let rpo = &incident.rpo;
        Self {
            id: incident.id.clone(),
            kind: incident.kind,
            cause: incident.cause.summary.clone(),
            evidence: incident.cause.evidence.clone(),
            epoch: incident.epoch,
            from: incident.from.clone(),
            to: incident.to.clone(),
            started_at: incident.started_at,
            rto_ms: incident.rto_ms(),
            database_ms: incident.database_ms(),
            phases: incident.phases(),
            rpo: PrintedRpo {
                live_bytes: rpo.live_bytes,
                live_ms: rpo.live_ms,
                as_of_ms: rpo.as_of_ms,
                acknowledged_is_safe: rpo.acknowledged_is_safe,
                written_after_bytes: rpo.written_after_bytes,
                lost_bytes: rpo.lost_bytes,
                lost_transactions: rpo.lost_transactions,
                rescued_bytes: rpo.rescued_bytes,
                salvage: rpo.salvage.clone(),
                lost_unknown: rpo.lost_unknown.clone(),
                lost_tables: rpo.lost_tables.clone(),
            },
            objectives: PrintedObjectives {
                rto_ms: incident.objectives.rto_ms,
                rpo_ms: incident.objectives.rpo_ms,
            },
            verdict: incident.verdicts(),
            redundancy_ms: incident.redundancy_ms(),
            leader: incident.leader.clone(),
            connections_cut: incident.connections_cut,
            connections_held: incident.connections_held,
            repoints: incident.repoints.clone(),
            connections_refused: incident.connections_refused,
            longest_gap_ms: incident.longest_gap_ms,
            deviations: incident.deviations.clone(),
            abandoned: incident.abandoned.clone(),
        }
    }
}
