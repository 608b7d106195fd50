//! In a switchover: whoever is between two transactions begins no other one, so that the stop of the old primary cuts nobody.
//!
//! The leader does that for the endpoints that members run, and cannot reach this one, which asks for itself. With each question
//! it says what it has parked: the stop waits for that (`crate::sidecars`).

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::client;
use crate::{
    endpoint::Proxy,
    model::{Mono, Reply, Stamp},
    ports::{Session, SessionsLook},
};

/// Between two looks at the sessions. Longer: the old primary is stopped later.
const LOOK: Duration = Duration::from_millis(5);
/// Where no member says which sessions there are, they are asked again after this.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a member may take over its answer.
const ANSWER: Duration = Duration::from_millis(500);

/// A name that no other sidecar has.
pub(super) fn name() -> Result<String> {
    Ok(format!("{:016x}", getrandom::u64().context("read random bytes")?))
}

/// Where one member shows its sessions.
pub(super) struct Member {
    client: reqwest::Client,
    sessions: reqwest::Url,
}

/// All of them, to be asked by this name.
pub(super) fn members(sessions: Vec<reqwest::Url>, name: &str) -> Result<Vec<Member>> {
    let member = |mut sessions: reqwest::Url| {
        sessions.query_pairs_mut().append_pair("sidecar", name);
        Ok(Member { client: client(&sessions, ANSWER)?, sessions })
    };
    sessions.into_iter().map(member).collect()
}

impl Member {
    async fn look(&self, parked: Option<Mono>) -> Result<SessionsLook> {
        let mut url = self.sessions.clone();
        if let Some(Mono(look)) = parked {
            url.query_pairs_mut().append_pair("parked", &look.to_string());
        }
        let asked = async { self.client.get(url).send().await?.error_for_status()?.json().await };
        Ok(timeout(ANSWER, asked).await.context("no answer")??)
    }
}

/// Parks sessions for as long as `held` says under which stamp clients are held for a hand-over; for ever. What was parked
/// flows on, or ends, with the next order.
pub(super) async fn park(proxy: &Proxy, mut held: watch::Receiver<Option<Stamp>>, mut members: Vec<Member>) {
    loop {
        let Ok(stamp) = held.wait_for(Option::is_some).await.map(|stamp| *stamp) else { return };
        let Some(stamp) = stamp else { continue };
        // The look by which sessions are parked.
        let mut parked = None;
        while *held.borrow() == Some(stamp) {
            match members[0].look(parked).await {
                Ok(look) if parked == Some(look.at) => sleep(LOOK).await,
                Ok(look) => match proxy.park(stamp, Session::idle_ports(&look.sessions)) {
                    // Said at once.
                    Reply::Done => parked = Some(look.at),
                    // An order has come meanwhile, which is about all of them.
                    Reply::Refused(_) | Reply::Failed(_) => {
                        parked = None;
                        sleep(LOOK).await;
                    }
                },
                // Not the one beside the old primary, or not any more.
                Err(_) => {
                    parked = None;
                    members.rotate_left(1);
                    sleep(AGAIN / u32::try_from(members.len()).unwrap_or(1)).await;
                }
            }
        }
    }
}
