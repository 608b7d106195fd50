//! The command line: one file per verb. Parses, asks a member, prints. Nothing depends on it.
//!
//! stdout is data, stderr is talk; only [`output`] writes to either. Exit codes: [`Exit`].

mod adopt;
pub mod args;
mod certs;
mod check;
mod client;
mod config;
mod confirm;
pub mod demo;
mod endpoint;
mod explain;
mod failure;
pub mod guard;
mod init;
mod lost;
mod node;
mod nodes;
mod operation;
pub mod output;
mod pause;
mod rejoin;
mod report;
pub mod run_member;
mod salvage;
mod service;
mod status;
mod status_page;
mod store;
mod switchover;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, error::ErrorKind};

use args::{Cli, Verb};
pub use failure::{Exit, Failure};

/// Runs the program with the arguments of this process.
#[must_use]
pub fn run() -> ExitCode {
    run_with(std::env::args_os())
}

/// Runs the program with these arguments, the program's name first.
#[must_use]
pub fn run_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let told = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Help that nobody reads to its end is no failure.
            let _ = error.print();
            return if told { Exit::Done.into() } else { Exit::Usage.into() };
        }
    };
    // Before there is a runtime: the guard is one small thread.
    if let Verb::Guard(args) = cli.verb {
        return guard::execute(args);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::talk(&format!("error: cannot start: {error}"));
            return Exit::Refused.into();
        }
    };
    match runtime.block_on(dispatch(cli.verb)) {
        Ok(code) => code,
        Err(failure) => failure.tell(),
    }
}

async fn dispatch(verb: Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Run(args) => Ok(run_member::execute(args).await?),
        Verb::Demo(args) => Ok(demo::execute(args).await?),
        Verb::Guard(args) => Ok(guard::execute(args)),
        Verb::DemoApp(args) => Ok(demo::app::execute(&args).await?),
        Verb::Endpoint(args) => Ok(endpoint::execute(&args).await?),
        Verb::Status(args) => Ok(status::execute(&args).await?.into()),
        Verb::Explain(args) => Ok(explain::execute(&args).await?.into()),
        Verb::Switchover(args) => Ok(switchover::execute(&args).await?.into()),
        Verb::Pause(args) => Ok(pause::execute(&args, pause::Verb::Pause).await?.into()),
        Verb::Resume(args) => Ok(pause::execute(&args, pause::Verb::Resume).await?.into()),
        Verb::Rejoin(args) => Ok(rejoin::execute(&args).await?.into()),
        Verb::Report(args) => Ok(report::execute(&args).await?.into()),
        Verb::Salvage(args) => Ok(salvage::execute(&args).await?.into()),
        Verb::Store(args) => Ok(store::execute(&args).await?.into()),
        Verb::Certs(args) => Ok(certs::execute(&args)?.into()),
        Verb::Check(args) => Ok(check::execute(&args).await?.into()),
        Verb::Adopt(args) => Ok(adopt::execute(&args).await?.into()),
        Verb::Node(args) => Ok(node::execute(&args).await?.into()),
        Verb::Init(args) => Ok(init::execute(&args).await?.into()),
        Verb::Config(args) => Ok(config::execute(&args)?.into()),
    }
}
