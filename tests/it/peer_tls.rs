//! The peer port with certificates: who is let in, who is not and what both sides say, and how certificates are renewed.

mod files;
mod refused;
mod renewal;
mod strain;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use locum::{
    api::peer::{self, Access, Remote},
    clock::SystemClock,
    config,
    endpoint::Proxy,
    member::Host,
    model::{Command, EndpointKind, Epoch, Incarnation, Mode, Reply, RouteOrder, Stamp, Version},
    ports::{Clock as _, Endpoint, Member as _},
    tls::{
        Files, Identity, Name,
        issue::{self, Made, Validity},
    },
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, time::timeout};

use super::peer::{DEADLINE, Fake, TOKEN, cluster, endpoint_name, heard, name, open, stamp};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> Timestamp {
    SystemClock.wall()
}

fn year() -> Validity {
    Validity::lasting(now(), DAY * 365)
}

fn authority() -> Made {
    issue::authority(&cluster("orders"), year()).expect("an authority")
}

fn whom(node: &str, of: &str) -> Name {
    Name::new(name(node), cluster(of)).expect("a good name")
}

/// Credentials in files.
struct Folder {
    dir: TempDir,
    files: Files,
}

impl Folder {
    fn of(authority: &Made, node: &str, of: &str, validity: Validity) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |file: &str| -> PathBuf { dir.path().join(file) };
        let files = Files { ca: path("ca.crt"), cert: path("node.crt"), key: path("node.key") };
        let folder = Self { dir, files };
        std::fs::write(&folder.files.ca, &authority.cert).expect("written");
        folder.put(&issue::member(authority, &whom(node, of), &[], validity).expect("a certificate"));
        folder
    }

    fn put(&self, made: &Made) {
        self.put_key(made);
        std::fs::write(&self.files.cert, &made.cert).expect("written");
    }

    fn put_key(&self, made: &Made) {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new_in(self.dir.path()).expect("a file");
        std::fs::write(file.path(), &made.key).expect("written");
        assert_eq!(file.as_file().metadata().expect("metadata").permissions().mode() & 0o077, 0);
        file.persist(&self.files.key).expect("in place");
    }

    fn identity(&self, node: &str, of: &str) -> Arc<Identity> {
        Identity::open(self.files.clone(), whom(node, of), Arc::new(SystemClock)).expect("an identity")
    }
}

/// The identity of a node of `orders`, in order; what it was read from is gone.
fn identity(authority: &Made, node: &str) -> Arc<Identity> {
    Folder::of(authority, node, "orders", year()).identity(node, "orders")
}

fn access(identity: &Arc<Identity>) -> Access {
    Access::new(TOKEN.into(), Some(Arc::clone(identity)))
}

/// The port of node `a`.
struct Port {
    address: SocketAddr,
    fake: Arc<Fake>,
    _stop: oneshot::Sender<()>,
}

impl Port {
    async fn open(access: Access) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let fake = Fake::new("a");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        tokio::spawn(peer::serve(listener, cluster("orders"), fake.clone(), access, shutdown));
        Self { address, fake, _stop: stop }
    }

    async fn of(authority: &Made) -> Self {
        Self::open(access(&identity(authority, "a"))).await
    }

    /// What this address is to a caller.
    fn remote(&self, of: &str, node: &str, access: Access) -> Arc<Remote> {
        Remote::new(cluster(of), name(node), self.address.to_string(), access, Arc::new(SystemClock))
    }

    /// The sentence with which an order is refused, and whom it was given to; nothing was ordered.
    async fn refusal(&self, of: &str, node: &str, access: Access) -> (String, Arc<Remote>) {
        let remote = self.remote(of, node, access);
        let refused = timeout(DEADLINE, remote.order(stamp(), Command::Checkpoint)).await.expect("in time");
        assert!(remote.facts().borrow().is_none(), "no facts either");
        assert_eq!(self.fake.asked(), Vec::<String>::new());
        (refused.expect_err("it is refused").to_string(), remote)
    }

    /// It still serves whoever is a member.
    async fn serves(&self, authority: &Made) {
        let remote = self.remote("orders", "a", access(&identity(authority, "b")));
        let answer = timeout(DEADLINE, remote.order(stamp(), Command::Checkpoint)).await.expect("in time");
        assert_eq!(answer.expect("an answer").reply, Reply::Done);
    }
}

#[derive(Clone)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic before").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What this thread logs, from now on.
struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Log {
    fn begin() -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = Sink(Arc::clone(&text));
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || sink.clone())
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .finish();
        Self { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("no panic before")).into_owned()
    }

    /// Waits until a line holds both.
    async fn says(&self, who: &str, what: &str) {
        let found = async {
            while !self.text().lines().any(|line| line.contains(who) && line.contains(what)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(DEADLINE, found).await.is_ok(), "expected {who:?} and {what:?} in {}", self.text());
    }
}

const CALLED: &str = "a caller of the peer port is refused";
const CALLER: &str = "no facts from a member";

#[tokio::test]
async fn members_of_one_authority_talk() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let remote = port.remote("orders", "a", access(&identity(&authority, "b")));
    heard(&remote, |facts| open(facts) == 0).await;
    for change in 1..=20 {
        port.fake.change(change);
        heard(&remote, |facts| open(facts) == change).await;
    }
    assert_eq!(remote.order(stamp(), Command::Checkpoint).await.expect("an answer").reply, Reply::Done);
    remote.route(&endpoint_name(), stamp(), RouteOrder::Cut).await.expect("an answer");
    assert_eq!(remote.sessions().await.expect("an answer").expect("sessions").len(), 20_000);
}

#[tokio::test]
async fn orders_of_a_lower_epoch_and_repeated_ones_change_nothing_whoever_proves_to_be_a_member() {
    let authority = authority();
    let endpoint = config::Endpoint {
        name: endpoint_name(),
        target: EndpointKind::Primary,
        listen: "127.0.0.1:0".parse().expect("an address"),
        max_held: 10,
        hold: DEADLINE,
        tuning: config::Tuning::default(),
    };
    let clock = Arc::new(SystemClock);
    let proxy = Proxy::bind(&endpoint, clock.clone()).expect("bound");
    let (_, remembered) = tokio::sync::watch::channel(locum::model::Known::default());
    let (_, hears) = tokio::sync::watch::channel(BTreeMap::new());
    let folder = tempfile::tempdir().expect("a folder");
    let notes = Arc::new(locum::notes::Notes::open(folder.path()).expect("nothing is there"));
    let endpoints = BTreeMap::from([(endpoint_name(), proxy.clone() as Arc<dyn Endpoint>)]);
    let host = Host::new(name("a"), None, endpoints, remembered, hears, notes, clock);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let served = access(&identity(&authority, "a"));
    tokio::spawn(peer::serve(listener, cluster("orders"), host, served, std::future::pending()));
    let caller = access(&identity(&authority, "b"));
    let remote =
        Remote::new(cluster("orders"), name("a"), address.to_string(), caller, Arc::new(SystemClock));
    let at = |epoch, version| Stamp {
        incarnation: Incarnation(1),
        epoch: Epoch(epoch),
        version: Version(version),
    };
    let order =
        async |stamp, order| remote.route(&endpoint_name(), stamp, order).await.expect("an answer").reply;
    let point = |node: &str| RouteOrder::Point { node: name(node), address: "127.0.0.1:9".into() };
    assert_eq!(order(at(2, 5), point("seoul")).await, Reply::Done);
    for _ in 0..3 {
        assert_eq!(order(at(2, 5), point("seoul")).await, Reply::Done, "the same again is no harm");
    }
    for (late, what) in
        [(at(1, 9), RouteOrder::Cut), (at(2, 4), RouteOrder::Hold), (at(1, 9), point("busan"))]
    {
        assert!(matches!(order(late, what).await, Reply::Refused(_)));
    }
    let facts = proxy.facts();
    assert_eq!((facts.stamp, facts.mode, facts.target), (at(2, 5), Mode::Open, Some(name("seoul"))));
}
