//! This host's member as its peers and its own controller see it: the agent and the endpoints behind one door.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::{
    agent::Agent,
    controller::Feed,
    model::{Command, EndpointName, Known, MemberFacts, Mono, NodeId, Note, Reply, RouteOrder, Seen, Stamp},
    notes::Notes,
    ports::{Answer, Clock, Endpoint, Local, Member, NoAnswer, Session, WalAsk},
    sidecars::Sidecars,
};

/// Its own controller hears positions at least this often: the resolution of the live RPO.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// The agent and the endpoints of one host.
pub struct Host {
    node: NodeId,
    agent: Option<Arc<Agent>>,
    endpoints: BTreeMap<EndpointName, Arc<dyn Endpoint>>,
    clock: Arc<dyn Clock>,
    remembered: watch::Receiver<Known>,
    hears: watch::Receiver<BTreeMap<NodeId, Mono>>,
    changes: watch::Sender<u64>,
    sidecars: Arc<Sidecars>,
    notes: Arc<Notes>,
}

impl Host {
    /// Puts them together.
    #[must_use]
    pub fn new(
        node: NodeId,
        agent: Option<Arc<Agent>>,
        endpoints: BTreeMap<EndpointName, Arc<dyn Endpoint>>,
        remembered: watch::Receiver<Known>,
        hears: watch::Receiver<BTreeMap<NodeId, Mono>>,
        notes: Arc<Notes>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let sources: Vec<watch::Receiver<u64>> = agent
            .iter()
            .map(|agent| agent.changes())
            .chain(endpoints.values().map(|endpoint| endpoint.changes()))
            .collect();
        let changes = watch::Sender::new(0);
        let sidecars = Sidecars::new(clock.clone());
        let host =
            Arc::new(Self { node, agent, endpoints, clock, remembered, hears, changes, sidecars, notes });
        for mut source in sources {
            let host = Arc::downgrade(&host);
            tokio::spawn(async move {
                while source.changed().await.is_ok() {
                    let Some(host) = host.upgrade() else { return };
                    host.changes.send_modify(|count| *count += 1);
                }
            });
        }
        host
    }

    /// The feed for the controller of the same process: changes at once, positions with every heartbeat.
    #[must_use]
    pub fn feed(self: &Arc<Self>) -> Feed {
        let (sender, facts) = watch::channel(None);
        let (host, mut changes) = (self.clone(), self.changes.subscribe());
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(HEARTBEAT);
            loop {
                tokio::select! {
                    _ = beat.tick() => {}
                    changed = changes.changed() => if changed.is_err() { return },
                }
                let value = host.facts();
                let at = value.sent_at;
                if sender.send(Some(Seen { value, at })).is_err() {
                    return;
                }
            }
        });
        Feed { node: self.node.clone(), member: self.clone(), facts }
    }

    /// The proxies beside apps that follow this member.
    #[must_use]
    pub fn sidecars(&self) -> Arc<Sidecars> {
        Arc::clone(&self.sidecars)
    }

    /// Has the guard leave PostgreSQL alone.
    pub async fn disarm(&self) {
        if let Some(agent) = &self.agent {
            agent.disarm().await;
        }
    }

    /// The highest stamp that this member knows of.
    #[must_use]
    pub fn remembers(&self) -> Option<Stamp> {
        let promise = self.agent.as_ref().and_then(|agent| agent.facts().promise);
        promise.max(self.remembered.borrow().stamp)
    }

    /// Stops the endpoints and the agent. PostgreSQL goes on.
    pub async fn stop(&self) {
        join_all(self.endpoints.values().map(|endpoint| endpoint.close())).await;
        if let Some(agent) = &self.agent {
            agent.stop().await;
        }
    }

    fn answer(&self, reply: Reply) -> Answer {
        Answer { reply, facts: self.facts() }
    }

    fn no_endpoint(&self, name: &EndpointName) -> Reply {
        Reply::Refused(format!("{} has no endpoint {name}", self.node))
    }
}

impl Local for Host {
    fn facts(&self) -> MemberFacts {
        let known = *self.remembered.borrow();
        MemberFacts {
            // First: whatever is gathered from here on is no older.
            left: self.clock.now(),
            remembered: known.stamp,
            renewals: known.renewals,
            noted: self.notes.get(),
            hears: self.hears.borrow().clone(),
            node: self.node.clone(),
            agent: self.agent.as_ref().map(|agent| agent.facts()),
            endpoints: self
                .endpoints
                .iter()
                .map(|(name, endpoint)| (name.clone(), endpoint.facts()))
                .collect(),
            sent_at: self.clock.now(),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[async_trait]
impl Member for Host {
    async fn order(&self, stamp: Stamp, command: Command) -> Result<Answer, NoAnswer> {
        let reply = match &self.agent {
            Some(agent) => agent.order(stamp, command).await,
            None => Reply::Refused(format!("{} has no PostgreSQL", self.node)),
        };
        Ok(self.answer(reply))
    }

    async fn route(
        &self,
        endpoint: &EndpointName,
        stamp: Stamp,
        order: RouteOrder,
    ) -> Result<Answer, NoAnswer> {
        let reply = match self.endpoints.get(endpoint) {
            Some(endpoint) => endpoint.order(stamp, order),
            None => self.no_endpoint(endpoint),
        };
        // Whether the app server gets through to what the endpoint leads to now is the end of an RTO: look at once.
        if let Some(agent) = &self.agent {
            agent.probe_app();
        }
        Ok(self.answer(reply))
    }

    async fn vouch(&self, stamp: Stamp, ttl: Duration) -> Result<bool, NoAnswer> {
        match &self.agent {
            Some(agent) => Ok(agent.vouch(stamp, ttl).await),
            None => Err(NoAnswer(format!("{} has no PostgreSQL", self.node))),
        }
    }

    async fn note(&self, note: Note) -> Result<(), NoAnswer> {
        self.notes.take(note);
        Ok(())
    }

    async fn sessions(&self) -> Result<Option<Vec<Session>>, NoAnswer> {
        let Some(agent) = &self.agent else { return Ok(None) };
        let mut sessions = agent.sessions().await;
        sessions.iter_mut().for_each(|sessions| self.sidecars.mark(sessions));
        Ok(sessions)
    }

    async fn wal(&self, ask: WalAsk) -> Result<Vec<u8>, NoAnswer> {
        match &self.agent {
            Some(agent) => agent.wal(ask).await.map_err(NoAnswer),
            None => Err(NoAnswer(format!("{} has no PostgreSQL", self.node))),
        }
    }

    async fn park(
        &self,
        endpoint: &EndpointName,
        stamp: Stamp,
        ports: BTreeSet<u16>,
    ) -> Result<(), NoAnswer> {
        let reply = match self.endpoints.get(endpoint) {
            Some(endpoint) => endpoint.park(stamp, ports).await,
            None => self.no_endpoint(endpoint),
        };
        match reply {
            Reply::Done => Ok(()),
            Reply::Refused(reason) | Reply::Failed(reason) => Err(NoAnswer(reason)),
        }
    }
}
