//! Watches the store: the records, and the primary lease. Both are read anew whenever they change; nothing polls.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{Deps, Event, Stored};
use crate::{
    model::Stamp,
    ports::{Revision, StoreError},
};

/// The store is read again this long after it failed.
const STORE_RETRY: Duration = Duration::from_millis(250);

/// Reads the records whenever they change.
pub(super) fn records(deps: Arc<Deps>, events: mpsc::Sender<Event>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut since = Revision::default();
        loop {
            let read = read(&deps).await;
            let failed = read.is_err();
            if events.send(Event::Store(read.map(Box::new).map_err(|error| error.to_string()))).await.is_err()
            {
                return;
            }
            if failed {
                // Nothing need change for the next reading to succeed.
                tokio::time::sleep(STORE_RETRY).await;
                continue;
            }
            match deps.records.changed(since).await {
                Ok(revision) => since = revision,
                Err(_) => {
                    // The store may be another one now, in which that revision means nothing. The reading tells why.
                    since = Revision::default();
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
    })
}

async fn read(deps: &Deps) -> Result<Stored, StoreError> {
    Ok(Stored {
        asked: deps.clock.now(),
        last: deps.records.last_incident().await?,
        intent: deps.records.intent().await?,
        leader: deps.records.leader().await?,
        members: deps.records.members().await?,
    })
}

/// Reads the primary lease whenever it is renewed, and whenever another intent is known to stand: what is read after a
/// vacancy was declared is the last renewal there can be.
pub(super) fn lease(
    deps: Arc<Deps>,
    events: mpsc::Sender<Event>,
    mut intents: watch::Receiver<Option<Stamp>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut since = Revision::default();
        loop {
            let under = *intents.borrow_and_update();
            match deps.records.lease().await {
                Ok(found) => {
                    since = since.max(found.as_ref().map_or(since, |(_, revision)| *revision));
                    let record = found.map(|(record, _)| record);
                    if events.send(Event::Lease(record, under)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "read the primary lease");
                    tokio::time::sleep(STORE_RETRY).await;
                    continue;
                }
            }
            tokio::select! {
                changed = deps.records.lease_changed(since) => match changed {
                    // May be a change elsewhere: what is read then has the revision it had.
                    Ok(revision) => since = since.max(revision),
                    Err(_) => {
                        since = Revision::default();
                        tokio::time::sleep(STORE_RETRY).await;
                    }
                },
                changed = intents.changed() => if changed.is_err() { return },
            }
        }
    })
}
