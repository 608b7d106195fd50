//! Small programs that go on doing harm while a fault lasts: they load the processors, stop and continue, drop and let
//! through. Each ends by itself after a while, whoever forgets it.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{plan::Plan, processes};

/// The longest that any of them lasts, in seconds.
const LONGEST: u32 = 600;

/// Starts a shell script under a name, by which it is found and ended.
///
/// # Errors
/// It cannot be started.
pub(crate) fn start(plan: &Plan, name: &str, script: &str) -> Result<()> {
    let path = plan.folder.join(format!("helper-{name}.sh"));
    fs::write(&path, script).context("write a script")?;
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", &LONGEST.to_string(), "bash"]).arg(&path).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().context("start a helper")?;
    // Collected whenever it ends.
    std::thread::spawn(move || child.wait());
    Ok(())
}

fn find(path: &Path) -> Vec<i32> {
    let path = path.to_string_lossy().into_owned();
    let named = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&path)
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id().cast_signed()).filter(named).collect()
}

/// Ends those whose names begin so.
///
/// # Errors
/// Some are left.
pub(crate) fn end(plan: &Plan, name: &str) -> Result<()> {
    let path = plan.folder.join(format!("helper-{name}"));
    let gone = super::within::within_limit(std::time::Duration::from_secs(5), || {
        let left = find(&path);
        left.iter().for_each(|pid| processes::send(*pid, Signal::KILL));
        left.is_empty()
    });
    anyhow::ensure!(gone, "helpers are left: {}", path.display());
    Ok(())
}

/// Ends all of them.
///
/// # Errors
/// Some are left.
pub(crate) fn end_all(plan: &Plan) -> Result<()> {
    end(plan, "")
}
