//! What differs between two nodes that are to be a pair. A pure function; where a rule says why, it is the reader's.

use std::collections::BTreeSet;

use super::{HbaRule, Line, Seen, Severity, hba, settings};

/// Clocks only date reports: less than this is of no interest, in seconds.
const CLOCK: f64 = 1.0;
/// Collations whose order no library's version changes.
const BYTEWISE: [&str; 5] = ["C", "POSIX", "C.UTF-8", "C.utf8", "ucs_basic"];

/// Everything that differs, unsorted.
#[must_use]
pub fn differences(here: &Seen, there: &Seen) -> Vec<Line> {
    let mut lines = Vec::new();
    identity(here, there, &mut lines);
    settings::compare(here, there, &mut lines);
    collations(here, there, &mut lines);
    extensions(here, there, &mut lines);
    entrances(here, there, &mut lines);
    if here.tablespaces != there.tablespaces {
        let list = |seen: &Seen| shown(seen.tablespaces.iter().map(|(name, at)| format!("{name} at {at}")));
        let why = "a standby replays the making of a tablespace at the same path; these are not alike";
        lines.push(Line::new(Severity::Notice, "tablespaces", (list(here), list(there)), why));
    }
    clocks(here, there, &mut lines);
    lines
}

fn identity(here: &Seen, there: &Seen, lines: &mut Vec<Line>) {
    let mut add = |severity, what: &str, pair: (String, String), why: &str| {
        lines.push(Line::new(severity, what, pair, why));
    };
    if here.system != there.system {
        let why = "these are not copies of one database cluster: neither can follow the other";
        add(Severity::Blocks, "system identifier", (here.system.clone(), there.system.clone()), why);
    }
    if here.in_recovery == there.in_recovery {
        let why = if here.in_recovery {
            "neither takes writes; Locum adopts a running primary with its standby"
        } else {
            "both take writes: one of them is no standby any more. Make it one (pg_rewind or pg_basebackup) first"
        };
        add(Severity::Blocks, "role", (here.role().into(), there.role().into()), why);
    }
    if here.major() != there.major() {
        let why = "WAL of one major version cannot be replayed by another";
        add(Severity::Blocks, "major version", (here.release.clone(), there.release.clone()), why);
    } else if here.version != there.version {
        let why =
            "works, but bring both to the newer one: first the standby, then a switchover, then the other";
        add(Severity::Notice, "minor version", (here.release.clone(), there.release.clone()), why);
    }
    if here.block != there.block {
        let why = "chosen when PostgreSQL was built: the files cannot be shared";
        add(Severity::Blocks, "block size", (here.block.to_string(), there.block.to_string()), why);
    }
    let (ours, theirs) = (platform(&here.built), platform(&there.built));
    if ours != theirs {
        let machine = |platform: &str| platform.split('-').next().unwrap_or_default().to_owned();
        let (severity, why) = if machine(&ours) == machine(&theirs) {
            (Severity::Notice, "another distribution: look closely at the collation versions")
        } else {
            (Severity::Blocks, "the files of one machine type cannot be used by another")
        };
        add(severity, "platform", (ours, theirs), why);
    }
}

/// `x86_64-pc-linux-gnu` of "PostgreSQL 15.18 … on x86_64-pc-linux-gnu, compiled by …".
fn platform(built: &str) -> String {
    let after = built.split_once(" on ").map_or("", |(_, after)| after);
    after.split(',').next().unwrap_or_default().to_owned()
}

fn collations(here: &Seen, there: &Seen, lines: &mut Vec<Line>) {
    for (provider, name) in [("c", "C library (glibc) collations"), ("i", "ICU collations")] {
        let (Some(ours), Some(theirs)) = (here.collations.get(provider), there.collations.get(provider))
        else {
            continue;
        };
        if ours == theirs {
            continue;
        }
        let uses = |seen: &Seen| {
            let of = |db: &&super::Database| db.provider.as_deref().unwrap_or("c") == provider;
            seen.databases
                .iter()
                .filter(of)
                .any(|db| !BYTEWISE.contains(&db.collate.as_str()) || provider == "i")
        };
        let (severity, why) = if uses(here) || uses(there) {
            (
                Severity::Blocks,
                "text is sorted in another order: after a failover indexes on text miss rows and take duplicates. \
                 Bring both hosts to one version of the library, or REINDEX after every change of primary",
            )
        } else {
            (
                Severity::Notice,
                "no database sorts by it, but single columns may: their indexes would be wrong",
            )
        };
        lines.push(Line::new(severity, name, (ours.clone(), theirs.clone()), why));
    }
    for ours in &here.databases {
        let Some(theirs) = there.databases.iter().find(|db| db.name == ours.name) else { continue };
        let show = |db: &super::Database| format!("{} {}", db.encoding, db.collate);
        if show(ours) != show(theirs) {
            let what = format!("database {}", ours.name);
            let why = "encoding or collation of one database differ: these are not copies of each other";
            lines.push(Line::new(Severity::Blocks, what, (show(ours), show(theirs)), why));
        }
    }
}

fn extensions(here: &Seen, there: &Seen, lines: &mut Vec<Line>) {
    let installed: BTreeSet<_> = here.installed.iter().chain(&there.installed).collect();
    let has = |seen: &Seen, name: &str| seen.available.get(name).cloned();
    for (name, used) in &installed {
        let (ours, theirs) = (has(here, name), has(there, name));
        let show = |version: &Option<String>| version.clone().unwrap_or_else(|| "not there".into());
        let what = format!("extension {name}, used as {used}");
        if ours.is_none() || theirs.is_none() {
            let why = "its files are missing on a node: what uses it fails there after a failover. Install its package";
            lines.push(Line::new(Severity::Blocks, what, (show(&ours), show(&theirs)), why));
        } else if ours != theirs {
            let why = "its files are of two versions: what uses it may behave differently after a failover";
            lines.push(Line::new(Severity::Notice, what, (show(&ours), show(&theirs)), why));
        }
    }
    let used = |name: &String| installed.iter().any(|(installed, _)| *installed == name);
    let only = |one: &Seen, other: &Seen| -> Vec<String> {
        one.available
            .keys()
            .filter(|name| !other.available.contains_key(*name) && !used(name))
            .cloned()
            .collect()
    };
    let (ours, theirs) = (only(here, there), only(there, here));
    if !ours.is_empty() || !theirs.is_empty() {
        let why = "can be installed in a database while one is primary, and fails on the other; in use is none of them";
        let pair = (shown(ours.into_iter()), shown(theirs.into_iter()));
        lines.push(Line::new(Severity::Notice, "extensions only there", pair, why));
    }
}

fn entrances(here: &Seen, there: &Seen, lines: &mut Vec<Line>) {
    let (Some(ours), Some(theirs)) = (&here.hba, &there.hba) else {
        let show = |seen: &Seen| if seen.hba.is_some() { "readable" } else { "not readable" }.to_owned();
        let why = "only a superuser, or who was granted it, sees pg_hba_file_rules: not compared";
        return lines.push(Line::new(Severity::Notice, "pg_hba.conf", (show(here), show(there)), why));
    };
    let texts = |rules: &[HbaRule]| -> BTreeSet<String> {
        rules.iter().filter(|rule| rule.error.is_none()).map(hba::text).collect()
    };
    let (ours, theirs) = (texts(ours), texts(theirs));
    let why = "who comes in there does not come in on the other: after a failover they are refused";
    for line in ours.difference(&theirs) {
        lines.push(Line::new(Severity::Reload, "pg_hba.conf line", (line.as_str(), "not there"), why));
    }
    for line in theirs.difference(&ours) {
        lines.push(Line::new(Severity::Reload, "pg_hba.conf line", ("not there", line.as_str()), why));
    }
}

fn clocks(here: &Seen, there: &Seen, lines: &mut Vec<Line>) {
    let (Some((ours, doubt)), Some((theirs, their_doubt))) = (here.clock, there.clock) else { return };
    let apart = (ours - theirs).abs();
    if apart > CLOCK + doubt + their_doubt {
        let show = |offset: f64| format!("{offset:+.1} s");
        let why =
            "no decision rests on it, but reports and logs of the two cannot be put side by side: run NTP";
        lines.push(Line::new(Severity::Notice, "clock", (show(ours), show(theirs)), why));
    }
}

fn shown(items: impl Iterator<Item = String>) -> String {
    let text = items.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "none".into() } else { text }
}
