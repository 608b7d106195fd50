//! What each member shows, as it changes: what an ordered endpoint goes by.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::{sleep, timeout};

use super::{Following, client};
use crate::{
    endpoint::sidecar,
    model::{Known, Reply, RouteOrder, Snapshot},
};

/// A member that does not answer is asked again after this, and after twice as long each time until the second.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MOST: Duration = Duration::from_secs(2);
/// A member shows a sign of life every 5 s: after so long without any its host is gone.
const SILENCE: Duration = Duration::from_secs(12);
/// The most bytes of one event.
const EVENT_BYTES: usize = 16 << 20;

/// Does what one member shows, for ever.
pub(super) async fn follow(following: &Following, url: reqwest::Url) {
    let mut wait = AGAIN;
    let mut lost = false;
    loop {
        let mut shown = 0_u64;
        let ended = listen(&url, |snapshot| {
            if shown == 0 {
                tracing::info!(member = %snapshot.node, %url, "follows a member");
            }
            shown += 1;
            following.take(&snapshot);
        })
        .await;
        let why = ended.err().map_or_else(|| "it has ended".to_owned(), |error| format!("{error:#}"));
        if shown > 0 || !lost {
            tracing::warn!(%url, why, "a member is not heard; the last target stays");
        }
        (lost, wait) = (true, if shown > 0 { AGAIN } else { (wait * 2).min(AGAIN_MOST) });
        sleep(wait).await;
    }
}

impl Following {
    /// Does what a member shows.
    fn take(&self, snapshot: &Snapshot) {
        let Some((stamp, order)) = sidecar::order(snapshot, self.kind, self.proxy.facts().stamp) else {
            return;
        };
        let handing_over = snapshot.intent.as_ref().is_some_and(|intent| intent.handover.is_some());
        if handing_over && self.held.borrow().is_some_and(|held| held.same_epoch(stamp)) {
            // Whoever has not yet heard that clients are held does not let them go, and an order anew would end the parking.
            return;
        }
        let held = (handing_over && order == RouteOrder::Hold).then_some(stamp);
        // Refused only where another member has shown something newer in this very moment.
        if self.proxy.order(stamp, order) != Reply::Done {
            return;
        }
        self.held.send_replace(held);
        if let Some(remembered) = &self.remembered {
            remembered.raise(Known { stamp: Some(stamp), renewals: None });
        }
    }
}

/// Every snapshot of a member, until it breaks off.
async fn listen(url: &reqwest::Url, mut shows: impl FnMut(Snapshot)) -> Result<()> {
    let client = client(url, AGAIN_MOST)?;
    let asked = client.get(url.clone()).send();
    let mut response = timeout(SILENCE, asked).await.context("no answer")??.error_for_status()?;
    let mut buffer = Vec::new();
    loop {
        let Some(chunk) = timeout(SILENCE, response.chunk()).await.context("no sign of life")?? else {
            return Ok(());
        };
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = buffer.drain(..end + 2).collect();
            if let Some(snapshot) = snapshot_of(&event)? {
                shows(snapshot);
            }
        }
        if buffer.len() > EVENT_BYTES {
            bail!("an event without end");
        }
    }
}

/// The snapshot of one event; None: a sign of life.
fn snapshot_of(event: &[u8]) -> Result<Option<Snapshot>> {
    let data = event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: "));
    let read = data.map(serde_json::from_slice).transpose();
    read.context("what it shows is not understood; is it of the same version?")
}
