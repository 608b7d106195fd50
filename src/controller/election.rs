//! Leadership: a lease in the store. What a leader writes is guarded by the key's creation revision, so a leader that
//! does not know yet that it was deposed can do no harm; it also stops believing in time by its own clock.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{Deps, Event, Leading};
use crate::store::Leadership;

/// How many past incidents a new leader looks at: enough for the flap limit.
const PAST: usize = 64;
/// A member that resigned leaves this many lease lengths to the others.
const COURTESY: u32 = 2;

pub(super) fn start(
    deps: Arc<Deps>,
    events: mpsc::Sender<Event>,
    mut resign: watch::Receiver<bool>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = deps.records.register(&deps.registration).await {
            tracing::warn!(%error, "register this member");
        }
        loop {
            let Some(leading) = campaign(&deps).await else { continue };
            if events.send(Event::Leads(Some(leading.clone()))).await.is_err() {
                return;
            }
            let resigned = hold(&deps, leading, &events, &mut resign).await;
            if events.send(Event::Leads(None)).await.is_err() {
                return;
            }
            if resigned {
                let others_turn = deps.leader_ttl * COURTESY;
                tokio::time::sleep(others_turn).await;
            }
        }
    })
}

/// Waits for leadership: tries whenever the store changes, and a few times per lease length.
async fn campaign(deps: &Deps) -> Option<Leading> {
    let asked = deps.clock.now();
    match deps.records.campaign(&deps.node, deps.leader_ttl).await {
        Ok(Some(leadership)) => {
            // A member that registered into a store that was wiped since must do so again.
            if let Err(error) = deps.records.register(&deps.registration).await {
                tracing::warn!(%error, "register this member");
            }
            let past = deps.records.incidents(PAST).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "read past incidents");
                Vec::new()
            });
            return Some(Leading {
                leadership,
                until: asked.plus(believed(deps.leader_ttl)),
                past: Arc::new(past),
            });
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "campaign"),
    }
    tokio::time::sleep(deps.leader_ttl / 10).await;
    None
}

/// Counted from before the request, and short of the lease by a fifth: for drift and for what is in flight.
fn believed(ttl: Duration) -> Duration {
    ttl * 4 / 5
}

/// Renews until the lease is lost. True if it was given up on purpose.
async fn hold(
    deps: &Deps,
    mut leading: Leading,
    events: &mpsc::Sender<Event>,
    resign: &mut watch::Receiver<bool>,
) -> bool {
    loop {
        let pause = tokio::time::sleep(deps.leader_ttl / 4);
        tokio::select! {
            () = pause => {}
            changed = resign.changed() => {
                if changed.is_ok() && *resign.borrow_and_update() {
                    return give_up(deps, leading.leadership).await;
                }
            }
        }
        let asked = deps.clock.now();
        match deps.records.renew(&leading.leadership).await {
            Ok(true) => {
                leading.until = asked.plus(believed(deps.leader_ttl));
                if events.send(Event::Leads(Some(leading.clone()))).await.is_err() {
                    return false;
                }
            }
            Ok(false) => return false,
            Err(error) if deps.clock.now() < leading.until => {
                tracing::warn!(%error, "renew the leader lease")
            }
            Err(error) => {
                tracing::warn!(%error, "the leader lease could not be renewed in time");
                return false;
            }
        }
    }
}

async fn give_up(deps: &Deps, leadership: Leadership) -> bool {
    tracing::info!("leadership is left to a member that does not sit beside the primary");
    if let Err(error) = deps.records.resign(leadership).await {
        tracing::warn!(%error, "resign");
    }
    true
}
