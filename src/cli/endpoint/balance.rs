//! What one of the members sees, asked for again and again: what a balanced endpoint goes by, since a lag changes all the time.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::client;
use crate::{
    config,
    endpoint::{self, Proxy},
    model::Snapshot,
};

/// Between two questions. Longer: what has fallen behind gets new connections for longer.
const EVERY: Duration = Duration::from_millis(500);
/// How long a member may take over its answer until the next one is asked.
const ANSWER: Duration = Duration::from_secs(1);

/// Follows the first member that answers, and another one when that ceases to, for ever.
pub(super) async fn balance(proxy: &Arc<Proxy>, config: &config::Endpoint, members: Vec<reqwest::Url>) {
    let mut members = members;
    let mut shown: Option<watch::Sender<Arc<Snapshot>>> = None;
    let mut silent = false;
    loop {
        match timeout(ANSWER, ask(&members[0])).await.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer"))) {
            Ok(snapshot) => {
                if silent || shown.is_none() {
                    tracing::info!(member = %snapshot.node, url = %members[0], "follows a member");
                }
                silent = false;
                let snapshot = Arc::new(snapshot);
                match &shown {
                    Some(shown) => _ = shown.send_replace(snapshot),
                    None => {
                        let (sender, receiver) = watch::channel(snapshot);
                        endpoint::follow(proxy, config, receiver);
                        shown = Some(sender);
                    }
                }
                sleep(EVERY).await;
            }
            Err(error) => {
                if !silent {
                    tracing::warn!(url = %members[0], why = format!("{error:#}"), "a member is not heard");
                }
                silent = true;
                members.rotate_left(1);
                sleep(EVERY / 5).await;
            }
        }
    }
}

async fn ask(url: &reqwest::Url) -> Result<Snapshot> {
    Ok(client(url, ANSWER)?.get(url.clone()).send().await?.error_for_status()?.json().await?)
}
