//! What the demo breaks, and how. Only processes of the demo's own cluster are ever signalled.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::{
    cluster::Cluster,
    member::Host,
    observer::Observer,
    processes::Process,
    writers::{APP_WRITER, DATABASE_WRITERS},
};
use crate::{
    cli::args::Scenario,
    clock::SystemClock,
    model::{Mono, NodeId, Snapshot},
    ports::Clock as _,
};

/// By so many bytes the standby is behind when its primary's host is lost: enough for a list that is worth reading.
const BEHIND: u64 = 64 << 10;
/// How long that may take. The clients write some 100 KiB in a second.
const BEHIND_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(20);
/// How often the children of a stopped postmaster are looked for again: it may just have started one.
const STOP_ROUNDS: usize = 5;

/// One thing to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL to the primary's postmaster.
    Crash,
    /// SIGSTOP to the primary's postmaster and all its children.
    Hang,
    /// A planned hand-over, asked for through the API.
    Switchover,
    /// SIGKILL to the active app server.
    App,
    /// The standby falls behind, and everything of the primary's host is killed.
    HostLost,
}

/// A fault that was put in.
#[derive(Clone, Debug)]
pub(crate) struct Injected {
    /// When, right before.
    pub(crate) at: Mono,
    /// What was done to whom, for people.
    pub(crate) what: String,
    /// The node it was done to.
    pub(crate) node: NodeId,
}

impl Fault {
    /// What a scenario breaks, one after the other.
    pub(crate) const fn of(scenario: Scenario) -> &'static [Self] {
        match scenario {
            Scenario::Crash => &[Self::Crash],
            Scenario::Hang => &[Self::Hang],
            Scenario::Switchover => &[Self::Switchover],
            Scenario::App => &[Self::App],
            Scenario::Lossy => &[Self::HostLost],
            Scenario::CrashTwice => &[Self::Crash, Self::Crash],
        }
    }

    /// The clients whose outage counts. When only an app server fails, the database's clients must notice nothing.
    pub(crate) const fn judges(self) -> &'static [u16] {
        match self {
            Self::App => &[APP_WRITER],
            Self::Crash | Self::Hang | Self::Switchover | Self::HostLost => &DATABASE_WRITERS,
        }
    }

    /// True if the database is meant to move.
    pub(crate) const fn moves_database(self) -> bool {
        !matches!(self, Self::App)
    }

    /// Breaks it, now.
    ///
    /// # Errors
    /// What is to be broken cannot be found, or the hand-over is refused.
    pub(crate) async fn inject(
        self,
        cluster: &Cluster,
        snapshot: &Snapshot,
        observer: &Observer,
    ) -> Result<Injected> {
        let intent = snapshot.intent.as_ref().context("no cluster is declared")?;
        let primary = cluster.host(intent.primary.as_ref().context("there is no primary")?)?;
        match self {
            Self::Crash => crash(primary),
            Self::Hang => hang(primary),
            Self::HostLost => lose_host(primary, observer).await,
            Self::App => kill_app(cluster.host(intent.app.as_ref().context("no app server is active")?)?),
            Self::Switchover => {
                let at = SystemClock.now();
                let operation = observer.request_switchover().await?;
                let what = format!("a switchover is asked for: operation {operation}");
                Ok(Injected { at, what, node: primary.id.clone() })
            }
        }
    }
}

fn crash(host: &Host) -> Result<Injected> {
    let pid = host.node.postmaster().with_context(|| format!("PostgreSQL of {} does not run", host.id))?;
    let at = SystemClock.now();
    kill_process(pid, Signal::KILL).with_context(|| format!("kill the postmaster of {}", host.id))?;
    let what = format!("SIGKILL to the postmaster of {} (process {})", host.id, pid.as_raw_nonzero());
    Ok(Injected { at, what, node: host.id.clone() })
}

fn hang(host: &Host) -> Result<Injected> {
    let pid = host.node.postmaster().with_context(|| format!("PostgreSQL of {} does not run", host.id))?;
    let children = host.node.processes();
    let at = SystemClock.now();
    kill_process(pid, Signal::STOP).with_context(|| format!("stop the postmaster of {}", host.id))?;
    let mut stopped: Vec<_> = vec![pid];
    for child in children.iter().filter(|child| child.pid != pid) {
        // A child that ended meanwhile needs no stopping.
        let _ = kill_process(child.pid, Signal::STOP);
        stopped.push(child.pid);
    }
    for _ in 0..STOP_ROUNDS {
        let late: Vec<_> =
            host.node.processes().into_iter().filter(|process| !stopped.contains(&process.pid)).collect();
        if late.is_empty() {
            break;
        }
        for child in late {
            let _ = kill_process(child.pid, Signal::STOP);
            stopped.push(child.pid);
        }
    }
    let count = stopped.len() - 1;
    let what = format!(
        "SIGSTOP to the postmaster of {} (process {}) and its {count} children",
        host.id,
        pid.as_raw_nonzero()
    );
    Ok(Injected { at, what, node: host.id.clone() })
}

/// The link to the standby stalls while clients go on writing; then the host is gone, with what the standby lacks.
async fn lose_host(host: &Host, observer: &Observer) -> Result<Injected> {
    let is_sender =
        |process: &Process| process.arguments.iter().any(|argument| argument.contains("walsender"));
    let sender = host.node.processes().into_iter().find(is_sender);
    let sender = sender.with_context(|| format!("nothing streams from {}", host.id))?;
    kill_process(sender.pid, Signal::STOP).with_context(|| format!("stop the WAL sender of {}", host.id))?;
    let deadline = Instant::now() + BEHIND_LIMIT;
    let behind = || observer.snapshot().and_then(|seen| seen.rpo.as_ref()?.bytes);
    while behind().is_none_or(|bytes| bytes < BEHIND) {
        if Instant::now() > deadline {
            bail!("the standby did not fall behind within {BEHIND_LIMIT:?}");
        }
        sleep(LOOK).await;
    }
    let at = SystemClock.now();
    let count = host.kill();
    let what =
        format!("the link to the standby stalls; then {} is lost with all its {count} processes", host.id);
    Ok(Injected { at, what, node: host.id.clone() })
}

fn kill_app(host: &Host) -> Result<Injected> {
    let at = SystemClock.now();
    let Some(pid) = host.kill_app() else { bail!("the app server of {} does not run", host.id) };
    let what = format!("SIGKILL to the app server of {} (process {pid})", host.id);
    Ok(Injected { at, what, node: host.id.clone() })
}
