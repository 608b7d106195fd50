//! A fake controller, and a port that serves it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use locum::{
    api,
    model::{
        Cause, ClusterName, Durability, EndpointKind, EndpointName, EndpointStatus, Epoch, Finding,
        FindingText, Incarnation, Incident, IncidentId, IncidentKind, Intent, Lsn, MarkName, Mode, Mono,
        NodeId, NodeStatus, Objectives, RequestKind, Role, RpoAtOnset, RpoStatus, Snapshot, Stamp, Timeline,
    },
    ports::{Console, StoreError, SubmitError},
};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::sync::{oneshot, watch};

/// The token of the fake cluster.
pub(super) const TOKEN: &str = "open-sesame";
/// How long anything may take that a test waits for.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// What a test sets up and what it looks at afterwards.
pub(super) struct Fake {
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(super) submitted: Mutex<Vec<RequestKind>>,
    pub(super) blockers: Vec<String>,
    pub(super) incidents: Result<Vec<Incident>, String>,
    pub(super) busy: bool,
}

#[async_trait]
impl Console for Fake {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.subscribe()
    }
    fn submit(&self, kind: RequestKind) -> Result<String, SubmitError> {
        let snapshot = self.snapshot();
        if snapshot.leader.as_ref() != Some(&snapshot.node) {
            return Err(SubmitError::NotLeader(snapshot.leader.clone()));
        }
        if self.busy {
            return Err(SubmitError::Busy("a switchover is under way".into()));
        }
        let mut submitted = self.submitted.lock().expect("no panic before");
        submitted.push(kind);
        Ok(format!("op-{}", submitted.len()))
    }
    fn blockers(&self, _: &RequestKind) -> Vec<String> {
        self.blockers.clone()
    }
    async fn incidents(&self, last: usize) -> Result<Vec<Incident>, StoreError> {
        let all = self.incidents.clone().map_err(StoreError::Outage)?;
        Ok(all[all.len().saturating_sub(last)..].to_vec())
    }
}

impl Fake {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshots: watch::Sender::new(Arc::new(snapshot)),
            submitted: Mutex::new(Vec::new()),
            blockers: Vec::new(),
            incidents: Ok(Vec::new()),
            busy: false,
        }
    }

    pub(super) fn submitted(&self) -> Vec<RequestKind> {
        self.submitted.lock().expect("no panic before").clone()
    }

    /// Publishes the snapshot with a change.
    pub(super) fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = Snapshot::clone(&self.snapshot());
        change(&mut snapshot);
        self.snapshots.send_replace(Arc::new(snapshot));
    }
}

/// A port under test.
pub(super) struct Port {
    pub(super) address: SocketAddr,
    pub(super) fake: Arc<Fake>,
    pub(super) client: reqwest::Client,
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Port {
    pub(super) async fn open(fake: Fake) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let fake = Arc::new(fake);
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let served = tokio::spawn(api::serve(listener, fake.clone(), TOKEN.into(), shutdown));
        let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().expect("a client");
        Self { address, fake, client, stop: Some(stop), served }
    }

    /// The port of member `a`, which is both leader and primary of a healthy pair.
    pub(super) async fn of_a_pair() -> Self {
        Self::open(Fake::new(pair())).await
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(super) async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path).send().await.expect("an answer")).await
    }

    /// A control call with the token.
    pub(super) async fn post(&self, path: &str, body: &str) -> (StatusCode, Value) {
        let request = self.request(Method::POST, path).bearer_auth(TOKEN).body(body.to_owned());
        answer(request.send().await.expect("an answer")).await
    }
}

pub(super) async fn answer(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}")))
}

pub(super) fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("good name")
}

pub(super) fn status(name: &str, role: Role) -> NodeStatus {
    NodeStatus {
        node: node(name),
        api_address: Some(format!("{name}.example:8008")),
        database: Some(format!("{name}.example:5432")),
        heard_ms: 12.0,
        role,
        serving: role == Role::Primary,
        sync: role == Role::Standby,
        streaming: role == Role::Standby,
        timeline: Some(Timeline(3)),
        lsn: Some(Lsn(0x0300_0060)),
        lag_bytes: Some(0),
        replay_bytes: Some(0x60),
        disk_free_bytes: Some(5 << 30),
        guard: None,
        hindrances: Vec::new(),
        promise: Some(Stamp::default()),
        job: None,
        error: None,
        app: None,
    }
}

/// A healthy pair: primary `a`, sync standby `b`; shown by `a`, which leads.
pub(super) fn pair() -> Snapshot {
    let endpoint = EndpointStatus {
        member: node("a"),
        name: EndpointName::new("db").expect("good name"),
        kind: EndpointKind::Primary,
        listen: "127.0.0.1:6432".into(),
        target: Some(node("a")),
        mode: Mode::Open,
        open: 7,
        held: 2,
        stamp: Stamp::default(),
        driver: locum::model::Driver::Proxy,
        problem: None,
        cut_total: 0,
        held_total: 0,
        refused_total: 0,
        traffic: locum::model::Traffic::default(),
    };
    let rpo = RpoStatus {
        bytes: Some(4096),
        ms: Some(250.0),
        as_of_ms: 40.0,
        at_most_bytes: None,
        acknowledged_is_safe: true,
        standby: Some(node("b")),
    };
    let finding = Finding::AppDown { node: node("b") };
    Snapshot {
        cluster: ClusterName::new("orders").expect("good name"),
        node: node("a"),
        at: "2026-11-22T08:40:30Z".parse().expect("a time"),
        leader: Some(node("a")),
        store_error: None,
        intent: Some(Intent::first(Incarnation(1), Epoch(4), node("a"), Durability::Sync)),
        nodes: vec![status("a", Role::Primary), status("b", Role::Standby)],
        endpoints: vec![endpoint],
        rpo: Some(rpo),
        findings: vec![FindingText { text: finding.to_string(), finding }],
        plan: vec!["all is well".into()],
        incident: None,
        last_incident: None,
        if_it_crashed: Vec::new(),
        operations: Vec::new(),
    }
}

pub(super) fn incident(id: &str, kind: IncidentKind, rto_ms: u64) -> Incident {
    let mut incident = Incident {
        id: IncidentId(id.into()),
        kind,
        cause: Cause { summary: "the postmaster of primary a died".into(), evidence: Vec::new() },
        epoch: Epoch(4),
        from: Some(node("a")),
        to: Some(node("b")),
        started_at: "2026-11-22T08:40:30Z".parse().expect("a time"),
        leader: node("b"),
        marks: Vec::new(),
        rpo: RpoAtOnset::default(),
        live: None,
        objectives: Objectives { rto_ms: 5000.0, rpo_ms: 0.0 },
        connections_cut: 3,
        connections_held: 4,
        repoints: Vec::new(),
        connections_refused: 0,
        from_name: None,
        longest_gap_ms: None,
        deviations: Vec::new(),
        abandoned: None,
        closed: true,
        operation: None,
    };
    incident.mark(MarkName::Onset, Mono(1_000_000));
    incident.mark(MarkName::Promoted, Mono(1_000_000 + rto_ms * 500));
    incident.mark(MarkName::AppReady, Mono(1_000_000 + rto_ms * 1000));
    incident
}
