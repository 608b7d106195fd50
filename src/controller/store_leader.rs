//! Keeps the store's own leader off the primary's host, where it can be moved: losing that host then does not cost an
//! election of the store's as well. Nothing of a failover waits for this.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::Deps;
use crate::model::{AgentFacts, NodeId, View};

/// How often it is looked at while nothing else happens: etcd elects whom it likes after every disturbance.
const LOOK: Duration = Duration::from_secs(10);
/// How long a look, and a move, may take.
const CALL: Duration = Duration::from_secs(5);

/// Looks for as long as a host is named.
pub(super) fn start(deps: Arc<Deps>, mut host: watch::Receiver<Option<String>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let named = host.borrow_and_update().clone();
            if let Some(named) = named {
                match timeout(CALL, deps.records.keep_store_leader_off(&named)).await {
                    Ok(Ok(true)) => {
                        tracing::info!(host = named, "the store's leader was moved off the primary's host")
                    }
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "the store's leader stays where it is"),
                    Err(_) => tracing::debug!("the store's leader was not moved in time"),
                }
            }
            tokio::select! {
                changed = host.changed() => if changed.is_err() { return },
                () = sleep(LOOK) => {}
            }
        }
    })
}

/// The primary's host, while this member leads and has nothing else to do.
pub(super) fn host_of_primary(view: &View, busy: bool) -> Option<String> {
    let primary: &NodeId = view.intent.as_ref()?.primary.as_ref().filter(|_| view.leading && !busy)?;
    let host = |agent: &AgentFacts| agent.address.rsplit_once(':').map(|(host, _)| host.to_owned());
    let host = view.agent(primary).and_then(host)?;
    Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}
