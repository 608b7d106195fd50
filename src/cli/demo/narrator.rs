//! Turns one snapshot after another into lines for a reader: what changed, and once a second the live RPO. Pure but
//! for the clock.

use std::collections::{BTreeMap, BTreeSet};

use super::health;
use crate::{
    clock::SystemClock,
    model::{
        Durability, Incident, IncidentId, IncidentKind, MarkName, Mono, NodeId, Role, RpoStatus, Snapshot,
    },
    ports::Clock as _,
};

/// How often the live RPO is told.
const RPO_EVERY_MS: f64 = 1_000.0;
/// How often it is told while it stays the same.
const SAME_RPO_EVERY_MS: f64 = 3_000.0;

/// What was told already.
#[derive(Debug, Default)]
pub(crate) struct Narrator {
    leader: Option<NodeId>,
    primary: Option<NodeId>,
    roles: BTreeMap<NodeId, Role>,
    in_sync: Option<bool>,
    marks: BTreeMap<IncidentId, BTreeSet<String>>,
    findings: BTreeSet<String>,
    rpo_told: Option<(Mono, NodeId, Option<u64>)>,
}

impl Narrator {
    /// Nothing was told yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// What there is to tell about this snapshot, with the instant of each event.
    pub(crate) fn lines(&mut self, snapshot: &Snapshot, acknowledged: usize) -> Vec<(Mono, String)> {
        let now = SystemClock.now();
        let mut lines = Vec::new();
        for incident in snapshot.last_incident.iter().chain(&snapshot.incident) {
            lines.extend(self.incident(incident));
        }
        lines.extend(self.changes(snapshot).into_iter().map(|line| (now, line)));
        lines.extend(self.rpo(snapshot, acknowledged, now).map(|line| (now, line)));
        lines
    }

    fn rpo(&mut self, snapshot: &Snapshot, acknowledged: usize, now: Mono) -> Option<String> {
        let (rpo, primary) = (snapshot.rpo.as_ref()?, self.primary.as_ref()?);
        let due = self.rpo_told.as_ref().is_none_or(|(last, node, bytes)| {
            let same = node == primary && *bytes == rpo.bytes;
            now.ms_since(*last) >= if same { SAME_RPO_EVERY_MS } else { RPO_EVERY_MS }
        });
        due.then(|| {
            self.rpo_told = Some((now, primary.clone(), rpo.bytes));
            rpo_line(rpo, primary, acknowledged)
        })
    }

    fn changes(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let mut lines = Vec::new();
        if snapshot.leader.is_some() && snapshot.leader != self.leader {
            self.leader.clone_from(&snapshot.leader);
            lines.extend(self.leader.as_ref().map(|leader| format!("the member of {leader} leads")));
        }
        let intent = snapshot.intent.as_ref();
        if let Some(primary) = intent.and_then(|intent| intent.primary.as_ref())
            && self.primary.as_ref() != Some(primary)
        {
            let epoch = intent.map(|intent| intent.epoch).unwrap_or_default();
            lines.push(format!("{primary} is declared primary, epoch {epoch}"));
            self.primary = Some(primary.clone());
        }
        for status in &snapshot.nodes {
            let before = self.roles.insert(status.node.clone(), status.role);
            if before.is_some_and(|before| before != status.role) {
                lines.push(format!("{} is {}", status.node, health::word(status.role)));
            }
        }
        if let Some(intent) = intent.filter(|intent| intent.durability != Durability::Async) {
            let safe =
                !intent.sync.is_empty() && snapshot.rpo.as_ref().is_some_and(|rpo| rpo.acknowledged_is_safe);
            if self.in_sync != Some(safe) {
                self.in_sync = Some(safe);
                let names: Vec<_> = intent.sync.iter().map(|member| member.node.as_str()).collect();
                lines.push(if safe {
                    format!("commits wait for {}: what is acknowledged is on both", names.join(", "))
                } else {
                    "commits wait for no standby".to_owned()
                });
            }
        }
        let findings: BTreeSet<_> = snapshot.findings.iter().map(|finding| finding.text.clone()).collect();
        lines.extend(findings.difference(&self.findings).map(|text| format!("finding: {text}")));
        self.findings = findings;
        lines
    }

    /// The marks of an incident that were not told yet, each with its distance from the onset.
    fn incident(&mut self, incident: &Incident) -> Vec<(Mono, String)> {
        let told = self.marks.entry(incident.id.clone()).or_default();
        let mut lines = Vec::new();
        let Some(onset) = incident.at(MarkName::Onset) else { return lines };
        for mark in &incident.marks {
            if told.insert(mark.name.as_str().to_owned()) {
                let gap = mark.at.ms_since(onset);
                let text = match mark.name {
                    MarkName::Onset => format!("{}: {}", kind(incident.kind), incident.cause.summary),
                    name => format!("  {:<20} {gap:>8.1} ms after the onset", name.as_str()),
                };
                lines.push((mark.at, text));
            }
        }
        if let Some(why) = incident.abandoned.as_ref().filter(|_| told.insert("abandoned".to_owned())) {
            lines.push((SystemClock.now(), format!("  given up: {why}")));
        }
        lines
    }
}

const fn kind(kind: IncidentKind) -> &'static str {
    match kind {
        IncidentKind::Failover => "FAILOVER",
        IncidentKind::Restart => "RESTART",
        IncidentKind::Switchover => "SWITCHOVER",
        IncidentKind::AppFailover => "APP FAILOVER",
        IncidentKind::LeftRecovery => "LEFT RECOVERY",
    }
}

fn rpo_line(rpo: &RpoStatus, primary: &NodeId, acknowledged: usize) -> String {
    let bytes = rpo.bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{bytes} B"));
    let ms = rpo.ms.map_or_else(String::new, |ms| format!(", {ms:.0} ms"));
    let safe = if rpo.acknowledged_is_safe { ", of acknowledged commits 0" } else { "" };
    format!(
        "primary {primary}   live RPO {bytes}{ms}{safe} ({:.0} ms ago)   {acknowledged} commits",
        rpo.as_of_ms
    )
}
