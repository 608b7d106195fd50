//! Two nodes with an agent each, made through the agents themselves: what a leader would order, in the same order.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command as Program, Stdio},
    sync::{Arc, Mutex, OnceLock, Weak},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use locum::{
    agent::{Agent, AgentError, Serving},
    clock::SystemClock,
    config, guard,
    model::{
        AgentFacts, Command, EndpointName, Epoch, Incarnation, LeaseRecord, NodeId, Primary, Reign, Reply,
        RouteOrder, Server, Stamp, Standby, Upstream, Version,
    },
    ports::{Answer, Lease, Member, NoAnswer, Outcome, Peers, Revision, Session, StoreError, WalAsk},
};

use crate::fixture::free_ports;

/// How long anything may take that is waited for.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) fn bin_dir() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let newest = versions.filter_map(Result::ok).map(|v| v.path().join("bin")).max();
    newest.expect("a version of PostgreSQL")
}

/// The user that PostgreSQL runs as where the tests run as root.
fn owner() -> Option<(u32, u32)> {
    let id = |flag: &str, user: &[&str]| -> u32 {
        let out = Program::new("id").arg(flag).args(user).output().expect("id").stdout;
        String::from_utf8(out).expect("text").trim().parse().expect("a number")
    };
    (id("-u", &[]) == 0).then(|| (id("-u", &["postgres"]), id("-g", &["postgres"])))
}

pub(crate) fn program(name: &str) -> Program {
    let mut command = Program::new(bin_dir().join(name));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((uid, gid)) = owner() {
        command.uid(uid).gid(gid);
    }
    command
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) cfg: config::Postgres,
    pub(crate) state_dir: PathBuf,
    pub(crate) agent: Arc<Agent>,
}

/// A folder with nodes in it. Dropping it ends their servers.
pub(crate) struct Pair {
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) _dir: tempfile::TempDir,
}

pub(crate) fn stamp(epoch: u64, version: u64) -> Stamp {
    Stamp { incarnation: Incarnation(1), epoch: Epoch(epoch), version: Version(version) }
}

/// A promotion that nobody follows.
pub(crate) fn promote() -> Command {
    Command::Promote { names: vec![], slots: vec![], floor: None }
}

impl Node {
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let (cfg, state_dir) = settings(dir, name);
        Self::with(name, cfg, state_dir, None)
    }

    /// The same in a given place, and with a guard.
    pub(crate) fn with(
        name: &str,
        cfg: config::Postgres,
        state_dir: PathBuf,
        guard: Option<guard::Settings>,
    ) -> Self {
        let id = NodeId::new(name).expect("a name");
        let agent = start_with(&cfg, &id, &state_dir, guard).expect("an agent");
        Self { id, cfg, state_dir, agent }
    }

    /// The same node after its agent was killed and started again.
    pub(crate) async fn restart_agent(&mut self) {
        self.agent.stop().await;
        // The lock on the folder goes with the last reference.
        let (cfg, id, dir) = (self.cfg.clone(), self.id.clone(), self.state_dir.clone());
        let stopped = std::mem::replace(&mut self.agent, {
            let scratch = tempfile::tempdir().expect("dir");
            start(&cfg, &id, scratch.path())
        });
        drop(stopped);
        let until = Instant::now() + SOON;
        loop {
            match try_start(&cfg, &id, &dir) {
                Ok(agent) => break self.agent = agent,
                Err(error) if Instant::now() > until => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    pub(crate) fn upstream_for(&self, follower: &Self) -> Upstream {
        Upstream { node: self.id.clone(), address: self.cfg.address.clone(), slot: follower.id.slot() }
    }

    pub(crate) async fn done(&self, stamp: Stamp, command: Command) {
        let name = command.name();
        assert_eq!(self.agent.order(stamp, command).await, Reply::Done, "{name} on {}", self.id);
    }

    /// Waits for facts.
    pub(crate) async fn until(&self, what: &str, ready: impl Fn(&AgentFacts) -> bool) -> AgentFacts {
        let mut changes = self.agent.changes();
        let begun = Instant::now();
        loop {
            let facts = self.agent.facts();
            if ready(&facts) {
                return facts;
            }
            assert!(begun.elapsed() < SOON, "{} never had {what}: {facts:#?}", self.id);
            let _ = tokio::time::timeout(Duration::from_millis(50), changes.changed()).await;
        }
    }

    /// Until the store has granted it the lease so many times more.
    pub(crate) async fn granted(&self, times: u64) {
        let of = (self.state_dir.parent().expect("a folder").to_owned(), self.id.clone());
        let now = || GRANTED.lock().expect("not poisoned").get(&of).copied().unwrap_or_default();
        let (before, begun) = (now(), Instant::now());
        while now() < before + times {
            assert!(begun.elapsed() < SOON, "{} was never granted its lease", self.id);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn primary(&self) -> Primary {
        primary(&self.agent.facts())
            .unwrap_or_else(|| panic!("{} is no primary: {:#?}", self.id, self.agent.facts()))
    }

    pub(crate) fn standby(&self) -> Standby {
        standby(&self.agent.facts())
            .unwrap_or_else(|| panic!("{} is no standby: {:#?}", self.id, self.agent.facts()))
    }

    pub(crate) fn postmaster(&self) -> i32 {
        let text = std::fs::read_to_string(self.cfg.data_dir.join("postmaster.pid")).expect("postmaster.pid");
        text.lines().next().expect("a line").parse().expect("a pid")
    }

    /// The postmaster and its children.
    pub(crate) fn family(&self) -> Vec<i32> {
        let pid = self.postmaster();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
        std::iter::once(pid).chain(children.split_whitespace().map(|p| p.parse().expect("pid"))).collect()
    }

    pub(crate) async fn sql(&self) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&self.cfg.connect, tokio_postgres::NoTls).await.expect("connect");
        tokio::spawn(connection);
        client
    }

    pub(crate) async fn ask(&self, sql: &str) -> String {
        let rows = self.sql().await.simple_query(sql).await.expect("an answer");
        rows.iter()
            .find_map(|m| match m {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    Some(row.get(0).unwrap_or_default().to_owned())
                }
                _ => None,
            })
            .unwrap_or_default()
    }
}

pub(crate) fn primary(facts: &AgentFacts) -> Option<Primary> {
    match &facts.server.value {
        Server::Primary(p) => Some(p.clone()),
        _ => None,
    }
}

pub(crate) fn standby(facts: &AgentFacts) -> Option<Standby> {
    match &facts.server.value {
        Server::Standby(s) => Some(s.clone()),
        _ => None,
    }
}

pub(crate) fn is_down(facts: &AgentFacts) -> bool {
    matches!(facts.server.value, Server::Down(_))
}

pub(crate) fn signal(pid: i32, name: &str) {
    use rustix::process::{Pid, Signal, kill_process};
    let signal = match name {
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        "INT" => Signal::INT,
        "HUP" => Signal::HUP,
        other => panic!("{other}"),
    };
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("a signal");
}

pub(crate) fn settings(dir: &Path, name: &str) -> (config::Postgres, PathBuf) {
    let [port] = free_ports();
    let option = |text: String| ["-c".to_owned(), text];
    let options = [
        option(format!("port={port}")),
        option("listen_addresses=127.0.0.1".into()),
        option("unix_socket_directories=".into()),
        option("shared_buffers=16MB".into()),
    ];
    let cfg = config::Postgres {
        data_dir: dir.join(name),
        bin_dir: bin_dir(),
        connect: format!("host=127.0.0.1 port={port} user=locum dbname=postgres"),
        address: format!("127.0.0.1:{port}"),
        replication: "user=locum".into(),
        verify: "user=locum dbname=postgres".into(),
        options: options.concat(),
        no_failover: false,
        no_sync: false,
        no_clone: false,
        priority: 0,
        clone_max_rate: None,
        start_timeout: Duration::from_secs(600),
        salvage: locum::postgres::SalvageLimits {
            max_bytes: 1 << 30,
            max_age: Duration::from_secs(86_400),
            max_copy: 1 << 30,
        },
    };
    (cfg, dir.join(format!("{name}.state")))
}

pub(crate) fn start(cfg: &config::Postgres, id: &NodeId, state_dir: &Path) -> Arc<Agent> {
    try_start(cfg, id, state_dir).expect("an agent")
}

/// An agent whose store declares whatever it promised last: these tests are about what comes after.
pub(crate) fn try_start(
    cfg: &config::Postgres,
    id: &NodeId,
    state_dir: &Path,
) -> Result<Arc<Agent>, AgentError> {
    start_with(cfg, id, state_dir, None)
}

fn start_with(
    cfg: &config::Postgres,
    id: &NodeId,
    state_dir: &Path,
    guard: Option<guard::Settings>,
) -> Result<Arc<Agent>, AgentError> {
    let folder = state_dir.parent().unwrap_or(state_dir).to_owned();
    let granting = Arc::new(Granting { node: id.clone(), folder: folder.clone(), agent: OnceLock::new() });
    let serving = Serving {
        // After a start beside no server a recruit waits for so long.
        ttl: Duration::from_secs(5),
        hang: Duration::from_secs(60),
        lease: granting.clone(),
        peers: granting.clone(),
        remembered: None,
        notes: None,
        guard,
    };
    let agent = Agent::start(cfg, None, id, state_dir, serving, Arc::new(SystemClock))?;
    let _first = granting.agent.set(Arc::downgrade(&agent));
    AGENTS.lock().expect("not poisoned").insert((folder, id.clone()), Arc::downgrade(&agent));
    Ok(agent)
}

/// The agents of each folder: whom one of them reaches by name.
static AGENTS: Mutex<BTreeMap<(PathBuf, NodeId), Weak<Agent>>> = Mutex::new(BTreeMap::new());
/// How often the store has granted each of them the lease.
static GRANTED: Mutex<BTreeMap<(PathBuf, NodeId), u64>> = Mutex::new(BTreeMap::new());

struct Granting {
    node: NodeId,
    folder: PathBuf,
    agent: OnceLock<Weak<Agent>>,
}

#[async_trait]
impl Lease for Granting {
    async fn reign(&self) -> Result<Option<(Reign, Revision)>, StoreError> {
        let promise = self.agent.get().and_then(Weak::upgrade).and_then(|agent| agent.facts().promise);
        let reign = |stamp: Stamp| Reign {
            incarnation: stamp.incarnation,
            epoch: stamp.epoch,
            primary: Some(self.node.clone()),
        };
        Ok(promise.map(|stamp| (reign(stamp), Revision(1))))
    }

    async fn last(&self) -> Result<Option<(LeaseRecord, Revision)>, StoreError> {
        Ok(None)
    }

    async fn renew(&self, _: Revision, _: Option<Revision>, _: &LeaseRecord) -> Result<Outcome, StoreError> {
        let mut granted = GRANTED.lock().expect("not poisoned");
        *granted.entry((self.folder.clone(), self.node.clone())).or_default() += 1;
        Ok(Outcome::Committed(Revision(2)))
    }
}

impl Peers for Granting {
    fn member(&self, node: &NodeId) -> Option<Arc<dyn Member>> {
        let agents = AGENTS.lock().expect("not poisoned");
        let agent = agents.get(&(self.folder.clone(), node.clone()));
        agent.map(|agent| Arc::new(Direct(agent.clone())) as Arc<dyn Member>)
    }
}

/// Another agent, asked without a network between.
struct Direct(Weak<Agent>);

impl Direct {
    fn agent(&self) -> Result<Arc<Agent>, NoAnswer> {
        self.0.upgrade().ok_or_else(|| NoAnswer("it was killed".into()))
    }
}

#[async_trait]
impl Member for Direct {
    async fn order(&self, _: Stamp, _: Command) -> Result<Answer, NoAnswer> {
        Err(NoAnswer("agents give no orders".into()))
    }
    async fn route(&self, _: &EndpointName, _: Stamp, _: RouteOrder) -> Result<Answer, NoAnswer> {
        Err(NoAnswer("there is no endpoint".into()))
    }
    async fn note(&self, _: locum::model::Note) -> Result<(), NoAnswer> {
        Ok(())
    }
    async fn vouch(&self, stamp: Stamp, ttl: Duration) -> Result<bool, NoAnswer> {
        Ok(self.agent()?.vouch(stamp, ttl).await)
    }
    async fn sessions(&self) -> Result<Option<Vec<Session>>, NoAnswer> {
        Ok(self.agent()?.sessions().await)
    }
    async fn wal(&self, ask: WalAsk) -> Result<Vec<u8>, NoAnswer> {
        self.agent()?.wal(ask).await.map_err(NoAnswer)
    }
    async fn park(&self, _: &EndpointName, _: Stamp, _: BTreeSet<u16>) -> Result<(), NoAnswer> {
        Err(NoAnswer("there is no endpoint".into()))
    }
}

/// A folder that the owner of PostgreSQL can work in.
pub(crate) fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("dir");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("mode");
    if let Some((uid, gid)) = owner() {
        std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).expect("chown");
    }
    dir
}

pub(crate) fn initdb(data_dir: &Path) {
    let made = program("initdb")
        .args(["-k", "-U", "locum", "-A", "trust", "--no-sync", "--no-instructions", "-D"])
        .arg(data_dir)
        .status();
    assert!(made.expect("initdb").success());
}

/// A primary `a` and its standby `b`, streaming, made under epoch 1.
pub(crate) async fn pair() -> Pair {
    let dir = folder();
    initdb(&dir.path().join("a"));
    let (a, b) = (Node::new(dir.path(), "a"), Node::new(dir.path(), "b"));
    joined(a, b, dir).await
}

/// The same of two nodes, the first with an initialised data directory.
pub(crate) async fn joined(a: Node, b: Node, dir: tempfile::TempDir) -> Pair {
    let pair = Pair { a, b, _dir: dir };
    pair.a.until("its end", is_down).await;
    pair.a.done(stamp(1, 1), Command::Serve { floor: None }).await;
    pair.a.done(stamp(1, 2), Command::KeepSlots(vec![pair.b.id.slot()])).await;
    pair.b.until("its end", is_down).await;
    pair.b.done(stamp(1, 2), Command::Clone(pair.a.upstream_for(&pair.b), None, None)).await;
    pair.b.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
    pair
}

impl Pair {
    /// Sets and proves the sync set, as a leader does.
    pub(crate) async fn in_sync(&self, epoch: u64, version: u64) {
        let name = self.b.agent.facts().standby_name;
        let names = vec![name];
        self.a.done(stamp(epoch, version), Command::SetNames(names)).await;
        self.b.done(stamp(epoch, version), Command::PauseReplay).await;
        self.a.done(stamp(epoch, version), Command::ProveNames).await;
        self.b.done(stamp(epoch, version), Command::ResumeReplay).await;
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for node in [&self.a, &self.b] {
            end(&node.cfg.data_dir);
        }
    }
}

/// Ends the server of a data directory, also a stopped one.
pub(crate) fn end(data_dir: &Path) {
    let Ok(text) = std::fs::read_to_string(data_dir.join("postmaster.pid")) else { return };
    let Some(pid) = text.lines().next().and_then(|line| line.parse::<i32>().ok()) else { return };
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
    if cwd.is_ok_and(|cwd| cwd == data_dir) {
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let _ =
            Program::new("kill").arg("-KILL").arg(pid.to_string()).args(children.split_whitespace()).status();
    }
}
