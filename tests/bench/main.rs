//! Measures the endpoint's proxy beside HAProxy in TCP mode and beside a direct connection, with a real PostgreSQL and
//! pgbench on this machine (`scripts/bench endpoint`). The proxy runs in a process and a runtime of its own, as HAProxy
//! does. The sides take turns round by round, so that what else happens on the machine meets all of them; both proxies are started
//! anew for each round.
#![allow(clippy::disallowed_methods, reason = "what is timed here are real processes")]
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs, reason = "a tool for people")]

mod idle;
mod load;
mod servers;
mod table;

use std::{
    io::{IsTerminal as _, stderr},
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};

use load::{Load, Sample};
use servers::Place;

/// Measures the endpoint's proxy beside HAProxy.
#[derive(Parser)]
#[command(name = "endpoint-bench")]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Rounds. In each, every side is measured once with every load.
    #[arg(long, default_value_t = 30)]
    runs: usize,
    /// Seconds of one measurement. Many short ones say more than a few long ones: a machine is slow for seconds at a time.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Only these loads.
    #[arg(long, value_enum)]
    only: Vec<Load>,
    /// Not the memory of idle connections.
    #[arg(long)]
    no_idle: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// The proxy alone, until it is killed.
    Serve {
        /// Where it listens.
        listen: SocketAddr,
        /// Where it leads.
        target: String,
    },
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Direct,
    Haproxy,
    Locum,
}

impl Side {
    const ALL: [Self; 3] = [Self::Direct, Self::Haproxy, Self::Locum];

    const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Haproxy => "haproxy",
            Self::Locum => "locum",
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.verb {
        Some(Verb::Serve { listen, target }) => servers::serve(*listen, target),
        None => measure(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes true at Ctrl-C, which meets none of the servers in their own sessions: they end with their place.
fn interrupted() -> Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&interrupted);
    thread::spawn(move || seen.store(runtime.block_on(tokio::signal::ctrl_c()).is_ok(), Relaxed));
    Ok(interrupted)
}

fn measure(cli: &Cli) -> Result<()> {
    let interrupted = interrupted()?;
    let mut place = Place::make()?;
    let loads: Vec<Load> = if cli.only.is_empty() { Load::ALL.to_vec() } else { cli.only.clone() };
    for load in loads {
        println!("\n== {}", load.words());
        let mut samples: Vec<(Side, Sample)> = Vec::new();
        for round in 0..cli.runs {
            ensure!(!interrupted.load(Relaxed), "interrupted");
            if stderr().is_terminal() {
                eprint!("round {} of {}\r", round + 1, cli.runs);
            }
            place.start_proxies()?;
            // Whoever is first in one round is last in another, and each comes behind each other one as often.
            for turn in 0..Side::ALL.len() {
                let turn = if round % 2 == 0 { turn } else { Side::ALL.len() - 1 - turn };
                let side = Side::ALL[(round + turn) % Side::ALL.len()];
                samples.push((side, place.run(load, side, cli.seconds)?));
            }
        }
        table::print(load, &samples);
    }
    if !cli.no_idle {
        idle::measure(&place)?;
    }
    Ok(())
}
