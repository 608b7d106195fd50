//! The verbs that ask the leader for something: switchover, rejoin, pause and resume.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::Connect;
use crate::model::NodeId;

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
