//! One client's connection, from accept to close.
//!
//! How it is closed: the client's side plainly, so that what the server had already said still arrives, and the end
//! right behind it (a client that waits for an answer wakes up at either a FIN or a reset, equally fast; where it has
//! sent bytes that were not read, as a parked one may have, the kernel makes it a reset by itself). The server's side
//! is reset when an order severs it: nothing more of the client's bytes reaches a server that was left.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::{
    greet::{Greeting, greet},
    relay::{End, relay},
    socket, startup,
    switchboard::Switchboard,
    wait::{Reached, Visitor, Wait},
};

/// Serves one client to its end.
pub(super) async fn serve(board: Arc<Switchboard>, stream: TcpStream) {
    let mut visitor = Visitor { stream, said: Vec::new() };
    let mut wait = Wait::new(Arc::clone(&board));
    loop {
        let Some(mut reached) = wait.reach(&mut visitor).await else { return };
        let greeting = if board.speaks_postgresql() {
            greet(&board, &mut visitor, &mut reached).await
        } else {
            // A request may have been acted on before the first byte of its answer.
            Greeting::Settled { first: Vec::new(), passed: 0 }
        };
        match greeting {
            Greeting::Again => socket::abandon(&reached.server),
            Greeting::Over => return,
            Greeting::Settled { first, passed } => {
                if wait.waited() {
                    board.count_served();
                }
                return settled(visitor, reached, first, passed).await;
            }
        }
    }
}

async fn settled(visitor: Visitor, reached: Reached, first: Vec<u8>, passed: usize) {
    let (Visitor { mut stream, mut said, .. }, Reached { mut server, link, scout }) = (visitor, reached);
    drop(scout);
    link.settle();
    // An error as the first answer (a wrong password, no connection left) is no service: it is not counted as a byte.
    if !first.is_empty() && !startup::is_error(&first) {
        link.heard(first.len() as u64);
    }
    link.said(said.len() as u64);
    said.drain(..passed);
    let end = relay(&mut stream, &mut server, &link, said, first).await;
    if end == End::Severed {
        socket::abandon(&server);
    }
}
