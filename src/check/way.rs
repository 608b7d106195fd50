//! Whether the replication role gets into a node from the other one, by the lines of `pg_hba.conf`. For the direction
//! that cannot be tried from here.

use std::net::IpAddr;

use super::{About, Line, Seen, Severity, Way, may_enter};

/// What stands in the way of `role` coming from `address` into this node.
#[must_use]
pub fn ways_in(seen: &Seen, role: &str, address: IpAddr) -> Vec<Line> {
    let Some(rules) = &seen.hba else { return Vec::new() };
    let uses = [
        (
            None,
            Severity::Blocks,
            "to stream",
            "the other node can neither follow this one nor be cloned from it",
        ),
        (Some("postgres"), Severity::Reload, "into postgres", "pg_rewind and the proof of service need it"),
    ];
    let line = |(database, severity, verb, why): (Option<&str>, Severity, &str, &str)| {
        let what = format!("pg_hba.conf: {role} from {address} {verb}");
        let add = format!(
            "{why}. Add: host {} {role} {address}/32 scram-sha-256",
            database.unwrap_or("replication")
        );
        let (severity, found, why) = match may_enter(rules, database, role, address) {
            Way::In(..) => return None,
            Way::Refused(number) => (severity, format!("refused by line {number}"), add),
            Way::NoLine => (severity, "no line fits".to_owned(), add),
            Way::Perhaps(number) => {
                let why = "only the server itself can tell: try it from there with psql".to_owned();
                (Severity::Notice, format!("line {number} may fit"), why)
            }
        };
        Some(Line::new(severity, what, (found, "a line that lets it in".to_owned()), why).about(About::Here))
    };
    uses.into_iter().filter_map(line).collect()
}
