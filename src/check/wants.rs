//! What Locum needs of one node, whatever the other one is like. A pure function.

use super::{About, Line, Seen, Severity, settings::shown};

/// From this many days before its end a certificate is worth a word.
const CERTIFICATE_DAYS: i64 = 30;
const DAY: i64 = 24 * 3600;

/// What the configuration asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How many members the cluster has.
    pub members: usize,
    /// Where others reach this node, without the port.
    pub host: String,
    /// The replication role.
    pub replication: String,
    /// Now, in seconds since 1970.
    pub now: i64,
}

/// Everything that is not as Locum needs it, unsorted. `there` holds what is needed.
#[must_use]
pub fn wants(seen: &Seen, wanted: &Wanted) -> Vec<Line> {
    let mut lines = Vec::new();
    streaming(seen, wanted, &mut lines);
    durability(seen, &mut lines);
    roles(seen, wanted, &mut lines);
    becomes_ours(seen, &mut lines);
    recovery(seen, &mut lines);
    state(seen, wanted, &mut lines);
    lines.into_iter().map(|line| line.about(About::Here)).collect()
}

fn streaming(seen: &Seen, wanted: &Wanted, lines: &mut Vec<Line>) {
    let mut need = |name: &str, good: bool, wanted: String, why: &str| {
        if !good && seen.settings.contains_key(name) {
            lines.push(Line::new(Severity::Restart, name, (shown(seen, name), wanted), why));
        }
    };
    let level = seen.value("wal_level").is_some_and(|level| level != "minimal");
    need("wal_level", level, "replica".into(), "nothing can stream from this node");
    let hot = seen.value("hot_standby") == Some("on");
    need("hot_standby", hot, "on".into(), "as a standby it would take no connection, the agent's neither");
    // Every other member streams, and a clone needs two more.
    let senders = wanted.members as u64 + 1;
    let enough = seen.number("max_wal_senders").is_some_and(|have| have >= senders);
    need(
        "max_wal_senders",
        enough,
        format!("{senders} or more"),
        "every other node streams, and a clone takes two",
    );
    let slots = wanted.members.saturating_sub(1) as u64;
    let enough = seen.number("max_replication_slots").is_some_and(|have| have >= slots);
    need("max_replication_slots", enough, format!("{slots} or more"), "every other node has a slot");
    let listens = seen.value("listen_addresses").is_some_and(|list| listens(list, &wanted.host));
    let why = "the other nodes and the endpoints reach it at postgres.address";
    need("listen_addresses", listens, format!("{} among them, or *", wanted.host), why);
    if seen.can_rewind() == Some(false) {
        let why = "works without: a former primary is then cloned, not rewound. `pg_checksums --enable` on the stopped \
                   standby, switchover, then the other; or wal_log_hints = on with a restart";
        let pair = ("neither", "either");
        lines.push(Line::new(Severity::Notice, "data_checksums or wal_log_hints", pair, why));
    }
}

fn listens(list: &str, host: &str) -> bool {
    let is_ip = host.parse::<std::net::IpAddr>().is_ok();
    list.split(',').map(str::trim).any(|each| {
        // A name is not looked up here: what it stands for is the server's knowledge.
        ["*", "0.0.0.0", "::", host].contains(&each)
            || !is_ip && !each.is_empty()
            || (each == "localhost" && ["127.0.0.1", "::1"].contains(&host))
    })
}

fn durability(seen: &Seen, lines: &mut Vec<Line>) {
    for name in ["fsync", "full_page_writes"] {
        if seen.value(name) == Some("off") {
            let why =
                "acknowledged commits can be lost, and the database damaged, in every crash of the host";
            lines.push(Line::new(Severity::Reload, name, ("off", "on"), why));
        }
    }
    if let Some(weak @ ("off" | "local" | "remote_write")) = seen.value("synchronous_commit") {
        let why = "sessions below `on` are told of commits that a failover may lose";
        lines.push(Line::new(Severity::Reload, "synchronous_commit", (weak, "on"), why));
    }
}

fn roles(seen: &Seen, wanted: &Wanted, lines: &mut Vec<Line>) {
    if !seen.superuser && !seen.lacks.is_empty() {
        let what = format!("role {} of postgres.connect", seen.asked_as);
        let why = format!("the agent could not do its work. A superuser runs: {}", seen.lacks.join("; "));
        lines.push(Line::new(Severity::Blocks, what, ("lacks rights", "superuser, or these"), why));
    }
    let Some(role) = &seen.replication else { return };
    let what = format!("role {} of postgres.replication", role.name);
    // Roles are made on the primary and come to the standby by themselves.
    let way = if seen.in_recovery { "on the primary: " } else { "" };
    if !role.exists {
        let why = format!("nobody can stream, rewind or clone; {way}`locum adopt --create-roles` makes it");
        return lines.push(Line::new(Severity::Blocks, what, ("not there", "there"), why));
    }
    if !role.login || !(role.replication || role.superuser) {
        let why =
            format!("nobody can stream as it; {way}ALTER ROLE \"{}\" LOGIN REPLICATION", wanted.replication);
        lines.push(Line::new(Severity::Blocks, what.clone(), ("may not stream", "LOGIN REPLICATION"), why));
    }
    if !role.superuser && !role.lacks.is_empty() {
        let why =
            format!("pg_rewind needs them, else a former primary is cloned; {way}`locum adopt` grants them");
        let pair = (format!("may not call {}", role.lacks.join(", ")), "EXECUTE".to_owned());
        lines.push(Line::new(Severity::Reload, what, pair, why));
    }
}

fn becomes_ours(seen: &Seen, lines: &mut Vec<Line>) {
    if let Some(names) = seen.value("synchronous_standby_names").filter(|names| !names.is_empty()) {
        let why = "becomes Locum's: it is set from policy.durability when the cluster is declared";
        lines.push(Line::new(Severity::Notice, "synchronous_standby_names", (names, "Locum's"), why));
    }
    let others: Vec<_> = seen.slots.iter().filter(|slot| !slot.starts_with("locum_")).cloned().collect();
    if !others.is_empty() {
        let why = "Locum uses slots of its own, locum_<node>. Drop the one of the present standby, on both nodes, once \
                   Locum runs: it would keep WAL for ever";
        lines.push(Line::new(Severity::Notice, "physical slots", (others.join(", "), "Locum's"), why));
    }
    let waiting: Vec<_> =
        seen.settings.iter().filter(|(_, s)| s.pending).map(|(name, _)| name.clone()).collect();
    if !waiting.is_empty() {
        let why = "was changed in a file and waits for a restart: the next failover or restart brings it into force";
        lines.push(Line::new(Severity::Notice, "pending restart", (waiting.join(", "), "none"), why));
    }
}

/// What would end a standby's recovery, or hold it up: also on a primary, which becomes a standby in its turn.
fn recovery(seen: &Seen, lines: &mut Vec<Line>) {
    for one in seen.hindrances.iter().flatten() {
        let in_force = seen.in_recovery && one.in_force;
        let severity = match one.setting.as_str() {
            _ if !in_force => Severity::Notice,
            "recovery_min_apply_delay" | "promote_trigger_file" => Severity::Reload,
            _ => Severity::Restart,
        };
        let place = one.file.as_ref().map_or_else(String::new, |file| format!(" in {file}"));
        let here =
            if one.value.is_empty() { format!("there{place}") } else { format!("{}{place}", one.value) };
        let what = one.setting.as_str();
        lines.push(Line::new(
            severity,
            what,
            (here, "not set".to_owned()),
            one.consequence(seen.in_recovery),
        ));
    }
    if seen.paused {
        let why = "it receives WAL and does not replay it, so it is not promoted: SELECT pg_wal_replay_resume(). Its log says \
                   so where PostgreSQL paused itself, because a setting is lower than on the primary";
        lines.push(Line::new(Severity::Reload, "replay", ("paused", "running"), why));
    }
}

fn state(seen: &Seen, wanted: &Wanted, lines: &mut Vec<Line>) {
    if seen.restoring {
        let why = "it restores a backup or recovers to a point in time; it must have ended before anything is adopted";
        lines.push(Line::new(Severity::Blocks, "recovery", ("from a backup", "a streaming standby"), why));
    } else if seen.in_recovery && !seen.receiving {
        let why = "the standby gets nothing from a primary at the moment: mend that first (its log says why)";
        lines.push(Line::new(Severity::Blocks, "streaming", ("does not stream", "streams"), why));
    }
    if !seen.tablespaces.is_empty() {
        let names: Vec<_> = seen.tablespaces.keys().cloned().collect();
        let why =
            "a node with tablespaces is not cloned by Locum, only rewound; a clone is then made by hand";
        lines.push(Line::new(Severity::Notice, "tablespaces", (names.join(", "), "none"), why));
    }
    if let (Some(free), Some(bytes)) = (seen.free, seen.bytes)
        && free < bytes
    {
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        let why = "a clone is made beside the old directory and needs as much again";
        lines.push(Line::new(Severity::Notice, "free disk space", (mib(free), mib(bytes)), why));
    }
    if let Some(certificate) = &seen.certificate
        && let Some(until) = certificate.until
        && until < wanted.now + CERTIFICATE_DAYS * DAY
    {
        let days = (until - wanted.now).div_euclid(DAY);
        let (severity, shown) = if days < 0 {
            (Severity::Reload, format!("ended {} days ago", -days))
        } else {
            (Severity::Notice, format!("ends in {days} days"))
        };
        let what = format!("certificate {}", certificate.file);
        let why = "clients that verify it are refused after its end. Put a new one in its place and reload";
        lines.push(Line::new(severity, what, (shown, format!("{CERTIFICATE_DAYS} days or more")), why));
    }
    for rule in seen.hba.iter().flatten().filter(|rule| rule.error.is_some()) {
        let what = format!("pg_hba.conf line {}", rule.line_number);
        let error = rule.error.clone().unwrap_or_default();
        let why = "PostgreSQL keeps the old lines until it is mended, and does not start with it";
        lines.push(Line::new(Severity::Reload, what, (error, "no error".to_owned()), why));
    }
}
