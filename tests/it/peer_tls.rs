//! The peer port with certificates: who is let in, who is not and what both sides say, and how certificates are renewed.

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
    ports::{Clock as _, Endpoint, Member},
    tls::{
        Files, Identity, Name,
        issue::{self, Made, Validity},
        summaries,
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Instant, timeout},
};

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
    assert_eq!(remote.sessions().await.expect("an answer").len(), 20_000);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_on_both_sides() {
    let (own, other) = (authority(), authority());
    let port = Port::of(&own).await;
    // It believes ours, and shows one that ours did not certify.
    let folder = Folder::of(&other, "b", "orders", year());
    let stranger = folder.identity("b", "orders");
    let log = Log::begin();
    let (said, _trying) = port.refusal("orders", "a", access(&stranger)).await;
    assert!(
        said.contains("its certificate is of another authority than the one in api.tls_ca_file"),
        "{said}"
    );
    log.says(CALLER, "another authority").await;
    log.says(CALLED, "its api.tls_ca_file holds another authority").await;
    port.serves(&own).await;
}

#[tokio::test]
async fn a_caller_of_another_authority_that_believes_ours_is_refused() {
    let (own, other) = (authority(), authority());
    let port = Port::of(&own).await;
    // Authorities are being replaced: the caller believes both, the called one does not yet.
    let folder = Folder::of(&other, "b", "orders", year());
    std::fs::write(&folder.files.ca, format!("{}{}", other.cert, own.cert)).expect("written");
    let log = Log::begin();
    let (said, _trying) = port.refusal("orders", "a", access(&folder.identity("b", "orders"))).await;
    assert!(said.contains("its api.tls_ca_file holds another authority"), "{said}");
    log.says(CALLER, "does not accept our certificate").await;
    log.says(CALLED, "its certificate is of another authority").await;
    port.serves(&own).await;
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let log = Log::begin();
    let root = reqwest::Certificate::from_pem(authority.cert.as_bytes()).expect("a certificate");
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_built_in_root_certs(false)
        .add_root_certificate(root)
        .resolve("a.orders.locum", port.address)
        .timeout(DEADLINE)
        .build()
        .expect("a client");
    let url = format!("https://a.orders.locum:{}/peer/sessions", port.address.port());
    let error = client.get(url).bearer_auth(TOKEN).send().await.expect_err("refused");
    assert!(format!("{error:?}").contains("CertificateRequired"), "{error:?}");
    log.says(CALLED, "it shows no certificate").await;
    port.serves(&authority).await;
}

#[tokio::test]
async fn a_member_of_another_cluster_is_refused_although_the_authority_is_the_same() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let folder = Folder::of(&authority, "b", "invoices", year());
    let foreign = folder.identity("b", "invoices");
    let log = Log::begin();
    // It calls for its own cluster: the name in the certificate of the one that answers is not the one it expects.
    let (said, _trying) = port.refusal("invoices", "a", access(&foreign)).await;
    assert!(said.contains("its certificate is of a.orders.locum, not of a.invoices.locum"), "{said}");
    log.says(CALLER, "not of a.invoices.locum").await;
    log.says(CALLED, "it meant to call another member").await;
    // It pretends to be of ours.
    let (said, _trying) = port.refusal("orders", "a", access(&foreign)).await;
    let whose = "the caller says it is node b of cluster orders, but its certificate is of node b of cluster invoices";
    assert!(said.contains(whose), "{said}");
    log.says(CALLER, whose).await;
    log.says(CALLED, whose).await;
    port.serves(&authority).await;
}

#[tokio::test]
async fn the_certificate_of_another_node_is_refused() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let log = Log::begin();
    // The one that answers is another than the one that is meant: an address that moved.
    let (said, _trying) = port.refusal("orders", "c", access(&identity(&authority, "b"))).await;
    assert!(said.contains("its certificate is of a.orders.locum, not of c.orders.locum"), "{said}");
    log.says(CALLER, "not of c.orders.locum").await;
    log.says(CALLED, "it meant to call another member").await;
}

#[tokio::test]
async fn a_caller_that_says_another_name_than_its_certificate_is_refused() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let made = issue::member(&authority, &whom("b", "orders"), &[], year()).expect("a certificate");
    let log = Log::begin();
    let root = reqwest::Certificate::from_pem(authority.cert.as_bytes()).expect("a certificate");
    let own =
        reqwest::Identity::from_pem(format!("{}{}", made.cert, made.key).as_bytes()).expect("an identity");
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_built_in_root_certs(false)
        .add_root_certificate(root)
        .identity(own)
        .resolve("a.orders.locum", port.address)
        .timeout(DEADLINE)
        .build()
        .expect("a client");
    let call = |caller: Option<&str>| {
        let url = format!("https://a.orders.locum:{}/peer/order", port.address.port());
        let body = serde_json::json!({ "stamp": stamp(), "command": "checkpoint" });
        let call = client.post(url).bearer_auth(TOKEN).json(&body);
        let call = call.header("x-locum-cluster", "orders").header("x-locum-node", "a");
        match caller {
            Some(caller) => call.header("x-locum-caller", caller),
            None => call,
        }
    };
    for (caller, said) in [
        (Some("c"), "the caller says it is node c of cluster orders, but its certificate is of node b"),
        (None, "does not say who calls"),
    ] {
        let response = call(caller).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), 403);
        let text = response.text().await.expect("a body");
        assert!(text.contains(said), "{text}");
        log.says(CALLED, said).await;
    }
    assert_eq!(port.fake.asked(), Vec::<String>::new());
    let response = call(Some("b")).send().await.expect("an answer");
    assert_eq!(response.status().as_u16(), 200, "with its own name it is let in");
}

#[tokio::test]
async fn the_token_is_asked_for_on_top_of_the_certificate() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let log = Log::begin();
    let (said, _trying) =
        port.refusal("orders", "a", Access::new("wrong".into(), Some(identity(&authority, "b")))).await;
    assert!(said.contains("the token is not the one of this cluster"), "{said}");
    log.says(CALLER, "the token is not").await;
    log.says(CALLED, "the token is not").await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_either_side() {
    let authority = authority();
    let day_ago = now().checked_sub(DAY).expect("a time");
    let past = Validity { from: now().checked_sub(DAY * 3).expect("a time"), until: day_ago };
    // A member starts with it all the same: its files may be renewed at any moment.
    let expired = Folder::of(&authority, "b", "orders", past).identity("b", "orders");
    let log = Log::begin();
    let port = Port::of(&authority).await;
    let (said, _trying) = port.refusal("orders", "a", access(&expired)).await;
    assert!(said.contains("it says that our certificate has expired"), "{said}");
    log.says(CALLED, "its certificate expired at").await;
    port.serves(&authority).await;
    let expired = Folder::of(&authority, "a", "orders", past).identity("a", "orders");
    let port = Port::open(access(&expired)).await;
    let (said, _trying) = port.refusal("orders", "a", access(&identity(&authority, "b"))).await;
    assert!(said.contains("its certificate expired at"), "{said}");
    log.says(CALLED, "it says that our certificate has expired").await;
}

#[tokio::test]
async fn plain_http_at_a_tls_port_is_told_so() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let log = Log::begin();
    let (said, _trying) = port.refusal("orders", "a", TOKEN.into()).await;
    assert!(said.contains("this port speaks TLS only"), "{said}");
    log.says(CALLER, "this port speaks TLS only").await;
    log.says(CALLED, "it does not speak TLS").await;
    port.serves(&authority).await;
}

#[tokio::test]
async fn tls_at_a_plain_port_is_told_so() {
    let authority = authority();
    let port = Port::open(TOKEN.into()).await;
    let log = Log::begin();
    let (said, _trying) = port.refusal("orders", "a", access(&identity(&authority, "b"))).await;
    assert!(said.contains("it does not speak TLS"), "{said}");
    log.says(CALLER, "it does not speak TLS").await;
    log.says(CALLED, "it speaks TLS, and this member has no api.tls_").await;
    let remote = port.remote("orders", "a", TOKEN.into());
    assert!(remote.order(stamp(), Command::Stop).await.is_ok(), "the port goes on");
}

#[tokio::test]
async fn garbage_is_survived_and_ended() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let mut garbage: Vec<Vec<u8>> = vec![
        b"\x00".repeat(3000),
        b"\xff".repeat(100_000),
        b"\x16\x03\x01\xff\xff".repeat(1000),
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00".to_vec(),
        b"SSH-2.0-x\r\n".to_vec(),
        b"\x16".repeat(70_000),
    ];
    garbage.extend((0..30).map(|seed: u32| {
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*state >> 24) as u8)
        };
        std::iter::once(0x16).chain((0..2000).scan(seed, |state, _| next(state))).collect()
    }));
    for bytes in garbage {
        let mut stream = TcpStream::connect(port.address).await.expect("connected");
        let _ = stream.write_all(&bytes).await; // it may have been ended already
        let read = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await;
        assert!(read.is_ok(), "the port ends the connection");
    }
    port.serves(&authority).await;
}

#[tokio::test]
async fn dawdlers_do_not_keep_members_out() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let mut dawdlers = Vec::new();
    // Far more than there is room for, each with a handshake that never ends; some say nothing at all.
    for count in 0..300 {
        let mut stream = TcpStream::connect(port.address).await.expect("the kernel takes it");
        if count % 3 > 0 {
            stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.expect("written");
        }
        dawdlers.push(stream);
    }
    let begun = Instant::now();
    port.serves(&authority).await;
    println!("a member was served {:?} after 300 dawdlers came", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(3), "sooner than a handshake's deadline");
    for stream in &mut dawdlers {
        let read = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await;
        assert!(read.is_ok(), "each is ended");
    }
    println!("the last of them was ended after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_body_without_end_is_refused() {
    let authority = authority();
    let made = issue::member(&authority, &whom("b", "orders"), &[], year()).expect("a certificate");
    let port = Port::of(&authority).await;
    let root = reqwest::Certificate::from_pem(authority.cert.as_bytes()).expect("a certificate");
    let own =
        reqwest::Identity::from_pem(format!("{}{}", made.cert, made.key).as_bytes()).expect("an identity");
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_built_in_root_certs(false)
        .add_root_certificate(root)
        .identity(own)
        .resolve("a.orders.locum", port.address)
        .timeout(DEADLINE)
        .build()
        .expect("a client");
    let url = format!("https://a.orders.locum:{}/peer/order", port.address.port());
    let request = client.post(url).bearer_auth(TOKEN).header("x-locum-cluster", "orders");
    let request = request.header("x-locum-node", "a").header("x-locum-caller", "b");
    match request.body(vec![b' '; 64 << 20]).send().await {
        Ok(response) => assert_eq!(response.status().as_u16(), 413),
        Err(error) => assert!(!error.is_timeout(), "ended while it was still being sent: {error:?}"),
    }
    assert_eq!(port.fake.asked(), Vec::<String>::new());
    port.serves(&authority).await;
}

/// Waits until a condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(DEADLINE, holds).await.is_ok(), "{what}");
}

#[tokio::test]
async fn certificates_are_renewed_without_a_restart() {
    let authority = authority();
    let soon = Validity::lasting(now(), Duration::from_secs(5));
    let folder = Folder::of(&authority, "a", "orders", soon);
    let served = folder.identity("a", "orders");
    served.follow();
    let port = Port::open(access(&served)).await;
    let caller = identity(&authority, "b");
    let kept = port.remote("orders", "a", access(&caller));
    heard(&kept, |facts| open(facts) == 0).await;
    let first = served.expires();

    // A certificate without its key is refused, and the old one stays.
    let renewed = issue::member(&authority, &whom("a", "orders"), &[], year()).expect("a certificate");
    std::fs::write(&folder.files.cert, &renewed.cert).expect("written");
    until("the half pair is refused", || served.refused().is_some()).await;
    assert!(
        served.refused().is_some_and(|why| why.contains("is not the key of the certificate")),
        "{served:?}"
    );
    assert_eq!(served.expires(), first);

    let begun = Instant::now();
    folder.put_key(&renewed);
    until("the whole pair is taken", || served.expires() > first).await;
    println!("the renewed certificate was in use after {:?}", begun.elapsed());
    assert_eq!(served.refused(), None);
    until("the first one has expired", || now() > first).await;
    // What was open goes on, and new connections get the new one.
    port.fake.change(7);
    heard(&kept, |facts| open(facts) == 7).await;
    port.serves(&authority).await;

    // Nothing that is no certificate gets in its place.
    for (bad, why) in [
        ("no certificate".to_owned(), "holds no certificate"),
        (String::new(), "holds no certificate"),
        (
            issue::member(&authority, &whom("c", "orders"), &[], year()).expect("one").cert,
            "it is of node c, not a",
        ),
    ] {
        std::fs::write(&folder.files.cert, bad).expect("written");
        until(why, || served.refused().is_some_and(|refused| refused.contains(why))).await;
        port.serves(&authority).await;
    }
    std::fs::remove_file(&folder.files.cert).expect("removed");
    until("its absence is told", || served.refused().is_some_and(|why| why.contains("cannot be read"))).await;
    port.serves(&authority).await;
    std::fs::write(&folder.files.cert, &renewed.cert).expect("written");
    until("all is well", || served.refused().is_none()).await;
}

#[tokio::test]
async fn an_authority_is_replaced_without_an_interruption() {
    let (old, new) = (authority(), issue::authority(&cluster("orders"), year()).expect("an authority"));
    let (a, b) = (Folder::of(&old, "a", "orders", year()), Folder::of(&old, "b", "orders", year()));
    let (served, caller) = (a.identity("a", "orders"), b.identity("b", "orders"));
    served.follow();
    caller.follow();
    let port = Port::open(access(&served)).await;
    let call = async || {
        let remote = port.remote("orders", "a", access(&caller));
        timeout(DEADLINE, remote.order(stamp(), Command::Stop)).await.expect("in time")
    };
    call().await.expect("with the old one");
    // Both believe both; then each gets a certificate of the new one; then the old one is taken out.
    for folder in [&a, &b] {
        std::fs::write(&folder.files.ca, format!("{}{}", old.cert, new.cert)).expect("written");
    }
    let renewed = |node| {
        issue::member(&new, &whom(node, "orders"), &[], Validity::lasting(now(), DAY * 90)).expect("one")
    };
    let serial = |identity: &Identity| identity.expires();
    let before = (serial(&served), serial(&caller));
    a.put(&renewed("a"));
    until("a has the new one", || serial(&served) != before.0).await;
    // b looks at its files at its own time, and until then it does not believe the new one.
    let believed = async { while call().await.is_err() {} };
    timeout(DEADLINE, believed).await.expect("with one of each");
    b.put(&renewed("b"));
    until("b has the new one", || serial(&caller) != before.1).await;
    call().await.expect("with the new ones");
    std::fs::write(&a.files.ca, &new.cert).expect("written");
    let old_caller = identity(&old, "b");
    let refused = async {
        loop {
            let remote = port.remote("orders", "a", access(&old_caller));
            if remote.order(stamp(), Command::Stop).await.is_err() {
                return;
            }
        }
    };
    timeout(DEADLINE, refused).await.expect("the old authority admits nobody any more");
    call().await.expect("with the new ones");
}

#[test]
fn what_does_not_fit_together_is_told_before_a_member_starts() {
    let (own, other) = (authority(), authority());
    let good = Folder::of(&own, "a", "orders", year());
    let made =
        |authority: &Made, node, of| issue::member(authority, &whom(node, of), &[], year()).expect("one");
    let examine = |folder: &Folder| locum::tls::examine(&folder.files, &whom("a", "orders"), now());
    assert_eq!(examine(&good), []);
    let stranger = made(&own, "a", "orders");
    for (made, said) in [
        (made(&other, "a", "orders"), "is not certified by the authority in"),
        (made(&own, "b", "orders"), "it is of node b, not a"),
        (made(&own, "a", "invoices"), "it is of cluster invoices, not orders"),
        (
            Made { cert: stranger.cert, key: made(&own, "a", "orders").key },
            "is not the key of the certificate",
        ),
        (Made { cert: own.cert.clone(), key: own.key.clone() }, "it has no name like a.orders.locum"),
    ] {
        good.put(&made);
        let flaws = examine(&good);
        assert!(flaws.len() == 1 && !flaws[0].tolerable && flaws[0].what.contains(said), "{said}: {flaws:?}");
        assert!(Identity::open(good.files.clone(), whom("a", "orders"), Arc::new(SystemClock)).is_err());
    }
    let lasting = |length| {
        issue::member(&own, &whom("a", "orders"), &[], Validity::lasting(now(), length)).expect("one")
    };
    good.put(&lasting(DAY * 29));
    assert!(examine(&good).iter().all(|flaw| flaw.tolerable && flaw.what.contains("expires at")));
    good.put(&lasting(DAY * 31));
    assert_eq!(examine(&good), []);
    std::fs::set_permissions(&good.files.key, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("set");
    assert!(examine(&good)[0].what.contains("can be read by everybody"));
}

#[test]
fn a_certificate_ends_with_its_authority() {
    let short =
        issue::authority(&cluster("orders"), Validity::lasting(now(), DAY * 10)).expect("an authority");
    let made =
        issue::member(&short, &whom("a", "orders"), &["10.0.0.1".into(), "db1.example.com".into()], year());
    let summary = summaries(made.expect("a certificate").cert.as_bytes()).expect("readable").remove(0);
    assert_eq!(summary.not_after, summaries(short.cert.as_bytes()).expect("readable")[0].not_after);
    assert_eq!(summary.names, ["a.orders.locum", "10.0.0.1", "db1.example.com"]);
    for other in ["b.orders.locum", "*.orders.locum"] {
        let made = issue::member(&short, &whom("a", "orders"), &[other.into()], year());
        assert!(made.is_err_and(|why| why.contains("is a name for members")), "{other}");
    }
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
    };
    let clock = Arc::new(SystemClock);
    let proxy = Proxy::bind(&endpoint, clock.clone()).expect("bound");
    let (_, remembered) = tokio::sync::watch::channel(None);
    let endpoints = BTreeMap::from([(endpoint_name(), proxy.clone() as Arc<dyn Endpoint>)]);
    let host = Host::new(name("a"), None, endpoints, remembered, clock);
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
