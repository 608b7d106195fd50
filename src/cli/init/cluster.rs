//! What a new cluster gets: settings, who may come in, roles. What both nodes have alike is in `postgresql.conf`, which
//! a clone brings; what is one node's own is in `postgresql.auto.conf`.

use std::path::Path;

use super::{Obstacle, option};
use crate::{
    check::{REWIND, identifier},
    cli::{args::InitArgs, nodes},
    config::Postgres,
    postgres::{Conninfo, Instance, NewCluster, password_of},
};

/// The map of `pg_ident.conf` by which the agent comes in over the socket.
const MAP: &str = "locum";

/// What is to be made.
pub(super) struct Design {
    pub(super) cluster: NewCluster,
    pub(super) obstacles: Vec<Obstacle>,
    /// What an operator should know.
    pub(super) notes: Vec<String>,
    pub(super) port: String,
    role: String,
    allow: Vec<String>,
}

/// From the configuration.
pub(super) fn design(args: &InitArgs, postgres: &Postgres, instance: &Instance) -> Design {
    let mut obstacles = Vec::new();
    let connect: Conninfo = postgres.connect.parse().unwrap_or_default();
    if !connect.get("host").is_some_and(|host| host.starts_with('/')) {
        obstacles.push((
            "postgres.connect leads over the network; a new cluster lets its agent in over the socket, without a password".into(),
            "Name the socket directory: connect = \"host=/var/run/postgresql user=postgres dbname=postgres\".".into(),
        ));
    }
    if !postgres.bin_dir.join("initdb").exists() {
        let fix =
            "Name the directory that `pg_config --bindir` prints, or install PostgreSQL's server.".to_owned();
        obstacles.push((format!("{} has no initdb", postgres.bin_dir.display()), fix));
    }
    let agent = connect.get("user").unwrap_or("postgres").to_owned();
    let allow = if args.allow.is_empty() { vec!["samenet".to_owned()] } else { args.allow.clone() };
    for word in &allow {
        if !is_network(word) {
            obstacles.push((
                format!("--allow {word} is no network"),
                "Write it as 10.0.0.0/24, samenet or all.".into(),
            ));
        }
    }
    let (sql, notes) = roles(postgres, &agent);
    let mut initdb: Vec<String> =
        ["--auth-local=peer", "--auth-host=scram-sha-256"].map(str::to_owned).to_vec();
    initdb.extend([format!("--username={agent}"), format!("--encoding={}", args.encoding)]);
    initdb.extend([format!("--locale={}", args.locale), format!("--wal-segsize={}", args.wal_segsize)]);
    initdb.extend(args.initdb.clone());
    let own = own_settings(postgres);
    let port = own.iter().find(|(name, _)| name == "port").map(|(_, port)| port.clone());
    let cluster = NewCluster {
        initdb,
        conf: "\n# Set by `locum init`, alike on every node.\nwal_level = replica\nhot_standby = on\nwal_log_hints = on\n\
               max_wal_senders = 10\nmax_replication_slots = 10\npassword_encryption = 'scram-sha-256'\n"
            .into(),
        own,
        hba: hba(&agent, &nodes::role(postgres), &allow),
        ident: ident(&agent, instance),
        sql,
    };
    let port = port.or_else(|| option(postgres, "port")).unwrap_or_default();
    Design { cluster, obstacles, notes, port, role: nodes::role(postgres), allow }
}

impl Design {
    /// In words.
    pub(super) fn steps(&self, instance: &Instance) -> Vec<String> {
        let own =
            self.cluster.own.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>();
        vec![
            format!("initdb in {}: --data-checksums {}", instance.data_dir().display(), self.cluster.initdb.join(" ")),
            "postgresql.conf: wal_level = replica, hot_standby = on, wal_log_hints = on, max_wal_senders = 10".into(),
            format!("postgresql.auto.conf: {}", own.join(", ")),
            format!("pg_hba.conf: passwords (scram-sha-256) from 127.0.0.1, ::1 and {}", self.allow.join(", ")),
            format!("role {} to stream, rewind and clone", self.role),
            "start PostgreSQL".into(),
        ]
    }
}

/// What is this node's own, unless `postgres.options` give it at every start.
pub(super) fn own_settings(postgres: &Postgres) -> Vec<(String, String)> {
    let host = postgres.address.rsplit_once(':').map_or(postgres.address.as_str(), |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    let local = if ["127.0.0.1", "::1", "localhost"].contains(&host) {
        "localhost"
    } else {
        &format!("localhost,{host}")
    };
    let connect: Conninfo = postgres.connect.parse().unwrap_or_default();
    // An address that is translated on the way has another port at the server: the agent's is the server's own.
    let port = connect.get("port").unwrap_or("5432").to_owned();
    let mut own = vec![("listen_addresses".to_owned(), local.to_owned()), ("port".to_owned(), port)];
    if let Some(dir) = connect.get("host").filter(|host| host.starts_with('/')) {
        own.push(("unix_socket_directories".into(), dir.to_owned()));
    }
    own.retain(|(name, _)| option(postgres, name).is_none());
    own
}

fn is_network(word: &str) -> bool {
    let address = |text: &str| text.parse::<std::net::IpAddr>().ok();
    match word.split_once('/') {
        Some((ip, bits)) => address(ip)
            .is_some_and(|ip| bits.parse().is_ok_and(|bits: u8| bits <= if ip.is_ipv4() { 32 } else { 128 })),
        None => ["all", "samenet", "samehost"].contains(&word),
    }
}

fn hba(agent: &str, role: &str, allow: &[String]) -> String {
    let quoted = |name: &str| format!("\"{name}\"");
    let (agent, role) = (quoted(agent), quoted(role));
    let mut text = format!(
        "# Made by `locum init`. The first line that fits counts.\n\
         # The agent, over the socket; its system users are in pg_ident.conf.\n\
         local  all          {agent}  peer  map={MAP}\n\
         local  all          all  peer\n\
         # Nobody is a superuser over the network.\n"
    );
    let networks: Vec<&str> =
        ["127.0.0.1/32", "::1/128"].into_iter().chain(allow.iter().map(String::as_str)).collect();
    for network in &networks {
        text.push_str(&format!("host   all          {agent}  {network}  reject\n"));
    }
    text.push_str(
        "# The other nodes stream, rewind and clone. Every other role comes in with its password.\n",
    );
    for network in &networks {
        text.push_str(&format!("host   replication  {role}  {network}  scram-sha-256\n"));
    }
    for network in &networks {
        text.push_str(&format!("host   all          all  {network}  scram-sha-256\n"));
    }
    text
}

fn ident(agent: &str, instance: &Instance) -> String {
    let owner = instance.owner().name().unwrap_or("postgres");
    let users = if owner == "root" { vec!["root"] } else { vec![owner, "root"] };
    let lines = users.iter().map(|user| format!("{MAP}  {user}  \"{agent}\"\n"));
    format!("\n# A member runs as the owner of this directory or as root.\n{}", lines.collect::<String>())
}

/// The statements, and what to tell.
fn roles(postgres: &Postgres, agent: &str) -> (String, Vec<String>) {
    let (mut sql, mut notes) = (String::new(), Vec::new());
    let replication: Conninfo = postgres.replication.parse().unwrap_or_default();
    let verify: Conninfo = postgres.verify.parse().unwrap_or_default();
    let mut made = vec![agent.to_owned()];
    for (info, is_replication) in [(&replication, true), (&verify, false)] {
        let name = info.get("user").unwrap_or("postgres").to_owned();
        let quoted = identifier(&name);
        let secret = info.get("passfile").and_then(|file| password_of(Path::new(file), &name).ok().flatten());
        if !made.contains(&name) {
            let rights = if is_replication { "LOGIN REPLICATION" } else { "LOGIN" };
            let with = match &secret {
                Some(secret) => format!(" PASSWORD '{}'", secret.replace('\'', "''")),
                None => String::new(),
            };
            sql.push_str(&format!("CREATE ROLE {quoted} {rights}{with};\n\n"));
            if secret.is_none() {
                notes.push(format!(
                    "Role {name} has no password, for no passfile holds one: nobody comes in as it from another host."
                ));
            }
            if is_replication {
                for function in REWIND {
                    sql.push_str(&format!("GRANT EXECUTE ON FUNCTION {function} TO {quoted};\n\n"));
                }
            }
            made.push(name);
        }
    }
    (sql, notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_told_from_nonsense() {
        for good in ["10.0.0.0/24", "fd00::/64", "samenet", "all"] {
            assert!(is_network(good), "{good}");
        }
        for bad in ["10.0.0.0", "10.0.0.0/33", "everybody", "10.0.0.0/24 trust", ""] {
            assert!(!is_network(bad), "{bad}");
        }
    }

    #[test]
    fn nobody_is_superuser_over_the_network_and_streaming_needs_a_password() {
        let text = hba("postgres", "replicator", &["10.0.0.0/24".into()]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert!(lines.iter().all(|words| !words.contains(&"trust")));
        let first = |role: &str, network: &str| {
            lines
                .iter()
                .find(|w| w[0] == "host" && w[3] == network && (w[2] == role || w[2] == "all"))
                .unwrap()[4]
        };
        assert_eq!(first("\"postgres\"", "10.0.0.0/24"), "reject");
        assert_eq!(first("\"app\"", "10.0.0.0/24"), "scram-sha-256");
        assert!(
            lines.iter().any(|w| w[1] == "replication" && w[3] == "10.0.0.0/24" && w[4] == "scram-sha-256")
        );
    }
}
