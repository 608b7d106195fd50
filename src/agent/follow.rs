//! Streaming from a primary: what is written for it, and how it is known again.

use std::sync::Arc;

use super::{inner::Inner, orders::Unable, promise::Promise, start::Waited};
use crate::{
    model::{Server, Stamp, StandbyName, Upstream},
    postgres::{Conninfo, Postmaster, Source, sql::SqlError},
};

/// How soon a running standby must show that it read its configuration.
const RELOADED: std::time::Duration = std::time::Duration::from_secs(2);
/// Between two looks.
const STEP: std::time::Duration = std::time::Duration::from_millis(2);

/// The upstream that a `primary_conninfo` leads to, if it is the one that this agent was told and wrote.
pub(super) fn upstream_of(conninfo: &str, promise: &Promise) -> Option<Upstream> {
    let upstream = promise.upstream.as_ref()?;
    let seen: Conninfo = conninfo.parse().ok()?;
    let same = seen.address().as_deref() == Some(upstream.address.as_str())
        && seen.get("application_name") == Some(promise.standby_name.0.as_str());
    same.then(|| upstream.clone())
}

impl Inner {
    /// Streams from the upstream: by reload where the standby runs, else by a start.
    pub(super) async fn follow(self: &Arc<Self>, stamp: Stamp, upstream: &Upstream) -> Result<(), Unable> {
        if let Some(unfinished) = self.held().await.unfinished {
            return Err(Unable::Refused(format!("a {unfinished:?} of the data directory has not ended")));
        }
        if self.board.read(|s| matches!(s.facts.server.value, Server::Down(_))) {
            self.mind_stray_directory().await?;
        }
        if self.held().await.strayed.is_some() {
            return Err(Unable::Refused("it left recovery without an order: rewind or clone it".into()));
        }
        match self.board.read(|s| s.facts.server.value.clone()) {
            Server::Primary(_) => {
                Err(Unable::Refused("the server is a running primary: fence it first".into()))
            }
            Server::Unknown => Err(Unable::Failed("it cannot be told what the server is".into())),
            // It may have run for long, paused for a proof, and this member be the one that has just started: that it was Locum
            // who paused it stays noted.
            Server::Starting if self.instance.has_standby_signal().await? => {
                self.lead(upstream, None).await?;
                let postmaster = self.attached.borrow().clone();
                postmaster.map_or(Ok(()), |postmaster| postmaster.reload())?;
                self.job(Some("waiting until PostgreSQL answers".into()));
                self.become_standby(stamp).await
            }
            Server::Starting => Err(Unable::Failed("a server that is no standby is starting".into())),
            Server::Standby(_) => {
                let postmaster = self.running_standby()?;
                self.lead(upstream, Some(&postmaster)).await?;
                // It may have been about to be promoted.
                self.drop_slots_of_a_former_term().await
            }
            Server::Down(_) => {
                self.lead(upstream, None).await?;
                // One that is started anew is not paused.
                self.remember(|p| p.paused = None).await?;
                self.start().await?;
                self.become_standby(stamp).await
            }
        }
    }

    /// Waits until the server is a standby that answers. One that gets nowhere lacks what nobody has: it is ended, so that
    /// something else can be done about it.
    async fn become_standby(self: &Arc<Self>, stamp: Stamp) -> Result<(), Unable> {
        match self.wait_for(stamp, |server| matches!(server, Server::Standby(_))).await {
            Waited::Reached => self.drop_slots_of_a_former_term().await,
            // The later order leads it elsewhere.
            Waited::Outdated => Ok(()),
            Waited::Ended => Err(self.ended().await),
            Waited::Stalled => {
                let why = self.stalled().await;
                self.fence(stamp).await?;
                Err(why)
            }
        }
    }

    /// Writes where to stream from. What was attested of a recruit ends before that.
    async fn lead(self: &Arc<Self>, upstream: &Upstream, running: Option<&Postmaster>) -> Result<(), Unable> {
        self.forget_right();
        let told = upstream.clone();
        self.remember(move |p| {
            p.recruited = None;
            p.upstream = Some(told);
        })
        .await?;
        let name = self.held().await.standby_name;
        let conninfo = self.conninfo(upstream, &name)?;
        self.instance.write_standby_signal().await?;
        let settings = [
            ("primary_conninfo", conninfo.as_str()),
            ("primary_slot_name", upstream.slot.as_str()),
            ("recovery_target_timeline", "latest"),
        ];
        self.instance.set(&settings).await?;
        let Some(postmaster) = running else { return Ok(()) };
        self.keep_only().await;
        if self.held().await.paused.is_some() {
            self.sql().await?.run("SELECT pg_wal_replay_resume()", RELOADED).await?;
            self.remember(|p| p.paused = None).await?;
        }
        postmaster.reload()?;
        let seen = |s: &Server| matches!(s, Server::Standby(s) if s.upstream.as_ref() == Some(upstream));
        let read = async {
            while !self.board.read(|s| seen(&s.facts.server.value)) {
                tokio::time::sleep(STEP).await;
                self.look(true).await?;
            }
            Ok::<(), SqlError>(())
        };
        match tokio::time::timeout(RELOADED, read).await {
            Ok(read) => Ok(read?),
            Err(_) => Err(Unable::Failed(
                "primary_conninfo was written to postgresql.auto.conf, but the server does not have it; \
                 something else sets it, perhaps the command line"
                    .into(),
            )),
        }
    }

    fn conninfo(&self, upstream: &Upstream, name: &StandbyName) -> Result<String, Unable> {
        Ok(self.source(&upstream.address)?.primary_conninfo(&name.0))
    }

    /// The server at an address, as the replication role reaches it.
    pub(super) fn source(&self, address: &str) -> Result<Source, Unable> {
        Source::new(&self.replication, address).map_err(|e| Unable::Refused(e.to_string()))
    }
}
