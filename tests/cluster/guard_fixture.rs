//! A real server under guard, and writers that note when each commit was asked for and acknowledged.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use locum::{
    clock::SystemClock,
    guard::{Client, Settings},
    model::{Epoch, GuardFacts, GuardState, Incarnation, Mono, Stamp, Version},
    ports::Clock,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;

use crate::fixture::{Node, until};

/// A deadline that does not pass during a test.
pub(crate) const LONG: Duration = Duration::from_secs(600);
/// Where control groups usually are.
pub(crate) const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// How long the end of a killed server may take.
const CLEARED: Duration = Duration::from_secs(2);
/// How long no acknowledgement may come for all that was on its way to have arrived.
const QUIET: Duration = Duration::from_millis(300);

pub(crate) fn now() -> Mono {
    SystemClock.now()
}

pub(crate) fn stamp(epoch: u64) -> Stamp {
    Stamp { incarnation: Incarnation(1), epoch: Epoch(epoch), version: Version(1) }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// The guard of a node as an agent would have it.
pub(crate) fn settings(node: &Node, signals: bool) -> Settings {
    let mut settings = Settings::new(&node.state_dir, node.instance.data_dir(), LONG);
    settings.program = env!("CARGO_BIN_EXE_locum").into();
    settings.signals = signals;
    settings
}

/// The guard of a node that has an agent.
pub(crate) fn settings_of(state_dir: &Path, data_dir: &Path) -> Settings {
    let mut settings = Settings::new(state_dir, data_dir, LONG);
    settings.program = env!("CARGO_BIN_EXE_locum").into();
    settings
}

/// A running server with a table `t(id)`. Dropping it ends the guard too.
pub(crate) struct Guarded {
    pub(crate) node: Node,
    pub(crate) postmaster: u32,
}

impl Guarded {
    pub(crate) async fn new() -> Self {
        let node = Node::new("alpha");
        node.init(16).await;
        let postmaster = node.start().await.pid();
        node.ask("CREATE TABLE t (id bigint PRIMARY KEY)").await;
        Self { node, postmaster }
    }

    pub(crate) async fn guard(&self, settings: Settings) -> Client {
        let client = Client::attach(settings).await.unwrap();
        client.watch(self.postmaster, 1).await.unwrap();
        client
    }

    /// Every living process that works in the data directory.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let here = |pid: &u32| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == self.node.instance.data_dir())
        };
        pids.filter(here).collect()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let Ok(stream) = UnixStream::connect(self.node.state_dir.join("guard.sock")) else { return };
        let guard = rustix::net::sockopt::socket_peercred(&stream).unwrap().pid;
        let group = format!("locum-guard-{}", self.postmaster);
        let left = || MOUNTS.iter().any(|mount| Path::new(mount).join(&group).exists());
        let until = now().plus(CLEARED);
        // The guard's last work is to remove the server's group, once nobody is in it.
        while left() && now() < until {
            for pid in self.processes() {
                let _ended_meanwhile = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
            }
        }
        let _ended_meanwhile = kill_process(guard, Signal::KILL);
    }
}

pub(crate) async fn becomes(client: &Client, state: GuardState) -> GuardFacts {
    until(&format!("{state:?}"), || async { client.facts().filter(|facts| facts.state == state) }).await
}

/// An acknowledged row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) id: i64,
    pub(crate) sent: Mono,
    pub(crate) got: Mono,
}

/// Sessions that insert rows as fast as they can, each for as long as its connection lives.
pub(crate) struct Sessions {
    acks: Arc<Mutex<Vec<Ack>>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Sessions {
    pub(crate) async fn start(node: &Node, count: i64) -> Self {
        let (acks, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let (client, acks, stop) = (node.connect().await, Arc::clone(&acks), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut id = number;
                while !stop.load(Ordering::Relaxed) {
                    let sent = now();
                    // The simple protocol: it returns at ReadyForQuery, which is the acknowledgement.
                    if client.batch_execute(&format!("INSERT INTO t VALUES ({id})")).await.is_err() {
                        return;
                    }
                    acks.lock().unwrap().push(Ack { id, sent, got: now() });
                    id += count;
                }
            });
        }
        let sessions = Self { acks, stop, tasks };
        sessions.go_on().await;
        sessions
    }

    pub(crate) fn acks(&self) -> Vec<Ack> {
        self.acks.lock().unwrap().clone()
    }

    /// Waits until every one of the sessions has had a commit acknowledged that it asked for after this call.
    pub(crate) async fn go_on(&self) {
        let (from, count) = (now(), self.tasks.len());
        until("every session commits", || async {
            let acks = self.acks.lock().unwrap();
            let done = |number: usize| {
                let own = |ack: &&Ack| usize::try_from(ack.id).unwrap() % count == number;
                acks.iter().rev().filter(own).take(1).any(|ack| ack.sent > from)
            };
            (0..count).all(done).then_some(())
        })
        .await;
    }

    /// Waits until what was on its way has arrived, and returns the last acknowledgement.
    pub(crate) async fn last(&self) -> Ack {
        until("quiet", || async {
            let last = *self.acks.lock().unwrap().last().unwrap();
            (now() > last.got.plus(QUIET)).then_some(last)
        })
        .await
    }

    pub(crate) async fn finish(mut self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        self.acks().iter().map(|ack| ack.id).collect()
    }
}
