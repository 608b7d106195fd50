//! A call to whichever endpoint answers first.
//!
//! It is sent to the endpoint that answered last time. If that is silent for [`HEDGE`], it is sent to the next one as
//! well, and the first answer counts; the silent one is asked last from then on. What must not be done twice waits for
//! its one answer instead. An endpoint that says that nothing was done is followed by the next one at once.

use std::{
    future::Future,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use etcd_client::{Client, GetOptions, GetResponse};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::watch;

use super::{
    endpoint::Endpoint,
    failure::{Failure, Verdict},
};
use crate::{
    config,
    ports::{Revision, StoreError},
};

/// No call takes longer. Longer than etcd takes to elect a leader with its defaults (1 to 2 s), so that one is outlasted.
pub(super) const CALL: Duration = Duration::from_secs(3);
/// After so much silence the next endpoint is asked as well. Far beyond what a transaction takes on a good disk (some
/// milliseconds), so that a healthy etcd is asked once.
const HEDGE: Duration = Duration::from_millis(150);
/// Once all have been asked, a further copy is sent so much later: what an etcd leader had taken when it died is lost.
const RESEND: Duration = Duration::from_millis(500);
/// After a full round of refusals (etcd elects a leader, say) the next round waits so long.
const PAUSE: Duration = Duration::from_millis(50);
/// Copies of a call, at most. [`CALL`] ends it before, except where all refuse at once.
const COPIES: usize = 60;

/// What a second copy of a call would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Nothing that the first one has not done.
    Harmless,
    /// It might undo what was done in between.
    Harmful,
}

/// An answer, and whether a copy sent elsewhere may have been done, too.
pub(super) struct Answer<T> {
    pub(super) value: T,
    pub(super) others: bool,
}

/// What those who wait for a change must know of the calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Disturbance {
    /// How many calls found etcd out of reach.
    pub(super) outages: u64,
    /// Lives of the store seen: it grows when the revisions go back.
    pub(super) life: u64,
    /// What went wrong last.
    pub(super) why: String,
}

/// The endpoints, and what is known of them.
pub(super) struct Calls {
    pub(super) endpoints: Vec<Endpoint>,
    /// The one that answered last.
    preferred: AtomicUsize,
    /// The highest revision that a linearizable call has seen.
    seen: Mutex<Revision>,
    pub(super) disturbance: watch::Sender<Disturbance>,
}

impl Calls {
    pub(super) fn new(config: &config::Etcd) -> Result<Self, StoreError> {
        if config.endpoints.is_empty() {
            return Err(StoreError::Refused("store.etcd names no endpoint".to_owned()));
        }
        let endpoints =
            config.endpoints.iter().map(|url| Endpoint::new(url.clone(), config.clone())).collect();
        Ok(Self {
            endpoints,
            preferred: AtomicUsize::new(0),
            seen: Mutex::default(),
            disturbance: watch::Sender::default(),
        })
    }

    /// Sends a call and returns the first answer.
    pub(super) async fn call<T, F, Sent>(&self, again: Again, send: F) -> Result<T, StoreError>
    where
        F: Fn(Client) -> Sent + Sync,
        Sent: Future<Output = Result<T, etcd_client::Error>> + Send,
        T: Send,
    {
        self.race(again, send).await.map(|answer| answer.value)
    }

    /// The same, for whoever must know whether another copy is still about.
    pub(super) async fn race<T, F, Sent>(&self, again: Again, send: F) -> Result<Answer<T>, StoreError>
    where
        F: Fn(Client) -> Sent + Sync,
        Sent: Future<Output = Result<T, etcd_client::Error>> + Send,
        T: Send,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        let raced = match tokio::time::timeout(CALL, self.run(again, first, &send, &mut last)).await {
            Ok(raced) => raced,
            Err(_) => {
                // A connection that hangs is not worth keeping; the next call begins elsewhere.
                self.endpoints[first].forget().await;
                self.preferred.store((first + 1) % self.endpoints.len(), Ordering::Relaxed);
                Err(too_late(last))
            }
        };
        if let Err(StoreError::Outage(why)) = &raced {
            self.disturbance.send_modify(|disturbance| {
                disturbance.outages += 1;
                disturbance.why.clone_from(why);
            });
        }
        raced
    }

    /// Leaves the last failure in `last`.
    async fn run<T, F, Sent>(
        &self,
        again: Again,
        first: usize,
        send: &F,
        last: &mut Option<StoreError>,
    ) -> Result<Answer<T>, StoreError>
    where
        F: Fn(Client) -> Sent + Sync,
        Sent: Future<Output = Result<T, etcd_client::Error>> + Send,
        T: Send,
    {
        let all = self.endpoints.len();
        let mut running = FuturesUnordered::new();
        let (mut copies, mut unknown, mut refused, mut pause) = (0, 0, 0, Duration::ZERO);
        loop {
            let more = copies < COPIES && (again == Again::Harmless || running.is_empty());
            tokio::select! {
                biased;
                Some((at, result)) = running.next(), if !running.is_empty() => {
                    let failure: Failure = match result {
                        Ok(value) => {
                            self.preferred.store(at, Ordering::Relaxed);
                            return Ok(Answer { value, others: unknown > 0 || !running.is_empty() });
                        }
                        Err(failure) => failure,
                    };
                    match failure.verdict {
                        Verdict::Final => return Err(failure.error),
                        Verdict::Unknown if again == Again::Harmful => return Err(failure.error),
                        Verdict::Unknown => unknown += 1,
                        Verdict::Stale => self.endpoints[at].forget().await,
                        Verdict::Undone => {}
                    }
                    // A certificate that does not fit, at one after the other: no later round will find it otherwise.
                    refused += usize::from(failure.verdict == Verdict::Undone && is_refusal(&failure.error));
                    if refused == copies && copies >= all {
                        return Err(failure.error);
                    }
                    *last = Some(failure.error);
                    // In the first round at once; later not in a rush.
                    pause = if copies < all { Duration::ZERO } else { PAUSE };
                }
                () = tokio::time::sleep(pause), if more => {
                    let at = (first + copies) % all;
                    running.push(async move { (at, self.attempt(at, send).await) });
                    copies += 1;
                    pause = if copies < all { HEDGE } else { RESEND };
                }
                else => return Err(too_late(last.take())),
            }
        }
    }

    async fn attempt<T, F, Sent>(&self, at: usize, send: &F) -> Result<T, Failure>
    where
        F: Fn(Client) -> Sent + Sync,
        Sent: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let endpoint = &self.endpoints[at];
        let client = endpoint.client().await?;
        let answer = send(client).await.map_err(|error| endpoint.explain(Failure::of(&error)))?;
        endpoint.has_answered();
        Ok(answer)
    }

    /// A linearizable read.
    pub(super) async fn read(
        &self,
        key: &str,
        options: Option<GetOptions>,
    ) -> Result<GetResponse, StoreError> {
        let before = self.seen();
        let found = self
            .call(Again::Harmless, |mut client| {
                let (key, options) = (key.to_owned(), options.clone());
                async move { client.get(key, options).await }
            })
            .await?;
        self.note(before, found.header().map(|header| Revision(header.revision())))?;
        Ok(found)
    }

    /// The store's present revision, by a read within `prefix`, where this user may read.
    pub(super) async fn revision(&self, prefix: &str) -> Result<Revision, StoreError> {
        let options = all_with(prefix, GetOptions::new().with_count_only());
        let found = self.read(prefix, Some(options)).await?;
        Ok(Revision(found.header().map_or(0, etcd_client::ResponseHeader::revision)))
    }

    /// What a linearizable call that begins now must see.
    pub(super) fn seen(&self) -> Revision {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the revision that a linearizable call returned, begun when `before` had been seen. If it is lower, this is
    /// not the store it was: whoever waits for a revision of the former one would wait for ever, and is told.
    pub(super) fn note(&self, before: Revision, now: Option<Revision>) -> Result<(), StoreError> {
        let now = now.ok_or_else(|| StoreError::Outage("etcd answered without a header".to_owned()))?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= before {
            *seen = now.max(*seen);
            return Ok(());
        }
        let why = went_back(before, now);
        tracing::warn!(
            before = before.0,
            now = now.0,
            "etcd's revision went back: restored from a copy, or made anew"
        );
        *seen = now;
        self.disturbance.send_modify(|disturbance| {
            disturbance.life += 1;
            disturbance.why = why;
        });
        Ok(())
    }
}

fn is_refusal(error: &StoreError) -> bool {
    matches!(error, StoreError::Refused(_))
}

/// What is said when a call's time is over, and why the last copy failed, if one did.
fn too_late(last: Option<StoreError>) -> StoreError {
    match last {
        Some(StoreError::Busy(why)) => StoreError::Busy(format!("{why}; for {CALL:?}")),
        Some(StoreError::Refused(why)) => StoreError::Refused(why),
        Some(StoreError::Outage(why)) => {
            StoreError::Outage(format!("etcd did not answer within {CALL:?}; last: {why}"))
        }
        None => StoreError::Outage(format!("etcd did not answer within {CALL:?}")),
    }
}

/// What is said of a store that is not the one it was.
pub(super) fn went_back(before: Revision, now: Revision) -> String {
    format!(
        "etcd's revision went back from {} to {}: it was restored from a copy, or made anew",
        before.0, now.0
    )
}

/// Every key that begins with `prefix`.
pub(super) fn all_with(prefix: &str, options: GetOptions) -> GetOptions {
    if prefix.is_empty() { options.with_all_keys() } else { options.with_prefix() }
}
