//! `locum demo`: placeholder.

use std::process::ExitCode;

use super::args::DemoArgs;

/// Runs the demo.
///
/// # Errors
/// It is not there yet.
#[expect(clippy::unused_async, reason = "placeholder")]
pub async fn execute(args: DemoArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the demo ({:?}) is not built yet", args.scenario)
}
