//! What can be typed after `locum config`.

use clap::{Args, Subcommand};

use super::ConfigSource;

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
