//! What can be typed after `locum demo`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What `locum demo` breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// The primary's postmaster is killed
    Crash,
    /// The primary's postmaster and its children are stopped
    Hang,
    /// A planned hand-over
    Switchover,
    /// The active app server is killed
    App,
    /// The primary is killed, and when redundancy is back, the new one too
    CrashTwice,
    /// In async the standby falls behind, and the primary's host is lost: rows are lost, listed and kept
    Lossy,
}

impl DemoArgs {
    /// What an acknowledged commit promises: a scenario that loses some is one of async.
    #[must_use]
    pub fn durability(&self) -> DemoDurability {
        if self.scenario == Scenario::Lossy { DemoDurability::Async } else { self.durability }
    }
}

/// What an acknowledged commit promises in `locum demo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DemoDurability {
    /// It is on the standby too
    Sync,
    /// It is on the primary
    Async,
}

impl Scenario {
    /// The word that is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Switchover => "switchover",
            Self::App => "app",
            Self::CrashTwice => "crash-twice",
            Self::Lossy => "lossy",
        }
    }
}

impl DemoDurability {
    /// The word that is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Async => "async",
        }
    }
}

/// `locum demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// What happens to the cluster
    #[arg(long, value_enum, default_value = "crash")]
    pub scenario: Scenario,
    /// What an acknowledged commit promises (`lossy`: always async)
    #[arg(long, value_enum, default_value = "sync")]
    pub durability: DemoDurability,
    /// Repeat it so often, and print minimum, median and maximum
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Leave the cluster running, and say how to use and stop it
    #[arg(long)]
    pub keep: bool,
    /// After the crashes, measure the same with no controller at all, on a pair of its own
    #[arg(long)]
    pub floor: bool,
    /// Stop a demo that was left running with --keep, and remove its directory
    #[arg(long, value_name = "DIR", exclusive = true)]
    pub stop: Option<PathBuf>,
}
