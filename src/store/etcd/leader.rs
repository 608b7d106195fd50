//! Keeping etcd's own leader off a host: its loss together with the primary would cost an election of etcd's in the
//! middle of a failover.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use futures_util::future::join_all;

use super::{
    calls::{Again, Calls},
    endpoint::{self, Endpoint},
    failure::Failure,
};
use crate::ports::StoreError;

/// How long an endpoint may take to tell its state, and a name to be resolved.
const ASK: Duration = Duration::from_millis(500);
/// How long moving the leader may take: an etcd election timeout, and some.
const MOVE: Duration = Duration::from_secs(3);

/// What a member of etcd says of itself.
struct State {
    /// Its endpoint's place.
    at: usize,
    member: u64,
    leader: u64,
    is_learner: bool,
    applied: u64,
}

/// If etcd's leader is on `host` (a name or an address), moves it to the most advanced member elsewhere. True if it was
/// moved. False where it need not be, or cannot: no other member answers, or its endpoint is not configured.
pub(super) async fn keep_off(calls: &Calls, host: &str) -> Result<bool, StoreError> {
    let states = calls.endpoints.iter().enumerate().map(|(at, endpoint)| state(at, endpoint));
    let states: Vec<State> = join_all(states).await.into_iter().flatten().collect();
    // What most members say, where one is behind.
    let leaders = states.iter().map(|state| state.leader).filter(|leader| *leader != 0);
    let Some(leader) = leaders.max_by_key(|leader| states.iter().filter(|s| s.leader == *leader).count())
    else {
        return Err(StoreError::Busy("no member of etcd names its leader".to_owned()));
    };
    let Some(from) = states.iter().find(|state| state.member == leader) else { return Ok(false) };
    let hosts = hosts(calls).await?;
    let unwanted = addresses(host).await;
    let mut there = BTreeSet::new();
    for state in &states {
        let mut named = hosts.get(&state.member).cloned().unwrap_or_default();
        named.insert(calls.endpoints[state.at].host());
        for name in named {
            if name.eq_ignore_ascii_case(host) || !addresses(&name).await.is_disjoint(&unwanted) {
                there.insert(state.member);
            }
        }
    }
    if !there.contains(&leader) {
        return Ok(false);
    }
    let fit = |state: &&State| !state.is_learner && !there.contains(&state.member);
    let Some(to) = states.iter().filter(fit).max_by_key(|state| state.applied) else { return Ok(false) };
    let moving = async {
        let mut client = calls.endpoints[from.at].client().await?;
        client.move_leader(to.member).await.map_err(|error| Failure::of(&error))
    };
    match tokio::time::timeout(MOVE, moving).await {
        Ok(Ok(_)) => {
            let (from, to) = (&calls.endpoints[from.at].url, &calls.endpoints[to.at].url);
            tracing::info!(from, to, "etcd's leader was moved off the primary's host");
            Ok(true)
        }
        Ok(Err(failure)) => Err(failure.error),
        Err(_) => Err(StoreError::Outage(format!("etcd did not move its leader within {MOVE:?}"))),
    }
}

async fn state(at: usize, endpoint: &Endpoint) -> Option<State> {
    let ask = async {
        let mut client = endpoint.client().await.ok()?;
        let status = client.status().await.ok()?;
        Some(State {
            at,
            member: status.header()?.member_id(),
            leader: status.leader(),
            is_learner: status.is_learner(),
            applied: status.raft_applied_index(),
        })
    };
    tokio::time::timeout(ASK, ask).await.ok().flatten()
}

/// The hosts of each member's client URLs.
async fn hosts(calls: &Calls) -> Result<std::collections::BTreeMap<u64, BTreeSet<String>>, StoreError> {
    let list = calls.call(Again::Harmless, |mut client| async move { client.member_list().await }).await?;
    let urls = list.members().iter().map(|member| {
        let hosts = member.client_urls().iter().filter_map(|url| endpoint::host(url));
        (member.id(), hosts.collect())
    });
    Ok(urls.collect())
}

/// What a name leads to; nothing if nobody knows it.
async fn addresses(name: &str) -> BTreeSet<IpAddr> {
    if let Ok(address) = name.parse() {
        return BTreeSet::from([address]);
    }
    let found = tokio::time::timeout(ASK, tokio::net::lookup_host((name, 0))).await;
    match found {
        Ok(Ok(found)) => found.map(|at| at.ip()).collect(),
        _ => BTreeSet::new(),
    }
}
