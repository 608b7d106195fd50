//! What past incidents cost: JSON for programs, text for people. Prints nothing itself, and judges nothing: the
//! verdicts are the model's.

mod lost;
mod paint;
mod printed;
mod summary;
mod text;
mod words;

pub use lost::lost_text;
pub use paint::Paint;
pub use printed::{Printed, PrintedObjectives, PrintedRpo, Report};
pub use words::{bytes, ms};

use crate::model::Incident;

/// The report as programs read it: an object with `incidents`, oldest first.
#[must_use]
pub fn json(incidents: &[Incident]) -> Report {
    Report { incidents: incidents.iter().map(Printed::from).collect() }
}

/// The report as people read it, without colour: the figures across all, then each incident, oldest first.
#[must_use]
pub fn text(incidents: &[Incident]) -> String {
    text_in(incidents, Paint::Plain)
}

/// The same, coloured if asked.
#[must_use]
pub fn text_in(incidents: &[Incident], paint: Paint) -> String {
    if incidents.is_empty() {
        return "No incidents.\n".into();
    }
    let mut out = summary::summary(incidents, paint);
    for incident in incidents {
        out.push('\n');
        out.push_str(&text::incident(incident, paint));
    }
    out
}

/// One incident as people read it, without colour.
#[must_use]
pub fn incident_text(incident: &Incident) -> String {
    text::incident(incident, Paint::Plain)
}

/// One incident, coloured if asked.
#[must_use]
pub fn incident_text_in(incident: &Incident, paint: Paint) -> String {
    text::incident(incident, paint)
}
