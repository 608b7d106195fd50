//! The configuration of one member, checked.
//!
//! Four layers, the later one wins: defaults, the file, the environment (`LOCUM_POLICY__HANG=3s`), flags
//! (`--set policy.hang=3s`). [`load`] reads and checks all of it and names every problem at once; nothing is bound,
//! started or changed before it succeeds.

mod app;
mod check;
mod drivers;
mod endpoint;
mod host;
mod load;
mod parse;
mod problem;
mod reader;
mod sections;
mod sources;
mod units;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;

pub use app::{APP_SERVER, App, BODY_MAX, Commands, Health};
pub(crate) use check::chain;
pub use drivers::{Address, Driven, DrivenBy, Pgbouncer, Vip, Webhook, shown};
pub use endpoint::{Balance, Tuning};
pub(crate) use load::token;
pub use load::{Client, Draft, EXAMPLE, Loaded, client, load, load_new, read};
pub use problem::{Problem, Problems, Severity};
pub use reader::{Origin, Setting};
pub use sources::Sources;
pub use units::{bytes, parse_bytes};

use crate::{
    model::{ClusterName, EndpointKind, EndpointName, NodeId, Objectives, Policy},
    postgres::SalvageLimits,
    tls,
};

/// Everything one member needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster.
    pub cluster: ClusterName,
    /// This node.
    pub node: NodeId,
    /// Where the member keeps its promise file, history and salvage. Outside the data directory.
    pub state_dir: PathBuf,
    /// What the business asked for.
    pub objectives: Objectives,
    /// Where intent, leases and incidents live.
    pub store: Store,
    /// How long the leader's lease lasts without renewal.
    pub leader_ttl: Duration,
    /// Nodes that must have reported before a first cluster is declared, this one among them.
    pub members: Vec<NodeId>,
    /// The public API.
    pub api: Api,
    /// The PostgreSQL of this host.
    pub postgres: Option<Postgres>,
    /// What a host without PostgreSQL needs to lead.
    pub witness: Option<Witness>,
    /// Thresholds and choices.
    pub policy: Policy,
    /// The program that makes sure of a node that cannot be asked.
    pub fence_command: Option<PathBuf>,
    /// The endpoints in this member.
    pub endpoints: Vec<Endpoint>,
    /// The endpoints that others bring about for this member.
    pub driven: Vec<Driven>,
    /// The app server of this host.
    pub app: Option<App>,
}

/// Where the members agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// One file that all members on one machine share.
    Embedded(PathBuf),
    /// etcd, for members on several hosts.
    Etcd(Etcd),
}

/// How to reach etcd. Of secrets only the files are named; the store reads them with every new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Its endpoints, `http://host:port` or `https://host:port`, all of one kind. The first is asked first.
    pub endpoints: Vec<String>,
    /// Who signed its certificates (PEM). There with https, and only there.
    pub ca_file: Option<PathBuf>,
    /// This member's own certificate (PEM), where etcd asks for one.
    pub cert_file: Option<PathBuf>,
    /// The key of it (PEM).
    pub key_file: Option<PathBuf>,
    /// As whom this member signs on, where etcd asks for it.
    pub user: Option<String>,
    /// The file with that user's password, on one line.
    pub password_file: Option<PathBuf>,
}

/// The API's two ports.
#[derive(Clone, Debug)]
pub struct Api {
    /// Status, health paths, metrics, control.
    pub listen: SocketAddr,
    /// Member-to-member traffic, always authenticated.
    pub peer_listen: SocketAddr,
    /// The address other members reach `peer_listen` at, `host:port`.
    pub peer_address: String,
    /// The address CLI and other members reach `listen` at, `host:port`.
    pub address: String,
    /// The shared token for control calls and members.
    pub token: SecretString,
    /// The certificates of the member-to-member port; None: plain, for a network that is trusted.
    pub tls: Option<tls::Files>,
}

/// The PostgreSQL of a host.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Where `postgres`, `pg_rewind` and the others are.
    pub bin_dir: PathBuf,
    /// How the agent connects to its own server: a libpq keyword string without password, over a socket or loopback.
    pub connect: String,
    /// Where other nodes reach this server, `host:port`.
    pub address: String,
    /// The role that streams, rewinds and clones: libpq keywords added to every replication connection,
    /// for example `user=replicator passfile=/etc/locum/pgpass`.
    pub replication: String,
    /// As whom a commit through the endpoint proves service: libpq keywords without host and port. Any role that may
    /// log in will do.
    pub verify: String,
    /// Extra arguments for `postgres`, for example `-c config_file=/etc/postgresql/15/main/postgresql.conf`.
    pub options: Vec<String>,
    /// Never promote this node.
    pub no_failover: bool,
    /// Never have commits wait for this node.
    pub no_sync: bool,
    /// Never copy a clone from this node while it is a standby.
    pub no_clone: bool,
    /// Between standbys that lack nothing of each other the one with the higher number is promoted.
    pub priority: usize,
    /// How many bytes a second a clone of this node may take from its upstream; None: as many as there are.
    pub clone_max_rate: Option<u64>,
    /// How long the server may get nothing done while it starts and recovers, until that is given up.
    pub start_timeout: Duration,
    /// How much is kept of what it had to give up.
    pub salvage: SalvageLimits,
}

/// A host without PostgreSQL, whose member may lead.
#[derive(Clone, Debug)]
pub struct Witness {
    /// As whom a commit through the endpoint proves service: libpq keywords without host and port.
    pub verify: String,
}

/// A built-in endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name.
    pub name: EndpointName,
    /// What it leads to.
    pub target: EndpointKind,
    /// Where it listens.
    pub listen: SocketAddr,
    /// How many new connections may wait at most.
    pub max_held: usize,
    /// How long one may wait at most.
    pub hold: Duration,
    /// How it behaves.
    pub tuning: Tuning,
}
