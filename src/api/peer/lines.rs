//! One member's facts as a stream of lines.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::time::timeout;

use crate::ports::Local;

/// Facts as lines: one at once, one at every change, and one when `heartbeat` has passed without. Each is taken when
/// it is about to be sent, so a slow reader gets few and young ones.
pub(super) fn of(local: Arc<dyn Local>, heartbeat: Duration) -> impl Stream<Item = Bytes> {
    let changes = local.changes();
    stream::unfold((local, changes, true), move |(local, mut changes, first)| async move {
        if !first && let Ok(Err(_)) = timeout(heartbeat, changes.changed()).await {
            return None; // the agent is gone: say no more rather than the same for ever
        }
        // Marked as seen before the facts are taken: a change after that is sent next.
        changes.mark_unchanged();
        let line = line(&local.facts())?;
        Some((line, (local, changes, false)))
    })
}

/// A value as one line of JSON. None: it cannot be written as such, which is logged.
pub(super) fn line(value: &impl Serialize) -> Option<Bytes> {
    match serde_json::to_vec(value) {
        Ok(mut json) => {
            json.push(b'\n');
            Some(json.into())
        }
        Err(error) => {
            tracing::error!(%error, "a message cannot be written as JSON; its stream ends");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use async_trait::async_trait;
    use futures_util::StreamExt;
    use tokio::sync::watch;

    use super::*;
    use crate::{
        model::{Command, EndpointName, MemberFacts, Mono, NodeId, RouteOrder, Stamp},
        ports::{Answer, Member, NoAnswer, Session},
    };

    /// So long that a test which waits for it fails.
    const NEVER: Duration = Duration::from_secs(3600);
    const DEADLINE: Duration = Duration::from_secs(20);

    /// Its facts are told apart by `sent_at`.
    struct Fake(watch::Sender<u64>);

    #[async_trait]
    impl Member for Fake {
        async fn order(&self, _: Stamp, _: Command) -> Result<Answer, NoAnswer> {
            Err(NoAnswer("not asked".into()))
        }
        async fn route(&self, _: &EndpointName, _: Stamp, _: RouteOrder) -> Result<Answer, NoAnswer> {
            Err(NoAnswer("not asked".into()))
        }
        async fn note(&self, _: crate::model::Note) -> Result<(), NoAnswer> {
            Ok(())
        }
        async fn vouch(&self, _: Stamp, _: Duration) -> Result<bool, NoAnswer> {
            Err(NoAnswer("not asked".into()))
        }
        async fn sessions(&self) -> Result<Option<Vec<Session>>, NoAnswer> {
            Ok(None)
        }
        async fn park(&self, _: &EndpointName, _: Stamp, _: BTreeSet<u16>) -> Result<(), NoAnswer> {
            Ok(())
        }
    }

    impl Local for Fake {
        fn facts(&self) -> MemberFacts {
            let node = NodeId::new("a").expect("good name");
            let sent_at = Mono(*self.0.borrow());
            MemberFacts {
                node,
                sent_at,
                left: sent_at,
                remembered: None,
                renewals: None,
                noted: None,
                hears: BTreeMap::new(),
                agent: None,
                endpoints: BTreeMap::new(),
            }
        }
        fn changes(&self) -> watch::Receiver<u64> {
            self.0.subscribe()
        }
    }

    async fn next(lines: &mut (impl Stream<Item = Bytes> + Unpin)) -> u64 {
        let line = timeout(DEADLINE, lines.next()).await.expect("a line comes").expect("no end");
        assert_eq!(line.last(), Some(&b'\n'));
        serde_json::from_slice::<MemberFacts>(&line).expect("facts").sent_at.0
    }

    #[tokio::test]
    async fn a_change_is_sent_without_waiting_for_the_heartbeat() {
        let fake = Arc::new(Fake(watch::Sender::new(0)));
        let mut lines = Box::pin(of(fake.clone(), NEVER));
        assert_eq!(next(&mut lines).await, 0, "one at once");
        for change in 1..=50 {
            fake.0.send_replace(change);
            assert_eq!(next(&mut lines).await, change);
        }
    }

    #[tokio::test]
    async fn changes_that_nobody_read_yet_become_one_line() {
        let fake = Arc::new(Fake(watch::Sender::new(0)));
        let mut lines = Box::pin(of(fake.clone(), NEVER));
        assert_eq!(next(&mut lines).await, 0);
        for change in 1..=1000 {
            fake.0.send_replace(change);
        }
        assert_eq!(next(&mut lines).await, 1000);
        let more = timeout(Duration::from_millis(20), lines.next()).await;
        assert!(more.is_err(), "nothing is left to say");
    }

    #[tokio::test]
    async fn no_change_at_all_is_said_again_and_again() {
        let fake = Arc::new(Fake(watch::Sender::new(7)));
        let mut lines = Box::pin(of(fake, Duration::from_millis(1)));
        for _ in 0..10 {
            assert_eq!(next(&mut lines).await, 7);
        }
    }
}
