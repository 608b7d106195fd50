//! The two nodes that `check` and `adopt` look at: how they are reached, what they say, how it is printed.

use std::net::{IpAddr, ToSocketAddrs as _};

use serde_json::{Value, json};

use super::{Exit, Failure, output};
use crate::{
    check::{self, About, Line, Seen, Severity, Unread, Wanted},
    config::{Config, Postgres},
    postgres::{Conninfo, Instance, InstanceError, Psql},
};

/// A server, and how it was reached.
pub(super) struct Node {
    pub(super) conninfo: Conninfo,
    pub(super) seen: Seen,
}

/// A keyword string with a database.
pub(super) fn conninfo(option: &str, text: &str) -> Result<Conninfo, Failure> {
    if text.contains("://") {
        let what = format!("{option} is a URI; keywords are needed here");
        return Err(Failure::new(
            Exit::Usage,
            what,
            &["Write it as \"host=10.0.0.2 port=5432 user=postgres\"."],
        ));
    }
    let parsed: Conninfo = text.parse().map_err(|error| {
        let what = format!("{option}: {error}");
        Failure::new(Exit::Usage, what, &["Write it as \"host=10.0.0.2 port=5432 user=postgres\"."])
    })?;
    Ok(if parsed.get("dbname").is_some() { parsed } else { parsed.with("dbname", "postgres") })
}

/// The data directory of a configuration, which this command must be able to work with.
pub(super) fn instance(config: &Config, postgres: &Postgres) -> Result<Instance, Failure> {
    Instance::new(postgres, &config.state_dir).map_err(|error| {
        let give = format!("For example: chown -R postgres {}", postgres.data_dir.display());
        let hints = ["Nothing was changed.", &give];
        let hints = if matches!(error, InstanceError::OwnedByRoot(_)) { &hints[..] } else { &hints[..1] };
        Failure::refused(error.to_string(), hints)
    })
}

/// Reads a node; `what` names it in the refusal.
pub(super) async fn read(psql: &Psql, conninfo: Conninfo, role: &str, what: &str) -> Result<Node, Failure> {
    let seen = check::read(psql, &conninfo.to_string(), role).await.map_err(|error| {
        let hint = match &error {
            Unread::Psql(_) => "Is it running, and may this user and role come in? Nothing was changed.",
            Unread::Version(_) | Unread::Answer(_) => "Nothing was changed.",
        };
        Failure::refused(format!("{what} cannot be read ({conninfo}): {error}"), &[hint])
    })?;
    Ok(Node { conninfo, seen })
}

/// The node of a configuration.
pub(super) async fn own(psql: &Psql, instance: &Instance, postgres: &Postgres) -> Result<Node, Failure> {
    let what = "PostgreSQL of this node";
    let mut node =
        read(psql, conninfo("postgres.connect", &postgres.connect)?, &role(postgres), what).await?;
    let stat = rustix::fs::statvfs(instance.data_dir());
    node.seen.free = stat.ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    Ok(node)
}

/// The replication role's name.
pub(super) fn role(postgres: &Postgres) -> String {
    let user =
        postgres.replication.parse::<Conninfo>().ok().and_then(|info| info.get("user").map(str::to_owned));
    user.unwrap_or_else(|| "postgres".into())
}

/// The other node: as it was told, or a standby's own upstream, as the replication role reaches it.
pub(super) async fn peer(
    psql: &Psql,
    told: Option<&str>,
    own: &Seen,
    postgres: &Postgres,
) -> Result<Option<Node>, Failure> {
    let info = match told {
        Some(text) => conninfo("--peer", text)?,
        None => {
            let upstream = own.value("primary_conninfo").filter(|_| own.in_recovery);
            let Some(upstream) = upstream.and_then(|text| text.parse::<Conninfo>().ok()) else {
                return Ok(None);
            };
            let Some(host) = upstream.get("host") else { return Ok(None) };
            let as_role = conninfo("postgres.replication", &postgres.replication)?;
            as_role.with("host", host).with("port", upstream.get("port").unwrap_or("5432"))
        }
    };
    read(psql, info, &role(postgres), "the other node").await.map(Some)
}

/// What Locum needs of this node.
pub(super) fn wanted(config: &Config, postgres: &Postgres) -> Wanted {
    let host = postgres.address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
    Wanted {
        members: config.members.len(),
        host: host.to_owned(),
        replication: role(postgres),
        now: jiff::Timestamp::now().as_second(),
    }
}

/// Everything worth a line about two nodes.
pub(super) async fn lines(
    psql: &Psql,
    own: &Node,
    peer: Option<&Node>,
    wanted: &Wanted,
    postgres: &Postgres,
) -> Vec<Line> {
    let mut lines = check::wants(&own.seen, wanted);
    let Some(peer) = peer else { return lines };
    lines.extend(check::differences(&own.seen, &peer.seen));
    let there = Wanted { host: peer.conninfo.get("host").unwrap_or_default().to_owned(), ..wanted.clone() };
    // Rights are the agent's business, which asks as another role there.
    let theirs = Seen { lacks: Vec::new(), ..peer.seen.clone() };
    lines.extend(check::wants(&theirs, &there).into_iter().map(|line| line.about(About::There)));
    if let Some(host) = peer.conninfo.get("host").filter(|host| !host.starts_with('/')) {
        let port = peer.conninfo.get("port").unwrap_or("5432");
        let way = format!("{} host={host} port={port} connect_timeout=5", postgres.replication);
        if let Err(error) = check::may_stream(psql, &way).await {
            let what = format!("streaming from there as {}", wanted.replication);
            let why = "tried from here: this node could neither follow the other one nor be cloned from it";
            let pair = (error.to_string(), "gets in".to_owned());
            lines.push(Line::new(Severity::Blocks, what, pair, why).about(About::Here));
        }
        if let Some(address) = address_of(host) {
            lines.extend(check::ways_in(&own.seen, &wanted.replication, address));
        }
    }
    lines
}

fn address_of(host: &str) -> Option<IpAddr> {
    host.parse().ok().or_else(|| Some((host, 0).to_socket_addrs().ok()?.next()?.ip()))
}

/// How the two are called.
#[derive(Clone, Copy)]
pub(super) struct Names(pub(super) &'static str, pub(super) &'static str);

/// The lines for people.
pub(super) fn page(lines: &[Line], names: Names) -> String {
    let width = lines.iter().map(|line| line.severity.word().len()).max().unwrap_or(0);
    let one = |line: &Line| {
        let Names(here, there) = names;
        let head = match line.about {
            About::Both => format!("{}: {} {here}, {} {there}", line.what, line.here, line.there),
            About::Here => format!("{here}: {}: {} (needed: {})", line.what, line.here, line.there),
            About::There => format!("{there}: {}: {} (needed: {})", line.what, line.here, line.there),
        };
        format!("{:width$}  {head}\n{:width$}  {}\n", line.severity.word(), "", line.why)
    };
    lines.iter().map(one).collect()
}

/// How many of each, in words.
pub(super) fn count(lines: &[Line]) -> String {
    let of = |severity| lines.iter().filter(|line| line.severity == severity).count();
    let kinds = [
        (Severity::Blocks, "in the way"),
        (Severity::Restart, "to be changed with a restart"),
        (Severity::Reload, "with a reload"),
        (Severity::Notice, "to know"),
    ];
    let parts: Vec<_> = kinds
        .into_iter()
        .map(|(severity, words)| (of(severity), words))
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| format!("{count} {words}"))
        .collect();
    if parts.is_empty() { "nothing to say".into() } else { parts.join(", ") }
}

/// A node for programs.
pub(super) fn as_json(seen: &Seen) -> Value {
    json!({ "role": seen.role(), "release": seen.release, "system": seen.system, "settings_readable": seen.superuser,
            "databases_not_entered": seen.closed })
}

/// Says what could not be seen, so that silence is not taken for sameness.
pub(super) fn tell_limits(name: &str, seen: &Seen) {
    if !seen.superuser {
        output::talk(&format!(
            "note: {name} was asked as {}, no superuser: some settings and pg_hba.conf were not seen.",
            seen.asked_as
        ));
    }
    if !seen.closed.is_empty() {
        output::talk(&format!(
            "note: {name}: not entered, so extensions there were not seen: {}",
            seen.closed.join(", ")
        ));
    }
}
