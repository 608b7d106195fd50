//! `locum run`: placeholder.

use std::process::ExitCode;

use super::args::RunArgs;

/// Runs the member until it is told to stop.
///
/// # Errors
/// The configuration is not sound, or a port is taken.
#[expect(clippy::unused_async, reason = "placeholder")]
pub async fn execute(args: RunArgs) -> anyhow::Result<ExitCode> {
    let loaded = crate::config::load(&args.source.sources())?;
    anyhow::bail!("the member of {} is not built yet", loaded.config.node)
}
