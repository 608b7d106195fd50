//! `locum report`: what past incidents cost.

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use serde::Deserialize;

use super::{
    Exit, Failure,
    args::{ReportArgs, ReportFormat},
    client::Member,
    lost, output,
};
use crate::{
    clock::SystemClock,
    model::Incident,
    ports::Clock,
    report::{self, Paint},
};

/// How many are shown unless a number or a time is given.
const LAST: u32 = 20;
/// How many a member keeps.
const MOST: u32 = 1000;

#[derive(Deserialize)]
struct Stored {
    incidents: Vec<Incident>,
}

/// Fetches the incidents and renders them here.
pub(super) async fn execute(args: &ReportArgs) -> Result<Exit, Failure> {
    if let Some(id) = &args.lost {
        return lost::execute(args, id).await;
    }
    let since = args.since.as_deref().map(|text| since(text, SystemClock.wall())).transpose()?;
    let default = if since.is_some() { MOST } else { LAST };
    let member = Member::find(&args.connect)?;
    // A time is applied to all that are kept, and the number to what is left of them.
    let asked = if since.is_some() { MOST } else { args.last.unwrap_or(default) };
    let Stored { mut incidents } = member.get(&format!("/v1/incidents?last={asked}")).await?;
    if let Some(since) = since {
        incidents.retain(|incident| incident.started_at >= since);
    }
    let keep = args.last.map_or(incidents.len(), |last| last as usize);
    incidents.drain(..incidents.len().saturating_sub(keep));
    if args.json || args.format == ReportFormat::Json {
        let text = serde_json::to_string_pretty(&report::json(&incidents));
        output::data(&text.map_err(|error| Failure::refused(format!("cannot print: {error}"), &[]))?)?;
    } else {
        output::data(&report::text_in(&incidents, Paint::when(output::is_coloured())))?;
    }
    Ok(Exit::Done)
}

/// A moment: an age before `now`, a date (UTC), or a time.
fn since(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(date) = text.parse::<Date>()
        && let Ok(midnight) = date.to_zoned(TimeZone::UTC)
    {
        return Ok(midnight.timestamp());
    }
    let age = humantime::parse_duration(text).ok().and_then(|age| SignedDuration::try_from(age).ok());
    age.and_then(|age| now.checked_sub(age).ok()).ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("--since {text:?} is no moment"),
            &["Use an age (24h, 7days), a date (2026-11-22), or a time (2026-11-22T08:00:00Z)."],
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_can_be_said_in_three_ways() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().expect("time");
        for (text, expected) in [
            ("2026-11-22T08:00:00Z", "2026-11-22T08:00:00Z"),
            ("2026-11-22T08:00:00+09:00", "2026-11-21T23:00:00Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("24h", "2026-11-21T12:00:00Z"),
        ] {
            let expected: Timestamp = expected.parse().expect("time");
            assert_eq!(since(text, now).expect(text), expected, "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "99999999999999years"] {
            assert!(since(text, now).is_err(), "{text}");
        }
    }
}
