//! What can be typed: here the verbs and what they share, beside it a file for each family of them. Values are checked as
//! far as their form goes; what they mean is each verb's business.

mod certs;
mod config;
mod control;
mod demo;
mod node;
mod prepare;
mod salvage;
mod show;
mod store;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Sources;

pub use certs::{CertsArgs, CertsPlace, CertsVerb};
pub use config::{ConfigArgs, ConfigVerb};
pub use control::{PauseArgs, RejoinArgs, SwitchoverArgs};
pub use demo::{DemoArgs, DemoDurability, Scenario};
pub use node::{AboutNode, NodeAddArgs, NodeArgs, NodeDrainArgs, NodeRemoveArgs, NodeVerb};
pub use prepare::{AdoptArgs, CheckArgs, InitArgs};
pub use salvage::{SalvageArgs, SalvageOpenArgs, SalvageVerb};
pub use show::{ExplainArgs, ReportArgs, ReportFormat, StatusArgs};
pub use store::{AcceptArgs, StoreArgs, StoreVerb};

/// Where the configuration is unless `-c` says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/locum/locum.toml";

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  refused, or the cluster is not well
  2  wrong usage
  3  timed out; the outcome is not known (the message says how to find out)
  4  `locum run` only: this node was removed from the cluster

Try it on this machine, with nothing to set up:  locum demo";

/// A leader-elected active/passive failover controller for PostgreSQL and the app server in front of it.
#[derive(Debug, Parser)]
#[command(name = "locum", version, after_help = AFTER_HELP, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the member of this host: agent, controller and endpoints
    #[command(
        after_help = "Examples:\n  locum run -c /etc/locum/locum.toml\n  locum run -c seoul.toml --set policy.hang=3s"
    )]
    Run(RunArgs),
    /// Show the whole product on this machine: two PostgreSQL, a fault, the report; cleans up after itself
    #[command(
        after_help = "Examples:\n  locum demo\n  locum demo --scenario hang\n  locum demo --scenario switchover --runs 10\n  locum demo --scenario lossy\n  locum demo --durability async --json result.json\n  locum demo --keep\n  locum demo --stop /tmp/locum-demo-x7Yq2k"
    )]
    Demo(DemoArgs),
    /// The demo's app server; `locum demo` starts it
    #[command(hide = true)]
    DemoApp(super::demo::app::Args),
    /// Stop one PostgreSQL when its right to serve has run out; there is no need to start it by hand
    #[command(hide = true)]
    Guard(super::guard::Args),
    /// Lead the clients of this host, beside an app and without a member: follows what members show
    #[command(
        after_help = "It holds new connections during a failover, and keeps its last target while no member is heard.\n\nExamples:\n  locum endpoint --member http://10.0.0.1:8008 --member http://10.0.0.2:8008 --state-dir /var/lib/locum\n  locum endpoint --member http://10.0.0.1:8008 --listen 127.0.0.1:6480 --target app\n  locum endpoint --member http://10.0.0.1:8008 --listen 127.0.0.1:6434 --target standbys --fallback"
    )]
    Endpoint(super::endpoint::Args),
    /// Show who is primary, how much a disaster would cost now, and what is wrong
    #[command(
        after_help = "Exits with 1 if no node serves.\n\nExamples:\n  locum status\n  locum status --watch\n  locum status --json | jq .rpo"
    )]
    Status(StatusArgs),
    /// Say what the leader would do now, and what it waits for
    #[command(after_help = "Examples:\n  locum explain\n  locum explain --json")]
    Explain(ExplainArgs),
    /// Hand the primary over to another node, on purpose and without losing a transaction
    #[command(
        after_help = "Examples:\n  locum switchover --dry-run       list what stands in the way; change nothing\n  locum switchover                 to the best standby, after asking\n  locum switchover --to busan --yes\n  locum switchover --at 2026-12-01T03:00:00+01:00     tried for a minute then, and not begun later\n  locum switchover --cancel"
    )]
    Switchover(SwitchoverArgs),
    /// Suspend automatic action; PostgreSQL goes on as it is
    #[command(
        after_help = "While paused nothing is promoted, whatever happens. `locum resume` lifts it.\n\nExamples:\n  locum pause\n  locum pause --dry-run"
    )]
    Pause(PauseArgs),
    /// Lift the suspension
    #[command(after_help = "Examples:\n  locum resume\n  locum resume --dry-run")]
    Resume(PauseArgs),
    /// Bring a node back now that rests after failures, or clone it anew
    #[command(
        after_help = "A node that is back is brought to stream by itself: as it is, else by a rewind, else by a clone. Where all of that\nfailed it rests, and is cloned again after a while. This asks for all of it at once, once what was in the way is gone.\nWhat a clone or rewind gives up is saved first.\n\nExamples:\n  locum rejoin busan --dry-run          list what stands in the way; change nothing\n  locum rejoin busan\n  locum rejoin busan --from-scratch     clone it, whatever it has"
    )]
    Rejoin(RejoinArgs),
    /// Print what past incidents cost, judged against the objectives
    #[command(
        after_help = "Examples:\n  locum report\n  locum report --last 1\n  locum report --since 24h\n  locum report --since 2026-11-01 --format json\n  locum report --lost 20261122-084030-e2v5     the transactions that were lost"
    )]
    Report(ReportArgs),
    /// Look into what this host's PostgreSQL had to give up
    Salvage(SalvageArgs),
    /// Believe a store that was wiped or restored
    Store(StoreArgs),
    /// Before adoption: what differs between the two nodes, and what is not as Locum needs it
    #[command(
        after_help = "Changes nothing. Exits with 1 if something is in the way of a pair.\n\nExamples:\n  locum check -c locum.toml\n  locum check -c locum.toml --peer \"host=10.0.0.2 user=postgres\"\n  locum check --primary \"host=10.0.0.1 user=postgres\" --standby \"host=10.0.0.2 user=postgres\""
    )]
    Check(CheckArgs),
    /// Take over a running PostgreSQL, with its clients connected and without a restart
    #[command(
        after_help = "Run it on every node, the primary first; then start the members. Each change is printed with the way\nback, which is also kept in state_dir/adopt-undo.txt.\n\nExamples:\n  locum adopt -c locum.toml --dry-run    what must change, and what would need a restart\n  locum adopt -c locum.toml --yes\n  locum adopt -c /etc/locum/seoul.toml --create-roles --start"
    )]
    Adopt(AdoptArgs),
    /// Make a new pair from two empty hosts
    #[command(
        after_help = "On the first host a database cluster is made and started; the second one gets its copy from it by\nitself, once both members run.\n\nExamples:\n  locum init -c locum.toml --primary --dry-run\n  locum init -c locum.toml --primary --yes     on the first host\n  locum init -c locum.toml --standby           on the second host"
    )]
    Init(InitArgs),
    /// Add a node to a running cluster, take one out of service or out of the cluster
    Node(NodeArgs),
    /// Check, print or begin a configuration
    Config(ConfigArgs),
    /// Make and show the certificates that members prove their names with
    #[command(after_help = certs::CERTS_HELP)]
    Certs(CertsArgs),
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Args)]
pub struct ConfigSource {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Set one key, over file and environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigSource {
    /// As `config` reads it.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources { file: self.config.clone(), set: self.set.clone() }
    }
}

/// Which member to talk to.
#[derive(Clone, Debug, Args)]
pub struct Connect {
    /// The configuration file; its api section says where the member is
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// The member's API instead, for example http://10.0.0.1:8008
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
    /// The token for control calls, instead of the configuration's
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// `locum run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The configuration.
    #[command(flatten)]
    pub source: ConfigSource,
}
