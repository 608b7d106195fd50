//! The guard beside a made-up server: a shell that stands for the postmaster, and its children.

mod agents;
mod fences;
mod messages;
mod tree;

use std::{future::Future, os::unix::net::UnixStream, path::Path, time::Duration};

use locum::{
    clock::SystemClock,
    guard::{Client, Settings},
    model::{Epoch, GuardFacts, GuardState, Incarnation, Mono, Stamp, Version},
    ports::Clock,
};
use rustix::process::{Pid, Signal, kill_process};
use tree::Tree;

/// How long anything that should happen soon may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// Where control groups usually are.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// A deadline that does not pass during a test.
const LONG: Duration = Duration::from_secs(600);

fn now() -> Mono {
    SystemClock.now()
}

fn stamp(epoch: u64) -> Stamp {
    Stamp { incarnation: Incarnation(1), epoch: Epoch(epoch), version: Version(1) }
}

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let deadline = now().plus(SOON);
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(now() < deadline, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The guard's process id, as its socket tells it.
fn pid(state_dir: &Path) -> Option<u32> {
    let stream = UnixStream::connect(state_dir.join("guard.sock")).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(peer.pid.as_raw_nonzero().get().cast_unsigned())
}

/// A made-up server, and the guard's folder. Dropping it ends both.
struct Place {
    state: tempfile::TempDir,
    tree: Tree,
}

impl Place {
    fn new() -> Self {
        Self { state: tempfile::tempdir().unwrap(), tree: Tree::start() }
    }

    fn settings(&self, signals: bool) -> Settings {
        let mut settings = Settings::new(self.state.path(), self.tree.dir(), LONG);
        settings.program = env!("CARGO_BIN_EXE_locum").into();
        settings.signals = signals;
        settings
    }

    /// A guard that watches the made-up server.
    async fn guard(&self, settings: Settings) -> Client {
        let client = Client::attach(settings).await.unwrap();
        client.watch(self.tree.postmaster(), 1).await.unwrap();
        client
    }

    fn guard_pid(&self) -> u32 {
        pid(self.state.path()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tree.end();
        let Some(pid) = pid(self.state.path()) else { return };
        // Its last work is to remove the server's group.
        let (own, until) = (format!("locum-guard-{}", self.tree.postmaster()), now().plus(SOON / 10));
        let left = || MOUNTS.iter().any(|mount| Path::new(mount).join(&own).exists());
        while left() && now() < until {
            std::thread::yield_now();
        }
        send(pid, Signal::KILL);
    }
}

async fn becomes(client: &Client, state: GuardState) -> GuardFacts {
    until(&format!("{state:?}"), || async { client.facts().filter(|facts| facts.state == state) }).await
}
