//! Real etcd on loopback: one member or three, in a folder of their own, ended by their pid.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use etcd_client::Client;
use locum::{config, store::Etcd};
use rustix::process::{Pid, Signal, kill_process};

/// How long etcd may take to come up, with an election, on a busy machine.
const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// A port found free may be taken by the time etcd binds it.
const STARTS: usize = 5;

/// What all members are started with.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    pub(crate) arguments: Vec<String>,
    pub(crate) tls: bool,
    /// Each on a loopback address of its own.
    pub(crate) hosts: bool,
}

/// A running etcd.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    folder: tempfile::TempDir,
}

/// One member of it.
pub(crate) struct Member {
    pub(crate) name: String,
    host: String,
    pub(crate) port: u16,
    peer_port: u16,
    /// What a restart needs.
    initial: String,
    data: PathBuf,
    setup: Setup,
    child: Option<Child>,
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port()
}

#[expect(clippy::disallowed_methods, reason = "a test's own deadline, in real time")]
fn now() -> Instant {
    Instant::now()
}

/// Time since it was made, for what is printed.
pub(crate) struct Watch(Instant);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Cluster {
    /// One member without TLS.
    pub(crate) async fn one() -> Self {
        Self::start(1, Setup::default()).await
    }

    /// Three of them.
    pub(crate) async fn three() -> Self {
        Self::start(3, Setup::default()).await
    }

    /// Three members on three loopback addresses, as if on three hosts.
    pub(crate) async fn three_hosts() -> Self {
        Self::start(3, Setup { hosts: true, ..Setup::default() }).await
    }

    /// Members that are ready to be asked, where that needs no certificate.
    pub(crate) async fn start(count: usize, setup: Setup) -> Self {
        for _ in 0..STARTS {
            let mut cluster = Self::spawn(count, &setup);
            if setup.tls || cluster.is_ready().await {
                return cluster;
            }
            // A port was taken by somebody else.
        }
        panic!("etcd did not come up");
    }

    fn spawn(count: usize, setup: &Setup) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let mut members: Vec<Member> = (0..count)
            .map(|n| Member {
                name: format!("m{n}"),
                host: format!("127.0.0.{}", if setup.hosts { n + 1 } else { 1 }),
                port: free_port(),
                peer_port: free_port(),
                initial: String::new(),
                data: folder.path().join(format!("m{n}")),
                setup: setup.clone(),
                child: None,
            })
            .collect();
        let each = members.iter().map(|m| format!("{}=http://127.0.0.1:{}", m.name, m.peer_port));
        let initial = each.collect::<Vec<_>>().join(",");
        for member in &mut members {
            member.initial.clone_from(&initial);
            member.start();
        }
        Self { members, folder }
    }

    async fn is_ready(&mut self) -> bool {
        let watch = Watch::start();
        while watch.elapsed() < READY {
            if self.members.iter_mut().any(Member::has_ended) {
                return false;
            }
            let mut leaders = Vec::new();
            for member in &self.members {
                leaders.push(member.leader().await);
            }
            let known = leaders.iter().all(|leader| leader.is_some_and(|leader| leader != 0));
            if known && leaders.iter().all(|leader| *leader == leaders[0]) {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("etcd is not ready after {READY:?}; its log is in {}", self.folder.path().display());
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Member::url).collect()
    }

    pub(crate) fn store(&self) -> Etcd {
        store(self.endpoints())
    }

    /// Which member leads, as it says itself.
    pub(crate) async fn leader(&self) -> Option<usize> {
        for (at, member) in self.members.iter().enumerate() {
            if member.child.is_some() && member.leads().await {
                return Some(at);
            }
        }
        None
    }

    /// Lets a member lead.
    pub(crate) async fn let_lead(&self, at: usize) {
        let watch = Watch::start();
        while watch.elapsed() < READY {
            match self.leader().await {
                Some(leader) if leader == at => return,
                Some(leader) => {
                    let id = self.members[at].client().await.status().await.expect("status");
                    let id = id.header().expect("header").member_id();
                    // One that fails is asked for again below.
                    _ = self.members[leader].client().await.move_leader(id).await;
                }
                None => {}
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("m{at} does not lead");
    }
}

/// A store at these endpoints, with nothing else given.
pub(crate) fn store(endpoints: Vec<String>) -> Etcd {
    Etcd::open(&plain(endpoints)).expect("open")
}

pub(crate) fn plain(endpoints: Vec<String>) -> config::Etcd {
    config::Etcd {
        endpoints,
        ca_file: None,
        cert_file: None,
        key_file: None,
        user: None,
        password_file: None,
    }
}

impl Member {
    pub(crate) fn url(&self) -> String {
        format!("{}://{}:{}", if self.setup.tls { "https" } else { "http" }, self.host, self.port)
    }

    pub(crate) fn start(&mut self) {
        let (url, peer) = (self.url(), format!("http://127.0.0.1:{}", self.peer_port));
        let log = File::options().create(true).append(true).open(self.data.with_extension("log"));
        let log = log.expect("log");
        let mut command = Command::new("etcd");
        command.env_clear().args(["--name", &self.name, "--data-dir"]).arg(&self.data);
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &self.initial, "--initial-cluster-state", "new"]);
        command.args(&self.setup.arguments).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("log")).stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|error| {
            panic!("start etcd: {error}; scripts/setup --tests installs it");
        }));
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// Ends it, and takes all that it knew.
    pub(crate) fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(&self.data).expect("wipe");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().expect("it runs").id();
        let pid = Pid::from_raw(i32::try_from(id).expect("pid")).expect("pid");
        kill_process(pid, signal).expect("signal");
    }

    fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("wait").is_some())
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect([self.url()], None).await.expect("connect")
    }

    async fn leader(&self) -> Option<u64> {
        let status = async { self.client().await.status().await.ok().map(|status| status.leader()) };
        tokio::time::timeout(Duration::from_secs(1), status).await.ok().flatten()
    }

    async fn leads(&self) -> bool {
        let status = async { self.client().await.status().await.ok() };
        let status = tokio::time::timeout(Duration::from_secs(1), status).await.ok().flatten();
        status
            .is_some_and(|status| status.header().is_some_and(|header| header.member_id() == status.leader()))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // SIGKILL reaches a stopped process, too.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Writes a file that only its owner may read.
pub(crate) fn secret(path: &Path, text: &str) -> PathBuf {
    std::fs::write(path, text).expect("write");
    path.to_owned()
}
