//! One connection to the database that is opened again as soon as it breaks.
//!
//! Requests that come while there is none wait for it, bounded: the endpoint holds the new connection during a
//! failover, so the first moment the database serves again is the first moment the app does.

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    sync::{Notify, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_postgres::Config;

use crate::cli::demo::link::{Link, Miss};

/// The pause between two attempts to connect, where the endpoint refuses rather than holds.
const RETRY: Duration = Duration::from_millis(5);

/// Keeps a connection. Clones share it; it ends with the last one.
#[derive(Clone)]
pub(super) struct Keeper {
    link: watch::Receiver<Option<Arc<Link>>>,
    distrusted: Arc<Notify>,
}

impl Keeper {
    /// Begins to connect in the background.
    pub(super) fn start(config: Config) -> Self {
        let (publish, link) = watch::channel(None);
        let distrusted = Arc::new(Notify::new());
        tokio::spawn(keep(config, publish, Arc::clone(&distrusted)));
        Self { link, distrusted }
    }

    /// Reads one number, all within `limit`.
    pub(super) async fn number(&self, query: &str, limit: Duration) -> Result<i64, String> {
        let deadline = Instant::now() + limit;
        let link = self.link(deadline).await.ok_or("no connection to the database")?;
        let found = link.number(query, deadline.saturating_duration_since(Instant::now())).await;
        found.inspect_err(|_| self.distrusted.notify_one())
    }

    /// Commits one row.
    pub(super) async fn insert(
        &self,
        writer: u16,
        seq: u64,
        link_limit: Duration,
        commit_limit: Duration,
    ) -> Result<(), Miss> {
        let link = self.link(Instant::now() + link_limit).await;
        let link = link.ok_or_else(|| Miss::unsent("no connection to the database"))?;
        let done = link.insert(writer, seq, commit_limit).await;
        done.inspect_err(|_| self.distrusted.notify_one())
    }

    async fn link(&self, deadline: Instant) -> Option<Arc<Link>> {
        let mut link = self.link.clone();
        timeout_at(deadline, link.wait_for(Option::is_some)).await.ok()?.ok()?.clone()
    }
}

/// Opens, waits for the end or for distrust (a statement that failed or was not answered), and opens again.
async fn keep(config: Config, publish: watch::Sender<Option<Arc<Link>>>, distrusted: Arc<Notify>) {
    while !publish.is_closed() {
        let Ok(link) = Link::open(&config).await else {
            sleep(RETRY).await;
            continue;
        };
        let link = Arc::new(link);
        publish.send_replace(Some(Arc::clone(&link)));
        select! {
            () = link.ended() => {}
            () = distrusted.notified() => {}
            () = publish.closed() => {}
        }
        publish.send_replace(None);
    }
}
