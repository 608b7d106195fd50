//! What can be typed. Values are checked here as far as their form goes; what they mean is each verb's business.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use jiff::Timestamp;

use crate::{
    config::Sources,
    model::{ClusterName, NodeId},
};

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

const CERTS_HELP: &str = "\
An authority is made once, on a host that is kept well; its key, ca.key, stays there. Every host gets ca.crt, and
the certificate and key of its own node. Members take renewed files without a restart.

Examples:
  locum certs init  --dir /root/orders-ca --cluster orders
  locum certs issue --dir /root/orders-ca --cluster orders --node seoul --address 10.0.0.1
  locum certs show  /etc/locum/tls/seoul.crt";

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
    #[command(after_help = CERTS_HELP)]
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

/// What `locum demo` breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// The primary's postmaster is killed
    Crash,
    /// The primary's postmaster and its children are stopped
    Hang,
    /// A planned hand-over
    Switchover,
    /// The active app server is killed
    App,
    /// The primary is killed, and when redundancy is back, the new one too
    CrashTwice,
    /// In async the standby falls behind, and the primary's host is lost: rows are lost, listed and kept
    Lossy,
}

impl DemoArgs {
    /// What an acknowledged commit promises: a scenario that loses some is one of async.
    #[must_use]
    pub fn durability(&self) -> DemoDurability {
        if self.scenario == Scenario::Lossy { DemoDurability::Async } else { self.durability }
    }
}

/// What an acknowledged commit promises in `locum demo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DemoDurability {
    /// It is on the standby too
    Sync,
    /// It is on the primary
    Async,
}

impl Scenario {
    /// The word that is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Switchover => "switchover",
            Self::App => "app",
            Self::CrashTwice => "crash-twice",
            Self::Lossy => "lossy",
        }
    }
}

impl DemoDurability {
    /// The word that is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Async => "async",
        }
    }
}

/// `locum demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// What happens to the cluster
    #[arg(long, value_enum, default_value = "crash")]
    pub scenario: Scenario,
    /// What an acknowledged commit promises (`lossy`: always async)
    #[arg(long, value_enum, default_value = "sync")]
    pub durability: DemoDurability,
    /// Repeat it so often, and print minimum, median and maximum
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Leave the cluster running, and say how to use and stop it
    #[arg(long)]
    pub keep: bool,
    /// After the crashes, measure the same with no controller at all, on a pair of its own
    #[arg(long)]
    pub floor: bool,
    /// Stop a demo that was left running with --keep, and remove its directory
    #[arg(long, value_name = "DIR", exclusive = true)]
    pub stop: Option<PathBuf>,
}

/// `locum status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The member.
    #[command(flatten)]
    pub connect: Connect,
    /// Draw it anew every second, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// As JSON; with --watch one object a line
    #[arg(long)]
    pub json: bool,
}

/// `locum explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// The member.
    #[command(flatten)]
    pub connect: Connect,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `locum switchover`.
#[derive(Clone, Debug, Args)]
pub struct SwitchoverArgs {
    /// The member.
    #[command(flatten)]
    pub connect: Connect,
    /// Hand over to this node; without it, to the best standby
    #[arg(long, value_name = "NODE")]
    pub to: Option<NodeId>,
    /// Begin at this time, such as 2026-12-01T03:00:00+01:00, by the wall clock of whoever leads then
    #[arg(long, value_name = "TIME", conflicts_with = "cancel")]
    pub at: Option<Timestamp>,
    /// Drop the switchover that is scheduled
    #[arg(long, conflicts_with_all = ["to", "no_wait"])]
    pub cancel: bool,
    /// List what stands in the way, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Ask for it, and do not wait for the end
    #[arg(long, conflicts_with = "dry_run")]
    pub no_wait: bool,
    /// How long to wait for the end
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `locum rejoin`.
#[derive(Clone, Debug, Args)]
pub struct RejoinArgs {
    /// The member.
    #[command(flatten)]
    pub connect: Connect,
    /// The node that is to come back
    #[arg(value_name = "NODE")]
    pub node: NodeId,
    /// Clone it from the primary, although less might do
    #[arg(long)]
    pub from_scratch: bool,
    /// List what stands in the way, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Ask for it, and do not wait for the end
    #[arg(long, conflicts_with = "dry_run")]
    pub no_wait: bool,
    /// How long to wait for the end
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `locum pause` and `locum resume`.
#[derive(Clone, Debug, Args)]
pub struct PauseArgs {
    /// The member.
    #[command(flatten)]
    pub connect: Connect,
    /// Say what it would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Accepted for scripts; nothing is asked
    #[arg(short, long, hide = true)]
    pub yes: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `locum store`.
#[derive(Clone, Debug, Args)]
pub struct StoreArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: StoreVerb,
}

/// What can be done with the store.
#[derive(Clone, Debug, Subcommand)]
pub enum StoreVerb {
    /// Believe it although members remember more than it holds: the running primary keeps its place
    #[command(
        after_help = "A store that is empty, or older than what members promised, is not believed: nothing is promoted. This is the way\nout after it was lost or put back from a copy. Every member must be heard.\n\nExamples:\n  locum store accept --dry-run\n  locum store accept"
    )]
    Accept(AcceptArgs),
}

/// `locum store accept`.
#[derive(Clone, Debug, Args)]
pub struct AcceptArgs {
    /// The member.
    #[command(flatten)]
    pub connect: Connect,
    /// Say what stands in the way, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// How `locum report` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// `locum report`.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// The member.
    #[command(flatten)]
    pub connect: Connect,
    /// Only the last so many incidents [default: 20, or all since --since]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub last: Option<u32>,
    /// Only incidents since then: a date, a time (2026-11-22T08:00:00Z), or an age (24h)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// List the transactions that were lost in this incident, beside the forecast
    #[arg(long, value_name = "ID", conflicts_with_all = ["last", "since"])]
    pub lost: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    pub format: ReportFormat,
    /// The same as --format json
    #[arg(long)]
    pub json: bool,
}

/// `locum salvage`.
#[derive(Clone, Debug, Args)]
pub struct SalvageArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: SalvageVerb,
}

/// The verbs of `locum salvage`.
#[derive(Clone, Debug, Subcommand)]
pub enum SalvageVerb {
    /// List what this host keeps: when it was saved, how large it is, how many transactions it holds
    #[command(
        after_help = "Each is a folder with the WAL, its listing, the lost transactions (lost.json) and a README.\n\nExamples:\n  locum salvage list\n  locum salvage list --json"
    )]
    List {
        /// The configuration.
        #[command(flatten)]
        source: ConfigSource,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Start the saved state of a salvage read-only, to copy rows from it
    #[command(
        after_help = "What is started is a copy beside the data directory, with a socket of its own and no port: nobody takes it for the\ndatabase, and the salvage stays as it is. It runs until it is stopped.\n\nExamples:\n  locum salvage open seoul-1-2-6\n  locum salvage open seoul-1-2-6 --stop      stop it, and remove the copy"
    )]
    Open(SalvageOpenArgs),
}

/// `locum salvage open`.
#[derive(Clone, Debug, Args)]
pub struct SalvageOpenArgs {
    /// The configuration.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Which, as `locum salvage list` names it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Stop it, and remove the copy that was started
    #[arg(long)]
    pub stop: bool,
    /// How long its recovery may take
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `locum check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub source: ConfigSource,
    /// The other node, as libpq keywords; best as a superuser [default: a standby's own primary]
    #[arg(long, value_name = "CONNINFO")]
    pub peer: Option<String>,
    /// Compare these two, without a configuration: the primary
    #[arg(long, value_name = "CONNINFO", requires = "standby", conflicts_with = "peer")]
    pub primary: Option<String>,
    /// The standby
    #[arg(long, value_name = "CONNINFO", requires = "primary", conflicts_with = "peer")]
    pub standby: Option<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `locum adopt`.
#[derive(Clone, Debug, Args)]
pub struct AdoptArgs {
    /// The configuration.
    #[command(flatten)]
    pub source: ConfigSource,
    /// The other node, as libpq keywords; best as a superuser [default: a standby's own primary]
    #[arg(long, value_name = "CONNINFO")]
    pub peer: Option<String>,
    /// Say what would be done, what is in the way and what needs a restart; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Make the replication role if it is not there, with the password of its passfile
    #[arg(long)]
    pub create_roles: bool,
    /// Start the service locum@NAME of /etc/locum/NAME.toml at the end
    #[arg(long)]
    pub start: bool,
    /// Go on although libraries or extensions differ, or another manager's process runs on this host
    #[arg(long)]
    pub force: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `locum init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// The configuration.
    #[command(flatten)]
    pub source: ConfigSource,
    /// This is the first host: make and start a new database cluster
    #[arg(long)]
    pub primary: bool,
    /// This is another host: it is cloned when its member and the primary's run (the default)
    #[arg(long, conflicts_with = "primary")]
    pub standby: bool,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Size of a WAL segment in MB
    #[arg(long, value_name = "MB", default_value_t = 16, value_parser = segment_size)]
    pub wal_segsize: u32,
    /// Locale of the new cluster
    #[arg(long, value_name = "NAME", default_value = "C.UTF-8")]
    pub locale: String,
    /// Encoding of the new cluster
    #[arg(long, value_name = "NAME", default_value = "UTF8")]
    pub encoding: String,
    /// A further argument for initdb, such as --locale-provider=icu; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub initdb: Vec<String>,
    /// Who may connect over the network, with a password: a network such as 10.0.0.0/24; may be repeated
    /// [default: samenet, the networks this host is in]
    #[arg(long, value_name = "CIDR")]
    pub allow: Vec<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `locum node`.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: NodeVerb,
}

/// What can be done with a node.
#[derive(Clone, Debug, Subcommand)]
pub enum NodeVerb {
    /// Make this host a further standby of a running cluster
    #[command(
        after_help = "Run it on the new host, with a configuration like the others' (its own node, addresses and folders; the same store\nand token). It looks whether the primary can be reached and cloned from here and remembers that the node is new; its\nmember then clones it. The other members need no change: they learn of it from the store. A node that was removed\ncomes back the same way, with the data that it has.\n\nExamples:\n  locum node add -c /etc/locum/incheon.toml --dry-run\n  locum node add -c /etc/locum/incheon.toml --yes\n  locum run -c /etc/locum/incheon.toml        or the service locum@incheon"
    )]
    Add(NodeAddArgs),
    /// Take a node out of service: no commit waits for it, nobody promotes it, nothing is done on it
    #[command(
        after_help = "When it is done, the node's PostgreSQL, its member and its host can be stopped. The primary is handed over first\n(`locum switchover`).\n\nExamples:\n  locum node drain busan --dry-run\n  locum node drain busan\n  locum node drain busan --undo      take it into service again"
    )]
    Drain(NodeDrainArgs),
    /// Take a drained node out of the cluster: its slot is dropped, and its member ends
    #[command(
        after_help = "Its PostgreSQL and its data stay as they are. `locum node add` on that host brings it back.\n\nExamples:\n  locum node drain busan && locum node remove busan --yes"
    )]
    Remove(NodeRemoveArgs),
}

/// `locum node add`.
#[derive(Clone, Debug, Args)]
pub struct NodeAddArgs {
    /// The configuration.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `locum node drain`.
#[derive(Clone, Debug, Args)]
pub struct NodeDrainArgs {
    /// Which, and how.
    #[command(flatten)]
    pub about: AboutNode,
    /// Take it into service again
    #[arg(long)]
    pub undo: bool,
}

/// `locum node remove`.
#[derive(Clone, Debug, Args)]
pub struct NodeRemoveArgs {
    /// Which, and how.
    #[command(flatten)]
    pub about: AboutNode,
}

/// A change of one node.
#[derive(Clone, Debug, Args)]
pub struct AboutNode {
    /// The member.
    #[command(flatten)]
    pub connect: Connect,
    /// The node
    #[arg(value_name = "NODE")]
    pub node: NodeId,
    /// List what stands in the way, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

fn segment_size(text: &str) -> Result<u32, String> {
    let megabytes: u32 = text.parse().map_err(|_| "is no number".to_owned())?;
    let fits = megabytes.is_power_of_two() && megabytes <= 1024;
    if fits { Ok(megabytes) } else { Err("must be a power of two from 1 to 1024".into()) }
}

/// `locum config`.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// The verbs of `locum config`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigVerb {
    /// Tell everything that is wrong with it on this host
    #[command(
        after_help = "Prints ok and exits with 0 if the member would start.\n\nExample:\n  locum config check -c locum.toml"
    )]
    Check {
        /// The configuration.
        #[command(flatten)]
        source: ConfigSource,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print every key with its effective value and where it came from; never a secret
    #[command(after_help = "Example:\n  LOCUM_POLICY__HANG=3s locum config print -c locum.toml")]
    Print {
        /// The configuration.
        #[command(flatten)]
        source: ConfigSource,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a complete, commented configuration to begin with
    #[command(after_help = "Example:\n  locum config example > locum.toml")]
    Example,
}

/// `locum certs`.
#[derive(Clone, Debug, Args)]
pub struct CertsArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: CertsVerb,
}

/// The verbs of `locum certs`.
#[derive(Clone, Debug, Subcommand)]
pub enum CertsVerb {
    /// Make the authority of a cluster: ca.crt and ca.key
    #[command(
        after_help = "Whoever has ca.key can make members. Keep it off the members' hosts.\n\nExample:\n  locum certs init --dir /root/orders-ca --cluster orders"
    )]
    Init {
        /// Where to.
        #[command(flatten)]
        place: CertsPlace,
        /// How many days it is valid
        #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Make or renew the certificate of one node: NODE.crt and NODE.key
    #[command(
        after_help = "Renew with --force, and copy both files to the node: its member takes them within seconds.\n\nExample:\n  locum certs issue --dir /root/orders-ca --cluster orders --node seoul --address 10.0.0.1 --address db1.example.com"
    )]
    Issue {
        /// Where the authority is, and where to.
        #[command(flatten)]
        place: CertsPlace,
        /// The node
        #[arg(long, value_name = "NODE")]
        node: NodeId,
        /// An IP address or a host name that other clients know it by; may be repeated. Members need none
        #[arg(long, value_name = "IP|HOST")]
        address: Vec<String>,
        /// How many days it is valid; never longer than its authority
        #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Show whose a certificate is, its names, and when it ends
    #[command(
        after_help = "Exits with 1 if one is not valid now.\n\nExample:\n  locum certs show /etc/locum/tls/seoul.crt"
    )]
    Show {
        /// Certificates in PEM
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// What `init` and `issue` share.
#[derive(Clone, Debug, Args)]
pub struct CertsPlace {
    /// The directory of the authority
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The cluster
    #[arg(long, value_name = "NAME")]
    pub cluster: ClusterName,
    /// Replace what is there
    #[arg(long)]
    pub force: bool,
    /// Say what it would write, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}
