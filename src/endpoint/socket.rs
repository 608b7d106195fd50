//! Socket options, and the connection to a target.

use std::{io, net, os::fd::AsFd, time::Duration};

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

/// Sends small packets at once to the clients of a listening socket, and notices a dead one: Linux gives what it accepts the
/// options of the listening socket.
pub(super) fn tune_clients(listener: &net::TcpListener) -> io::Result<()> {
    sockopt::set_tcp_nodelay(listener, true)?;
    keepalive(listener, CLIENT_IDLE)
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
    tune_server(&stream)?;
    Ok(stream)
}

/// Sends small packets at once, and notices a dead server. A connection to itself is refused.
fn tune_server(stream: &TcpStream) -> io::Result<()> {
    // Where nobody listens on a loopback port of the ephemeral range, the kernel may pick that very port as the local
    // one and connect the socket to itself. It would echo, and keep the port from the server that wants it back.
    if stream.local_addr()? == stream.peer_addr()? {
        abandon(stream);
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    keepalive(stream, SERVER_IDLE)
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

fn keepalive(socket: impl AsFd + Copy, idle: Duration) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, idle)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail that way")]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    /// When a test gives up.
    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn both_sides_send_at_once_and_a_dead_one_is_noticed_but_not_one_that_does_not_read() {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        tune_clients(&listener).unwrap();
        let server = connect(&listener.local_addr().unwrap().to_string(), LONG).await.unwrap();
        let (client, _) = listener.accept().unwrap();
        client.set_nonblocking(true).unwrap();
        let client = TcpStream::from_std(client).unwrap();
        for (stream, idle) in [(&server, SERVER_IDLE), (&client, CLIENT_IDLE)] {
            assert!(stream.nodelay().unwrap() && sockopt::socket_keepalive(stream).unwrap());
            let questions = (
                sockopt::tcp_keepidle(stream).unwrap(),
                sockopt::tcp_keepintvl(stream).unwrap(),
                sockopt::tcp_keepcnt(stream).unwrap(),
            );
            assert_eq!(questions, (idle, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT));
            assert_eq!(sockopt::tcp_user_timeout(stream).unwrap(), 0);
        }
    }

    #[test]
    fn what_this_host_lacks_is_no_fault_of_the_other_side() {
        let is = |errno: Errno| is_shortage(&io::Error::from_raw_os_error(errno.raw_os_error()));
        assert!([Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].into_iter().all(is));
        assert!(![Errno::CONNREFUSED, Errno::CONNRESET, Errno::HOSTUNREACH].into_iter().any(is));
    }

    #[tokio::test]
    async fn a_target_that_does_not_answer_is_given_up_after_the_deadline() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Once its queue is full, the kernel answers nobody more.
        let mut queued = Vec::new();
        let error = loop {
            match timeout(LONG, connect(&address, Duration::from_millis(100))).await.expect("a deadline") {
                Ok(stream) => queued.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "after {}", queued.len());
    }

    #[tokio::test]
    async fn a_connection_to_itself_is_none_and_leaves_the_port_free() {
        let at = |address: std::net::SocketAddr| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(address).map(|()| socket)
        };
        let socket = at("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.unwrap();
        assert_eq!(tune_server(&stream).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        drop(stream);
        assert!(at(own).is_ok());
    }
}
