//! Has a balanced endpoint follow what its member sees.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{
    Proxy,
    balance::{self, Offer},
};
use crate::{
    config,
    model::{EndpointKind, Snapshot},
};

/// A member publishes what it sees several times a second. One that has not for so long is stuck, and what it saw is old.
const STUCK: Duration = Duration::from_secs(2);

/// Begins. It ends with the proxy or with the snapshots.
pub fn follow(
    proxy: &Arc<Proxy>,
    config: &config::Endpoint,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
) -> JoinHandle<()> {
    let (proxy, kind, tuning) = (Arc::downgrade(proxy), config.target, config.tuning.clone());
    tokio::spawn(async move {
        loop {
            let shown = Arc::clone(&snapshots.borrow_and_update());
            let offer = match kind {
                EndpointKind::Standbys => balance::standbys(&shown, tuning.max_lag, tuning.fallback),
                EndpointKind::Apps => balance::apps(&shown),
                // These are ordered.
                EndpointKind::Primary | EndpointKind::App => return,
            };
            let kept = offer.keep.clone();
            let Some(present) = proxy.upgrade() else { return };
            present.offer(&offer);
            drop(present);
            match timeout(STUCK, snapshots.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    if let Some(present) = proxy.upgrade() {
                        present.offer(&Offer { serve: Vec::new(), keep: kept });
                    }
                    if snapshots.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    })
}
