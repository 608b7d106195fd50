//! `locum guard`: the process beside PostgreSQL that stops it when its right to serve runs out. Members start it.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use super::{Exit, output};
use crate::guard::{self, Options};

/// Guard one PostgreSQL: freeze it when its right to serve has run out, kill it when that does not come back. Members
/// start this themselves, and find it again after they were restarted; there is no need to start it by hand.
///
/// It listens on guard.sock in the state directory, and takes messages from this user and root. What it is told is
/// remembered in memory alone. It ends by itself once nothing is guarded and no member is connected.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The member's state directory, where the socket is
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,
    /// The data directory of the PostgreSQL that is guarded
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// How long PostgreSQL may stand still until it is killed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub freeze_max: Duration,
    /// Only report what it would have done
    #[arg(long)]
    pub observe: bool,
    /// Also arm this watchdog, which resets the machine if PostgreSQL can neither be let serve nor be stopped
    #[arg(long, value_name = "DEVICE")]
    pub watchdog: Option<PathBuf>,
    /// Stop PostgreSQL by signals even where it could have a control group of its own
    #[arg(long)]
    pub signals: bool,
}

/// Guards until it is no longer needed. Runs without a runtime, on one thread.
#[must_use]
pub fn execute(args: Args) -> ExitCode {
    let options = Options {
        state_dir: args.state_dir,
        data_dir: args.data_dir,
        freeze_max: args.freeze_max,
        enforce: !args.observe,
        watchdog: args.watchdog,
        signals: args.signals,
    };
    match guard::run(&options, output::talk) {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            output::talk(&format!("error: the guard cannot run: {error}"));
            Exit::Refused.into()
        }
    }
}
