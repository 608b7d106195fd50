//! What the keys say about each other. Looks at values only; `host` looks at the machine.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use super::{Config, Endpoint, Etcd, Postgres, Problem, Setting, Store, app, drivers};
use crate::{
    model::{Durability, EndpointKind, NodeId},
    store::LEASE_MIN,
};

/// Members report ten times a second: a shorter silence means nothing.
const DETECT_MIN: Duration = Duration::from_millis(200);
/// A probe of the primary may take this long on a busy host without anything being wrong.
const HANG_MIN: Duration = Duration::from_millis(200);
/// A lease is renewed three times in its life; below this a busy disk ends it.
const LEADER_TTL_MIN: Duration = Duration::from_millis(500);
/// The lease is renewed every 200 ms and ends 200 ms early; below this a store's election ends it.
const LEASE_TTL_MIN: Duration = Duration::from_secs(1);
/// Commits that wait for no time at all would make every standby restart an exposure.
const WRITE_WAIT_MIN: Duration = Duration::from_millis(50);
/// No switchover is over in less.
const HANDOVER_MIN: Duration = Duration::from_secs(1);
/// What `pg_basebackup --max-rate` takes, in bytes a second.
const CLONE_RATES: std::ops::RangeInclusive<u64> = 32 << 10..=1 << 30;
/// Connections that wait are given this long at least.
const HOLD_MIN: Duration = Duration::from_millis(100);
/// A connection across a network takes some of this.
const CONNECT_MIN: Duration = Duration::from_millis(50);
/// A stop is cut short after ten seconds, and the rest of it wants its time.
const SHUTDOWN_MAX: Duration = Duration::from_secs(8);

/// What Locum itself adds to a replication connection.
const OWN_REPLICATION_KEYS: [&str; 5] = ["host", "hostaddr", "port", "application_name", "replication"];
/// What Locum itself passes to `postgres`.
const OWN_OPTIONS: [&str; 7] = [
    "-D",
    "primary_conninfo",
    "primary_slot_name",
    "synchronous_standby_names",
    "restore_command",
    "recovery_target_timeline",
    "data_directory",
];

/// Every contradiction.
pub(super) fn check(config: &Config, settings: &[Setting]) -> Vec<Problem> {
    let mut problems = Vec::new();
    members(config, &mut problems);
    places(config, &mut problems);
    ports(config, &mut problems);
    times(config, &mut problems);
    loss(config, settings, &mut problems);
    endpoints(config, &mut problems);
    match (&config.postgres, &config.witness) {
        (None, None) => problems.push(Problem::error(
            "postgres",
            "is missing, and so is [witness]",
            "Add [postgres]; or, on a host without PostgreSQL whose member shall only lead, [witness].",
        )),
        (Some(_), Some(_)) => problems.push(Problem::error(
            "witness",
            "is configured on a host with [postgres], which has its own postgres.verify",
            "Remove [witness].",
        )),
        _ => {}
    }
    if let Some(postgres) = &config.postgres {
        connections(postgres, &mut problems);
        if postgres.no_failover && config.members == [config.node.clone()] {
            problems.push(Problem::warning(
                "postgres.no_failover",
                "is true for the only node",
                "Nothing will ever be promoted; add a standby to members.",
            ));
        }
        if let Some(rate) = postgres.clone_max_rate.filter(|rate| !CLONE_RATES.contains(rate)) {
            problems.push(Problem::error(
                "postgres.clone_max_rate",
                format!("is {}, which pg_basebackup cannot keep to", super::units::bytes(rate)),
                "Set it to \"32KiB\" or more and \"1GiB\" or less, or remove it.",
            ));
        }
    }
    if let Store::Etcd(etcd) = &config.store {
        endpoints_of_etcd(etcd, &mut problems);
        files_of_etcd(etcd, &mut problems);
    }
    if let Some(app) = &config.app {
        app::check(app, config.policy.app_grace, &mut problems);
    }
    problems.into_iter().map(|problem| with_origin(problem, settings)).collect()
}

/// Adds where the key's value came from.
pub(super) fn with_origin(problem: Problem, settings: &[Setting]) -> Problem {
    let origin = settings.iter().find(|s| s.key == problem.key).map(|s| s.origin.clone());
    problem.from(origin)
}

fn members(config: &Config, problems: &mut Vec<Problem>) {
    let listed: BTreeSet<&NodeId> = config.members.iter().collect();
    if !listed.contains(&config.node) {
        problems.push(Problem::error(
            "members",
            format!("does not list this node, {}", config.node),
            format!("Add \"{}\" to it, or correct node.", config.node),
        ));
    }
    if listed.len() < config.members.len() {
        problems.push(Problem::error("members", "lists a node twice", "List every node once."));
    }
}

fn places(config: &Config, problems: &mut Vec<Problem>) {
    let Some(postgres) = &config.postgres else { return };
    let store = match &config.store {
        Store::Embedded(file) => Some(("store.embedded", file)),
        Store::Etcd(_) => None,
    };
    for (key, path) in [("state_dir", &config.state_dir)].into_iter().chain(store) {
        if path.starts_with(&postgres.data_dir) {
            problems.push(Problem::error(
                key,
                format!(
                    "({}) is inside postgres.data_dir ({}), which a clone replaces as a whole",
                    path.display(),
                    postgres.data_dir.display()
                ),
                "Move it out, for example to /var/lib/locum.",
            ));
        }
    }
}

/// More members of etcd than this make every write slower and nothing safer.
const ETCD_MOST: usize = 9;

fn endpoints_of_etcd(etcd: &Etcd, problems: &mut Vec<Problem>) {
    const KEY: &str = "store.etcd";
    const EXAMPLE: &str = "Write each as \"https://10.0.0.1:2379\".";
    if etcd.endpoints.is_empty() || etcd.endpoints.len() > ETCD_MOST {
        let what = format!("names {} endpoints", etcd.endpoints.len());
        problems.push(Problem::error(KEY, what, format!("Name 1 to {ETCD_MOST}; three are usual.")));
    }
    let mut schemes = BTreeSet::new();
    let mut listed = BTreeSet::new();
    for text in &etcd.endpoints {
        let Ok(url) = reqwest::Url::parse(text) else {
            problems.push(Problem::error(KEY, format!("holds {text:?}, which is no URL"), EXAMPLE));
            continue;
        };
        if !matches!(url.scheme(), "http" | "https") {
            let what = format!("holds {text:?}, which begins neither with http:// nor with https://");
            problems.push(Problem::error(KEY, what, EXAMPLE));
            continue;
        }
        if !url.username().is_empty() || url.password().is_some() {
            let what = "holds a user or a password, which do not belong into an endpoint";
            problems.push(Problem::error(KEY, what, "Give etcd_user and etcd_password_file."));
            continue;
        }
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        // 443 and 80 are not etcd's; who means them writes them, and then they are not told apart from none.
        if !bare || url.port().is_none() {
            let what = format!("holds {text:?}, which is not scheme, host and port");
            problems.push(Problem::error(KEY, what, EXAMPLE));
        }
        schemes.insert(url.scheme().to_owned());
        if !listed.insert(url) {
            problems.push(Problem::error(KEY, format!("lists {text} twice"), "List each endpoint once."));
        }
    }
    if schemes.len() > 1 {
        problems.push(Problem::error(KEY, "mixes http and https", "Use https for all."));
    }
    let https = schemes.contains("https");
    if https && etcd.ca_file.is_none() {
        problems.push(Problem::error(
            "store.etcd_ca_file",
            "is not given, and store.etcd is https: nothing says whose certificates count",
            "Name the certificate of who signed etcd's: etcd_ca_file = \"/etc/locum/etcd-ca.pem\".",
        ));
    }
    if !https && !schemes.is_empty() {
        for (key, given) in [("store.etcd_ca_file", &etcd.ca_file), ("store.etcd_cert_file", &etcd.cert_file)]
        {
            if given.is_some() {
                let what = "has no effect: store.etcd is http";
                problems.push(Problem::error(key, what, "Write the endpoints as https://, or remove it."));
            }
        }
        let remote = etcd.endpoints.iter().any(|text| !is_loopback(text));
        if remote {
            problems.push(Problem::warning(
                KEY,
                "is http: whoever can send to etcd can take over the cluster",
                "Use https with client certificates, unless the network is closed to all others.",
            ));
        }
    }
}

fn is_loopback(url: &str) -> bool {
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| {
        let bare = host.trim_matches(['[', ']']);
        bare == "localhost" || bare.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    })
}

fn files_of_etcd(etcd: &Etcd, problems: &mut Vec<Problem>) {
    let pairs = [
        ("etcd_cert_file", etcd.cert_file.is_some(), "etcd_key_file", etcd.key_file.is_some()),
        ("etcd_user", etcd.user.is_some(), "etcd_password_file", etcd.password_file.is_some()),
    ];
    for (one, has_one, other, has_other) in pairs {
        if has_one != has_other {
            let (there, missing) = if has_one { (one, other) } else { (other, one) };
            let what = format!("is not given, and store.{there} is");
            problems.push(Problem::error(
                format!("store.{missing}"),
                what,
                format!("Give both {one} and {other}, or neither."),
            ));
        }
    }
}

fn ports(config: &Config, problems: &mut Vec<Problem>) {
    let mut taken: Vec<(String, SocketAddr)> = Vec::new();
    if let Some(address) = config.postgres.as_ref().and_then(|p| p.address.parse().ok()) {
        taken.push(("postgres.address".into(), address));
    }
    let api = [("api.listen", config.api.listen), ("api.peer_listen", config.api.peer_listen)];
    let api = api.into_iter().map(|(key, at)| (key.to_owned(), at));
    let endpoints = config.endpoints.iter().map(|e| (format!("endpoint[{}].listen", e.name), e.listen));
    for (key, at) in api.chain(endpoints) {
        if let Some((other, _)) = taken.iter().find(|(_, other)| clash(at, *other)) {
            let what = format!("({at}) clashes with {other}: one port can be used only once");
            problems.push(Problem::error(key.clone(), what, "Give one of them another port."));
        }
        taken.push((key, at));
    }
    for (key, listen, address) in [
        ("api.address", config.api.listen, &config.api.address),
        ("api.peer_address", config.api.peer_listen, &config.api.peer_address),
    ] {
        let unreachable = address.parse().is_ok_and(|at: SocketAddr| at.ip().is_unspecified());
        if listen.ip().is_unspecified() && unreachable {
            problems.push(Problem::error(
                key,
                format!("is not given, and nobody can connect to {address}"),
                format!(
                    "Give the address that others use, for example {key} = \"10.0.0.1:{}\".",
                    listen.port()
                ),
            ));
        }
    }
}

fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (any || one.ip() == other.ip())
}

fn times(config: &Config, problems: &mut Vec<Problem>) {
    let policy = &config.policy;
    let leader_ttl = match &config.store {
        Store::Embedded(_) => (LEADER_TTL_MIN, "a busy disk would end the leader's lease"),
        Store::Etcd(_) => (LEASE_MIN, "etcd grants no shorter lease"),
    };
    let least = [
        ("policy.detect", policy.detect, DETECT_MIN, "members report ten times a second"),
        ("policy.hang", policy.hang, HANG_MIN, "a probe of a busy primary takes that long"),
        ("policy.leader_ttl", config.leader_ttl, leader_ttl.0, leader_ttl.1),
        (
            "policy.lease_ttl",
            policy.lease_ttl,
            LEASE_TTL_MIN,
            "a store that is slow for a moment would stop PostgreSQL",
        ),
        ("policy.write_wait", policy.write_wait, WRITE_WAIT_MIN, "a blip would end the promise of sync"),
        ("policy.handover", policy.handover, HANDOVER_MIN, "no switchover is over sooner"),
    ];
    for (key, value, least, why) in least {
        if value < least {
            let (value, least) = (humantime::format_duration(value), humantime::format_duration(least));
            let what = format!("is {value}, less than {least}: {why}");
            problems.push(Problem::error(key, what, format!("Set it to \"{least}\" or longer.")));
        }
    }
    if policy.drain >= policy.handover {
        problems.push(Problem::error(
            "policy.drain",
            "is not shorter than policy.handover, so every busy switchover would be rolled back",
            "Shorten drain, or lengthen handover.",
        ));
    }
    if policy.flap_window.is_zero() {
        problems.push(Problem::error(
            "policy.flap_window",
            "is zero, so max_failovers would never count",
            "Set it to \"10m\", for example.",
        ));
    }
    let rto = Duration::from_secs_f64(config.objectives.rto_ms / 1000.0);
    if rto.is_zero() {
        problems.push(Problem::error(
            "objectives.rto",
            "is zero, which nothing can meet",
            "Set it to \"5s\", for example.",
        ));
    } else if policy.hang > rto {
        let hang = humantime::format_duration(policy.hang);
        problems.push(Problem::warning(
            "policy.hang",
            format!("is {hang}, longer than objectives.rto: a hang will miss the objective"),
            "Shorten hang, or lengthen objectives.rto.",
        ));
    }
}

fn loss(config: &Config, settings: &[Setting], problems: &mut Vec<Problem>) {
    let is_async = config.policy.durability == Durability::Async;
    if is_async && config.objectives.rpo_ms == 0.0 {
        problems.push(Problem::warning(
            "objectives.rpo",
            "is 0, but policy.durability is \"async\": a failover may lose what the standby had not yet flushed",
            "Set durability = \"sync\", or an rpo that may be lost, for example \"1s\".",
        ));
    }
    let given = settings
        .iter()
        .any(|setting| setting.key == "policy.max_data_loss" && setting.origin != super::Origin::Default);
    if given && !is_async {
        problems.push(Problem::warning(
            "policy.max_data_loss",
            "has no effect: it counts only with policy.durability = \"async\"",
            "Remove it, or set durability = \"async\".",
        ));
    }
}

fn endpoints(config: &Config, problems: &mut Vec<Problem>) {
    let mut names = BTreeSet::new();
    for Endpoint { name, target, hold, tuning, .. } in &config.endpoints {
        if !names.insert(name) {
            let what = "is the name of two endpoints";
            problems.push(Problem::error(format!("endpoint[{name}].name"), what, "Give each its own name."));
        }
        if matches!(target, EndpointKind::App | EndpointKind::Apps) && config.app.is_none() {
            problems.push(Problem::error(
                format!("endpoint[{name}].target"),
                "is \"app\", but this file has no [app]",
                "Add [app] with its health URL, or remove the endpoint.",
            ));
        }
        if tuning.connect < CONNECT_MIN {
            problems.push(Problem::error(
                format!("endpoint[{name}].connect"),
                "is too short for a connection across a network",
                "Set it to \"2s\", for example.",
            ));
        }
        if tuning.shutdown > SHUTDOWN_MAX {
            problems.push(Problem::error(
                format!("endpoint[{name}].shutdown"),
                "is longer than a member may take to stop",
                "Set it to \"8s\" or less.",
            ));
        }
        if *hold < HOLD_MIN {
            let least = humantime::format_duration(HOLD_MIN);
            let what = format!("is shorter than {least}: connections would be refused in every failover");
            problems.push(Problem::error(
                format!("endpoint[{name}].hold"),
                what,
                "Set it to \"15s\", for example.",
            ));
        }
    }
    for driven in &config.driven {
        let name = &driven.name;
        if !names.insert(name) {
            let what = "is the name of two endpoints";
            problems.push(Problem::error(format!("endpoint[{name}].name"), what, "Give each its own name."));
        }
        drivers::check(driven, config.policy.handover, problems);
    }
    let all_serve = config.endpoints.iter().find(|endpoint| endpoint.target == EndpointKind::Apps);
    if let (Some(endpoint), Some(app)) = (all_serve, &config.app)
        && let Some((key, _)) = app.commands.each().next()
    {
        problems.push(Problem::error(
            format!("app.{key}"),
            format!(
                "belongs to an app server that is active or passive, and endpoint {} leads to all",
                endpoint.name
            ),
            "Remove it, or write mode = \"active-passive\".",
        ));
    }
    if config.postgres.is_none() && config.app.is_some() {
        problems.push(Problem::error(
            "app",
            "is configured on a host without [postgres]; the active app server is the one beside the primary",
            "Add [postgres], or remove [app].",
        ));
    }
}

fn connections(postgres: &Postgres, problems: &mut Vec<Problem>) {
    match postgres.connect.parse::<tokio_postgres::Config>() {
        Err(error) => problems.push(Problem::error(
            "postgres.connect",
            format!("is no connection string: {}", chain(&error)),
            "Write it as \"host=/var/run/postgresql user=postgres dbname=postgres\".",
        )),
        Ok(parsed) => {
            if parsed.get_hosts().is_empty() {
                problems.push(Problem::error(
                    "postgres.connect",
                    "names no host",
                    "Add the socket directory: host=/var/run/postgresql.",
                ));
            }
            if parsed.get_password().is_some() {
                problems
                    .push(password("postgres.connect", "Use peer or trust authentication on the socket."));
            }
            if !parsed.get_hosts().iter().all(is_local) {
                problems.push(Problem::error(
                    "postgres.connect",
                    "leads to another host; an agent speaks for its own server only",
                    "Use the socket directory or 127.0.0.1.",
                ));
            }
        }
    }
    for word in postgres.replication.split_whitespace() {
        let Some((key, _)) = word.split_once('=') else {
            problems.push(Problem::error(
                "postgres.replication",
                format!("holds {word:?}, which is no key=value"),
                "Write it as \"user=replicator passfile=/etc/locum/pgpass\".",
            ));
            continue;
        };
        if key == "password" {
            problems.push(password(
                "postgres.replication",
                "Put it into a password file and name that: passfile=/etc/locum/pgpass.",
            ));
        } else if OWN_REPLICATION_KEYS.contains(&key) {
            let what = format!("holds {key}, which Locum sets itself");
            problems.push(Problem::error("postgres.replication", what, format!("Remove {key} from it.")));
        }
    }
    for option in &postgres.options {
        let name = option.split('=').next().unwrap_or_default();
        let name = name.strip_prefix("--").unwrap_or(name).replace('-', "_");
        let own = OWN_OPTIONS.iter().find(|own| name == **own || option.starts_with("-D"));
        if let Some(own) = own {
            let what = format!("holds {own}, which Locum sets itself");
            problems.push(Problem::error("postgres.options", what, format!("Remove {own} from it.")));
        }
    }
}

fn password(key: &str, fix: &str) -> Problem {
    Problem::error(key, "holds a password, which does not belong into this file", fix)
}

fn is_local(host: &tokio_postgres::config::Host) -> bool {
    match host {
        tokio_postgres::config::Host::Unix(_) => true,
        tokio_postgres::config::Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
