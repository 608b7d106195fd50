//! A proxy with clients and servers to try it with.

use std::{
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
    endpoint::Proxy,
    model::{
        EndpointFacts, EndpointKind, EndpointName, Epoch, Incarnation, NodeId, Reply, RouteOrder, Stamp,
        Version,
    },
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// Everything here takes milliseconds; this is when a test gives up.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);
/// What "at once" means on a machine that is busy with other tests.
pub(super) const PROMPT: Duration = Duration::from_secs(2);

pub(super) fn stamp(epoch: u64, version: u64) -> Stamp {
    Stamp { incarnation: Incarnation(1), epoch: Epoch(epoch), version: Version(version) }
}

pub(super) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(super) fn endpoint(kind: EndpointKind, max_held: usize, hold: Duration) -> config::Endpoint {
    let name = EndpointName::new("db").unwrap();
    config::Endpoint {
        name,
        target: kind,
        listen: "127.0.0.1:0".parse().unwrap(),
        max_held,
        hold,
        tuning: config::Tuning::default(),
    }
}

pub(super) fn proxy() -> Arc<Proxy> {
    bind(&endpoint(EndpointKind::Primary, 1000, DEADLINE))
}

pub(super) fn bind(config: &config::Endpoint) -> Arc<Proxy> {
    Proxy::bind(config, Arc::new(SystemClock)).unwrap()
}

pub(super) async fn client(proxy: &Proxy) -> BufReader<TcpStream> {
    BufReader::new(TcpStream::connect(proxy.facts().listen).await.unwrap())
}

pub(super) fn point(proxy: &Proxy, stamp: Stamp, server: &Server) -> Reply {
    point_to(proxy, stamp, &server.name, &server.address)
}

pub(super) fn point_to(proxy: &Proxy, stamp: Stamp, name: &str, address: &str) -> Reply {
    proxy.order(stamp, RouteOrder::Point { node: node(name), address: address.to_owned() })
}

pub(super) async fn until(proxy: &Proxy, condition: impl Fn(&EndpointFacts) -> bool) -> EndpointFacts {
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
pub(super) struct Server {
    pub(super) name: String,
    pub(super) address: String,
    connections: Arc<Mutex<JoinSet<()>>>,
    accepting: tokio::task::JoinHandle<()>,
    pub(super) lines: Arc<AtomicU64>,
    pub(super) ports: Arc<Mutex<Vec<u16>>>,
}

impl Server {
    pub(super) async fn start(name: &str) -> Self {
        Self::at(name, "127.0.0.1:0").await
    }

    pub(super) async fn at(name: &str, address: &str) -> Self {
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

    pub(super) fn has_no_connections(&self) -> bool {
        let mut connections = self.connections.lock().unwrap();
        while connections.try_join_next().is_some() {}
        connections.is_empty()
    }

    /// Ends as a killed process does: nothing listens, everything is closed.
    pub(super) async fn kill(self) {
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

pub(super) async fn ask(client: &mut BufReader<TcpStream>, line: &str) -> io::Result<String> {
    client.get_mut().write_all(format!("{line}\n").as_bytes()).await?;
    hear(client).await
}

pub(super) async fn hear(client: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut answer = String::new();
    let heard = timeout(DEADLINE, client.read_line(&mut answer)).await.expect("an answer or an end");
    if heard? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer.trim_end().to_owned()) }
}

pub(super) async fn ends_promptly(client: &mut BufReader<TcpStream>) {
    let mut rest = Vec::new();
    // A close and a reset are both an end.
    let _ = timeout(PROMPT, client.read_to_end(&mut rest)).await.expect("the client is told at once");
    assert!(rest.is_empty(), "and hears nothing more");
}

/// An address where nobody listens.
pub(super) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}
