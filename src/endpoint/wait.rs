//! Waiting: from a client's arrival until the target has taken its connection, bounded in number and time.

use std::{future::pending, io, sync::Arc, time::Duration};

use bytes::BufMut;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, sleep, sleep_until},
};

use super::{
    life::{Life, Scout},
    proxy_header,
    queue::Place,
    socket,
    switchboard::{Link, Switchboard},
};

/// How long a connection attempt may take before the client counts as waiting. Attempts on a good network take less.
const GRACE: Duration = Duration::from_millis(100);

/// How much a client may say before the server has answered. More than PostgreSQL's longest startup packet; the rest
/// stays in the kernel.
const SAID_MAX: usize = 16 * 1024;

/// A client that no server has answered yet.
pub(super) struct Visitor {
    pub(super) stream: TcpStream,
    /// All it has said.
    pub(super) said: Vec<u8>,
}

impl Visitor {
    /// What tells a target whom it serves.
    fn header(&self) -> io::Result<Vec<u8>> {
        Ok(proxy_header::header(self.stream.peer_addr()?, self.stream.local_addr()?))
    }

    /// Listens to the client until it goes away. What it says meanwhile is kept; reading is also how its leaving is
    /// noticed. One that has said all may still want an answer, or have sent a cancel request: it gets `grace`.
    async fn leaves(&mut self, grace: Duration) {
        loop {
            if self.said.len() >= SAID_MAX {
                return pending().await;
            }
            match self.listen().await {
                Ok(0) => return sleep(grace).await,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Hears more from the client. Zero bytes: it has said all. There must be room, which a first packet always leaves.
    pub(super) async fn listen(&mut self) -> io::Result<usize> {
        let room = SAID_MAX - self.said.len();
        self.stream.read_buf(&mut (&mut self.said).limit(room)).await
    }
}

/// A connection to the target, on the switchboard.
pub(super) struct Reached {
    pub(super) server: TcpStream,
    pub(super) link: Link,
    /// Held while this connection has yet to show, for all who wait, that the target serves.
    pub(super) scout: Option<Scout>,
}

/// One client's waiting. It may wait more than once; its time runs from the first.
pub(super) struct Wait {
    board: Arc<Switchboard>,
    place: Option<Place>,
    until: Option<Instant>,
}

impl Wait {
    pub(super) fn new(board: Arc<Switchboard>) -> Self {
        Self { board, place: None, until: None }
    }

    /// True if it had to wait at all.
    pub(super) fn waited(&self) -> bool {
        self.until.is_some()
    }

    /// Waits until the target has taken a connection. None: the client has gone, or is given up.
    pub(super) async fn reach(&mut self, visitor: &mut Visitor) -> Option<Reached> {
        let board = Arc::clone(&self.board);
        let mut routes = board.routes();
        // Without addresses it has gone.
        let header = board.tuning.proxy_protocol.then(|| visitor.header()).transpose().ok()?;
        loop {
            if routes.borrow_and_update().closed {
                return None;
            }
            let life = board.pick();
            let ready = life.as_ref().is_some_and(|life| !life.is_refusing());
            let grace = if ready { GRACE } else { Duration::ZERO };
            tokio::select! {
                biased;
                _ = routes.changed() => {}
                () = visitor.leaves(grace) => return None,
                reached = attempt(&board, life.as_ref(), header.as_deref()) => if let Some(reached) = reached {
                    self.place = None;
                    return Some(reached);
                },
                () = self.patience(grace) => {
                    board.count_refused();
                    return None;
                }
            }
        }
    }

    /// Takes a place among those who wait, after `grace`. Ends when younger ones need it, or the time is over.
    async fn patience(&mut self, grace: Duration) {
        if self.place.is_none() && !grace.is_zero() {
            sleep(grace).await;
        }
        let place = self.place.get_or_insert_with(|| self.board.queue.join());
        let hold = self.board.hold;
        let until = *self.until.get_or_insert_with(|| Instant::now() + hold);
        tokio::select! {
            () = sleep_until(until) => {}
            () = place.sent_away() => {}
        }
    }
}

/// Tries the target once, when it is this one's turn. None: look at the route again.
async fn attempt(
    board: &Arc<Switchboard>,
    life: Option<&Arc<Life>>,
    header: Option<&[u8]>,
) -> Option<Reached> {
    let Some(life) = life else { return pending().await };
    let scout = life.turn().await;
    match socket::connect(&life.target.address, board.tuning.connect).await {
        Ok(server) => {
            let port = server.local_addr().ok()?.port();
            // A connection that has just been made has room for it.
            if header.is_some_and(|header| server.try_write(header).ok() != Some(header.len())) {
                refused(board, life, "took no PROXY header");
                return None;
            }
            let link = board.link(life, port)?;
            // Without PostgreSQL's greeting to wait for, being connected is all that can be known.
            let scout = scout.filter(|_| board.speaks_postgresql());
            if scout.is_none() {
                board.accepts(life);
            }
            Some(Reached { server, link, scout })
        }
        // Says nothing about the target, but is tried again at the same pace.
        Err(error) if socket::is_shortage(&error) => {
            life.refuses();
            None
        }
        Err(error) => {
            refused(board, life, &error.to_string());
            None
        }
    }
}

/// Notes that the target takes no connections.
pub(super) fn refused(board: &Switchboard, life: &Life, error: &str) {
    if life.refuses() {
        let (endpoint, target) = (&board.name, &life.target);
        tracing::info!(%endpoint, node = %target.node, address = %target.address, error, "target takes no connections");
        board.bump();
    }
}
