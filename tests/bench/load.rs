//! One measurement: pgbench against one side, and what its log says of each transaction.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use crate::{
    Side,
    servers::{DATABASE, Place, apart, output},
};

/// What pgbench does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    Select8,
    Select64,
    Tpcb8,
    Tpcb64,
    Connect8,
}

impl Load {
    pub(crate) const ALL: [Self; 5] =
        [Self::Select8, Self::Select64, Self::Tpcb8, Self::Tpcb64, Self::Connect8];

    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Select8 => "pgbench -S, 8 clients",
            Self::Select64 => "pgbench -S, 64 clients",
            Self::Tpcb8 => "TPC-B, 8 clients",
            Self::Tpcb64 => "TPC-B, 64 clients",
            Self::Connect8 => "pgbench -S -C, 8 clients: a connection for each transaction",
        }
    }

    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Select8 => &["-S", "-c", "8"],
            Self::Select64 => &["-S", "-c", "64"],
            Self::Tpcb8 => &["-c", "8"],
            Self::Tpcb64 => &["-c", "64"],
            Self::Connect8 => &["-S", "-C", "-c", "8"],
        }
    }
}

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Transactions a second.
    pub(crate) rate: f64,
    /// 99 of 100 transactions took no longer, in microseconds.
    pub(crate) p99_us: u64,
}

impl Place {
    /// Runs pgbench against a side for so many seconds.
    pub(crate) fn run(&self, load: Load, side: Side, seconds: u64) -> Result<Sample> {
        let prefix = self.folder().join("pgbench");
        let mut command = apart(self.program("pgbench"));
        command.args(["-n", "-j", "2", "-h", "127.0.0.1", "-U", "postgres"]).args(load.arguments());
        command.args(["-p", &self.port(side).to_string(), "-T", &seconds.to_string(), "-l"]);
        command.arg(format!("--log-prefix={}", prefix.display())).arg(DATABASE);
        let said = output(command)?;
        ensure!(said.contains("number of failed transactions: 0 "), "transactions failed: {said}");
        let tps = said.lines().find_map(|line| line.strip_prefix("tps = ")).context("pgbench says no tps")?;
        let rate = tps.split_whitespace().next().context("a number")?.parse()?;
        Ok(Sample { rate, p99_us: p99(self.folder())? })
    }
}

/// Reads pgbench's logs and removes them. The third word of a line is the transaction's time in microseconds.
fn p99(folder: &Path) -> Result<u64> {
    let mut times: Vec<u64> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_log = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pgbench."));
        if !is_log {
            continue;
        }
        for line in fs::read_to_string(&path)?.lines() {
            times.push(line.split(' ').nth(2).context("a transaction's time")?.parse()?);
        }
        fs::remove_file(path)?;
    }
    ensure!(!times.is_empty(), "pgbench wrote no transactions");
    let at = (times.len() * 99 / 100).min(times.len() - 1);
    Ok(*times.select_nth_unstable(at).1)
}
