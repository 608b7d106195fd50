//! A made-up server: a shell that works in the data directory, with children that show that they get on.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use std::os::unix::process::CommandExt as _;

use rustix::process::{Pid, Signal, kill_process_group};

use super::until;

/// How long nobody must have got on to be taken for standing still: many times the pause of a child.
const STILL: Duration = Duration::from_millis(250);

/// Two children that write a line every few milliseconds, and one new child after the other. The shell runs no program
/// itself: it would wait, in uninterruptible sleep, for a child that was stopped before it had become that program.
/// PostgreSQL does not do that either.
const SCRIPT: &str = "
for name in a b; do (while :; do echo >> $name; sleep 0.005; done) & done
while :; do (echo >> c; sleep 0.02) & wait $!; done";

pub(super) struct Tree {
    dir: tempfile::TempDir,
    postmaster: Child,
}

impl Tree {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT]).current_dir(dir.path().canonicalize().unwrap()).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let postmaster = command.spawn().unwrap();
        Self { dir, postmaster }
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn postmaster(&self) -> u32 {
        self.postmaster.id()
    }

    /// How much each of the children has written.
    fn written(&self) -> [u64; 3] {
        ["a", "b", "c"].map(|name| fs::metadata(self.dir.path().join(name)).map_or(0, |meta| meta.len()))
    }

    /// Waits until everybody gets on.
    pub(super) async fn goes_on(&self) {
        let before = self.written();
        until("everybody gets on", || async {
            self.written().iter().zip(before).all(|(now, before)| *now > before).then_some(())
        })
        .await;
    }

    /// True if nobody gets on, for long enough.
    pub(super) async fn stands_still(&self) -> bool {
        let before = self.written();
        tokio::time::sleep(STILL).await;
        self.written() == before
    }

    /// Waits until nothing of it is left but the zombie that this test has not collected.
    pub(super) async fn is_gone(&self) {
        until("nobody is left", || async { self.alive().is_empty().then_some(()) }).await;
    }

    /// Every living process that works in the data directory.
    pub(super) fn alive(&self) -> Vec<u32> {
        let dir = self.dir.path().canonicalize().unwrap();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir)).collect()
    }

    /// The letter for what its postmaster is doing.
    pub(super) fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.postmaster())).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    }

    pub(super) fn end(&mut self) {
        // One in a frozen group dies as well.
        let group = Pid::from_raw(self.postmaster.id().cast_signed()).unwrap();
        let _gone_already = kill_process_group(group, Signal::KILL);
        self.postmaster.wait().unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.end();
    }
}
