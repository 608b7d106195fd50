//! `GET /v1/events`: the snapshot as server-sent events, one for every change that matters to somebody who looks.
//!
//! The event is `status`, its data the body of `GET /v1/status`. A reader that is slow gets the latest, not all.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Query, State, rejection::QueryRejection},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
    routing::get,
};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{Shared, error::Refusal};
use crate::{
    model::{Snapshot, Traffic},
    sidecars::Following,
};

/// A sign of life on a stream with no events; shorter than the port's limit for silence.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// The longest name of a sidecar, in bytes. It is chosen by a program.
const NAME: usize = 64;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/v1/events", get(events))
}

/// Who looks on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reader {
    /// A proxy beside an app, by this name: a hand-over waits until it has parked sessions.
    sidecar: Option<String>,
}

async fn events(
    State(shared): State<Shared>,
    asked: Result<Query<Reader>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Reader { sidecar }) = asked.map_err(|refused| Refusal::malformed(refused.body_text()))?;
    if sidecar.as_ref().is_some_and(|name| name.len() > NAME) {
        return Err(Refusal::malformed(format!("sidecar: at most {NAME} bytes")));
    }
    let Ok(place) = Arc::clone(&shared.subscribers).try_acquire_owned() else {
        return Err(Refusal::busy("too many event streams are open"));
    };
    let follows = sidecar.zip(shared.console.sidecars()).map(|(name, sidecars)| sidecars.follows(name));
    let subscriber =
        Subscriber { snapshots: shared.feed.snapshots(), shown: None, _place: place, _follows: follows };
    let ended = Box::pin(shared.closing.wait());
    let keep_alive = KeepAlive::new().interval(SIGN_OF_LIFE);
    Ok(Sse::new(stream(subscriber).take_until(ended)).keep_alive(keep_alive).into_response())
}

struct Subscriber {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The essentials of what was shown last.
    shown: Option<Snapshot>,
    /// Counts it among those at once.
    _place: OwnedSemaphorePermit,
    /// Counts it among the proxies beside apps.
    _follows: Option<Following>,
}

fn stream(subscriber: Subscriber) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(subscriber, |mut subscriber| async move {
        let snapshot = subscriber.next().await?;
        let event = Event::default().event("status").json_data(&*snapshot);
        Some((Ok(event.unwrap_or_else(|_| Event::default().comment("not shown"))), subscriber))
    })
}

impl Subscriber {
    /// The next snapshot that differs in something that matters; None when there will be no more.
    async fn next(&mut self) -> Option<Arc<Snapshot>> {
        loop {
            if self.shown.is_some() {
                self.snapshots.changed().await.ok()?;
            }
            let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
            let essentials = essentials(&snapshot);
            if self.shown.as_ref() != Some(&essentials) {
                self.shown = Some(essentials);
                return Some(snapshot);
            }
        }
    }
}

/// A snapshot without what changes all the time: ages, positions, counts, and the plan's sentences, which count down.
/// What a new field holds counts as essential until it is blanked here.
fn essentials(snapshot: &Snapshot) -> Snapshot {
    let mut essentials =
        Snapshot { at: Timestamp::UNIX_EPOCH, rpo: None, plan: Vec::new(), ..snapshot.clone() };
    for node in &mut essentials.nodes {
        node.heard_ms = 0.0;
        (node.lsn, node.lag_bytes, node.replay_bytes, node.disk_free_bytes) = (None, None, None, None);
    }
    for endpoint in &mut essentials.endpoints {
        (endpoint.open, endpoint.held) = (0, 0);
        (endpoint.held_total, endpoint.cut_total, endpoint.refused_total) = (0, 0, 0);
        endpoint.traffic = Traffic::default();
    }
    essentials
}
