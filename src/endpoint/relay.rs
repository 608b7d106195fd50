//! The relay: copies bytes both ways until one side ends or an order severs the connection. Reads nothing into them.
//!
//! The moment of every read from the server is noted: it is the onset of an outage. What the server sends counts,
//! whatever it is, also the FATAL message of a backend that is being ended; an error message as the very first answer
//! does not (see `connection`).

use std::{io, pin::Pin};

use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use super::{
    gate::{Passage, Stopped, Way},
    switchboard::Link,
};

/// Bytes read at once from a client. Its memory is touched only as far as it is used.
const UP_BUFFER: usize = 16 * 1024;
/// Bytes read at once from a server, where results come from.
pub(super) const DOWN_BUFFER: usize = 32 * 1024;

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// An order severed it.
    Severed,
    /// The client's connection broke.
    ClientGone,
    /// The server closed, and the client has been sent all of it.
    ServerDone,
}

/// Copies both ways. `said` is what the client has said and the server has not got; `first` the other way round.
pub(super) async fn relay(
    client: &mut TcpStream,
    server: &mut TcpStream,
    link: &Link,
    said: &[u8],
    first: &[u8],
) -> End {
    let mut severed = link.gate().passage();
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = up(from_client, to_server, link.gate().passage(), said);
    let down = down(from_server, to_client, link, first);
    tokio::select! {
        biased;
        () = severed.severed() => End::Severed,
        end = down => end,
        end = up => end,
    }
}

/// Client to server. Ends only when the client's connection breaks: a client that has said all still listens, and a
/// server that takes nothing more may have left a last message, which `down` delivers.
async fn up(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut passage: Passage, said: &[u8]) -> End {
    let copied = async {
        forward(&mut to, &mut passage, Way::Up, said).await?;
        let mut buffer = vec![0; UP_BUFFER];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) => {
                    passage.unparked().await;
                    let _ = to.shutdown().await;
                    return Ok(());
                }
                Ok(n) => forward(&mut to, &mut passage, Way::Up, &buffer[..n]).await?,
                Err(_) => return Err(Broken::Client),
            }
        }
    };
    match copied.await {
        Err(Broken::Client) => End::ClientGone,
        Ok(()) | Err(Broken::Forward(_)) => std::future::pending().await,
    }
}

/// Server to client. Ends when the server has closed, or the client takes nothing more.
async fn down(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, link: &Link, first: &[u8]) -> End {
    let mut passage = link.gate().passage();
    let copied = async {
        forward(&mut to, &mut passage, Way::Down, first).await?;
        let mut buffer = vec![0; DOWN_BUFFER];
        while let Some(n) = some(from.read(&mut buffer).await) {
            link.heard();
            forward(&mut to, &mut passage, Way::Down, &buffer[..n]).await?;
        }
        Ok(())
    };
    match copied.await {
        Ok(()) => End::ServerDone,
        Err(Stopped::Deaf) => End::ClientGone,
        Err(Stopped::Severed) => End::Severed,
    }
}

/// A server that resets has ended like one that closes.
fn some(read: io::Result<usize>) -> Option<usize> {
    read.ok().filter(|n| *n > 0)
}

enum Broken {
    Client,
    Forward(#[expect(dead_code, reason = "the other direction finds out and tells")] Stopped),
}

impl From<Stopped> for Broken {
    fn from(stopped: Stopped) -> Self {
        Self::Forward(stopped)
    }
}

async fn forward(
    to: &mut WriteHalf<'_>,
    passage: &mut Passage,
    way: Way,
    mut bytes: &[u8],
) -> Result<(), Stopped> {
    while !bytes.is_empty() {
        let wrote = passage.write(way, |cx| Pin::new(&mut *to).poll_write(cx, bytes)).await?;
        bytes = &bytes[wrote..];
    }
    Ok(())
}
