//! In a switchover: whoever is between two transactions begins no other one, so that the stop of the old primary cuts nobody.
//!
//! The leader does that for the endpoints that members run. It does not know of this one, which asks for itself.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::client;
use crate::{endpoint::Proxy, model::Stamp, ports::Session};

/// Between two looks at the sessions. Longer: the old primary is stopped before everybody was seen between two transactions.
const LOOK: Duration = Duration::from_millis(5);
/// Where no member says which sessions there are, they are asked again after this.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a member may take over its answer.
const ANSWER: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
struct Sessions {
    sessions: Vec<Session>,
}

/// Parks sessions for as long as `held` says under which stamp clients are held for a hand-over; for ever. What was parked
/// flows on, or ends, with the next order.
pub(super) async fn park(
    proxy: &Proxy,
    mut held: watch::Receiver<Option<Stamp>>,
    mut members: Vec<reqwest::Url>,
) {
    loop {
        let Ok(stamp) = held.wait_for(Option::is_some).await.map(|stamp| *stamp) else { return };
        let Some(stamp) = stamp else { continue };
        match timeout(ANSWER, idle_at(&members[0])).await {
            Ok(Ok(idle)) => {
                // Refused where an order has come meanwhile, which is about all of them.
                _ = proxy.park(stamp, idle);
                sleep(LOOK).await;
            }
            // Not the one beside the old primary, or not any more.
            Ok(Err(_)) | Err(_) => {
                members.rotate_left(1);
                let pause = AGAIN / u32::try_from(members.len()).unwrap_or(1);
                sleep(pause).await;
            }
        }
    }
}

async fn idle_at(url: &reqwest::Url) -> Result<BTreeSet<u16>> {
    let answer: Sessions =
        client(url, ANSWER)?.get(url.clone()).send().await?.error_for_status()?.json().await?;
    Ok(Session::idle_ports(&answer.sessions))
}
