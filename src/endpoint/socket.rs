//! Socket options, and the connection to a target.

use std::{io, time::Duration};

use rustix::{io::Errno, net::sockopt};
use tokio::{net::TcpStream, time::timeout};

/// Silence after which the kernel asks a server whether it is still there.
const SERVER_IDLE: Duration = Duration::from_secs(5);
/// Silence after which the kernel asks a client. PostgreSQL's own keepalive ends at this proxy.
const CLIENT_IDLE: Duration = Duration::from_secs(60);
/// Time between such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Unanswered questions after which the connection is dead.
const KEEPALIVE_COUNT: u32 = 5;

/// Sends small packets at once, and notices a dead client.
pub(super) fn tune_client(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    keepalive(stream, CLIENT_IDLE)
}

/// Connects to a target, `host:port`, within a deadline. An order that leads elsewhere does not wait for it.
///
/// There is no `TCP_USER_TIMEOUT`: it also ends a connection whose peer is alive but does not read (measured on Linux
/// 6.18: 2.5 s after the window closed with a limit of 2 s), and a backend that waits for a lock in the middle of a
/// COPY does not read. It would also replace the count of the keepalive questions. On the client's side the same holds of a
/// client that pauses while it reads a large result.
pub(super) async fn connect(address: &str, deadline: Duration) -> io::Result<TcpStream> {
    let stream = timeout(deadline, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer to a connection attempt"))??;
    // Where nobody listens on a loopback port of the ephemeral range, the kernel may pick that very port as the local
    // one and connect the socket to itself. It would echo, and keep the port from the server that wants it back.
    if stream.local_addr()? == stream.peer_addr()? {
        abandon(&stream);
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    keepalive(&stream, SERVER_IDLE)?;
    Ok(stream)
}

/// Makes the close of a server's connection a reset: what it has not taken yet of the client's bytes is dropped
/// instead of sent, and a server that is gone leaves nothing behind in the kernel.
pub(super) fn abandon(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "set zero linger");
    }
}

/// True if this process or host is short of descriptors or memory: nothing the other side did.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| short.iter().any(|errno| errno.raw_os_error() == code))
}

fn keepalive(stream: &TcpStream, idle: Duration) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT)?;
    Ok(())
}
