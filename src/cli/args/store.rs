//! What can be typed after `locum store`.

use clap::{Args, Subcommand};

use super::Connect;

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
