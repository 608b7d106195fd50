//! The figures across incidents: RTO per kind, and how often the objectives were met.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use jiff::Timestamp;

use super::{Paint, words};
use crate::model::{Incident, IncidentKind, Verdict};

/// Every kind, in the order shown.
const KINDS: [IncidentKind; 5] = [
    IncidentKind::Failover,
    IncidentKind::Restart,
    IncidentKind::Switchover,
    IncidentKind::AppFailover,
    IncidentKind::LeftRecovery,
];

/// A heading and a table with a row per kind that happened.
pub(super) fn summary(incidents: &[Incident], paint: Paint) -> String {
    let (Some(first), Some(last)) = (incidents.first(), incidents.last()) else { return String::new() };
    let heading = if incidents.len() == 1 {
        format!("1 incident, {}", time(first.started_at))
    } else {
        format!("{} incidents, {} to {}", incidents.len(), time(first.started_at), time(last.started_at))
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["kind", "count", "RTO p50", "p95", "max", "RTO objective", "RPO objective"]);
    for kind in KINDS {
        let of_kind: Vec<_> = incidents.iter().filter(|incident| incident.kind == kind).collect();
        if !of_kind.is_empty() {
            table.add_row(row(kind, &of_kind));
        }
    }
    for column in table.column_iter_mut().skip(1).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let lines: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    format!("{}\n\n{lines}", paint.bold(&heading))
}

fn row(kind: IncidentKind, incidents: &[&Incident]) -> Vec<String> {
    let mut rto: Vec<f64> = incidents.iter().filter_map(|incident| incident.rto_ms()).collect();
    rto.sort_by(f64::total_cmp);
    let figure = |share: f64| percentile(&rto, share).map_or_else(|| "-".into(), words::ms);
    let verdicts: Vec<_> = incidents.iter().map(|incident| incident.verdicts()).collect();
    vec![
        name(kind).into(),
        incidents.len().to_string(),
        figure(0.5),
        figure(0.95),
        figure(1.0),
        tally(verdicts.iter().map(|both| both.rto)),
        tally(verdicts.iter().map(|both| both.rpo)),
    ]
}

/// The value that this share of the values does not exceed (nearest rank). The values are sorted.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rank"
)]
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

fn tally(verdicts: impl Iterator<Item = Verdict>) -> String {
    let (mut met, mut missed, mut unknown) = (0, 0, 0);
    for verdict in verdicts {
        match verdict {
            Verdict::Met => met += 1,
            Verdict::Missed => missed += 1,
            Verdict::Unknown => unknown += 1,
        }
    }
    let parts = [(met, "met"), (missed, "missed"), (unknown, "unknown")];
    let told = parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    told.collect::<Vec<_>>().join(", ")
}

/// The kind in words.
pub(super) const fn name(kind: IncidentKind) -> &'static str {
    match kind {
        IncidentKind::Failover => "failover",
        IncidentKind::Restart => "restart in place",
        IncidentKind::Switchover => "switchover",
        IncidentKind::AppFailover => "app failover",
        IncidentKind::LeftRecovery => "left recovery",
    }
}

/// Wall-clock time to the second.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_seen() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), Some(10.0));
        assert_eq!(percentile(&values, 0.95), Some(19.0));
        assert_eq!(percentile(&values, 1.0), Some(20.0));
        assert_eq!(percentile(&[7.0], 0.5), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
