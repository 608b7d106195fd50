//! Watches the store: the records, and the primary lease. Both are read anew whenever they change.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{Deps, Event, Stored};
use crate::{
    model::{Renewals, Stamp},
    ports::{Revision, StoreError},
};

/// The store is read again this long after it failed.
const STORE_RETRY: Duration = Duration::from_millis(250);

/// A store that has told of no change for so long is asked whether it is there: one that froze says nothing either. Shorter:
/// more reads. Longer: people are told later that it is lost; nothing else waits for this.
const QUIET: Duration = Duration::from_secs(1);

/// Reads the records whenever they change.
pub(super) fn records(deps: Arc<Deps>, events: mpsc::Sender<Event>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut since = Revision::default();
        loop {
            let read = read(&deps).await;
            let failed = read.is_err();
            if tell(&events, read.map(Box::new)).await.is_break() {
                return;
            }
            if failed {
                // Nothing need change for the next reading to succeed.
                tokio::time::sleep(STORE_RETRY).await;
                continue;
            }
            let change = tokio::select! {
                changed = deps.records.changed(since) => changed.ok(),
                error = silence(&deps) => {
                    if tell(&events, Err(error)).await.is_break() {
                        return;
                    }
                    None
                }
            };
            since = match change {
                Some(revision) => revision,
                None => {
                    // The store may be another one now, in which that revision means nothing. The reading tells why.
                    tokio::time::sleep(STORE_RETRY).await;
                    Revision::default()
                }
            };
        }
    })
}

/// Break: nobody listens any more.
async fn tell(events: &mpsc::Sender<Event>, read: Result<Box<Stored>, StoreError>) -> ControlFlow<()> {
    match events.send(Event::Store(read.map_err(|error| error.to_string()))).await {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

/// Asks the store now and then, until it does not answer.
async fn silence(deps: &Deps) -> StoreError {
    loop {
        tokio::time::sleep(QUIET).await;
        if let Err(error) = deps.records.leader().await {
            return error;
        }
    }
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

/// What a read of the primary lease is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The intent that is known to stand.
    pub(super) under: Option<Stamp>,
    /// A renewal that somebody knows of, later than the last one that was read.
    pub(super) known: Option<Renewals>,
}

/// Reads the primary lease whenever it is renewed, whenever another intent is known to stand, and whenever somebody knows of a
/// later renewal: what is read after a vacancy was declared is the last renewal there can be.
pub(super) fn lease(
    deps: Arc<Deps>,
    events: mpsc::Sender<Event>,
    mut wanted: watch::Receiver<Wanted>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut since = Revision::default();
        loop {
            let read_for = *wanted.borrow_and_update();
            match deps.records.lease().await {
                Ok(found) => {
                    since = since.max(found.as_ref().map_or(since, |(_, revision)| *revision));
                    let record = found.map(|(record, _)| record);
                    if events.send(Event::Lease(record, read_for)).await.is_err() {
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
                changed = wanted.changed() => if changed.is_err() { return },
            }
        }
    })
}
