//! One incident, as somebody reads it who has never seen the project: what happened, how long it took, what was lost.

use super::{
    Paint,
    summary::{name, time},
    words::{bytes, count, ms, thousands, wrap},
};
use crate::model::{Incident, IncidentKind, MarkName, NodeId, Repointed, RpoAtOnset, Verdict};

/// No line is wider.
pub(super) const WIDTH: usize = 96;
/// Where a section's text begins: after its label.
pub(super) const INDENT: usize = 13;
/// The longest bar of the phase timeline.
const BAR: usize = 30;

/// The incident, from headline to verdict.
pub(super) fn incident(incident: &Incident, paint: Paint) -> String {
    let mut page = Page { out: String::new(), paint };
    page.headline(incident);
    page.section("What", &what(incident));
    page.section("Cause", &incident.cause.summary);
    for evidence in &incident.cause.evidence {
        page.item(evidence);
    }
    page.phases(incident);
    page.repoints(incident);
    page.data(incident);
    if let Some(connections) = connections(incident) {
        page.section("Clients", &connections);
    }
    for (index, (deviation, times)) in counted(&incident.deviations).into_iter().enumerate() {
        if index == 0 {
            page.section("Deviations", "What went otherwise than planned:");
        }
        match times {
            1 => page.item(deviation),
            times => page.item(&format!("{deviation} ({times} times)")),
        }
    }
    page.verdicts(incident);
    page.out
}

/// Each text once, in the order of its first time, with how often it is there: what is tried again fails again.
fn counted(texts: &[String]) -> Vec<(&String, usize)> {
    let mut counts: Vec<(&String, usize)> = Vec::new();
    for text in texts {
        match counts.iter_mut().find(|(known, _)| *known == text) {
            Some((_, times)) => *times += 1,
            None => counts.push((text, 1)),
        }
    }
    counts
}

/// What happened, in a sentence or two.
fn what(incident: &Incident) -> String {
    let node = |node: &Option<NodeId>| node.as_ref().map_or("nobody", NodeId::as_str).to_owned();
    let (from, to) = (node(&incident.from), node(&incident.to));
    let over = incident.rto_ms().map(ms);
    if let (IncidentKind::Switchover, Some(why)) = (incident.kind, &incident.abandoned) {
        return switchover_given_up(incident, &from, why);
    }
    let done = match (incident.kind, over.is_some()) {
        (IncidentKind::Failover, true) => format!("Primary {from} failed, and {to} took over."),
        (IncidentKind::Failover, false) => format!("Primary {from} failed."),
        (IncidentKind::Restart, true) => format!("Primary {from} failed and was started again in place."),
        (IncidentKind::Restart, false) => {
            format!("Primary {from} failed and is being started again in place.")
        }
        (IncidentKind::Switchover, true) => {
            format!("The primary was handed over from {from} to {to}, as planned.")
        }
        (IncidentKind::Switchover, false) => {
            format!("A hand-over of the primary from {from} to {to} was begun.")
        }
        (IncidentKind::AppFailover, true) => {
            format!("The app server of {from} failed, and the one of {to} took over. The database stayed.")
        }
        (IncidentKind::AppFailover, false) => format!("The app server of {from} failed."),
        (IncidentKind::LeftRecovery, _) => {
            format!("Standby {from} left recovery without an order, and was stopped.")
        }
    };
    let outage = match (&over, &incident.abandoned) {
        _ if incident.kind == IncidentKind::LeftRecovery => "Service went on.".into(),
        (Some(rto), _) => format!("Service was gone for {rto}."),
        (None, Some(why)) => format!("It was given up: {}", full_stop(why)),
        (None, None) => "It is not over: service has not been proven good again.".into(),
    };
    match loss(incident) {
        Some(loss) => format!("{done} {outage} {loss}"),
        None => format!("{done} {outage}"),
    }
}

/// A planned hand-over that did not come about: begun or not, noticed by clients or not.
fn switchover_given_up(incident: &Incident, from: &str, why: &str) -> String {
    let why = full_stop(why);
    let mut text = match incident.to {
        None => format!("A scheduled switchover from {from} was not begun: {why}"),
        Some(_) => format!("A switchover from {from} was begun and given up: {why}"),
    };
    if incident.to.is_none() || incident.to == incident.from {
        text.push_str(&format!(" {from} is the primary as before."));
    }
    if let Some(rto) = incident.rto_ms().map(ms) {
        text.push_str(&format!(" Service was gone for {rto}."));
    }
    text
}

/// What was lost, in a sentence. None: nothing can be said of it.
fn loss(incident: &Incident) -> Option<String> {
    let rpo = &incident.rpo;
    if incident.kind == IncidentKind::LeftRecovery {
        return Some(match rpo.lost_transactions {
            Some(0) => "Nothing was committed there.".into(),
            Some(lost) => format!("Committed there and given up: {}.", count(lost, "transaction")),
            None if rpo.lost_unknown.is_some() => {
                "What was committed there is not known, and will not be.".into()
            }
            None => "What was committed there is not known yet: it is read before it follows again.".into(),
        });
    }
    if incident.kind != IncidentKind::Failover {
        return (incident.rto_ms().is_some()).then(|| "Nothing was lost.".into());
    }
    if let Some(doubt) =
        rpo.doubt.as_ref().filter(|_| rpo.acknowledged_is_safe || rpo.lost_transactions == Some(0))
    {
        return Some(full_stop(&format!("Acknowledged transactions lost: {doubt}")));
    }
    Some(match (rpo.acknowledged_is_safe, rpo.lost_transactions) {
        (true, None | Some(0)) | (false, Some(0)) => "No acknowledged transaction was lost.".into(),
        (true, Some(lost)) => {
            let (lost, are) = (count(lost, "transaction"), if lost == 1 { "is" } else { "are" });
            format!(
                "No acknowledged transaction was lost; {lost} that nobody was told about {are} not in the new primary."
            )
        }
        (false, Some(lost)) => format!("Lost: {}.", count(lost, "transaction")),
        (false, None) if rpo.lost_unknown.is_some() => {
            "What was lost is not known, and will not be: WAL of the old primary was gone.".into()
        }
        (false, None) => "What was lost is not yet known: the old primary's disk has not been read.".into(),
    })
}

/// What would have been lost, as known before, and how old that knowledge was.
pub(super) fn forecast(rpo: &RpoAtOnset) -> String {
    let Some(at_risk) = rpo.live_bytes else { return "live RPO at the onset: unknown.".into() };
    let time =
        rpo.live_ms.map_or_else(|| "for a time not known".into(), |time| format!("{} of work", ms(time)));
    let age = if rpo.as_of_ms == 0.0 {
        "read after it".into()
    } else {
        format!("read {} before it", ms(rpo.as_of_ms))
    };
    let safe = match (rpo.acknowledged_is_safe, at_risk) {
        (false, _) => "",
        (true, 0) => " Every acknowledged commit was on the standby.",
        (true, _) => {
            " Every acknowledged commit was on the standby; these bytes are a tail that nobody was told about."
        }
    };
    format!("live RPO at the onset: {}, {time} ({age}).{safe}", bytes(at_risk))
}

/// What was lost, as read from the old primary's disk.
pub(super) fn fact(rpo: &RpoAtOnset) -> String {
    let unacknowledged = match rpo.lost_transactions {
        Some(lost) if lost > 0 && rpo.acknowledged_is_safe => ", none of them acknowledged",
        _ => "",
    };
    if let Some(why) = &rpo.lost_unknown {
        return full_stop(&format!("lost: unknown, {why}"));
    }
    let lost = match (rpo.lost_bytes, rpo.lost_transactions) {
        (Some(lost), Some(number)) => format!("{}, {}", bytes(lost), count(number, "transaction")),
        (Some(lost), None) => format!("{}, transactions not yet counted", bytes(lost)),
        (None, Some(number)) => count(number, "transaction"),
        (None, None) => "not yet known".into(),
    };
    let after = match rpo.written_after_bytes {
        Some(after) => format!("{} written after that reading", bytes(after)),
        None => "what was written after that reading is not yet known".into(),
    };
    let rescued = match rpo.rescued_bytes {
        Some(rescued) => format!(" {} rescued from the old primary's disk.", bytes(rescued)),
        None => String::new(),
    };
    format!("lost: {lost}{unacknowledged}; {after}.{rescued}")
}

fn connections(incident: &Incident) -> Option<String> {
    let (cut, held, refused) =
        (incident.connections_cut, incident.connections_held, incident.connections_refused);
    let mut said = Vec::new();
    if cut > 0 || held > 0 || refused > 0 {
        let were = if held == 1 { "was" } else { "were" };
        let refused = if refused > 0 { format!("; {} given up", thousands(refused)) } else { String::new() };
        let cut = count(cut, "connection");
        said.push(format!("{cut} cut; {} waited and {were} then served{refused}.", thousands(held)));
    }
    let gap =
        incident.longest_gap_ms.map(|gap| format!("No server answered for {} at the longest.", ms(gap)));
    said.extend(gap);
    Some(said.join(" ")).filter(|said| !said.is_empty())
}

fn full_stop(text: &str) -> String {
    if text.ends_with(['.', '!', '?']) { text.to_owned() } else { format!("{text}.") }
}

/// The page being written.
struct Page {
    out: String,
    paint: Paint,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn headline(&mut self, incident: &Incident) {
        let left = format!("{} {}", name(incident.kind), incident.id);
        let right = time(incident.started_at);
        let gap = WIDTH.saturating_sub(left.chars().count() + right.chars().count()).max(2);
        let line = format!("{}{}{}", self.paint.bold(&left), " ".repeat(gap), right);
        self.line(&line);
        self.line(&self.paint.dim(&"─".repeat(WIDTH)));
    }

    /// A labelled paragraph.
    fn section(&mut self, label: &str, text: &str) {
        for (index, line) in wrap(text, WIDTH - INDENT).iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            let padded = format!("{label:INDENT$}");
            self.line(&format!("{}{line}", self.paint.bold(&padded)));
        }
    }

    /// A line of a list below a section.
    fn item(&mut self, text: &str) {
        for (index, line) in wrap(text, WIDTH - INDENT - 2).iter().enumerate() {
            let bullet = if index == 0 { "- " } else { "  " };
            self.line(&format!("{:INDENT$}{bullet}{line}", ""));
        }
    }

    /// The phase timeline: each phase is the time from the mark before it.
    fn phases(&mut self, incident: &Incident) {
        let phases = incident.phases();
        let total: f64 = phases.iter().map(|phase| phase.ms).sum();
        let mut begin = 0.0;
        for (index, phase) in phases.iter().enumerate() {
            let label = if index == 0 { "Phases" } else { "" };
            let bar = bar(begin, phase.ms, total);
            begin += phase.ms;
            let label = self.paint.bold(&format!("{label:INDENT$}"));
            self.line(&format!("{label}{:20}{:>10}  {bar}", phase.name, ms(phase.ms)));
        }
        let app_came_later = |database: &f64| incident.rto_ms().is_some_and(|rto| ms(*database) != ms(rto));
        let sums = [
            ("RTO", incident.rto_ms(), "from the last good moment to proven good again"),
            ("of the database", incident.database_ms().filter(app_came_later), "of it, until that commit"),
            (
                MarkName::RedundancyRestored.as_str(),
                incident.redundancy_ms(),
                "after the onset; not part of the RTO",
            ),
        ];
        for (name, time, means) in sums {
            if let Some(time) = time {
                self.line(&format!("{:INDENT$}{name:20}{:>10}  {means}", "", ms(time)));
            }
        }
    }

    /// One line for each endpoint.
    fn repoints(&mut self, incident: &Incident) {
        let who = |one: &Repointed| format!("{}@{} ({})", one.endpoint, one.member, one.driver.as_str());
        for (index, one) in incident.repoints.iter().enumerate() {
            let label = if index == 0 { "Endpoints" } else { "" };
            let said = match (one.after_ms, one.took_ms) {
                (Some(after), Some(took)) => {
                    format!("led there {} after the onset, {} after the order", ms(after), ms(took))
                }
                _ => {
                    let why = one.error.as_deref().unwrap_or("no answer yet");
                    format!("NOT CONFIRMED: {why}")
                }
            };
            self.section(label, &format!("{}: {said}", who(one)));
        }
    }

    /// The forecast and the fact.
    fn data(&mut self, incident: &Incident) {
        match incident.kind {
            IncidentKind::AppFailover => return,
            IncidentKind::LeftRecovery => {
                let rpo = &incident.rpo;
                let given_up = match (&rpo.lost_unknown, rpo.lost_bytes, rpo.lost_transactions) {
                    (Some(why), ..) => format!("given up: unknown, {why}"),
                    (None, Some(lost), Some(number)) => {
                        format!("given up: {}, {}", bytes(lost), count(number, "transaction"))
                    }
                    _ => "given up: not yet known".to_owned(),
                };
                self.section("Fact", &full_stop(&given_up));
            }
            IncidentKind::Restart | IncidentKind::Switchover => {
                self.section("Forecast", &forecast(&incident.rpo));
            }
            IncidentKind::Failover => {
                self.section("Forecast", &forecast(&incident.rpo));
                self.section("Fact", &fact(&incident.rpo));
            }
        }
        if let Some(salvage) = &incident.rpo.salvage {
            self.section("Salvaged", &format!("What is not in the new primary is kept in {salvage}"));
        }
        if incident.rpo.lost_transactions.is_some_and(|lost| lost > 0) && !incident.rpo.lost_first.is_empty()
        {
            let list = format!("The lost transactions: locum report --lost {}", incident.id);
            self.section("List", &list);
        }
    }

    fn verdicts(&mut self, incident: &Incident) {
        let verdicts = incident.verdicts();
        let rto = match incident.rto_ms() {
            Some(rto) => ms(rto),
            None if incident.was_unnoticed() => "no outage".into(),
            None => "no end yet".into(),
        };
        let lines = [
            ("RTO", verdicts.rto, format!("{rto} of {} allowed", ms(incident.objectives.rto_ms))),
            ("RPO", verdicts.rpo, format!("{} of lost work allowed", ms(incident.objectives.rpo_ms))),
        ];
        for (index, (objective, verdict, figures)) in lines.into_iter().enumerate() {
            let word = match verdict {
                Verdict::Met => "met",
                Verdict::Missed => "MISSED",
                Verdict::Unknown => "not known yet",
            };
            let label = if index == 0 { "Objectives" } else { "" };
            let label = self.paint.bold(&format!("{label:INDENT$}"));
            let word = self.paint.verdict(verdict, word);
            self.line(&format!("{label}{objective} {word}: {figures}"));
        }
        let line = format!("Epoch {}, led and timed by {}.", incident.epoch, incident.leader);
        self.section("Record", &line);
    }
}

/// A bar that begins where the phase begins, so that the bars below each other draw the timeline.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a drawing"
)]
fn bar(begin: f64, length: f64, total: f64) -> String {
    if total <= 0.0 {
        return String::new();
    }
    let column = |ms: f64| (ms / total * BAR as f64).round() as usize;
    let (from, to) = (column(begin).min(BAR - 1), column(begin + length));
    let blocks = to.saturating_sub(from);
    let drawn = if blocks == 0 { "▏".to_owned() } else { "█".repeat(blocks) };
    format!("{}{drawn}", " ".repeat(from))
}
