//! The laboratory as a tool: a person's cluster to break (`scripts/lab`), and random faults until something is wrong or the
//! time is up (`scripts/soak`). An example target and no test: it shares `tests/cluster/lab` and its arguments are its own.
#![allow(clippy::disallowed_methods, reason = "what is timed here are real processes")]
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs, reason = "a tool for tests")]

mod amid;
#[path = "../../tests/cluster/checker/mod.rs"]
mod checker;
mod comes_back;
#[path = "../../tests/cluster/lab/mod.rs"]
mod lab;
mod person;
mod soak;
#[path = "../../tests/cluster/trial.rs"]
mod trial;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use lab::{Store, Wish, place};

/// Builds a cluster of network namespaces on this machine, and breaks it.
#[derive(Parser)]
#[command(name = "lab")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build one, and leave it running.
    Up(Shape),
    /// Break it.
    Fault {
        /// Its folder, where more than one is up.
        #[arg(long = "in")]
        folder: Option<PathBuf>,
        /// The fault; without any, all are listed.
        words: Vec<String>,
    },
    /// Put everything right that was broken.
    Heal {
        /// Its folder, where more than one is up.
        #[arg(long = "in")]
        folder: Option<PathBuf>,
    },
    /// Say how it is, and how to reach it.
    Status {
        /// Its folder, where more than one is up.
        #[arg(long = "in")]
        folder: Option<PathBuf>,
    },
    /// End it, and whatever killed test runs left.
    Down,
    /// Both hosts of a pair are off, and come back in every order: a table of what was expected and what was seen.
    ComesBack(comes_back::Options),
    /// Random faults under load, healed and judged, one after the other.
    Soak(soak::Options),
}

/// What a laboratory is like.
#[derive(Args, Clone)]
struct Shape {
    /// PostgreSQL hosts.
    #[arg(long, default_value_t = 3)]
    hosts: usize,
    /// One more member, without PostgreSQL.
    #[arg(long)]
    witness: bool,
    /// `sync`, `sync-strict` or `async`.
    #[arg(long, default_value = "sync")]
    durability: String,
    /// Where the members keep their records.
    #[arg(long)]
    store: Option<StoreKind>,
    /// Members of etcd.
    #[arg(long, default_value_t = 3)]
    etcd: usize,
    /// A disk of so many MB for each PostgreSQL, which can be filled and frozen.
    #[arg(long, value_name = "MB")]
    disks: Option<u32>,
    /// Wall clocks that can be set (needs Debian's package libfaketime).
    #[arg(long)]
    clocks: bool,
    /// A key of the configuration, such as policy.hang=1s.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum StoreKind {
    /// One file.
    Embedded,
    /// etcd on the first hosts.
    Etcd,
}

impl Shape {
    fn wish(&self, stays: bool) -> Wish {
        let store = match self.store {
            Some(StoreKind::Embedded) => Store::Embedded,
            Some(StoreKind::Etcd) => Store::Etcd(self.etcd),
            None => match place::default_store() {
                Store::Etcd(_) => Store::Etcd(self.etcd),
                embedded @ Store::Embedded => embedded,
            },
        };
        Wish {
            hosts: self.hosts,
            witness: self.witness,
            store,
            durability: self.durability.clone(),
            set: self.set.clone(),
            disk_mb: self.disks,
            etcd_on_disk: false,
            vip: false,
            claim_after: None,
            app: false,
            clocks: self.clocks,
            archives: true,
            stays,
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    lab::available()?;
    match cli.verb {
        Verb::Up(shape) => person::up(&shape.wish(true)).await?,
        Verb::Fault { folder, words } => person::fault(folder.as_deref(), &words)?,
        Verb::Heal { folder } => person::heal(folder.as_deref()).await?,
        Verb::Status { folder } => person::status(folder.as_deref()).await?,
        Verb::Down => person::down()?,
        Verb::ComesBack(options) => {
            return Ok(if comes_back::run(&options).await? { ExitCode::SUCCESS } else { ExitCode::from(1) });
        }
        Verb::Soak(options) => return soak::run(&options).await,
    }
    Ok(ExitCode::SUCCESS)
}
