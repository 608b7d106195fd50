//! The proxy, with real sockets: who is held, served, cut, parked, and when a server last spoke.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use locum::{
    clock::SystemClock,
    config,
    endpoint::{BindError, Proxy},
    model::{
        EndpointFacts, EndpointKind, EndpointName, Epoch, Incarnation, Mode, Mono, NodeId, Reply, RouteOrder,
        Stamp, Version,
    },
    ports::Clock,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// Everything here takes milliseconds; this is when a test gives up.
const DEADLINE: Duration = Duration::from_secs(20);
/// What "at once" means on a machine that is busy with other tests.
const PROMPT: Duration = Duration::from_secs(2);

fn stamp(epoch: u64, version: u64) -> Stamp {
    Stamp { incarnation: Incarnation(1), epoch: Epoch(epoch), version: Version(version) }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn endpoint(kind: EndpointKind, max_held: usize, hold: Duration) -> config::Endpoint {
    let name = EndpointName::new("db").unwrap();
    config::Endpoint { name, target: kind, listen: "127.0.0.1:0".parse().unwrap(), max_held, hold }
}

fn proxy() -> Arc<Proxy> {
    bind(&endpoint(EndpointKind::Primary, 1000, DEADLINE))
}

fn bind(config: &config::Endpoint) -> Arc<Proxy> {
    Proxy::bind(config, Arc::new(SystemClock)).unwrap()
}

async fn client(proxy: &Proxy) -> BufReader<TcpStream> {
    BufReader::new(TcpStream::connect(proxy.facts().listen).await.unwrap())
}

fn point(proxy: &Proxy, stamp: Stamp, server: &Server) -> Reply {
    point_to(proxy, stamp, &server.name, &server.address)
}

fn point_to(proxy: &Proxy, stamp: Stamp, name: &str, address: &str) -> Reply {
    proxy.order(stamp, RouteOrder::Point { node: node(name), address: address.to_owned() })
}

async fn until(proxy: &Proxy, condition: impl Fn(&EndpointFacts) -> bool) -> EndpointFacts {
    let end = Instant::now() + DEADLINE;
    loop {
        let facts = proxy.facts();
        if condition(&facts) {
            return facts;
        }
        assert!(Instant::now() < end, "the condition comes true: {facts:?}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// A server that answers each line with its name before it.
struct Server {
    name: String,
    address: String,
    connections: Arc<Mutex<JoinSet<()>>>,
    accepting: tokio::task::JoinHandle<()>,
    lines: Arc<AtomicU64>,
    ports: Arc<Mutex<Vec<u16>>>,
}

impl Server {
    async fn start(name: &str) -> Self {
        Self::at(name, "127.0.0.1:0").await
    }

    async fn at(name: &str, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let (lines, ports) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (join, count, seen, own) =
            (Arc::clone(&connections), Arc::clone(&lines), Arc::clone(&ports), name.to_owned());
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                seen.lock().unwrap().push(peer.port());
                join.lock().unwrap().spawn(answer_lines(own.clone(), stream, Arc::clone(&count)));
            }
        });
        Self { name: name.to_owned(), address, connections, accepting, lines, ports }
    }

    /// Ends as a killed process does: nothing listens, everything is closed.
    async fn kill(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
        let mut connections = std::mem::take(&mut *self.connections.lock().unwrap());
        connections.shutdown().await;
    }
}

async fn answer_lines(name: String, stream: TcpStream, count: Arc<AtomicU64>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while let Ok(n) = stream.read_line(&mut line).await {
        if n == 0 {
            return;
        }
        count.fetch_add(1, Ordering::SeqCst);
        if stream.get_mut().write_all(format!("{name} {line}").as_bytes()).await.is_err() {
            return;
        }
        line.clear();
    }
}

async fn ask(client: &mut BufReader<TcpStream>, line: &str) -> io::Result<String> {
    client.get_mut().write_all(format!("{line}\n").as_bytes()).await?;
    hear(client).await
}

async fn hear(client: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut answer = String::new();
    let heard = timeout(DEADLINE, client.read_line(&mut answer)).await.expect("an answer or an end");
    if heard? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer.trim_end().to_owned()) }
}

async fn ends_promptly(client: &mut BufReader<TcpStream>) {
    let mut rest = Vec::new();
    // A close and a reset are both an end.
    let _ = timeout(PROMPT, client.read_to_end(&mut rest)).await.expect("the client is told at once");
    assert!(rest.is_empty(), "and hears nothing more");
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_client_that_came_before_the_first_order_is_served_after_it() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    let mut client = client(&proxy).await;
    client.get_mut().write_all(b"early\n").await.unwrap();
    until(&proxy, |facts| facts.held == 1 && facts.open == 0).await;
    assert_eq!(point(&proxy, stamp(1, 1), &seoul), Reply::Done);
    assert_eq!(hear(&mut client).await.unwrap(), "seoul early");
    let facts = until(&proxy, |facts| facts.held_total == 1 && facts.held == 0).await;
    assert_eq!((facts.open, facts.refused_total, facts.target), (1, 0, Some(node("seoul"))));
}

#[tokio::test]
async fn a_client_of_a_refusing_target_is_served_at_once_when_pointed_elsewhere() {
    let (proxy, busan) = (proxy(), Server::start("busan").await);
    let mut changes = proxy.changes();
    assert_eq!(point_to(&proxy, stamp(1, 1), "seoul", &nobody().await), Reply::Done);
    changes.mark_unchanged();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(client(&proxy).await);
    }
    until(&proxy, |facts| facts.held == 20).await;
    assert!(changes.has_changed().unwrap(), "that the target refuses is worth acting on");
    assert_eq!(*changes.borrow_and_update(), 2, "once, not for each client");
    point(&proxy, stamp(2, 2), &busan);
    for client in &mut clients {
        assert_eq!(ask(client, "hello").await.unwrap(), "busan hello");
    }
    assert_eq!(until(&proxy, |facts| facts.held == 0).await.refused_total, 0);
}

#[tokio::test]
async fn a_refusing_target_is_tried_again_without_any_order() {
    let proxy = proxy();
    let address = nobody().await;
    point_to(&proxy, stamp(1, 1), "seoul", &address);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(client(&proxy).await);
    }
    until(&proxy, |facts| facts.held == 20).await;
    let _seoul = Server::at("seoul", &address).await;
    for client in &mut clients {
        assert_eq!(ask(client, "hello").await.unwrap(), "seoul hello");
    }
}

#[tokio::test]
async fn a_stale_order_is_refused_and_routing_is_as_it_was() {
    let (proxy, seoul, busan) = (proxy(), Server::start("seoul").await, Server::start("busan").await);
    point(&proxy, stamp(2, 5), &seoul);
    let mut before = client(&proxy).await;
    ask(&mut before, "1").await.unwrap();
    for late in [stamp(2, 4), stamp(1, 9)] {
        assert!(matches!(point(&proxy, late, &busan), Reply::Refused(_)));
        assert!(matches!(proxy.order(late, RouteOrder::Cut), Reply::Refused(_)));
        assert!(matches!(proxy.park(late, BTreeSet::new()), Reply::Refused(_)));
    }
    assert!(matches!(point(&proxy, stamp(2, 6), &busan), Reply::Refused(_)), "two nodes for one epoch");
    assert_eq!(ask(&mut before, "2").await.unwrap(), "seoul 2");
    assert_eq!(ask(&mut client(&proxy).await, "3").await.unwrap(), "seoul 3");
    let facts = proxy.facts();
    assert_eq!((facts.stamp, facts.mode, facts.cut_total), (stamp(2, 5), Mode::Open, 0));
}

#[tokio::test]
async fn a_cut_closes_clients_promptly_and_lets_new_ones_wait() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = client(&proxy).await;
        ask(&mut client, "hello").await.unwrap();
        clients.push(client);
    }
    assert_eq!(proxy.order(stamp(2, 2), RouteOrder::Cut), Reply::Done);
    assert_eq!(proxy.facts().cut_total, 10);
    for client in &mut clients {
        ends_promptly(client).await;
    }
    until(&proxy, |facts| facts.open == 0).await;
    let mut late = client(&proxy).await;
    until(&proxy, |facts| facts.held == 1).await;
    point(&proxy, stamp(2, 3), &seoul);
    assert_eq!(ask(&mut late, "again").await.unwrap(), "seoul again");
}

#[tokio::test]
async fn a_hold_lets_existing_connections_go_on_and_new_ones_wait() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut existing = client(&proxy).await;
    ask(&mut existing, "1").await.unwrap();
    proxy.order(stamp(1, 2), RouteOrder::Hold);
    let mut new = client(&proxy).await;
    until(&proxy, |facts| facts.held == 1).await;
    assert_eq!(ask(&mut existing, "2").await.unwrap(), "seoul 2");
    point(&proxy, stamp(1, 3), &seoul);
    assert_eq!(ask(&mut new, "3").await.unwrap(), "seoul 3");
    assert_eq!(ask(&mut existing, "4").await.unwrap(), "seoul 4", "the same target keeps its connections");
}

#[tokio::test]
async fn more_than_may_wait_are_closed_at_once_and_counted() {
    let proxy = bind(&endpoint(EndpointKind::Primary, 2, DEADLINE));
    let (_first, _second) = (client(&proxy).await, client(&proxy).await);
    until(&proxy, |facts| facts.held == 2).await;
    ends_promptly(&mut client(&proxy).await).await;
    let facts = proxy.facts();
    assert_eq!((facts.held, facts.refused_total), (2, 1));
}

#[tokio::test]
async fn whoever_waits_for_too_long_is_closed_and_counted() {
    let hold = Duration::from_millis(150);
    let proxy = bind(&endpoint(EndpointKind::Primary, 10, hold));
    let began = Instant::now();
    let mut waiting = client(&proxy).await;
    ends_promptly(&mut waiting).await;
    assert!(began.elapsed() >= hold);
    let facts = until(&proxy, |facts| facts.held == 0).await;
    assert_eq!((facts.refused_total, facts.held_total), (1, 0));
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_is_forgotten() {
    let proxy = proxy();
    let silent = client(&proxy).await;
    let mut talker = client(&proxy).await;
    talker.get_mut().write_all(b"hello\n").await.unwrap();
    until(&proxy, |facts| facts.held == 2).await;
    drop((silent, talker));
    let facts = until(&proxy, |facts| facts.held == 0).await;
    assert_eq!((facts.refused_total, facts.held_total), (0, 0));
}

#[tokio::test]
async fn a_server_that_dies_ends_its_clients_and_they_wait_when_they_come_back() {
    let (proxy, seoul, busan) = (proxy(), Server::start("seoul").await, Server::start("busan").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut first = client(&proxy).await;
    ask(&mut first, "1").await.unwrap();
    seoul.kill().await;
    ends_promptly(&mut first).await;
    let mut again = client(&proxy).await;
    until(&proxy, |facts| facts.held == 1).await;
    point(&proxy, stamp(2, 2), &busan);
    assert_eq!(ask(&mut again, "2").await.unwrap(), "busan 2");
    assert_eq!(proxy.facts().cut_total, 0, "no order cut anything");
}

#[tokio::test]
async fn the_last_words_of_a_server_arrive_before_the_end() {
    let proxy = proxy();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &listener.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(b"go on\n").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let words = vec![b'x'; 3_000_000];
    let (sent, heard) = (words.clone(), async {
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.map(|_| heard)
    });
    tokio::spawn(async move { server.write_all(&sent).await });
    assert!(timeout(DEADLINE, heard).await.unwrap().unwrap() == words);
}

#[tokio::test]
async fn a_client_that_has_said_all_still_hears_the_answer() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut client = client(&proxy).await;
    client.get_mut().write_all(b"bye\n").await.unwrap();
    client.get_mut().shutdown().await.unwrap();
    assert_eq!(hear(&mut client).await.unwrap(), "seoul bye");
    ends_promptly(&mut client).await;
}

#[tokio::test]
async fn parking_stops_the_parked_only_and_loses_and_reorders_nothing() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut parked = client(&proxy).await;
    ask(&mut parked, "first").await.unwrap();
    let port = seoul.ports.lock().unwrap()[0];
    let mut flowing = client(&proxy).await;
    ask(&mut flowing, "first").await.unwrap();
    proxy.order(stamp(1, 2), RouteOrder::Hold);
    assert_eq!(proxy.park(stamp(1, 2), BTreeSet::from([port])), Reply::Done);

    let lines: u64 = 200_000;
    let (mut answers, mut words) = parked.into_inner().into_split();
    let said = tokio::spawn(async move {
        let all: String = (0..lines).map(|n| format!("{n}\n")).collect();
        words.write_all(all.as_bytes()).await.map(|()| words)
    });
    for n in 0..100 {
        assert_eq!(ask(&mut flowing, &n.to_string()).await.unwrap(), format!("seoul {n}"));
    }
    assert_eq!(seoul.lines.load(Ordering::SeqCst), 102, "not a line of the parked one");
    assert_eq!(proxy.order(stamp(1, 2), RouteOrder::Hold), Reply::Done);
    assert_eq!(ask(&mut flowing, "after").await.unwrap(), "seoul after");
    assert_eq!(seoul.lines.load(Ordering::SeqCst), 103, "a repeated order does not end the parking");

    point(&proxy, stamp(1, 3), &seoul);
    let mut answers = BufReader::new(&mut answers).lines();
    for n in 0..lines {
        let line = timeout(DEADLINE, answers.next_line()).await.unwrap().unwrap().unwrap();
        assert_eq!(line, format!("seoul {n}"));
    }
    said.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_parked_client_still_hears_its_server_and_a_cut_ends_it() {
    let proxy = proxy();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &listener.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(b"hello\n").await.unwrap();
    let (mut server, peer) = listener.accept().await.unwrap();
    proxy.park(stamp(1, 1), BTreeSet::from([peer.port()]));
    server.write_all(b"notice\n").await.unwrap();
    assert_eq!(hear(&mut client).await.unwrap(), "notice");
    client.get_mut().write_all(b"never sent\n").await.unwrap();
    proxy.order(stamp(2, 2), RouteOrder::Cut);
    ends_promptly(&mut client).await;
    let mut got = Vec::new();
    let _ = timeout(PROMPT, server.read_to_end(&mut got)).await.expect("the server's side ends too");
    assert!(b"hello\n".starts_with(&got), "nothing that was parked has reached it");
}

#[tokio::test]
async fn the_last_byte_of_a_server_is_kept_when_the_route_moves_on() {
    let (proxy, seoul, busan) = (proxy(), Server::start("seoul").await, Server::start("busan").await);
    let bytes = |proxy: &Proxy| (proxy.facts().last_server_byte, proxy.facts().last_byte_before);
    point(&proxy, stamp(1, 1), &seoul);
    let mut first = client(&proxy).await;
    until(&proxy, |facts| facts.open == 1).await;
    assert_eq!(bytes(&proxy), (None, None), "a connection alone is no byte");
    let before = SystemClock.now();
    ask(&mut first, "1").await.unwrap();
    let after = SystemClock.now();
    let (Some(last), None) = bytes(&proxy) else { panic!("{:?}", proxy.facts()) };
    assert!((before..=after).contains(&last));

    proxy.order(stamp(2, 2), RouteOrder::Cut);
    assert_eq!(bytes(&proxy), (Some(last), None), "a cut moves nothing");
    point_to(&proxy, stamp(2, 3), "jeju", &nobody().await);
    assert_eq!(bytes(&proxy), (None, Some(last)), "a new target does");
    point(&proxy, stamp(3, 4), &busan);
    assert_eq!(bytes(&proxy), (None, Some(last)), "a target that never spoke does not hide it");
    let mut second = client(&proxy).await;
    ask(&mut second, "2").await.unwrap();
    assert!(bytes(&proxy).0.unwrap() > last);
    assert_eq!(bytes(&proxy).1, Some(last));
}

#[tokio::test]
async fn the_same_target_served_again_after_a_cut_shows_when_it_was_last_there() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    ask(&mut client(&proxy).await, "1").await.unwrap();
    let last: Option<Mono> = proxy.facts().last_server_byte;
    proxy.order(stamp(2, 2), RouteOrder::Cut);
    point(&proxy, stamp(2, 3), &seoul);
    assert_eq!((proxy.facts().last_server_byte, proxy.facts().last_byte_before), (None, last));
}

/// PostgreSQL's startup packet: length, protocol 3.0, `user=a`.
const STARTUP: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";

#[tokio::test]
async fn a_connection_that_a_hung_server_never_answered_is_served_by_the_next_one() {
    let proxy = proxy();
    let (hung, busan) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    point_to(&proxy, stamp(1, 1), "seoul", &hung.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(STARTUP).await.unwrap();
    let (mut swallowed, _) = hung.accept().await.unwrap();
    let mut got = vec![0; STARTUP.len()];
    swallowed.read_exact(&mut got).await.unwrap();

    proxy.order(stamp(2, 2), RouteOrder::Cut);
    let facts = until(&proxy, |facts| facts.held == 1 && facts.open == 0).await;
    assert_eq!(facts.cut_total, 0);
    point_to(&proxy, stamp(2, 3), "busan", &busan.local_addr().unwrap().to_string());
    let (mut server, _) = timeout(DEADLINE, busan.accept()).await.unwrap().unwrap();
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(got, STARTUP);
    server.write_all(b"R\n").await.unwrap();
    assert_eq!(hear(&mut client).await.unwrap(), "R");
}

#[tokio::test]
async fn a_server_that_cannot_take_connections_now_is_tried_again() {
    let proxy = proxy();
    let seoul = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &seoul.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(STARTUP).await.unwrap();
    let starting = b"E\0\0\0\x20SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0".as_slice();
    // In turn: says that it starts, is killed before it answers, has no descriptor left to answer with, and serves.
    for (answer, expect) in [(starting, None), (b"", None), (b"".as_slice(), None), (b"R\n", Some("R"))] {
        let (mut server, _) = timeout(DEADLINE, seoul.accept()).await.unwrap().unwrap();
        server.read_exact(&mut vec![0; STARTUP.len()]).await.unwrap();
        server.write_all(answer).await.unwrap();
        if let Some(expect) = expect {
            assert_eq!(hear(&mut client).await.unwrap(), expect);
            assert!(proxy.facts().last_server_byte.is_some());
        } else {
            drop(server);
            until(&proxy, |facts| facts.held == 1).await;
            assert_eq!(proxy.facts().last_server_byte, None, "a refusal is no service");
        }
    }
}

#[tokio::test]
async fn an_error_as_the_first_answer_is_delivered_and_is_no_service() {
    let proxy = proxy();
    let seoul = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &seoul.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(STARTUP).await.unwrap();
    let (mut server, _) = seoul.accept().await.unwrap();
    server.read_exact(&mut vec![0; STARTUP.len()]).await.unwrap();
    server.write_all(b"E\0\0\0\x20SFATAL\0C53300\0\0\n").await.unwrap();
    assert!(hear(&mut client).await.unwrap().contains("53300"));
    assert_eq!(proxy.facts().last_server_byte, None);
}

#[tokio::test]
async fn a_cancel_request_is_passed_on_once_and_its_close_too() {
    let proxy = proxy();
    let seoul = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &seoul.local_addr().unwrap().to_string());
    let cancel = [0, 0, 0, 16, 4, 210, 22, 46, 1, 2, 3, 4, 5, 6, 7, 8];
    for waits in [true, false] {
        let mut client = client(&proxy).await;
        client.get_mut().write_all(&cancel).await.unwrap();
        let mut client = waits.then_some(client);
        let (mut server, _) = seoul.accept().await.unwrap();
        let mut got = vec![0; 16];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(got, cancel);
        drop(server);
        if let Some(client) = &mut client {
            ends_promptly(client).await;
        }
        until(&proxy, |facts| facts.open == 0 && facts.held == 0).await;
    }
}

#[tokio::test]
async fn a_request_to_an_app_server_is_never_sent_twice() {
    let proxy = bind(&endpoint(EndpointKind::App, 10, DEADLINE));
    let (seoul, busan) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Server::start("busan").await);
    point_to(&proxy, stamp(1, 1), "seoul", &seoul.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(b"POST\n").await.unwrap();
    let (mut server, _) = seoul.accept().await.unwrap();
    server.read_exact(&mut [0; 5]).await.unwrap();
    assert_eq!(point(&proxy, stamp(1, 2), &busan), Reply::Done, "an app may move within an epoch");
    ends_promptly(&mut client).await;
    assert_eq!(busan.lines.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_hear_their_own_answers_across_a_repoint() {
    let (proxy, seoul, busan) = (proxy(), Server::start("seoul").await, Server::start("busan").await);
    point(&proxy, stamp(1, 1), &seoul);
    let answered = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for id in 0..200 {
        clients.spawn(talk(Arc::clone(&proxy), id, Arc::clone(&answered)));
    }
    while answered.load(Ordering::SeqCst) < 2_000 {
        assert!(clients.try_join_next().is_none(), "nobody ends before the move");
        tokio::task::yield_now().await;
    }
    proxy.order(stamp(2, 2), RouteOrder::Cut);
    until(&proxy, |facts| facts.open == 0).await;
    let asked_before = seoul.lines.load(Ordering::SeqCst);
    point(&proxy, stamp(2, 3), &busan);
    while let Some(ended) = timeout(DEADLINE, clients.join_next()).await.expect("all are served") {
        ended.unwrap();
    }
    assert_eq!(seoul.lines.load(Ordering::SeqCst), asked_before, "nothing reaches the old one");
    let facts = until(&proxy, |facts| facts.open == 0).await;
    assert_eq!((facts.cut_total, facts.refused_total, facts.held), (200, 0, 0));
}

/// Talks to whoever answers, until the second server has answered often enough.
async fn talk(proxy: Arc<Proxy>, id: u64, answered: Arc<AtomicU64>) {
    let (mut number, mut by_busan) = (0, 0);
    while by_busan < 20 {
        let mut client = client(&proxy).await;
        while by_busan < 20 {
            number += 1;
            let line = format!("{id}:{number}:{}", "x".repeat(usize::try_from(number % 50).unwrap() * 100));
            let Ok(answer) = ask(&mut client, &line).await else { break };
            let (name, rest) = answer.split_once(' ').unwrap();
            assert_eq!(rest, line);
            assert!(name == "busan" || by_busan == 0, "an old server's answer after a new one's");
            by_busan += u64::from(name == "busan");
            answered.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn a_taken_port_is_reported_with_address_endpoint_and_the_way_out() {
    let proxy = proxy();
    let mut config = endpoint(EndpointKind::Primary, 1, DEADLINE);
    config.listen = proxy.facts().listen.parse().unwrap();
    let error = Proxy::bind(&config, Arc::new(SystemClock)).err().unwrap();
    assert!(matches!(error, BindError::Taken { .. }), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("endpoint db") && words.contains(&proxy.facts().listen), "{words}");
    config.listen = "192.0.2.1:0".parse().unwrap();
    let error = Proxy::bind(&config, Arc::new(SystemClock)).err().unwrap();
    assert!(matches!(error, BindError::NotHere { .. }), "{error:?}");
}

#[tokio::test]
async fn closing_ends_everybody_and_frees_the_port() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    let address = proxy.facts().listen;
    let mut waiting = client(&proxy).await;
    until(&proxy, |facts| facts.held == 1).await;
    point(&proxy, stamp(1, 1), &seoul);
    ask(&mut waiting, "1").await.unwrap();
    proxy.order(stamp(1, 2), RouteOrder::Hold);
    let mut held = client(&proxy).await;
    until(&proxy, |facts| facts.held == 1).await;
    proxy.close();
    ends_promptly(&mut waiting).await;
    ends_promptly(&mut held).await;
    let mut config = endpoint(EndpointKind::Primary, 1, DEADLINE);
    config.listen = address.parse().unwrap();
    let end = Instant::now() + DEADLINE;
    while let Err(error) = Proxy::bind(&config, Arc::new(SystemClock)) {
        assert!(Instant::now() < end, "{error}");
        sleep(Duration::from_millis(1)).await;
    }
}
