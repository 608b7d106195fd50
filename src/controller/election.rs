//! Leadership: a lease in the store. What a leader writes is guarded by the key's creation revision, so a leader that
//! does not know yet that it was deposed can do no harm; it also stops believing in time by its own clock, whatever the
//! store does: refuse, fail, or not answer at all.
//!
//! Who does not lead waits for a change of the records and tries at once when there is one: a leader that resigns is
//! followed without delay. The lease of one that crashed keeps its key until it runs out. One that gave up only because
//! the store was silent takes its leadership up again, if the lease has lasted (etcd extends all of them when its own
//! leader changes).

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{Deps, Event, Leading};
use crate::{
    model::NodeId,
    ports::{Clock, Revision, StoreError},
    store::{Leadership, Records, Registration},
};

/// How many past incidents a new leader looks at: enough for the flap limit.
const PAST: usize = 64;
/// A member that resigned leaves this many lease lengths to the others.
const COURTESY: u32 = 2;
/// Renewals per lease length.
const RENEWALS: u32 = 4;
/// After a failure, of a renewal or a candidacy, it is tried again so many times per lease length.
const RETRIES: u32 = 20;
/// Without any news the candidacy is tried again so many times per lease length, should news ever fail to come.
const LOOKS: u32 = 2;

pub(super) fn start(
    deps: Arc<Deps>,
    events: mpsc::Sender<Event>,
    resign: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let candidate = Candidate {
        node: deps.node.clone(),
        registration: deps.registration.clone(),
        records: deps.records.clone(),
        ttl: deps.leader_ttl,
        clock: deps.clock.clone(),
    };
    tokio::spawn(candidate.run(events, resign))
}

/// How a leadership ended.
enum End {
    /// On purpose.
    Resigned,
    /// Its lease is gone.
    Lost,
    /// The store did not answer in time. The lease may have lasted.
    Unanswered(Leadership),
    /// Nobody listens any more.
    Unheard,
}

/// A member that leads when it may.
struct Candidate {
    node: NodeId,
    registration: Registration,
    records: Records,
    /// How long the leader's lease lasts.
    ttl: Duration,
    clock: Arc<dyn Clock>,
}

impl Candidate {
    async fn run(self, events: mpsc::Sender<Event>, mut resign: watch::Receiver<bool>) {
        let (mut since, mut former) = (Revision::default(), None);
        loop {
            let Some(leading) = self.await_leadership(&mut since, &mut former).await else { continue };
            if events.send(Event::Leads(Some(leading.clone()))).await.is_err() {
                return;
            }
            let end = self.hold(leading, &events, &mut resign).await;
            if events.send(Event::Leads(None)).await.is_err() {
                return;
            }
            match end {
                End::Resigned => tokio::time::sleep(self.ttl * COURTESY).await,
                End::Unanswered(leadership) => former = Some(leadership),
                End::Lost => {}
                End::Unheard => return,
            }
        }
    }

    /// Tries to lead; if somebody else does, waits until it is time to try again.
    async fn await_leadership(
        &self,
        since: &mut Revision,
        former: &mut Option<Leadership>,
    ) -> Option<Leading> {
        match self.campaign(former).await {
            Ok(Some(leading)) => return Some(leading),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "campaign");
                tokio::time::sleep(self.ttl / RETRIES).await;
                return None;
            }
        }
        // What changes after this is noticed even if it does before the wait begins: `since` was read before the key.
        match timeout(self.ttl / LOOKS, self.records.changed(*since)).await {
            Ok(Ok(revision)) => *since = revision,
            Ok(Err(error)) => {
                tracing::debug!(%error, "wait for the leader's key");
                // The store may be another one now, in which that revision means nothing.
                *since = Revision::default();
                tokio::time::sleep(self.ttl / RETRIES).await;
            }
            Err(_) => {}
        }
        None
    }

    async fn campaign(&self, former: &mut Option<Leadership>) -> Result<Option<Leading>, StoreError> {
        let late = |_| StoreError::Outage(format!("no answer within {:?}", self.ttl));
        // A member that could not register when it started, or did into a store that was wiped since, must do so now:
        // nobody finds it otherwise.
        timeout(self.ttl, self.records.register(&self.registration)).await.map_err(late)??;
        let asked = self.clock.now();
        let resumed = match former.as_ref() {
            Some(former) => timeout(self.ttl, self.records.resume(former)).await.map_err(late)??,
            None => false,
        };
        let won = match former.take().filter(|_| resumed) {
            Some(former) => Some(former),
            None => timeout(self.ttl, self.records.campaign(&self.node, self.ttl)).await.map_err(late)??,
        };
        let Some(leadership) = won else { return Ok(None) };
        let until = asked.plus(believed(self.ttl));
        let past = match timeout(until.since(self.clock.now()), self.records.incidents(PAST)).await {
            Ok(Ok(past)) => past,
            Ok(Err(error)) => {
                tracing::warn!(%error, "read past incidents");
                Vec::new()
            }
            // It was won too late to be of use.
            Err(_) => {
                self.leave(leadership).await;
                return Ok(None);
            }
        };
        Ok(Some(Leading { leadership, until, past: Arc::new(past) }))
    }

    /// Renews until the lease is lost, or may be by the time that is left.
    async fn hold(
        &self,
        mut leading: Leading,
        events: &mpsc::Sender<Event>,
        resign: &mut watch::Receiver<bool>,
    ) -> End {
        let mut pause = self.ttl / RENEWALS;
        loop {
            let left = leading.until.since(self.clock.now());
            tokio::select! {
                () = tokio::time::sleep(pause.min(left)) => {}
                changed = resign.changed() => {
                    if changed.is_ok() && *resign.borrow_and_update() {
                        tracing::info!("leadership is left to a member that does not sit beside the primary");
                        self.leave(leading.leadership).await;
                        return End::Resigned;
                    }
                }
            }
            let asked = self.clock.now();
            let left = leading.until.since(asked);
            if left.is_zero() {
                tracing::warn!("the leader lease could not be renewed in time");
                return End::Unanswered(leading.leadership);
            }
            match timeout(left, self.records.renew(&leading.leadership)).await {
                Ok(Ok(true)) => {
                    leading.until = asked.plus(believed(self.ttl));
                    pause = self.ttl / RENEWALS;
                    if events.send(Event::Leads(Some(leading.clone()))).await.is_err() {
                        return End::Unheard;
                    }
                }
                Ok(Ok(false)) => return End::Lost,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "renew the leader lease");
                    pause = self.ttl / RETRIES;
                }
                Err(_) => {
                    tracing::warn!("the store did not answer while the leader lease could be renewed");
                    return End::Unanswered(leading.leadership);
                }
            }
        }
    }

    /// Ends the leadership at once, if the store answers; else it ends by itself.
    async fn leave(&self, leadership: Leadership) {
        match timeout(self.ttl, self.records.resign(leadership)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "resign"),
            Err(_) => tracing::warn!("the store did not answer a resignation"),
        }
    }
}

/// Counted from before the request, and short of the lease by a fifth: for drift and for what is in flight.
fn believed(ttl: Duration) -> Duration {
    ttl * 4 / 5
}
