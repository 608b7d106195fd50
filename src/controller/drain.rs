//! The drain of a switchover: sessions end their transactions and begin no others.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::Feed;
use crate::{
    model::{EndpointName, NodeId, Stamp},
    ports::Session,
};

/// Between two looks at the sessions.
const LOOK: Duration = Duration::from_millis(5);

/// The endpoints that a drain is about: member and name.
pub(super) struct Reached {
    pub(super) poolers: Vec<(NodeId, EndpointName)>,
    pub(super) proxies: Vec<(NodeId, EndpointName)>,
}

/// Lets sessions end their transactions and keeps those between two from beginning another. Done when every session
/// is between two, or when the drain time, `limit`, is over: what is inside a transaction then is cut by the stop.
pub(super) async fn drain(
    limit: Duration,
    feeds: &[Feed],
    reached: Reached,
    node: &NodeId,
    stamp: Stamp,
) -> Result<(), String> {
    let by_node = |member: &NodeId| feeds.iter().find(|feed| feed.node == *member);
    let primary = by_node(node).ok_or("the primary's member is not known")?;
    let found = |named: Vec<(NodeId, EndpointName)>| -> Vec<_> {
        named.into_iter().filter_map(|(member, name)| Some((by_node(&member)?, name))).collect()
    };
    // Poolers first: what they have under way needs the very sessions that would be parked. One that cannot do it in time
    // goes on trying, and its clients fare like all others.
    let poolers = found(reached.poolers);
    let quiet = poolers.iter().map(|(feed, name)| feed.member.park(name, stamp, BTreeSet::new()));
    match timeout(limit, join_all(quiet)).await {
        Ok(quiet) => quiet
            .into_iter()
            .filter_map(Result::err)
            .for_each(|error| tracing::warn!(%error, "pause a pooler")),
        Err(_) => tracing::warn!(drain = ?limit, "a pooler was not at rest when the drain time was over"),
    }
    let proxies = found(reached.proxies);
    let mut said = BTreeSet::new();
    let mut warn = |why: String| {
        // Once, however often it is tried.
        if said.insert(why.clone()) {
            tracing::warn!(why, "park sessions");
        }
    };
    let at_rest = async {
        while !park_idle(primary, &proxies, stamp, &mut warn).await {
            sleep(LOOK).await;
        }
    };
    if timeout(limit, at_rest).await.is_err() {
        tracing::warn!(drain = ?limit, "sessions were not at rest when the drain time was over");
    }
    Ok(())
}

/// Parks the sessions that are between two transactions. True: all are, and no endpoint lets one begin another.
async fn park_idle(
    primary: &Feed,
    proxies: &[(&Feed, EndpointName)],
    stamp: Stamp,
    warn: &mut impl FnMut(String),
) -> bool {
    // Of whom nothing is known, nobody is known to be at rest.
    let Some(before) = look(primary, warn).await else { return false };
    let idle = Session::idle_ports(&before);
    let parking = proxies.iter().map(|(feed, name)| feed.member.park(name, stamp, idle.clone()));
    let parked = join_all(parking).await;
    parked.into_iter().filter_map(Result::err).for_each(|error| warn(error.to_string()));
    // A session seen idle may have begun a transaction just before it was parked: look again after parking.
    let Some(after) = look(primary, warn).await else { return false };
    // Nor may a proxy that no member runs have missed it.
    let is_parked = |session: &Session| session.client_port.is_none_or(|port| idle.contains(&port));
    after.iter().all(|session| session.idle && !session.loose && is_parked(session))
}

/// The sessions, if they can be had.
async fn look(primary: &Feed, warn: &mut impl FnMut(String)) -> Option<Vec<Session>> {
    match primary.member.sessions().await {
        Ok(Some(sessions)) => return Some(sessions),
        Ok(None) => warn("PostgreSQL does not tell its sessions".into()),
        Err(error) => warn(error.to_string()),
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;

    use super::*;
    use crate::{
        model::{Command, Epoch, Incarnation, RouteOrder, Version},
        ports::{Answer, Member, NoAnswer},
    };

    const STAMP: Stamp = Stamp { incarnation: Incarnation(1), epoch: Epoch(2), version: Version(3) };
    /// So long that a test which waits for it fails.
    const NEVER: Duration = Duration::from_secs(3600);
    /// What PostgreSQL says at one look. None: nothing.
    type Look = Option<&'static [Session]>;

    const BUSY: Session = Session { client_port: Some(4), idle: false, loose: false };
    const IDLE: Session = Session { idle: true, ..BUSY };
    const LOOSE: Session = Session { loose: true, ..IDLE };
    const LOCAL_BUSY: Session = Session { client_port: None, ..BUSY };
    const LOCAL_IDLE: Session = Session { client_port: None, ..IDLE };

    /// A primary's member, with a proxy.
    struct Fake {
        /// The looks to come, the next one last; then the last one for ever.
        looks: Mutex<Vec<Look>>,
        /// What was parked.
        parked: Mutex<Vec<BTreeSet<u16>>>,
    }

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
            let mut looks = self.looks.lock().expect("no panic");
            let look = if looks.len() > 1 { looks.pop().expect("one") } else { looks[0] };
            Ok(look.map(<[Session]>::to_vec))
        }
        async fn park(&self, _: &EndpointName, _: Stamp, ports: BTreeSet<u16>) -> Result<(), NoAnswer> {
            self.parked.lock().expect("no panic").push(ports);
            Ok(())
        }
    }

    /// Drains a primary at which this is seen, look by look. Returns what was parked, and how many looks were left.
    async fn drained(limit: Duration, looks: &[Look]) -> (Vec<BTreeSet<u16>>, usize) {
        let node = NodeId::new("seoul").expect("a good name");
        let fake = Arc::new(Fake {
            looks: Mutex::new(looks.iter().rev().copied().collect()),
            parked: Mutex::default(),
        });
        let facts = tokio::sync::watch::channel(None).1;
        let feed = Feed { node: node.clone(), member: fake.clone(), facts };
        let proxy = (node.clone(), EndpointName::new("db").expect("a good name"));
        let reached = Reached { poolers: Vec::new(), proxies: vec![proxy] };
        drain(limit, &[feed], reached, &node, STAMP).await.expect("it is known");
        let left = fake.looks.lock().expect("no panic").len();
        (fake.parked.lock().expect("no panic").clone(), left)
    }

    #[tokio::test]
    async fn it_is_over_once_nobody_is_inside_a_transaction_and_all_are_parked() {
        const LAST: &[Look] = &[Some(&[IDLE, LOCAL_IDLE]), Some(&[IDLE, LOCAL_IDLE])];
        for not_yet in [Some(&[BUSY][..]), Some(&[LOOSE]), Some(&[IDLE, LOCAL_BUSY]), None] {
            // Seen before and after parking; what counts is what comes last.
            let looks = [&[not_yet, not_yet], LAST].concat();
            let (parked, left) = drained(NEVER, &looks).await;
            assert_eq!(left, 1, "{not_yet:?}");
            assert_eq!(parked.last(), Some(&BTreeSet::from([4])), "{not_yet:?}");
        }
        assert_eq!(drained(NEVER, &[Some(&[])]).await, (vec![BTreeSet::new()], 1));
    }

    #[tokio::test]
    async fn who_begins_a_transaction_before_it_is_parked_is_waited_for() {
        let (parked, left) =
            drained(NEVER, &[Some(&[IDLE]), Some(&[BUSY]), Some(&[BUSY]), Some(&[IDLE])]).await;
        // The last look stands for all further ones.
        assert_eq!((parked.len(), left), (3, 1));
    }

    #[tokio::test]
    async fn the_drain_time_bounds_it_and_nothing_less_does() {
        const LIMIT: Duration = Duration::from_millis(50);
        for never in [Some(&[BUSY][..]), Some(&[LOOSE]), Some(&[LOCAL_BUSY]), None] {
            let began = tokio::time::Instant::now();
            drained(LIMIT, &[never]).await;
            assert!(began.elapsed() >= LIMIT, "{never:?}");
        }
    }
}
