//! Watches the cluster through the members' public API, like any operator's tool, and narrates what changes.
//!
//! It only watches: clients, not this, judge the outage.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, interval, sleep, timeout},
};

use super::{cluster::Cluster, health, history::History, narrator::Narrator, voice::Voice};
use crate::model::{Incident, IncidentId, Snapshot};

/// How often the members are asked. It costs each some tenths of a millisecond.
const POLL: Duration = Duration::from_millis(50);
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How long all may be well and the incident still not be ended before it is taken as it is.
const UNENDED_LIMIT: Duration = Duration::from_secs(6);
/// How long a switchover request looks for a leader that takes it.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// What has been seen so far.
#[derive(Clone, Debug, Default)]
struct Seen {
    snapshot: Option<Arc<Snapshot>>,
    error: Option<String>,
}

/// Watches until it is dropped.
#[derive(Debug)]
pub(crate) struct Observer {
    client: reqwest::Client,
    apis: Vec<String>,
    token: String,
    seen: watch::Receiver<Seen>,
    incidents: Arc<Mutex<BTreeMap<IncidentId, Incident>>>,
    task: JoinHandle<()>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observer {
    /// Begins to watch.
    pub(crate) fn start(cluster: &Cluster, history: History, voice: Voice) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_LIMIT).build();
        let client = client.context("make an HTTP client")?;
        let apis: Vec<_> = cluster.hosts.iter().map(|host| host.api.clone()).collect();
        let (publish, seen) = watch::channel(Seen::default());
        let incidents = Arc::default();
        let watcher = Watcher {
            client: client.clone(),
            apis: apis.clone(),
            incidents: Arc::clone(&incidents),
            narrator: Narrator::new(),
            history,
            voice,
        };
        let task = tokio::spawn(watcher.run(publish));
        Ok(Self { client, apis, token: cluster.token.clone(), seen, incidents, task })
    }

    /// The cluster as last shown, if any member answers.
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.seen.borrow().snapshot.clone()
    }

    /// Every incident seen so far.
    pub(crate) fn incidents(&self) -> BTreeMap<IncidentId, Incident> {
        self.incidents.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until nothing stands in the way any more.
    ///
    /// # Errors
    /// Something still does after `limit`; all of it is named, and what the leader says about it.
    pub(crate) async fn healthy(&self, cluster: &Cluster, limit: Duration) -> Result<Arc<Snapshot>> {
        let good = |seen: &Seen| {
            seen.snapshot.as_ref().is_some_and(|s| health::obstacles(s, cluster.hosts.len()).is_empty())
        };
        self.wait(cluster, limit, good).await?;
        self.snapshot().context("no member answers")
    }

    /// Waits for a condition.
    async fn wait(&self, cluster: &Cluster, limit: Duration, good: impl Fn(&Seen) -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut seen = self.seen.clone();
        loop {
            if good(&seen.borrow_and_update()) {
                return Ok(());
            }
            cluster.all_running()?;
            if Instant::now() > deadline {
                bail!("the cluster is not well after {limit:?}: {}", self.complaint(cluster.hosts.len()));
            }
            // The end of a process is looked for at least as often as the members are asked.
            let _ = timeout(POLL, seen.changed()).await;
        }
    }

    fn complaint(&self, hosts: usize) -> String {
        let seen = self.seen.borrow();
        let Some(snapshot) = &seen.snapshot else {
            return format!("no member answers: {}", seen.error.as_deref().unwrap_or("not asked yet"));
        };
        let mut found = health::obstacles(snapshot, hosts);
        found.extend(snapshot.findings.iter().map(|finding| finding.text.clone()));
        found.extend(snapshot.plan.iter().map(|line| format!("leader: {line}")));
        found.join("; ")
    }

    /// Waits until an incident that is not `known` is over and the cluster is well again.
    ///
    /// When the cluster has been well for a while and nobody ends the incident (a controller that lost sight of it),
    /// it is returned as last seen: the judgement names what it lacks.
    ///
    /// # Errors
    /// It does not happen within `limit`.
    pub(crate) async fn restored(
        &self,
        cluster: &Cluster,
        known: &BTreeMap<IncidentId, Incident>,
        limit: Duration,
    ) -> Result<IncidentId> {
        let deadline = Instant::now() + limit;
        loop {
            self.healthy(cluster, deadline.saturating_duration_since(Instant::now())).await?;
            let well_since = Instant::now();
            let still = |seen: &Seen| {
                let shown = seen.snapshot.as_ref();
                !shown.is_some_and(|s| health::obstacles(s, cluster.hosts.len()).is_empty())
            };
            while !still(&self.seen.borrow()) {
                let new = self.incidents().into_iter().rev().find(|(id, _)| !known.contains_key(id));
                let ended = self.snapshot().and_then(|s| s.last_incident.as_ref().map(|i| i.id.clone()));
                match new {
                    Some((id, _)) if ended.as_ref() == Some(&id) => return Ok(id),
                    Some((id, _)) if well_since.elapsed() > UNENDED_LIMIT => return Ok(id),
                    None if Instant::now() > deadline => bail!("no incident was recorded within {limit:?}"),
                    _ => sleep(POLL).await,
                }
            }
        }
    }

    /// Waits until an incident that is not `known` has ended its outage, or `limit` is over.
    pub(crate) async fn served_again(&self, known: &BTreeMap<IncidentId, Incident>, limit: Duration) {
        let deadline = Instant::now() + limit;
        let done = || self.incidents().values().any(|i| !known.contains_key(&i.id) && i.rto_ms().is_some());
        while !done() && Instant::now() < deadline {
            sleep(POLL).await;
        }
    }

    /// Asks the leader for a switchover; its operation.
    ///
    /// # Errors
    /// Nobody takes the request; what was answered is told.
    pub(crate) async fn request_switchover(&self) -> Result<String> {
        #[derive(Deserialize)]
        struct Accepted {
            operation: String,
        }
        let deadline = Instant::now() + REQUEST_LIMIT;
        loop {
            let mut said = String::new();
            for api in self.by_leadership() {
                let url = format!("http://{api}/v1/switchover");
                let sent = self.client.post(url).bearer_auth(&self.token).json(&serde_json::json!({}));
                match sent.send().await {
                    Ok(reply) if reply.status().is_success() => {
                        return Ok(reply.json::<Accepted>().await.context("read the answer")?.operation);
                    }
                    Ok(reply) => said = format!("{}: {}", reply.status(), reply.text().await?),
                    Err(error) => said = error.to_string(),
                }
            }
            if Instant::now() > deadline {
                bail!("the switchover was not taken: {said}");
            }
            sleep(POLL).await;
        }
    }

    /// The members' addresses, the leader's first.
    fn by_leadership(&self) -> Vec<String> {
        let leader = self.snapshot().and_then(|snapshot| snapshot.leader.clone());
        let shown = self.snapshot().and_then(|snapshot| {
            let status = snapshot.nodes.iter().find(|status| Some(&status.node) == leader.as_ref())?;
            status.api_address.clone()
        });
        let mut apis = self.apis.clone();
        apis.sort_by_key(|api| Some(api) != shown.as_ref());
        apis
    }
}

/// The watching task.
struct Watcher {
    client: reqwest::Client,
    apis: Vec<String>,
    incidents: Arc<Mutex<BTreeMap<IncidentId, Incident>>>,
    narrator: Narrator,
    history: History,
    voice: Voice,
}

impl Watcher {
    async fn run(mut self, publish: watch::Sender<Seen>) {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let answers = futures_util::future::join_all(self.apis.iter().map(|api| self.ask(api))).await;
            let error = answers.iter().find_map(|answer| answer.as_ref().err().cloned());
            // The leader knows best; a member that does not lead shows what it last heard.
            let mut shown: Vec<_> = answers.into_iter().flatten().collect();
            shown.sort_by_key(|snapshot| {
                (snapshot.leader.as_ref() != Some(&snapshot.node), snapshot.node.clone())
            });
            let snapshot = shown.into_iter().next().map(Arc::new);
            if let Some(snapshot) = &snapshot {
                self.collect(snapshot);
                for (at, line) in self.narrator.lines(snapshot, self.history.acknowledged()) {
                    self.voice.say_at(at, &line);
                }
            }
            publish.send_replace(Seen { snapshot, error });
        }
    }

    fn collect(&self, snapshot: &Snapshot) {
        let mut incidents = self.incidents.lock().unwrap_or_else(PoisonError::into_inner);
        for incident in snapshot.incident.iter().chain(&snapshot.last_incident) {
            incidents.insert(incident.id.clone(), incident.clone());
        }
    }

    async fn ask(&self, api: &str) -> Result<Snapshot, String> {
        let reply = self.client.get(format!("http://{api}/v1/status")).send().await;
        let reply = reply.map_err(|error| error.to_string())?;
        reply.json().await.map_err(|error| format!("{api} answers what is no status: {error}"))
    }
}
