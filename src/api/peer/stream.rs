//! Keeps one member's fact stream open, for ever, and publishes what comes.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::watch, time::timeout};

use super::{
    link::{Link, Lost},
    remote::{Peer, reason},
    transit::Transit,
    wire,
};
use crate::model::{MemberFacts, Seen};

/// Silence after which a stream is given up: ten heartbeats. Also how late a message may be.
const SILENCE: Duration = Duration::from_secs(1);
/// Time between attempts to open a stream while nothing is heard. Several times what a handshake takes.
const ANEW: Duration = Duration::from_millis(300);
/// How much of a refusal is read.
const REFUSAL_BYTES: usize = 4096;

/// The last facts, on this member's clock; None: nothing was heard yet.
pub(super) type Heard = Option<Seen<MemberFacts>>;

/// Runs until it is aborted. What was heard last stays when the stream is lost: its age tells.
pub(super) async fn keep_open(peer: Arc<Peer>, heard: watch::Sender<Heard>) {
    let mut link = Link::default();
    loop {
        let why = listen(&peer, &heard, &mut link).await;
        if link.lost(&why) {
            tracing::warn!(node = %peer.node, address = peer.address, %why, "no facts from a member");
        }
        tokio::time::sleep(link.wait()).await;
    }
}

/// Opens the stream and publishes what comes, until it is lost.
async fn listen(peer: &Peer, heard: &watch::Sender<Heard>, link: &mut Link) -> Lost {
    let mut lines = match open(peer).await {
        Ok(response) => Lines { response, buffer: Vec::new(), searched: 0 },
        Err(why) => return why,
    };
    // Its clock may be another one since: that of a host that was started anew.
    *peer.transit() = Transit::default();
    loop {
        let line = match timeout(SILENCE, lines.next()).await {
            Ok(Ok(line)) => line,
            Ok(Err(why)) => return why,
            Err(_) => return Lost::Silent,
        };
        let received = peer.clock.now();
        let facts: MemberFacts = match serde_json::from_slice(&line) {
            Ok(facts) => facts,
            Err(error) => return Lost::Malformed(error.to_string()),
        };
        if facts.node != peer.node {
            return Lost::Foreign(facts.node);
        }
        let arrived = peer.transit().arrival(facts.sent_at, received);
        if received.since(arrived) > SILENCE {
            return Lost::Late(received.since(arrived));
        }
        if link.opened() {
            tracing::info!(node = %peer.node, address = peer.address, "facts come from a member");
        }
        heard.send_replace(Some(Seen { value: facts.rebased(arrived), at: arrived }));
    }
}

/// Opens a stream. While nothing is heard another attempt is begun beside those under way, every `ANEW`: packets that
/// a cut network swallowed are sent again by the kernel only after a second or more, and the network may be back by then.
async fn open(peer: &Peer) -> Result<reqwest::Response, Lost> {
    let mut attempts = FuturesUnordered::new();
    let mut anew = tokio::time::interval(ANEW);
    // Connecting has its own deadline, of the client; the head of the answer comes within `SILENCE` after that.
    let mut given_up = Box::pin(tokio::time::sleep(super::remote::CONNECT_WAIT + SILENCE));
    loop {
        tokio::select! {
            _ = anew.tick() => attempts.push(peer.get(wire::FACTS).send()),
            Some(sent) = attempts.next() => match sent {
                Ok(response) => return admitted(response).await,
                // One whose connecting took too long; younger ones may still succeed.
                Err(error) if error.is_timeout() && !attempts.is_empty() => {}
                Err(error) => return Err(Lost::Unreachable(reason(&error))),
            },
            () = &mut given_up => return Err(Lost::Silent),
        }
    }
}

async fn admitted(response: reqwest::Response) -> Result<reqwest::Response, Lost> {
    if response.status().is_success() {
        return Ok(response);
    }
    let said = timeout(SILENCE, refusal(response)).await;
    Err(Lost::Refused(said.unwrap_or_else(|_| "it does not say why".into())))
}

/// The sentence of a refusal.
pub(super) async fn refusal(mut response: reqwest::Response) -> String {
    let status = response.status();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > REFUSAL_BYTES {
            break;
        }
    }
    let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let said = json.as_ref().and_then(|json| json.get("error")?.as_str());
    said.map_or_else(|| status.to_string(), str::to_owned)
}

/// The lines of a body.
struct Lines {
    response: reqwest::Response,
    buffer: Vec<u8>,
    /// How much of the buffer is known to have no newline.
    searched: usize,
}

impl Lines {
    /// The next line. Cancel-safe as far as it matters: who gives up waiting drops the stream.
    async fn next(&mut self) -> Result<Vec<u8>, Lost> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = found.map(|place| self.searched + place) {
                let rest = self.buffer.split_off(end + 1);
                self.searched = 0;
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > wire::MESSAGE_BYTES {
                return Err(Lost::Malformed("a message without end".into()));
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Err(Lost::Closed),
                Err(error) => return Err(Lost::Unreachable(reason(&error))),
            }
        }
    }
}
