//! A virtual IP: an address that is on the host of whoever clients are led to, and on no other.
//!
//! Only the member of that node adds it, and only while its primary has the right to serve. Every other order to lead
//! clients elsewhere removes it, and so does the loss of that right, without an order: a member that hears from nobody
//! gives it up. A member that starts anew keeps what it finds only while nobody else answers for the address, and for no
//! longer than an order or the right takes to come.
//!
//! Before it is added somebody is asked for it by ARP or neighbour discovery. If anybody answers it is not added, and who
//! that is is told; `claim_after` says whether and when it is taken all the same.

mod frames;
mod link;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

use self::link::{Link, change, has, shown};
use super::{Driver, Surroundings, Task, Wish};
use crate::{
    config,
    model::{EndpointKind, NodeId, Stamp},
};

/// How often to look whether this host may still have it.
const LOOK: Duration = Duration::from_millis(200);
/// How long a member that starts anew waits for an order, or for the right to serve: longer than both take when all is
/// well, and no longer than a right lasts.
const START: Duration = Duration::from_secs(3);
/// How often it is announced: a frame can be lost.
const ANNOUNCED: u8 = 3;

pub(super) struct Vip {
    settings: config::Vip,
    node: NodeId,
    kind: EndpointKind,
    may_serve: Arc<dyn Fn() -> bool + Send + Sync>,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Under which order it was announced, and how often.
    announced: Option<(Stamp, u8)>,
    /// Since when somebody else has answered for it.
    taken_since: Option<Instant>,
}

impl Vip {
    pub(super) fn new(settings: &config::Vip, kind: EndpointKind, around: &Surroundings<'_>) -> Self {
        Self {
            settings: settings.clone(),
            node: around.node.clone(),
            kind,
            may_serve: Arc::clone(&around.may_serve),
            started: Instant::now(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_here(&self) -> Result<bool, String> {
        has(self.settings.address.ip).map_err(|error| format!("read this machine's addresses: {error}"))
    }

    /// An app server needs no right to serve.
    fn may_have_it(&self) -> bool {
        self.kind == EndpointKind::App || (self.may_serve)()
    }

    async fn link(&self) -> Result<Option<Link>, String> {
        Link::open(&self.settings.interface, self.settings.address.ip).await
    }

    /// How often it was announced under this order.
    fn announced(&self, stamp: Stamp) -> u8 {
        self.state().announced.filter(|(under, _)| *under == stamp).map_or(0, |(_, times)| times)
    }

    async fn give_up(&self) -> Result<(), String> {
        (self.state().announced, self.state().taken_since) = (None, None);
        if !self.is_here()? {
            return Ok(());
        }
        change("del", self.settings.address, &self.settings.interface).await?;
        tracing::info!(address = %self.settings.address.ip, "the address was given up");
        Ok(())
    }

    async fn take(&self, stamp: Stamp) -> Result<(), String> {
        let is_here = self.is_here()?;
        if is_here && self.announced(stamp) >= ANNOUNCED {
            return Ok(());
        }
        let link = self.link().await?;
        if !is_here {
            if let Some(link) = &link {
                self.must_be_free(link).await?;
            }
            change("add", self.settings.address, &self.settings.interface).await?;
            self.state().announced = None;
            tracing::info!(address = %self.settings.address.ip, "the address was taken");
        }
        if let Some(link) = link {
            link.announce().await.map_err(|error| format!("announce the address: {error}"))?;
        }
        let times = self.announced(stamp) + 1;
        self.state().announced = Some((stamp, times));
        Ok(())
    }

    async fn must_be_free(&self, link: &Link) -> Result<(), String> {
        let holder = link.holder().await.map_err(|error| format!("ask who has the address: {error}"))?;
        let Some(mac) = holder else {
            self.state().taken_since = None;
            return Ok(());
        };
        let since = *self.state().taken_since.get_or_insert_with(Instant::now);
        let (ip, mac) = (self.settings.address.ip, shown(mac));
        match self.settings.claim_after {
            Some(limit) if since.elapsed() >= limit => {
                tracing::warn!(address = %ip, %mac, "taken although somebody else answers for it (claim_after)");
                Ok(())
            }
            _ => Err(format!("{ip} is held by {mac}, which answers for it on {}", self.settings.interface)),
        }
    }

    /// Nobody has said yet whose it is.
    async fn keep_for_now(&self) -> Result<(), String> {
        if !self.is_here()? || self.may_have_it() {
            return Ok(());
        }
        // After that nobody is asked: on a network that is down there is no answer, and no right to the address either.
        if self.started.elapsed() < START {
            let held = match self.link().await? {
                Some(link) => {
                    link.holder().await.map_err(|error| format!("ask who has the address: {error}"))?
                }
                None => None,
            };
            if held.is_none() {
                return Ok(());
            }
        }
        self.give_up().await
    }
}

#[async_trait]
impl Driver for Vip {
    fn shows(&self) -> String {
        format!("{} on {}", self.settings.address.ip, self.settings.interface)
    }

    async fn carry_out(&self, task: &Task) -> Result<(), String> {
        match &task.wish {
            Wish::Lead { node, .. } if *node != self.node => self.give_up().await,
            Wish::Lead { .. } if self.may_have_it() => self.take(task.stamp).await,
            Wish::Lead { .. } => {
                self.give_up().await?;
                Err("this host's PostgreSQL has no right to serve at the moment".into())
            }
            Wish::Cut => self.give_up().await,
            Wish::Nothing | Wish::Hold | Wish::Quiet => self.keep_for_now().await,
        }
    }

    fn looks_every(&self) -> Option<Duration> {
        Some(LOOK)
    }
}
