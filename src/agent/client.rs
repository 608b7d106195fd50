//! What a client meets at this server, looked at in peace; and the nonce by which this very postmaster is told from any other.
//!
//! A standby is never written to before it is promoted, so that its clients' logins and settings are asked for beforehand.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::inner::Inner;
use crate::{
    model::{Seen, Server, ServerIdentity},
    postgres::{sql::CONNECT, who::NONCE},
};

/// Between two looks. Each costs the server a process. Shorter: an idle server is kept busy. Longer: a setting that keeps clients
/// from writing is noticed later.
const LOOK: Duration = Duration::from_secs(5);
/// Between two looks at whether the server answers.
const STEP: Duration = Duration::from_millis(250);
/// How long sessions may take to have the nonce after it was written.
const RELOADED: Duration = Duration::from_secs(2);

/// Looks for as long as the postmaster lives.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut last = None;
    loop {
        let answers =
            inner.board.read(|s| matches!(s.facts.server.value, Server::Primary(_) | Server::Standby(_)));
        // Not because its role has changed: what is asked for is the same then, and clients come just now.
        if answers && last.is_none_or(|at: Instant| at.elapsed() >= LOOK) {
            last = Some(Instant::now());
            inner.keep_nonce().await;
            inner.look_as_client().await;
        }
        sleep(STEP).await;
    }
}

impl Inner {
    async fn look_as_client(&self) {
        let (generation, identity) = self.board.read(|s| (s.generation, s.facts.access.identity.clone()));
        let at = self.now();
        let Some(look) = self.client.look(&self.address, identity.as_ref()).await else { return };
        self.board.update(|s| {
            if s.generation == generation {
                s.facts.access.client = Some(Seen { value: look, at });
            }
        });
    }

    /// Reports which postmaster the last connection was to. A nonce that was not written for this start is none: it came with
    /// the data directory.
    pub(super) async fn note_identity(&self) {
        let seen = self.access.identity();
        let own = seen.map(|seen| {
            let nonce = seen.nonce.clone().filter(|nonce| nonce.starts_with(&self.nonce_of(&seen)));
            ServerIdentity { nonce, ..seen }
        });
        self.board.update(|s| s.facts.access.identity = own);
    }

    /// Writes the nonce where this postmaster has none of its own. Before a cluster is declared nothing is written.
    async fn keep_nonce(&self) {
        // A fresh connection: what it has, a client has.
        if self.access.connect(CONNECT).await.is_err() {
            return;
        }
        self.note_identity().await;
        let (identity, promised) =
            self.board.read(|s| (s.facts.access.identity.clone(), s.facts.promise.is_some()));
        let Some(identity) = identity.filter(|identity| promised && identity.nonce.is_none()) else { return };
        let mut random = [0_u8; 8];
        if getrandom::fill(&mut random).is_err() {
            return;
        }
        let nonce = format!("{}{:016x}", self.nonce_of(&identity), u64::from_le_bytes(random));
        if let Err(error) = self.instance.set(&[(NONCE, &nonce)]).await {
            tracing::warn!(%error, "the nonce of this server could not be written");
            return;
        }
        let Some(postmaster) = self.attached.borrow().clone() else { return };
        let until = Instant::now() + RELOADED;
        if postmaster.reload().is_err() {
            return;
        }
        while Instant::now() < until && self.access.connect(CONNECT).await.is_ok() {
            self.note_identity().await;
            if self.board.read(|s| s.facts.access.identity.as_ref().is_some_and(|seen| seen.nonce.is_some()))
            {
                return;
            }
            sleep(STEP / 10).await;
        }
        tracing::warn!("sessions do not have the nonce of this server; something else sets {NONCE}");
    }

    /// What a nonce of this node begins with, for this start of the postmaster.
    fn nonce_of(&self, identity: &ServerIdentity) -> String {
        format!("{} {} ", self.node, identity.started_us)
    }
}
