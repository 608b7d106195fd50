//! What can be typed after `locum salvage`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::ConfigSource;

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
