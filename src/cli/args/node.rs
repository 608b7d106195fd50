//! What can be typed after `locum node`.

use clap::{Args, Subcommand};

use super::{ConfigSource, Connect};
use crate::model::NodeId;

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
