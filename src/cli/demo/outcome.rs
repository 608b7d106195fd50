//! What came of it: the verdict, the summary for people, and the JSON that others read.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    fault::Fault,
    history::{Spread, spread},
    scenario::{Findout, Judged},
};
use crate::{
    cli::args::{DemoArgs, DemoDurability},
    model::{IncidentKind, Verdict},
    report,
};

/// The judgement over a whole run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Judgement {
    /// Every objective was met and nothing was lost that should not have been.
    pub(crate) passed: bool,
    /// The outage objective, over all faults.
    pub(crate) rto: Verdict,
    /// The data objective, over all faults.
    pub(crate) rpo: Verdict,
    /// What went wrong, one sentence each.
    pub(crate) problems: Vec<String>,
}

/// Judges.
pub(crate) fn judge(found: &Findout, durability: DemoDurability) -> Judgement {
    let mut problems = Vec::new();
    let check = &found.check;
    if check.duplicated > 0 {
        problems.push(format!("{} rows are there more than once", check.duplicated));
    }
    if check.failed_found > 0 {
        problems.push(format!("{} rows are there although they were refused", check.failed_found));
    }
    if check.lost > 0 && durability == DemoDurability::Sync {
        problems.push(format!("{} acknowledged rows are lost", check.lost));
    }
    for (number, fault) in found.faults.iter().enumerate() {
        let wrong = problems_of(fault, durability);
        problems.extend(wrong.into_iter().map(|what| format!("fault {}: {what}", number + 1)));
    }
    let verdicts = || found.faults.iter().map(|fault| fault.incident.verdicts());
    let (rto, rpo) = (worst(verdicts().map(|v| v.rto)), worst(verdicts().map(|v| v.rpo)));
    for (name, verdict) in [("outage", rto), ("data loss", rpo)] {
        if verdict != Verdict::Met {
            problems.push(format!("the objective for {name} is {}", word(verdict)));
        }
    }
    Judgement { passed: problems.is_empty(), rto, rpo, problems }
}

fn problems_of(fault: &Judged, durability: DemoDurability) -> Vec<String> {
    let mut wrong = Vec::new();
    let incident = &fault.incident;
    if let Some(why) = &incident.abandoned {
        wrong.push(format!("the {} was given up: {why}", kind(incident.kind)));
    }
    if fault.episode.fault.moves_database() && incident.redundancy_ms().is_none() {
        wrong.push("the controller did not record that redundancy was restored".to_owned());
    }
    if fault.outage.is_none() {
        wrong.push("clients were not served again".to_owned());
    }
    let moved = fault.episode.primary.0 != fault.episode.primary.1;
    if moved != fault.episode.fault.moves_database() {
        let verb = if moved { "moved" } else { "did not move" };
        wrong.push(format!("the database {verb}"));
    }
    if fault.lost > 0 && durability == DemoDurability::Async {
        let rpo = &incident.rpo;
        let bound = rpo.live_bytes.map(|live| live + rpo.written_after_bytes.unwrap_or(0));
        match (rpo.lost_bytes, bound) {
            (Some(lost), Some(bound)) if lost <= bound => {}
            (Some(lost), Some(bound)) => wrong.push(format!(
                "{lost} bytes are lost, more than the {bound} that the live RPO and what was written after it allow"
            )),
            _ => wrong.push(format!("{} acknowledged rows are lost, and it is not known how many bytes", fault.lost)),
        }
    }
    wrong
}

/// Missed if any was missed, else unknown if any is unknown.
fn worst(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    let severity = |verdict: &Verdict| match verdict {
        Verdict::Met => 0,
        Verdict::Unknown => 1,
        Verdict::Missed => 2,
    };
    verdicts.max_by_key(severity).unwrap_or(Verdict::Unknown)
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "met",
        Verdict::Missed => "missed",
        Verdict::Unknown => "unknown",
    }
}

const fn kind(kind: IncidentKind) -> &'static str {
    match kind {
        IncidentKind::Failover => "failover",
        IncidentKind::Restart => "restart",
        IncidentKind::Switchover => "switchover",
        IncidentKind::AppFailover => "app failover",
        IncidentKind::LeftRecovery => "left recovery",
    }
}

/// The figures across all faults.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// What clients saw, milliseconds.
    pub(crate) outage_ms: Option<Spread>,
    /// What the controller measured, milliseconds.
    pub(crate) rto_ms: Option<Spread>,
    /// How far apart the two are, milliseconds, without sign.
    pub(crate) difference_ms: Option<Spread>,
    /// Kill to first commit with no controller at all, milliseconds.
    pub(crate) floor_ms: Option<Spread>,
    /// Median outage over median floor.
    pub(crate) times_floor: Option<f64>,
}

/// Sums up.
pub(crate) fn figures(found: &Findout, floor: &[f64]) -> Figures {
    let outage: Vec<_> = found.faults.iter().filter_map(outage_ms).collect();
    let rto: Vec<_> = found.faults.iter().filter_map(|fault| fault.incident.rto_ms()).collect();
    let difference: Vec<_> = found.faults.iter().filter_map(difference_ms).map(f64::abs).collect();
    let (outage_ms, floor_ms) = (spread(&outage), spread(floor));
    let times_floor = outage_ms.zip(floor_ms).map(|(ours, floor)| ours.median / floor.median);
    Figures { outage_ms, rto_ms: spread(&rto), difference_ms: spread(&difference), floor_ms, times_floor }
}

fn outage_ms(fault: &Judged) -> Option<f64> {
    fault.outage.map(super::history::Gap::ms)
}

/// The clients' outage less the controller's figure.
fn difference_ms(fault: &Judged) -> Option<f64> {
    Some(outage_ms(fault)? - fault.incident.rto_ms()?)
}

/// The machine-readable result.
pub(crate) fn to_json(
    args: &DemoArgs,
    version: &str,
    found: &Findout,
    judgement: &Judgement,
    floor: &[f64],
) -> Value {
    let incidents: Vec<_> = found.faults.iter().map(|fault| fault.incident.clone()).collect();
    let printed = serde_json::to_value(report::json(&incidents)).unwrap_or_default();
    let check = &found.check;
    let faults: Vec<_> = found.faults.iter().map(fault_json).collect();
    json!({
        "locum": env!("CARGO_PKG_VERSION"),
        "postgresql": version,
        "scenario": args.scenario.name(),
        "durability": args.durability().name(),
        "runs": args.runs,
        "incidents": printed["incidents"],
        "client": {
            "acknowledged": check.acknowledged,
            "failed": check.failed,
            "unknown": check.unknown,
            "unknown_found": check.unknown_found,
            "lost": check.lost,
            "lost_rows": check.lost_rows,
            "duplicated": check.duplicated,
            "duplicated_rows": check.duplicated_rows,
            "outage_ms": found.faults.iter().map(outage_ms).collect::<Vec<_>>(),
            "errors": found.errors,
        },
        "faults": faults,
        "summary": figures(found, floor),
        "floor_ms": floor,
        "verdict": judgement,
    })
}

fn fault_json(fault: &Judged) -> Value {
    json!({
        "run": fault.episode.run,
        "what": fault.episode.injected.what,
        "node": fault.episode.injected.node,
        "incident": fault.incident.id,
        "primary_before": fault.episode.primary.0,
        "primary_after": fault.episode.primary.1,
        "outage_ms": outage_ms(fault),
        "rto_ms": fault.incident.rto_ms(),
        "difference_ms": difference_ms(fault),
        "database_gap_ms": fault.database_gap.map(super::history::Gap::ms),
        "healed_ms": fault.episode.healed.ms_since(fault.episode.injected.at),
        "lost": fault.lost,
    })
}

/// The summary for people.
pub(crate) fn to_text(found: &Findout, judgement: &Judgement, floor: &[f64]) -> String {
    let mut text = String::new();
    clients(&mut text, found);
    faults(&mut text, found);
    spreads(&mut text, &figures(found, floor));
    for problem in &judgement.problems {
        // Writing to a String cannot fail; so it is with every line here.
        let _ = writeln!(text, "  problem: {problem}");
    }
    let verdict = if judgement.passed { "PASSED" } else { "FAILED" };
    let _ = writeln!(
        text,
        "\n{verdict}: objective for outage {}, for data loss {}; {} acknowledged rows, {} lost, {} duplicated",
        word(judgement.rto),
        word(judgement.rpo),
        found.check.acknowledged,
        found.check.lost,
        found.check.duplicated
    );
    text
}

fn clients(text: &mut String, found: &Findout) {
    let check = &found.check;
    let _ = writeln!(text, "\nWhat clients were told, compared with what {} holds:", found.survivor);
    for (count, words) in [
        (check.acknowledged, "commits acknowledged"),
        (check.lost, "of them lost"),
        (check.duplicated, "rows there more than once"),
        (check.failed, "attempts failed, certainly not committed"),
    ] {
        let _ = writeln!(text, "  {count:>8}  {words}");
    }
    let (unknown, there) = (check.unknown, check.unknown_found);
    let _ = writeln!(
        text,
        "  {unknown:>8}  attempts with an outcome nobody told (the connection broke meanwhile); {there} of them are there"
    );
}

fn faults(text: &mut String, found: &Findout) {
    let _ = writeln!(
        text,
        "\nOutage, milliseconds (the longest gap between two acknowledged commits of all clients that judge):"
    );
    let _ = writeln!(
        text,
        "  {:>3}  {:>10}  {:>10}  {:>10}  {:>9}",
        "#", "clients", "controller", "difference", "lost rows"
    );
    let figure = |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.1}"));
    for (number, fault) in found.faults.iter().enumerate() {
        let (outage, rto) = (figure(outage_ms(fault)), figure(fault.incident.rto_ms()));
        let difference = difference_ms(fault).map_or_else(String::new, |ms| format!("{ms:+.1}"));
        let _ = writeln!(
            text,
            "  {:>3}  {outage:>10}  {rto:>10}  {difference:>10}  {:>9}",
            number + 1,
            fault.lost
        );
        if fault.episode.fault == Fault::App {
            let gap = figure(fault.database_gap.map(super::history::Gap::ms));
            let _ = writeln!(text, "       the database's own clients: longest gap {gap}");
        }
    }
}

fn spreads(text: &mut String, figures: &Figures) {
    let many = figures.outage_ms.is_some_and(|spread| spread.min < spread.max);
    let rows = [
        ("clients", many.then_some(figures.outage_ms).flatten()),
        ("controller", many.then_some(figures.rto_ms).flatten()),
        ("floor", figures.floor_ms),
    ];
    for (name, spread) in rows {
        if let Some(Spread { min, median, p90, max }) = spread {
            let _ =
                writeln!(text, "  {name:<10}  min {min:.1}  median {median:.1}  p90 {p90:.1}  max {max:.1}");
        }
    }
    if let Some(times) = figures.times_floor {
        let _ = writeln!(
            text,
            "  The floor is kill, promotion and first commit with no controller at all; the clients' median is {times:.1} times that."
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missed_objective_spoils_all_and_one_unknown_is_not_met() {
        assert_eq!(worst([Verdict::Met, Verdict::Unknown, Verdict::Missed].into_iter()), Verdict::Missed);
        assert_eq!(worst([Verdict::Met, Verdict::Unknown].into_iter()), Verdict::Unknown);
        assert_eq!(worst([Verdict::Met].into_iter()), Verdict::Met);
        assert_eq!(worst(std::iter::empty()), Verdict::Unknown);
    }
}
