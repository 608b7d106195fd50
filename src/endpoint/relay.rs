//! The relay: copies bytes both ways until one side ends or an order severs the connection. Reads nothing into them.
//!
//! The moment of every read from the server is noted: it is the onset of an outage. What the server sends counts,
//! whatever it is, also the FATAL message of a backend that is being ended; an error message as the very first answer
//! does not (see `connection`).
//!
//! A connection that says nothing holds no buffer: bytes are read into one that the thread has, and only what the
//! other side does not take at once is kept.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    gate::{Stopped, Way},
    idle::Idle,
    switchboard::Link,
};

/// Bytes read at once. Also the most that is kept for a side that does not read.
const BUFFER: usize = 32 * 1024;

thread_local! {
    /// Never held over a point where the task may wait.
    static SPACE: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// An order severed it.
    Severed,
    /// The server has closed, or was lost.
    ServerDone,
    /// The client has gone.
    ClientGone,
    /// Neither said anything for too long.
    Idle,
}

/// Copies both ways. `said` is what the client has said and the server has not got; `first` the other way round.
pub(super) async fn relay(
    client: &mut TcpStream,
    server: &mut TcpStream,
    link: &Link,
    said: Vec<u8>,
    first: Vec<u8>,
) -> End {
    let (mut up, mut down) = (Half::new(Way::Up, said), Half::new(Way::Down, first));
    let mut idle = link.idle().map(Idle::new);
    poll_fn(|cx| {
        if link.gate().poll_severed(cx).is_ready() {
            return Poll::Ready(End::Severed);
        }
        if let Poll::Ready(end) = poll_down(&mut down, cx, server, client, link) {
            return Poll::Ready(end);
        }
        if let Poll::Ready(end) = poll_up(&mut up, cx, client, server, link) {
            return Poll::Ready(end);
        }
        match &mut idle {
            Some(idle) => idle.poll_over(cx, up.carried + down.carried).map(|()| End::Idle),
            None => Poll::Pending,
        }
    })
    .await
}

/// Server to client. Ends when the server has closed, or the client takes nothing more.
fn poll_down(
    down: &mut Half,
    cx: &mut Context<'_>,
    server: &mut TcpStream,
    client: &mut TcpStream,
    link: &Link,
) -> Poll<End> {
    Poll::Ready(match ready!(down.poll_carry(cx, server, client, link)) {
        // A server that resets has ended like one that closes.
        Carried::All | Carried::Lost => End::ServerDone,
        Carried::Stopped(Stopped::Deaf) => End::ClientGone,
        Carried::Stopped(Stopped::Severed) => End::Severed,
    })
}

/// Client to server. Ends only when the client's connection breaks: a client that has said all still listens, and a
/// server that takes nothing more may have left a last message, which the other way delivers.
fn poll_up(
    up: &mut Half,
    cx: &mut Context<'_>,
    client: &mut TcpStream,
    server: &mut TcpStream,
    link: &Link,
) -> Poll<End> {
    if up.closed {
        return Poll::Pending;
    }
    match ready!(up.poll_carry(cx, client, server, link)) {
        Carried::Lost => return Poll::Ready(End::ClientGone),
        Carried::Stopped(_) => {}
        Carried::All => {
            // The end of what it says is part of it: not while it is parked. One byte stands for it.
            let shut = || Pin::new(&mut *server).poll_shutdown(cx).map_ok(|()| 1);
            // Where it fails the server is gone, and the other way finds out.
            let _ = ready!(link.gate().poll_write(Way::Up, shut));
        }
    }
    up.closed = true;
    Poll::Pending
}

/// One way of a connection.
struct Half {
    way: Way,
    /// Read and not yet written.
    left: Vec<u8>,
    /// How much of that has been written.
    written: usize,
    /// Bytes read so far.
    carried: u64,
    /// The sending side has said all.
    ended: bool,
    /// The receiving side was told, or takes nothing more.
    closed: bool,
}

/// Why one way carries nothing more.
enum Carried {
    /// The sending side has said all, and all was written.
    All,
    /// The sending side's connection broke.
    Lost,
    /// It cannot be written.
    Stopped(Stopped),
}

impl Half {
    fn new(way: Way, left: Vec<u8>) -> Self {
        Self { way, left, written: 0, carried: 0, ended: false, closed: false }
    }

    /// Carries what there is. Pending: nothing more now.
    fn poll_carry(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        link: &Link,
    ) -> Poll<Carried> {
        SPACE.with_borrow_mut(|space| {
            loop {
                while self.written < self.left.len() {
                    let rest = &self.left[self.written..];
                    match ready!(link.gate().poll_write(self.way, || Pin::new(&mut *to).poll_write(cx, rest)))
                    {
                        Ok(n) => self.written += n,
                        Err(stopped) => return Poll::Ready(Carried::Stopped(stopped)),
                    }
                }
                if self.ended {
                    return Poll::Ready(Carried::All);
                }
                (self.left, self.written) = (Vec::new(), 0);
                let mut read = ReadBuf::new(space);
                if ready!(Pin::new(&mut *from).poll_read(cx, &mut read)).is_err() {
                    return Poll::Ready(Carried::Lost);
                }
                let bytes = read.filled();
                self.ended = bytes.is_empty();
                if self.ended {
                    continue;
                }
                let count = bytes.len() as u64;
                self.carried += count;
                match self.way {
                    Way::Up => link.said(count),
                    Way::Down => link.heard(count),
                }
                match link.gate().poll_write(self.way, || Pin::new(&mut *to).poll_write(cx, bytes)) {
                    Poll::Ready(Ok(n)) if n == bytes.len() => {}
                    Poll::Ready(Ok(n)) => bytes[n..].clone_into(&mut self.left),
                    Poll::Pending => bytes.clone_into(&mut self.left),
                    Poll::Ready(Err(stopped)) => return Poll::Ready(Carried::Stopped(stopped)),
                }
            }
        })
    }
}
