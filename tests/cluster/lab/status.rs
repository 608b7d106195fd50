//! What members say of the cluster, asked on their own hosts: a cut does not make them silent to a test.

use std::time::Duration;

use locum::model::{Durability, Mode, NodeStatus, Role, Snapshot};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Lab, TOKEN, plan::API_PORT};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// How long anything that should happen soon may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(ANSWER).build().expect("an HTTP client")
}

impl Lab {
    /// The cluster as the member of that host shows it. None: it does not answer.
    pub(crate) async fn status(&self, host: &str) -> Option<Snapshot> {
        let (code, body) = self.get(host, "/v1/status").await?;
        if code == 200 { serde_json::from_value(body).ok() } else { None }
    }

    /// A path's answer.
    pub(crate) async fn get(&self, host: &str, path: &str) -> Option<(u16, Value)> {
        let url = format!("http://{}:{API_PORT}{path}", self.host(host).ip);
        let ask = async move {
            let answer = client().get(url).send().await.ok()?;
            Some((answer.status().as_u16(), answer.json().await.unwrap_or_default()))
        };
        self.on(host).run(ask).await
    }

    /// A control call's answer.
    pub(crate) async fn post(&self, host: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let url = format!("http://{}:{API_PORT}{path}", self.host(host).ip);
        let body = body.clone();
        let ask = async move {
            let answer = client().post(url).bearer_auth(TOKEN).json(&body).send().await.ok()?;
            Some((answer.status().as_u16(), answer.json().await.unwrap_or_default()))
        };
        self.on(host).run(ask).await
    }

    /// What every member shows.
    pub(crate) async fn all(&self) -> Vec<Snapshot> {
        let ask = self.plan.members().map(|host| self.status(&host.name));
        futures_util::future::join_all(ask).await.into_iter().flatten().collect()
    }

    /// The cluster as its leader shows it: of several that believe they lead, the one with the highest stamp.
    pub(crate) async fn leader(&self) -> Option<Snapshot> {
        let all = self.all().await;
        let leads = all.into_iter().filter(|seen| seen.leader.as_ref() == Some(&seen.node));
        leads.max_by_key(|seen| seen.intent.as_ref().map(locum::model::Intent::stamp))
    }

    /// Waits until the leader shows what is wanted; Err: what it showed last.
    ///
    /// # Errors
    /// It does not within `limit`.
    pub(crate) async fn shows_within(
        &self,
        limit: Duration,
        wanted: impl Fn(&Snapshot) -> bool,
    ) -> Result<Snapshot, Option<Box<Snapshot>>> {
        let deadline = Instant::now() + limit;
        let mut last = None;
        loop {
            match self.leader().await {
                Some(snapshot) if wanted(&snapshot) => return Ok(snapshot),
                seen => last = seen.map(Box::new).or(last),
            }
            if Instant::now() >= deadline {
                return Err(last);
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until the leader shows what is wanted, for as long as anything may take.
    pub(crate) async fn shows(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let shown = self.shows_within(SOON, wanted).await;
        shown.unwrap_or_else(|last| panic!("not within {SOON:?}: {what}; the last was {last:#?}"))
    }

    /// Waits until all is well: one node serves, all others stream, what is promised is in force, every endpoint leads
    /// to the primary, and nothing is going on.
    pub(crate) async fn whole(&self) -> Snapshot {
        self.shows("all is well", |seen| self.is_whole(seen)).await
    }

    /// The same, and the leader is not on the primary's host, where it goes by itself once all is quiet: what is measured
    /// from here on costs no election.
    pub(crate) async fn settled(&self) -> Snapshot {
        let apart = |seen: &Snapshot| primary_of(seen).is_some_and(|primary| primary != seen.node.as_str());
        self.shows("all is well, and led from elsewhere", |seen| self.is_whole(seen) && apart(seen)).await
    }

    /// True if all is well.
    #[must_use]
    pub(crate) fn is_whole(&self, snapshot: &Snapshot) -> bool {
        self.missing(snapshot).is_empty()
    }

    /// What is not well, in words.
    #[must_use]
    pub(crate) fn missing(&self, snapshot: &Snapshot) -> Vec<String> {
        let mut missing = Vec::new();
        let mut need = |holds: bool, what: String| {
            if !holds {
                missing.push(what)
            }
        };
        let Some(intent) = &snapshot.intent else { return vec!["an intent".into()] };
        let Some(primary) = &intent.primary else { return vec!["a declared primary".into()] };
        need(intent.durability == Durability::Async || !intent.sync.is_empty(), "a sync set".into());
        need(intent.sync == intent.sync_next, "a sync set that is not moving".into());
        need(intent.handover.is_none() && !intent.paused, "an end of a hand-over or pause".into());
        need(snapshot.incident.is_none(), "an end of the incident".into());
        need(snapshot.store_error.is_none(), format!("the store: {:?}", snapshot.store_error));
        for host in self.plan.servers() {
            let status = snapshot.nodes.iter().find(|status| status.node.as_str() == host.name);
            let well = status.is_some_and(|status| {
                if status.node == *primary {
                    status.role == Role::Primary && status.serving
                } else {
                    let may_be_promoted =
                        intent.durability != Durability::Async || intent.promotable.contains(&status.node);
                    status.role == Role::Standby
                        && status.streaming
                        && status.lag_bytes.is_some()
                        && may_be_promoted
                }
            });
            need(well, format!("{} well: {:?}", host.name, status.map(|s| (s.role, s.serving, s.streaming))));
        }
        for host in self.plan.members() {
            let well = snapshot.endpoints.iter().any(|endpoint| {
                endpoint.member.as_str() == host.name
                    && endpoint.mode == Mode::Open
                    && endpoint.target.as_ref() == Some(primary)
                    && endpoint.stamp.epoch == intent.epoch
            });
            need(well, format!("the endpoint of {}", host.name));
        }
        missing
    }

    /// The name of the declared primary, once there is one.
    pub(crate) async fn primary(&self) -> String {
        let seen = self.shows("a primary", |seen| primary_of(seen).is_some()).await;
        primary_of(&seen).expect("a primary").to_owned()
    }

    /// The names of the other PostgreSQL hosts.
    pub(crate) async fn standbys(&self) -> Vec<String> {
        let primary = self.primary().await;
        self.plan.servers().map(|host| host.name.clone()).filter(|name| *name != primary).collect()
    }
}

/// The declared primary.
#[must_use]
pub(crate) fn primary_of(snapshot: &Snapshot) -> Option<&str> {
    snapshot.intent.as_ref()?.primary.as_ref().map(|node| node.as_str())
}

/// What a snapshot says of a node.
#[must_use]
pub(crate) fn status_of<'a>(snapshot: &'a Snapshot, name: &str) -> &'a NodeStatus {
    snapshot.nodes.iter().find(|status| status.node.as_str() == name).expect("a node of that name")
}

/// True if one of the findings has this tag, as in the JSON.
#[must_use]
pub(crate) fn finds(snapshot: &Snapshot, tag: &str) -> bool {
    snapshot.findings.iter().any(|found| {
        serde_json::to_value(&found.finding).is_ok_and(|value| value["finding"].as_str() == Some(tag))
    })
}
