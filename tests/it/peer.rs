//! The peer port and the member that is reached through it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use locum::{
    api::peer::{self, Remote},
    clock::SystemClock,
    model::{
        ClusterName, Command, Driver, EndpointFacts, EndpointKind, EndpointName, MemberFacts, Mode, Mono,
        NodeId, Reply, RouteOrder, Seen, Stamp,
    },
    ports::{Answer, Clock, Local, Member, NoAnswer, Session},
};
use reqwest::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot, watch},
    time::timeout,
};

pub(super) const TOKEN: &str = "open-sesame";
pub(super) const DEADLINE: Duration = Duration::from_secs(20);
/// How far the fake member's clock is ahead: it has been up for a year longer.
const AHEAD_US: u64 = 31_536_000_000_000;

/// A member whose clock is far ahead of ours.
pub(super) struct Fake {
    node: NodeId,
    open: AtomicU64,
    changes: watch::Sender<u64>,
    asked: Mutex<Vec<String>>,
    /// Orders wait for a permit.
    gate: Semaphore,
    finished: watch::Sender<u64>,
    /// How long answers to routes are on their way.
    dawdles_us: AtomicU64,
}

impl Fake {
    pub(super) fn new(node: &str) -> Arc<Self> {
        Arc::new(Self {
            node: name(node),
            open: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            asked: Mutex::new(Vec::new()),
            gate: Semaphore::new(1_000),
            finished: watch::Sender::new(0),
            dawdles_us: AtomicU64::new(0),
        })
    }

    /// Changes what its facts say, and says that it did.
    pub(super) fn change(&self, open: u64) {
        self.open.store(open, Ordering::SeqCst);
        self.changes.send_modify(|version| *version += 1);
    }

    fn note(&self, what: String) {
        self.asked.lock().expect("no panic before").push(what);
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic before").clone()
    }
}

#[async_trait]
impl Member for Fake {
    async fn order(&self, stamp: Stamp, command: Command) -> Result<Answer, NoAnswer> {
        self.note(format!("{} {stamp}", command.name()));
        self.gate.acquire().await.expect("open").forget();
        self.finished.send_modify(|count| *count += 1);
        match command {
            Command::Fence => Err(NoAnswer("the agent is being closed".into())),
            Command::Promote { .. } => panic!("a bug in the agent"),
            _ => Ok(Answer { reply: Reply::Done, facts: self.facts() }),
        }
    }
    async fn route(
        &self,
        endpoint: &EndpointName,
        stamp: Stamp,
        order: RouteOrder,
    ) -> Result<Answer, NoAnswer> {
        self.note(format!("{order:?} {endpoint} {stamp}"));
        let mut facts = self.facts();
        facts.sent_at.0 -= self.dawdles_us.load(Ordering::SeqCst);
        Ok(Answer { reply: Reply::Refused("a lower stamp".into()), facts })
    }
    async fn note(&self, _: locum::model::Note) -> Result<(), NoAnswer> {
        Ok(())
    }
    async fn vouch(&self, stamp: Stamp, ttl: Duration) -> Result<bool, NoAnswer> {
        self.note(format!("vouch {stamp} {ttl:?}"));
        Ok(true)
    }
    async fn sessions(&self) -> Result<Option<Vec<Session>>, NoAnswer> {
        let session = |port| Session { client_port: Some(port), idle: port % 2 == 0, loose: port % 3 == 0 };
        Ok(Some((1..=20_000).map(session).collect()))
    }
    async fn park(
        &self,
        endpoint: &EndpointName,
        stamp: Stamp,
        ports: BTreeSet<u16>,
    ) -> Result<(), NoAnswer> {
        self.note(format!("park {endpoint} {stamp} {ports:?}"));
        Ok(())
    }
}

impl Local for Fake {
    fn facts(&self) -> MemberFacts {
        let now = Mono(SystemClock.now().0 + AHEAD_US);
        let endpoint = EndpointFacts {
            kind: EndpointKind::Primary,
            listen: "a:6432".into(),
            stamp: stamp(),
            target: None,
            mode: Mode::Open,
            open: self.open.load(Ordering::SeqCst),
            held: 0,
            cut_total: 0,
            held_total: 0,
            refused_total: 0,
            last_server_byte: Some(Mono(now.0 - 250_000)),
            last_byte_before: None,
            driver: Driver::Proxy,
            repoint: None,
            problem: None,
            traffic: locum::model::Traffic::default(),
        };
        let endpoints = BTreeMap::from([(endpoint_name(), endpoint)]);
        MemberFacts {
            node: self.node.clone(),
            sent_at: now,
            left: now,
            remembered: None,
            renewals: None,
            noted: None,
            hears: BTreeMap::new(),
            agent: None,
            endpoints,
        }
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// The real clock, and how often it was asked.
struct Counting(AtomicU64);

impl Clock for Counting {
    fn now(&self) -> Mono {
        self.0.fetch_add(1, Ordering::SeqCst);
        SystemClock.now()
    }
    fn wall(&self) -> Timestamp {
        SystemClock.wall()
    }
}

pub(super) fn name(node: &str) -> NodeId {
    NodeId::new(node).expect("good name")
}

pub(super) fn endpoint_name() -> EndpointName {
    EndpointName::new("db").expect("good name")
}

pub(super) fn cluster(name: &str) -> ClusterName {
    ClusterName::new(name).expect("good name")
}

pub(super) fn stamp() -> Stamp {
    serde_json::from_str(r#"{"incarnation":1,"epoch":4,"version":9}"#).expect("a stamp")
}

struct Port {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Port {
    async fn open(fake: &Arc<Fake>) -> Self {
        Self::open_at("127.0.0.1:0".parse().expect("an address"), fake).await
    }

    async fn open_at(address: SocketAddr, fake: &Arc<Fake>) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let served = peer::serve(listener, cluster("orders"), fake.clone(), TOKEN.into(), shutdown);
        Self { address, stop, served: tokio::spawn(served) }
    }

    async fn close(self) {
        drop(self.stop);
        let served = timeout(DEADLINE, self.served).await.expect("it returns");
        served.expect("no panic").expect("in order");
    }

    fn remote(&self) -> Arc<Remote> {
        self.remote_as("orders", "a", TOKEN)
    }

    fn remote_as(&self, of: &str, node: &str, token: &str) -> Arc<Remote> {
        let clock = Arc::new(SystemClock);
        Remote::new(cluster(of), name(node), self.address.to_string(), token.into(), clock)
    }
}

/// Waits until the facts that came satisfy `condition`.
pub(super) async fn heard(
    remote: &Remote,
    condition: impl Fn(&Seen<MemberFacts>) -> bool,
) -> Seen<MemberFacts> {
    let mut facts = remote.facts();
    let found = facts.wait_for(|facts| facts.as_ref().is_some_and(&condition));
    let found = timeout(DEADLINE, found).await.expect("it is heard").expect("the stream is kept open");
    found.clone().expect("by the condition")
}

pub(super) fn open(facts: &Seen<MemberFacts>) -> u64 {
    facts.value.endpoints[&endpoint_name()].open
}

#[tokio::test]
async fn facts_come_at_once_and_with_every_change() {
    let fake = Fake::new("a");
    let port = Port::open(&fake).await;
    let remote = port.remote();
    heard(&remote, |facts| open(facts) == 0).await;
    for change in 1..=20 {
        fake.change(change);
        heard(&remote, |facts| open(facts) == change).await;
    }
    // Positions that are not worth a change come with the heartbeat.
    fake.open.store(99, Ordering::SeqCst);
    heard(&remote, |facts| open(facts) == 99).await;
}

#[tokio::test]
async fn instants_are_on_the_receivers_clock() {
    let fake = Fake::new("a");
    let port = Port::open(&fake).await;
    let remote = port.remote();
    let before = SystemClock.now();
    let facts = heard(&remote, |_| true).await;
    let after = SystemClock.now();
    assert!(before <= facts.at && facts.at <= after && facts.value.sent_at == facts.at);
    let byte = facts.value.endpoints[&endpoint_name()].last_server_byte.expect("it was set");
    assert_eq!(facts.at.since(byte), Duration::from_millis(250));
    let answer = remote.order(stamp(), Command::Checkpoint).await.expect("an answer");
    assert!(answer.facts.left >= facts.value.left && answer.facts.sent_at <= SystemClock.now());
}

#[tokio::test]
async fn the_facts_of_an_answer_that_was_long_on_its_way_are_as_old_as_they_are() {
    let fake = Fake::new("a");
    let port = Port::open(&fake).await;
    let remote = port.remote();
    heard(&remote, |_| true).await;
    let late = Duration::from_secs(5);
    fake.dawdles_us.store(5_000_000, Ordering::SeqCst);
    let answer = remote.route(&endpoint_name(), stamp(), RouteOrder::Hold).await.expect("an answer");
    let age = SystemClock.now().since(answer.facts.sent_at);
    // Some of what it really took may have been taken for the clocks' difference.
    assert!(age > late / 2, "{age:?}");
}

#[tokio::test]
async fn a_member_that_comes_back_is_heard_again() {
    let fake = Fake::new("a");
    let port = Port::open(&fake).await;
    let (remote, address) = (port.remote(), port.address);
    heard(&remote, |_| true).await;
    port.close().await;
    let error = remote.order(stamp(), Command::Stop).await.expect_err("nobody is there");
    assert!(error.to_string().contains("no connection"), "{error}");
    assert!(remote.facts().borrow().is_some(), "what was heard last stays, and grows old");
    fake.change(7);
    let port = Port::open_at(address, &fake).await;
    heard(&remote, |facts| open(facts) == 7).await;
    assert!(remote.order(stamp(), Command::Stop).await.is_ok());
    port.close().await;
}

#[tokio::test]
async fn orders_arrive_as_given_and_answers_as_said() {
    let fake = Fake::new("a");
    let port = Port::open(&fake).await;
    let remote = port.remote();
    let answer = remote.order(stamp(), Command::Checkpoint).await.expect("an answer");
    assert_eq!(answer.reply, Reply::Done);
    let order = RouteOrder::Point { node: name("b"), address: "b:5432".into() };
    let answer = remote.route(&endpoint_name(), stamp(), order.clone()).await.expect("an answer");
    assert_eq!(answer.reply, Reply::Refused("a lower stamp".into()));
    remote.park(&endpoint_name(), stamp(), BTreeSet::from([7, 9])).await.expect("an answer");
    assert_eq!(
        fake.asked(),
        ["checkpoint 1.4.9".to_owned(), format!("{order:?} db 1.4.9"), "park db 1.4.9 {7, 9}".to_owned()]
    );
    let sessions = remote.sessions().await.expect("an answer").expect("sessions");
    let second = Session { client_port: Some(2), idle: true, loose: false };
    assert_eq!((sessions.len(), sessions[1]), (20_000, second));
}

#[tokio::test]
async fn an_order_whose_outcome_is_not_known_is_not_called_done() {
    let fake = Fake::new("a");
    let port = Port::open(&fake).await;
    let remote = port.remote();
    let error = remote.order(stamp(), Command::Fence).await.expect_err("it cannot say");
    assert!(error.to_string().contains("the agent is being closed"), "{error}");
    let error = remote
        .order(stamp(), Command::Promote { names: vec![], slots: vec![], floor: None })
        .await
        .expect_err("it broke off");
    assert!(error.to_string().contains("it broke off"), "{error}");
    assert!(remote.order(stamp(), Command::Stop).await.is_ok(), "the port goes on");
}

#[tokio::test]
async fn an_order_takes_as_long_as_it_takes_and_goes_on_without_its_caller() {
    let fake = Fake::new("a");
    fake.gate.forget_permits(1_000);
    let port = Port::open(&fake).await;
    let remote = port.remote();
    let caller = {
        let remote = Arc::clone(&remote);
        tokio::spawn(async move { remote.order(stamp(), Command::Recruit).await })
    };
    let asked = async {
        while fake.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, asked).await.expect("the order arrives");
    // Several signs of life later it is still waited for, and facts come meanwhile.
    fake.change(3);
    heard(&remote, |facts| open(facts) == 3).await;
    assert!(!caller.is_finished());
    caller.abort();
    assert!(caller.await.expect_err("the caller is gone").is_cancelled());
    fake.gate.add_permits(1);
    let mut finished = fake.finished.subscribe();
    let finished = timeout(DEADLINE, finished.wait_for(|count| *count == 1)).await;
    assert!(finished.expect("it is carried out all the same").is_ok());
}

#[tokio::test]
async fn whoever_is_not_a_member_is_refused_and_nothing_is_ordered() {
    let fake = Fake::new("a");
    let port = Port::open(&fake).await;
    for (of, node, token, said) in [
        ("orders", "a", "open", "token"),
        ("invoices", "a", TOKEN, "this is cluster orders, not invoices"),
        ("orders", "b", TOKEN, "this is node a, not b"),
    ] {
        let remote = port.remote_as(of, node, token);
        let error = remote.order(stamp(), Command::Checkpoint).await.expect_err("refused");
        assert!(error.to_string().contains(said), "{error}");
        let error = remote.route(&endpoint_name(), stamp(), RouteOrder::Cut).await.expect_err("refused");
        assert!(error.to_string().contains(said), "{error}");
        assert!(remote.sessions().await.is_err());
        assert!(remote.facts().borrow().is_none(), "no facts either");
    }
    assert_eq!(fake.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn every_path_asks_for_the_token_first() {
    let fake = Fake::new("a");
    let port = Port::open(&fake).await;
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().expect("a client");
    let url = |path: &str| format!("http://{}{path}", port.address);
    for path in ["/peer/facts", "/peer/order", "/peer/nothing", "/", "/v1/status"] {
        let response = client.get(url(path)).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    let with_token = |path: &str| {
        client
            .post(url(path))
            .bearer_auth(TOKEN)
            .header("x-locum-cluster", "orders")
            .header("x-locum-node", "a")
    };
    for (path, body, code) in [
        ("/peer/nothing", "{}", 404),
        ("/peer/facts", "{}", 405),
        ("/peer/order", "{", 400),
        ("/peer/order", r#"{"stamp": 3}"#, 422),
        ("/peer/order", r#"{"stamp":{"incarnation":1,"epoch":1,"version":1},"command":"explode"}"#, 422),
    ] {
        let response = with_token(path).body(body).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), code, "{path} {body}");
        let said: serde_json::Value = response.json().await.expect("JSON");
        assert!(said["error"].is_string(), "{path} {body}: {said}");
    }
    let response =
        client.post(url("/peer/order")).bearer_auth(TOKEN).body("{}").send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::FORBIDDEN, "which cluster it is for is not left open");
    assert_eq!(fake.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_remote_that_nobody_has_any_more_hears_no_more() {
    let fake = Fake::new("a");
    let port = Port::open(&fake).await;
    let clock = Arc::new(Counting(AtomicU64::new(0)));
    let address = port.address.to_string();
    let remote = Remote::new(cluster("orders"), name("a"), address, TOKEN.into(), clock.clone());
    let mut facts = remote.facts();
    facts.changed().await.expect("facts come");
    assert!(clock.0.load(Ordering::SeqCst) > 0);
    drop(remote);
    let ended = async { while facts.changed().await.is_ok() {} };
    timeout(DEADLINE, ended).await.expect("the stream ends with it");
}

/// Takes one connection and answers it with a fact stream that holds `lines` and then nothing more.
async fn answer_once(listener: &TcpListener, lines: &str) -> TcpStream {
    let (mut stream, _) = timeout(DEADLINE, listener.accept()).await.expect("it calls").expect("accepted");
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.expect("a request"));
    }
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("{head}{:x}\r\n{lines}\r\n", lines.len());
    stream.write_all(chunk.as_bytes()).await.expect("written");
    stream
}

fn line(facts: &MemberFacts) -> String {
    serde_json::to_string(facts).expect("JSON") + "\n"
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_opened_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let remote = Remote::new(cluster("orders"), name("a"), address, TOKEN.into(), Arc::new(SystemClock));
    let fake = Fake::new("a");
    fake.open.store(1, Ordering::SeqCst);
    let silent = answer_once(&listener, &line(&fake.facts())).await;
    heard(&remote, |facts| open(facts) == 1).await;
    fake.open.store(2, Ordering::SeqCst);
    let _anew = answer_once(&listener, &line(&fake.facts())).await;
    heard(&remote, |facts| open(facts) == 2).await;
    drop(silent); // it was open all the time
}

#[tokio::test]
async fn facts_of_another_node_or_far_too_late_are_not_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let remote = Remote::new(cluster("orders"), name("a"), address, TOKEN.into(), Arc::new(SystemClock));
    let own = Fake::new("a");
    let mut late = own.facts();
    late.sent_at = Mono(late.sent_at.0 - 5_000_000);
    late.endpoints.clear();
    let streams = [
        line(&Fake::new("b").facts()),
        "no facts\n".to_owned(),
        // The second message left five seconds before the first, and came after it.
        line(&own.facts()) + &line(&late),
    ];
    let mut open_streams = Vec::new();
    for lines in &streams {
        assert!(remote.facts().borrow().is_none());
        open_streams.push(answer_once(&listener, lines).await);
    }
    let facts = heard(&remote, |_| true).await;
    // It called again, so it has dropped the stream with the late message; and it has not taken the message.
    open_streams.push(answer_once(&listener, "").await);
    assert_eq!(remote.facts().borrow().as_ref(), Some(&facts));
    assert_eq!(facts.value.endpoints.len(), 1);
}
