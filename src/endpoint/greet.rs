//! The greeting: from the connection to a PostgreSQL server until its first byte.
//!
//! Nothing has been run for the client yet. So when the server dies now, is left by an order, or says that it cannot
//! take connections at the moment, the client waits again instead of being closed: a connection that was made just
//! when the primary died, or that sat in a hung server's accept queue, is served by the next one.

use std::{pin::Pin, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWrite},
    net::tcp::WriteHalf,
    time::{Instant, sleep},
};

use super::{
    gate::{Gate, Stopped, Way},
    startup,
    switchboard::Switchboard,
    wait::{Reached, Visitor, refused},
};

/// How long a scout's greeting may take before the others try for themselves: its client may be one that says nothing.
const SCOUT_PATIENCE: Duration = Duration::from_millis(250);

/// A server that closes a connection sooner than this has died; later it may have given up a client that does not
/// introduce itself (`authentication_timeout`; a port scan, a load balancer's check). That is no fault of the server's.
const SILENCE: Duration = Duration::from_secs(1);

/// How much of a server's first words is read before they are passed on: more than any error message without detail.
const FIRST: usize = 4 * 1024;

/// How a greeting ended.
pub(super) enum Greeting {
    /// The connection stands, or cannot start over any more. What the server has said, and how much of what the client
    /// said has been passed on.
    Settled { first: Vec<u8>, passed: usize },
    /// The client waits again.
    Again,
    /// It has come to its end without a word from the server: a cancel request was taken, or the client said nothing
    /// for so long that the server gave it up.
    Over,
}

/// Passes on what the client says, until the server answers.
pub(super) async fn greet(board: &Switchboard, visitor: &mut Visitor, reached: &mut Reached) -> Greeting {
    let Reached { server, link, scout } = reached;
    let (mut from_server, mut to_server) = server.split();
    let mut first = Vec::with_capacity(FIRST);
    let (mut passed, began) = (0, Instant::now());
    let patience = sleep(SCOUT_PATIENCE);
    tokio::pin!(patience);
    loop {
        if !startup::may_start_over(&visitor.said) {
            return Greeting::Settled { first: Vec::new(), passed };
        }
        tokio::select! {
            biased;
            () = link.gate().severed() => return Greeting::Again,
            answer = from_server.read_buf(&mut first) => {
                let error = match answer {
                    Ok(0) if startup::is_cancel(&visitor.said) => return Greeting::Over,
                    Ok(0) | Err(_) if patience_is_lost(began, &visitor.said) => return Greeting::Over,
                    Ok(0) => "closed without an answer".to_owned(),
                    Ok(_) if startup::cannot_connect_now(&first) => "cannot connect now".to_owned(),
                    Ok(_) => {
                        board.accepts(link.life());
                        return Greeting::Settled { first, passed };
                    }
                    Err(error) => error.to_string(),
                };
                refused(board, link.life(), &error);
                return Greeting::Again;
            }
            step = onward(visitor, passed, link.gate(), &mut to_server) => match step {
                Onward::Passed(n) => passed += n,
                Onward::Heard => {}
                // It may have said all it wants: a cancel request is often sent and not waited for.
                Onward::Ended => return Greeting::Settled { first: Vec::new(), passed },
                Onward::Stopped(Stopped::Severed) => return Greeting::Again,
                Onward::Stopped(Stopped::Deaf) => {
                    refused(board, link.life(), "reset");
                    return Greeting::Again;
                }
            },
            () = &mut patience, if scout.is_some() => {
                board.accepts(link.life());
                *scout = None;
            }
        }
    }
}

fn patience_is_lost(began: Instant, said: &[u8]) -> bool {
    began.elapsed() >= SILENCE && !startup::is_whole(said)
}

enum Onward {
    Passed(usize),
    Heard,
    Ended,
    Stopped(Stopped),
}

/// Passes on what the client has said, else hears more from it.
async fn onward(visitor: &mut Visitor, passed: usize, gate: &Gate, to: &mut WriteHalf<'_>) -> Onward {
    let rest = &visitor.said[passed..];
    if rest.is_empty() {
        return if matches!(visitor.listen().await, Ok(n) if n > 0) { Onward::Heard } else { Onward::Ended };
    }
    match gate.write(Way::Up, |cx| Pin::new(&mut *to).poll_write(cx, rest)).await {
        Ok(n) => Onward::Passed(n),
        Err(stopped) => Onward::Stopped(stopped),
    }
}
