//! The verbs that only look: status, explain, report.

use clap::{Args, ValueEnum};

use super::Connect;

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
