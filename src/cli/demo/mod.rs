//! `locum demo`: a whole cluster on this machine, broken on purpose, and judged by its clients.

pub mod app;
mod check;
mod cluster;
mod folder;
mod health;
mod history;
mod link;
mod loopback;
mod machine;
mod member;
mod narrator;
mod node;
mod observer;
mod processes;
mod voice;
mod writers;

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
