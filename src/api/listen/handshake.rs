//! TLS handshakes beside each other, none of which keeps another or the port from going on.

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

use super::{super::complaints::Complaints, connection::TLS_HANDSHAKE};
use crate::tls;

/// How long a handshake may take: two round trips, on a busy host.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(3);
/// Handshakes at once. One more ends the oldest: a member's takes milliseconds, a dawdler's takes until then.
const AT_ONCE: usize = 64;
/// How long, and how much of what was sent to it, a refused client is still listened to. Without that, the connection
/// would be reset, and the client would not read why.
const FAREWELL: (Duration, u64) = (Duration::from_millis(500), 64 << 10);
/// What whoever speaks plain HTTP is told.
const NOT_TLS: &str = "this port speaks TLS only: give the caller the api.tls_… keys too";

/// A connection whose client has proven that the authority certified it.
pub(super) type Secured = TlsStream<TcpStream>;

/// The handshakes under way.
pub(super) struct Handshakes {
    config: Arc<ServerConfig>,
    complaints: Arc<Complaints>,
    tasks: JoinSet<Option<(Box<Secured>, SocketAddr)>>,
    /// In the order of their beginning; some have ended.
    order: VecDeque<(AbortHandle, SocketAddr)>,
}

impl Handshakes {
    pub(super) fn new(config: Arc<ServerConfig>, complaints: Arc<Complaints>) -> Self {
        Self { config, complaints, tasks: JoinSet::new(), order: VecDeque::new() }
    }

    /// Begins one.
    pub(super) fn begin(&mut self, stream: TcpStream, from: SocketAddr) {
        self.order.retain(|(task, _)| !task.is_finished());
        if self.order.len() >= AT_ONCE
            && let Some((oldest, from)) = self.order.pop_front()
        {
            oldest.abort();
            self.complaints
                .refused(from.ip(), "too many TLS handshakes at once, of which its was the oldest");
        }
        let (config, complaints) = (Arc::clone(&self.config), Arc::clone(&self.complaints));
        let task = self.tasks.spawn(async move {
            let why = match timeout(HANDSHAKE_WAIT, shake(config, stream)).await {
                Ok(Ok(secured)) => return Some((Box::new(secured), from)),
                Ok(Err(None)) => return None,
                Ok(Err(Some(why))) => why,
                Err(_) => format!("no TLS handshake within {HANDSHAKE_WAIT:?}"),
            };
            complaints.refused(from.ip(), &why);
            None
        });
        self.order.push_back((task, from));
    }

    /// The next that succeeded; pending while there is none. Cancel-safe.
    pub(super) async fn next(&mut self) -> (Box<Secured>, SocketAddr) {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Some(done))) => return done,
                Some(Ok(None) | Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// One handshake. `Err(None)`: the client left without a word, as a check of the port does.
async fn shake(config: Arc<ServerConfig>, stream: TcpStream) -> Result<Secured, Option<String>> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1..) if first[0] == TLS_HANDSHAKE => {}
        Ok(0) | Err(_) => return Err(None),
        Ok(_) => {
            answer_plainly(stream).await;
            return Err(Some("it does not speak TLS".into()));
        }
    }
    match TlsAcceptor::from(config).accept(stream).into_fallible().await {
        Ok(secured) => Ok(secured),
        Err((error, stream)) => {
            farewell(stream).await;
            Err(Some(said(&error)))
        }
    }
}

fn said(error: &io::Error) -> String {
    tls::of_io(error).unwrap_or_else(|| format!("the TLS handshake broke off: {error}"))
}

/// Tells a client that speaks plain HTTP what is wrong; to anything else it is as good as garbage.
async fn answer_plainly(mut stream: TcpStream) {
    let body = serde_json::json!({ "error": NOT_TLS }).to_string();
    let head =
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ";
    // Whoever does not take the answer has left.
    let _ = stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await;
    farewell(stream).await;
}

/// Closes this side, and waits for the other for a moment.
async fn farewell(mut stream: TcpStream) {
    let (wait, most) = FAREWELL;
    // Neither an error nor a deadline matters to a connection that is given up.
    let _ = stream.shutdown().await;
    let _ = timeout(wait, tokio::io::copy(&mut stream.take(most), &mut tokio::io::sink())).await;
}
