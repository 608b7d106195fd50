//! One `locum run` as a process.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::process;
use crate::fixture::until;

/// How much of a log is shown when a test fails.
const LOG_LINES: usize = 60;

/// A member: started, told to stop, killed.
pub(crate) struct Member {
    name: &'static str,
    config: PathBuf,
    log: PathBuf,
    /// Keys that are set over the file.
    pub(crate) set: Vec<String>,
    child: Option<Child>,
}

impl Member {
    pub(super) const fn new(name: &'static str, config: PathBuf, log: PathBuf, set: Vec<String>) -> Self {
        Self { name, config, log, set, child: None }
    }

    /// Starts it. It is not waited for.
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
        command.arg("run").arg("-c").arg(&self.config);
        for set in &self.set {
            command.args(["--set", set]);
        }
        command.env("RUST_LOG", "info,locum=debug").stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.child = Some(command.spawn().expect("locum run"));
    }

    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        self.child.as_ref().expect("a running member").id().cast_signed()
    }

    /// SIGKILL, and it is gone when this returns.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended_already = child.kill();
            let _collected = child.wait();
        }
    }

    /// SIGTERM; it must end by itself and say that all was in order.
    pub(crate) async fn terminate(&mut self) {
        process::send(self.pid(), "TERM");
        let (code, log) = self.ends().await;
        assert_eq!(code, Some(0), "{} did not stop in order: {log}", self.name);
    }

    /// Waits for its end by itself: its exit code, and its log.
    pub(crate) async fn ends(&mut self) -> (Option<i32>, String) {
        let mut child = self.child.take().expect("a running member");
        let what = format!("the end of member {}", self.name);
        let status = until(&what, || {
            let status = child.try_wait().expect("its status");
            async move { status }
        })
        .await;
        (status.code(), self.log())
    }

    /// What it said so far, in all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(super) fn show_log(&self) {
        let text = self.log();
        let lines: Vec<_> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES);
        eprintln!("---- the end of the log of {}:\n{}", self.name, lines[from..].join("\n"));
    }
}
