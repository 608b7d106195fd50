//! The cluster on one page. A pure function of the snapshot.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use crate::{
    model::{
        AppStatus, Driver, Durability, EndpointKind, EndpointStatus, Incident, Mode, NodeId, NodeStatus,
        Role, RpoStatus, Snapshot, Verdict,
    },
    report::{Paint, bytes, ms},
};

/// The width of the labels on the left.
const LABEL: usize = 15;
/// Older knowledge of the live RPO is marked.
const OLD_MS: f64 = 1_000.0;
/// A member that was not heard for so long is marked; members report ten times a second.
const QUIET_MS: f64 = 1_000.0;

/// The page.
pub(super) fn page(snapshot: &Snapshot, paint: Paint) -> String {
    let mut out = String::new();
    head(&mut out, snapshot, paint);
    out.push('\n');
    out.push_str(&nodes(snapshot));
    notes(&mut out, snapshot);
    if !snapshot.endpoints.is_empty() {
        out.push('\n');
        out.push_str(&endpoints(&snapshot.endpoints));
    }
    out.push('\n');
    findings(&mut out, snapshot, paint);
    if let Some(incident) = &snapshot.incident {
        line(&mut out, paint, "incident", &paint.warn(&format!("{}, not over", one_line(incident))));
    }
    match &snapshot.last_incident {
        Some(incident) => line(&mut out, paint, "last incident", &one_line(incident)),
        None => line(&mut out, paint, "last incident", "none"),
    }
    out
}

fn line(out: &mut String, paint: Paint, label: &str, text: &str) {
    let label = paint.bold(&format!("{label:LABEL$}"));
    out.push_str(&format!("{label}{text}\n"));
}

fn head(out: &mut String, snapshot: &Snapshot, paint: Paint) {
    let at = snapshot.at.strftime("%Y-%m-%d %H:%M:%S UTC");
    line(out, paint, "cluster", &format!("{}, as {} sees it at {at}", snapshot.cluster, snapshot.node));
    line(out, paint, "leader", snapshot.leader.as_ref().map_or("not known", NodeId::as_str));
    if let Some(error) = &snapshot.store_error {
        line(out, paint, "store", &paint.bad(&format!("does not answer: {error}")));
    }
    match &snapshot.intent {
        None => line(out, paint, "primary", &paint.warn("no cluster is declared yet")),
        Some(intent) => {
            let serving = snapshot.nodes.iter().find(|node| node.serving).map(|node| &node.node);
            let primary = match (&intent.primary, serving) {
                (Some(primary), Some(node)) if primary == node => paint.good(&format!("{primary}, serving")),
                (Some(primary), _) => paint.bad(&not_serving(snapshot, primary)),
                (None, _) => paint.bad("nobody: a failover is under way"),
            };
            let durability = match intent.durability {
                Durability::Sync => "sync",
                Durability::SyncStrict => "sync-strict",
                Durability::Async => "async",
            };
            let scheduled = intent.scheduled.as_ref().map_or_else(String::new, |asked| {
                let to = asked.to.as_ref().map_or("the best standby", |node| node.as_str());
                format!("; switchover to {to} at {}", asked.at)
            });
            let handover = intent.handover.as_ref();
            let handover = handover.map_or_else(String::new, |to| format!("; handing over to {}", to.to));
            line(
                out,
                paint,
                "primary",
                &format!("{primary} (epoch {}, {durability}{handover}{scheduled})", intent.epoch),
            );
            if intent.paused {
                line(out, paint, "paused", &paint.warn("automatic action is off; `locum resume` lifts it"));
            }
        }
    }
    line(out, paint, "live RPO", &rpo(snapshot.rpo.as_ref(), paint));
}

/// Silence of its member tells nothing about PostgreSQL, which goes on without it.
fn not_serving(snapshot: &Snapshot, primary: &NodeId) -> String {
    match snapshot.nodes.iter().find(|node| node.node == *primary) {
        Some(node) if node.heard_ms > QUIET_MS => {
            format!("{primary}, not known to serve: its member was last heard {} ago", ms(node.heard_ms))
        }
        _ => format!("{primary}, NOT serving"),
    }
}

/// What would be lost if the primary vanished now, always with the age of that knowledge.
fn rpo(rpo: Option<&RpoStatus>, paint: Paint) -> String {
    let Some(rpo) = rpo else { return paint.warn("unknown: never read") };
    let mut text = match (rpo.bytes, rpo.ms) {
        (None, _) => "unknown".to_owned(),
        (Some(at_risk), None) => bytes(at_risk),
        (Some(at_risk), Some(time)) => format!("{}, {} of work", bytes(at_risk), ms(time)),
    };
    let _ = write!(text, " (as of {} ago", ms(rpo.as_of_ms));
    if let Some(standby) = &rpo.standby {
        let _ = write!(text, ", against {standby}");
    }
    text.push(')');
    if let Some(at_most) = rpo.at_most_bytes.filter(|at_most| Some(*at_most) != rpo.bytes) {
        let _ = write!(text, "; by estimate at most {} now", bytes(at_most));
    }
    if rpo.acknowledged_is_safe {
        // On a line of its own: the answer to what most people mean by RPO.
        let _ = write!(text, "\n{:LABEL$}of acknowledged commits: nothing", "");
    }
    if rpo.bytes.is_none() || rpo.as_of_ms > OLD_MS { paint.warn(&text) } else { text }
}

fn nodes(snapshot: &Snapshot) -> String {
    let mut table = plain(["node", "PostgreSQL", "position", "lag", "to replay", "app server", "heard"]);
    for node in &snapshot.nodes {
        let app = node.app.as_ref().map_or("-", app);
        let size = |value: Option<u64>| value.map_or_else(|| "-".into(), bytes);
        let heard = if node.heard_ms > QUIET_MS {
            format!("{} ago!", ms(node.heard_ms))
        } else {
            format!("{} ago", ms(node.heard_ms))
        };
        table.add_row([
            node.node.to_string(),
            role(node),
            match (node.timeline, node.lsn) {
                (Some(timeline), Some(lsn)) => format!("{timeline}:{lsn}"),
                _ => "-".into(),
            },
            size(node.lag_bytes),
            size(node.replay_bytes),
            app.into(),
            heard,
        ]);
    }
    align(&mut table, &[3, 4]);
    trimmed(&table)
}

fn role(node: &NodeStatus) -> String {
    let role = match node.role {
        Role::Primary if node.serving => "primary, serving",
        Role::Primary => "primary, NOT serving",
        Role::Standby => match (node.streaming, node.sync) {
            (true, true) => "standby, sync",
            (true, false) => "standby, streaming",
            (false, _) => "standby, NOT streaming",
        },
        Role::Starting => "starting",
        Role::Down => "down",
        Role::Unknown => "unknown",
        Role::None => "-",
    };
    role.to_owned()
}

const fn app(app: &AppStatus) -> &'static str {
    match (app.healthy, app.active) {
        (true, true) => "active",
        (true, false) => "ready",
        (false, true) if app.starting => "active, starting",
        (false, true) => "active, DOWN",
        (false, false) if app.startable => "cold",
        (false, false) => "down",
    }
}

/// What does not fit into the table: jobs and errors, one a line.
fn notes(out: &mut String, snapshot: &Snapshot) {
    for node in &snapshot.nodes {
        let cold = |app: &AppStatus| app.startable && !app.active;
        let app =
            node.app.as_ref().filter(|app| !app.healthy && !cold(app)).and_then(|app| app.error.as_ref());
        let guards = node.guard.as_ref().filter(|_| node.role == Role::Primary);
        let said = [
            guards.map(|guard| format!("guard: {guard}")),
            node.job.as_ref().map(|job| format!("doing: {job}")),
            node.error.as_ref().map(|error| format!("last error: {error}")),
            app.map(|error| format!("app server: {error}")),
        ];
        for note in said.iter().flatten() {
            out.push_str(&format!("  {}: {note}\n", node.node));
        }
    }
}

fn several(endpoint: &EndpointStatus, kind: &str) -> String {
    let serving = endpoint.traffic.targets.iter().filter(|target| target.serving);
    let nodes: Vec<_> = serving.map(|target| target.node.as_str()).collect();
    if nodes.is_empty() { "nobody".into() } else { format!("{kind} of {}", nodes.join(", ")) }
}

fn endpoints(endpoints: &[EndpointStatus]) -> String {
    let mut table = plain(["endpoint", "listens at", "leads to", "new connections", "open", "waiting"]);
    for endpoint in endpoints {
        let kind = match endpoint.kind {
            EndpointKind::Primary => "PostgreSQL",
            EndpointKind::Standbys => "standby",
            EndpointKind::App | EndpointKind::Apps => "app server",
        };
        let target = endpoint.target.as_ref();
        table.add_row([
            match endpoint.driver {
                Driver::Proxy => format!("{}@{}", endpoint.name, endpoint.member),
                driver => format!("{}@{} ({})", endpoint.name, endpoint.member, driver.as_str()),
            },
            endpoint.listen.clone(),
            match endpoint.kind {
                EndpointKind::Primary | EndpointKind::App => {
                    target.map_or_else(|| "nobody".into(), |node| format!("{kind} of {node}"))
                }
                EndpointKind::Standbys | EndpointKind::Apps => several(endpoint, kind),
            },
            match endpoint.mode {
                Mode::Open => "get through",
                Mode::Holding => "wait",
                Mode::Cut => "wait (cut)",
            }
            .into(),
            endpoint.open.to_string(),
            endpoint.held.to_string(),
        ]);
    }
    align(&mut table, &[4, 5]);
    let mut page = trimmed(&table);
    for endpoint in endpoints {
        if let Some(problem) = &endpoint.problem {
            page.push_str(&format!("  {}@{}: {problem}\n", endpoint.name, endpoint.member));
        }
    }
    page
}

fn findings(out: &mut String, snapshot: &Snapshot, paint: Paint) {
    if snapshot.findings.is_empty() {
        line(out, paint, "findings", &paint.good("none"));
    }
    for (index, finding) in snapshot.findings.iter().enumerate() {
        line(out, paint, if index == 0 { "findings" } else { "" }, &paint.warn(&finding.text));
    }
}

fn one_line(incident: &Incident) -> String {
    let report = crate::report::Printed::from(incident);
    let mut text = format!("{} at {}", report.id, report.started_at.strftime("%Y-%m-%d %H:%M:%S UTC"));
    let kind = serde_json::to_value(report.kind).unwrap_or_default();
    let _ = write!(text, ": {}", kind.as_str().unwrap_or_default());
    if let (Some(from), Some(to)) = (&report.from, &report.to) {
        let _ = write!(text, " {from} → {to}");
    }
    if let Some(rto) = report.rto_ms {
        let verdict = match report.verdict.rto {
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::Unknown => "not known",
        };
        let _ = write!(text, ", RTO {} ({verdict})", ms(rto));
    }
    if report.abandoned.is_some() {
        text.push_str(", given up");
    }
    text
}

fn plain<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(header);
    table
}

fn align(table: &mut Table, right: &[usize]) {
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn trimmed(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
