//! Running a program of the operator's: only its exit status counts, and only 0 is a yes.
//!
//! Whoever stops waiting, such as by a timeout, kills it with everything it has begun that is still in its process group.

use std::{
    io::{Read as _, Seek as _},
    path::Path,
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

/// How much of what it says is kept for people.
const SAID: u64 = 400;

/// Kills the group of a run that is given up.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // None of it is left: that is what is wanted.
            _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Runs `program`, with what `with` adds to it, until it has ended.
///
/// # Errors
/// It could not be run, or ended with another status than 0: with the beginning of what it wrote to its standard error.
pub(crate) async fn run(program: &Path, with: impl FnOnce(&mut Command)) -> Result<(), String> {
    let shown = program.display();
    // A file, not a pipe: it neither blocks who says much nor waits for who is left in the background.
    let mut errors = tempfile::tempfile().map_err(|error| format!("keep what {shown} says: {error}"))?;
    let into = errors.try_clone().map_err(|error| format!("keep what {shown} says: {error}"))?;
    let mut command = Command::new(program);
    with(&mut command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(into))
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{shown} could not be run: {error}"))?;
    // Until the child is waited for, its number is nobody else's. What it leaves in the background may go on.
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let status = child.wait().await.map_err(|error| format!("wait for {shown}: {error}"))?;
    group.0 = None;
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    let read = errors.rewind().and_then(|()| errors.take(SAID).read_to_end(&mut said));
    read.map_err(|error| format!("read what {shown} says: {error}"))?;
    Err(format!("{shown} ended with {status}: {}", String::from_utf8_lossy(&said).trim()))
}
