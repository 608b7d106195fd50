//! Waiting for changes: a kept-open watch of each prefix at every endpoint at once, shared by all who wait.
//!
//! Whichever endpoint tells first wakes the waiters, so that none that is silent, behind or cut off can hold news back.
//! A watch that ends goes on after the last change that any of them has told; what was compacted meanwhile wakes the
//! waiters to look. Calls that find etcd out of reach wake them, too, with the error: whoever waits has to look.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use etcd_client::{Client, Error, WatchOptions, WatchResponse, WatchStream};
use tokio::{
    sync::{OnceCell, watch},
    task::JoinHandle,
};

use super::{
    calls::{Calls, went_back},
    failure::Failure,
};
use crate::ports::{Revision, StoreError};

/// How long opening a watch may take until the connection is given up.
const OPEN: Duration = Duration::from_secs(2);
/// A watch that ended is opened again at once, then after pauses that double from the first to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Where no endpoint has a watch open, those who wait are told after so long.
const BLIND: Duration = Duration::from_secs(2);

/// The watches of one store.
pub(super) struct Watches {
    calls: Arc<Calls>,
    /// By prefix. Nobody asks for more than a few, so none is ever given up.
    topics: Mutex<HashMap<String, Arc<OnceCell<Topic>>>>,
}

/// The changes of one prefix, in one life of the store.
struct Topic {
    life: u64,
    news: watch::Sender<News>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the watches have told.
#[derive(Clone, Debug)]
struct News {
    /// The last change.
    last: Revision,
    /// How many endpoints have a watch open.
    open: usize,
    /// How often the last open one was lost, or a watch was refused.
    failed: u64,
    why: Option<StoreErrorText>,
}

/// An error that several may be told.
#[derive(Clone, Debug)]
enum StoreErrorText {
    Outage(String),
    Refused(String),
}

impl From<&StoreErrorText> for StoreError {
    fn from(text: &StoreErrorText) -> Self {
        match text {
            StoreErrorText::Outage(why) => Self::Outage(why.clone()),
            StoreErrorText::Refused(why) => Self::Refused(why.clone()),
        }
    }
}

impl From<StoreError> for StoreErrorText {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy(why) | StoreError::Outage(why) => Self::Outage(why),
            StoreError::Refused(why) => Self::Refused(why),
        }
    }
}

impl Watches {
    pub(super) fn new(calls: Arc<Calls>) -> Self {
        Self { calls, topics: Mutex::default() }
    }

    /// See [`crate::ports::Store::changed`]. Returns early where it cannot know.
    pub(super) async fn changed(&self, prefix: &str, since: Revision) -> Result<Revision, StoreError> {
        let mut disturbance = self.calls.disturbance.subscribe();
        let before = disturbance.borrow_and_update().clone();
        let cell = self.topic(prefix, before.life);
        let topic = cell.get_or_try_init(|| Topic::start(&self.calls, prefix, before.life)).await?;
        let mut news = topic.news.subscribe();
        let start = news.borrow_and_update().clone();
        // What changed before the watches began counts as changed.
        if since < start.last {
            return Ok(start.last);
        }
        if since > start.last {
            // Of a write whose news is still under way, or of another life of the store, whose revisions may never come.
            let now = self.calls.revision(prefix).await?;
            if now < since {
                return Err(StoreError::Refused(went_back(since, now)));
            }
        }
        loop {
            let seen = news.borrow_and_update().clone();
            if seen.last > since {
                return Ok(seen.last);
            }
            if seen.failed != start.failed {
                let why = seen.why.as_ref().map(StoreError::from);
                return Err(why.unwrap_or_else(|| StoreError::Outage("no watch is open".to_owned())));
            }
            let blind = async {
                if seen.open > 0 {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(BLIND).await;
            };
            tokio::select! {
                // They never close: the senders live as long as this store.
                _ = news.changed() => {}
                _ = disturbance.changed() => {
                    let now = disturbance.borrow_and_update().clone();
                    if now.life != before.life {
                        return Err(StoreError::Refused(now.why));
                    }
                    if now.outages != before.outages {
                        return Err(StoreError::Outage(now.why));
                    }
                }
                () = blind => {
                    return Err(StoreError::Outage("no endpoint of etcd lets this member watch".to_owned()));
                }
            }
        }
    }

    /// The topic of a prefix; a new one for a new life of the store, in which old revisions mean nothing.
    fn topic(&self, prefix: &str, life: u64) -> Arc<OnceCell<Topic>> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = topics.entry(prefix.to_owned()).or_default();
        if cell.get().is_some_and(|topic| topic.life != life) {
            *cell = Arc::default();
        }
        Arc::clone(cell)
    }
}

impl Topic {
    /// Begins to watch from now on.
    async fn start(calls: &Arc<Calls>, prefix: &str, life: u64) -> Result<Self, StoreError> {
        let from = calls.revision(prefix).await?;
        let news = watch::Sender::new(News { last: from, open: 0, failed: 0, why: None });
        let follow = |at| {
            let follower = Follower {
                calls: Arc::clone(calls),
                at,
                prefix: prefix.to_owned(),
                news: news.clone(),
                is_open: false,
            };
            tokio::spawn(follower.run())
        };
        let tasks = (0..calls.endpoints.len()).map(follow).collect();
        Ok(Self { life, news, tasks })
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The watch of one prefix at one endpoint.
struct Follower {
    calls: Arc<Calls>,
    at: usize,
    prefix: String,
    news: watch::Sender<News>,
    is_open: bool,
}

impl Follower {
    async fn run(mut self) {
        let mut pause = PAUSES.0;
        loop {
            let ended = self.follow().await;
            let was_open = std::mem::take(&mut self.is_open);
            if was_open {
                pause = PAUSES.0;
            }
            if let Err(failure) = ended {
                let (endpoint, error) = (&self.calls.endpoints[self.at].url, &failure.error);
                tracing::debug!(endpoint, prefix = self.prefix, %error, "a watch ended");
                self.ended(was_open, Some(failure.error));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            } else {
                self.ended(was_open, None);
            }
        }
    }

    fn ended(&self, was_open: bool, error: Option<StoreError>) {
        self.news.send_modify(|news| {
            news.open -= usize::from(was_open);
            let Some(error) = error else { return };
            let refused = matches!(error, StoreError::Refused(_));
            if (was_open || refused) && news.open == 0 {
                news.failed += 1;
            }
            news.why = Some(error.into());
        });
    }

    /// Watches until it ends. Ok: it is to be opened again at once.
    async fn follow(&mut self) -> Result<(), Failure> {
        let endpoint = &self.calls.endpoints[self.at];
        let opening = async {
            let client = endpoint.client().await?;
            let last = self.news.borrow().last;
            open(client, &self.prefix, last).await.map_err(|error| endpoint.explain(Failure::of(&error)))
        };
        let Ok(opened) = tokio::time::timeout(OPEN, opening).await else {
            endpoint.forget().await;
            let why = format!("{} did not open a watch within {OPEN:?}", endpoint.url);
            return Err(Failure::undone(StoreError::Outage(why)));
        };
        let (mut stream, first) = match opened {
            Ok(opened) => opened,
            Err(failure) => {
                if failure.verdict == super::failure::Verdict::Stale {
                    endpoint.forget().await;
                }
                return Err(failure);
            }
        };
        if first.canceled() {
            return self.canceled(&first).await;
        }
        self.is_open = true;
        self.news.send_modify(|news| news.open += 1);
        // If this is another life of the store, the watch waits for a revision that may never come: a read finds out.
        self.calls.revision(&self.prefix).await.map_err(Failure::undone)?;
        loop {
            let told = stream.message().await.map_err(|error| Failure::of(&error))?;
            let Some(told) = told else {
                let why = format!("{} ended a watch", self.calls.endpoints[self.at].url);
                return Err(Failure::undone(StoreError::Outage(why)));
            };
            if told.canceled() {
                return self.canceled(&told).await;
            }
            let changes = told.events().iter().filter_map(|event| event.kv());
            if let Some(last) = changes.map(|kv| Revision(kv.mod_revision())).max() {
                self.tell(last);
            }
        }
    }

    /// etcd ended the watch: what it was to go on from is compacted, or it may not watch.
    async fn canceled(&self, told: &WatchResponse) -> Result<(), Failure> {
        if told.compact_revision() > 0 {
            // What happened in between is known to nobody: all look.
            let now = self.calls.revision(&self.prefix).await.map_err(Failure::undone)?;
            self.tell(now.max(Revision(told.compact_revision())));
            return Ok(());
        }
        let why = told.cancel_reason();
        let error = if why.contains("permission denied") || why.contains("auth") {
            StoreError::Refused(format!("etcd does not let this member watch {}: {why}", self.prefix))
        } else {
            StoreError::Outage(format!("etcd ended a watch: {why}"))
        };
        Err(Failure::undone(error))
    }

    fn tell(&self, last: Revision) {
        self.news.send_if_modified(|news| {
            let newer = last > news.last;
            news.last = last.max(news.last);
            newer
        });
    }
}

/// Opens a watch of what changes after `last`, and waits for etcd's word on it.
async fn open(
    mut client: Client,
    prefix: &str,
    last: Revision,
) -> Result<(WatchStream, WatchResponse), Error> {
    let options = WatchOptions::new().with_start_revision(last.0 + 1);
    let options = if prefix.is_empty() { options.with_all_keys() } else { options.with_prefix() };
    let mut stream = client.watch(prefix, Some(options)).await?;
    match stream.message().await? {
        Some(first) => Ok((stream, first)),
        None => Err(Error::WatchError("it ended before it began".to_owned())),
    }
}
