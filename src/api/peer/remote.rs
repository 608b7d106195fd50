//! The side of the peer port that asks: another member, as [`ports::Member`](crate::ports::Member).

use std::{
    collections::BTreeSet,
    error::Error as _,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use reqwest::{
    Method, RequestBuilder,
    dns::{Addrs, Name as Host, Resolve, Resolving},
};
use secrecy::ExposeSecret;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::lookup_host, sync::watch, task::AbortHandle, time::timeout};
use tokio_rustls::rustls;

use super::{
    access::Access,
    stream::{self, Heard},
    transit::Transit,
    wire::{self, OrderCall, ParkCall, Returned, RouteCall, VouchCall},
};
use crate::{
    model::{ClusterName, Command, EndpointName, NodeId, Note, RouteOrder, Stamp},
    ports::{Answer, Clock, Member, NoAnswer, Session, WalAsk},
    tls::{self, Name},
};

/// How long connecting may take.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// How long an order may show no sign of life, of which there is one every 100 ms. An order has no other deadline:
/// copying a data directory takes as long as it takes, and whoever ordered it can stop waiting.
const SIGN_OF_LIFE_WAIT: Duration = Duration::from_secs(5);
/// How long a call that does nothing lengthy may take altogether.
const QUICK_WAIT: Duration = Duration::from_secs(2);
/// Silence of a connection after which the kernel asks whether the other host still lives, and how often.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(1), Duration::from_secs(1), 3);
/// How long sent bytes may stay unacknowledged before the kernel gives a connection up.
const USER_TIMEOUT: Duration = Duration::from_secs(5);

/// Another member. Its fact stream is kept open for as long as this exists.
pub struct Remote {
    peer: Arc<Peer>,
    heard: watch::Receiver<Heard>,
    stream: AbortHandle,
}

/// Whom to call, and how.
pub(super) struct Peer {
    pub(super) cluster: ClusterName,
    pub(super) node: NodeId,
    pub(super) address: String,
    /// The beginning of every URL.
    base: String,
    access: Access,
    pub(super) clock: Arc<dyn Clock>,
    client: reqwest::Client,
    /// The delays of what comes from there.
    transit: Mutex<Transit>,
}

impl Remote {
    /// The member `node` of `cluster`, reached at `address` (`host:port` of its peer port). Begins to listen to its
    /// facts at once; must be called within a Tokio runtime. With an identity in `access` it must show that node's
    /// certificate.
    #[must_use]
    pub fn new(
        cluster: ClusterName,
        node: NodeId,
        address: impl Into<String>,
        access: Access,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let address = address.into();
        let name = Name { node: node.clone(), cluster: cluster.clone() };
        let (base, client) = (base(&access, &name, &address), client(&access, &address));
        let transit = Mutex::default();
        let peer = Peer { cluster, node, address, base, access, clock, client, transit };
        let peer = Arc::new(peer);
        let (sender, heard) = watch::channel(None);
        let stream = tokio::spawn(stream::keep_open(Arc::clone(&peer), sender)).abort_handle();
        Arc::new(Self { peer, heard, stream })
    }

    /// The member's facts as they come, all instants on this member's clock; `at` is when they came. None until it
    /// was heard once. When it falls silent the last ones stay, and grow old.
    #[must_use]
    pub fn facts(&self) -> watch::Receiver<Heard> {
        self.heard.clone()
    }

    /// Whom this is.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.peer.node
    }

    /// Where it is reached.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.peer.address
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.stream.abort();
    }
}

/// Connections are kept for ever: connecting is not to be part of an RTO. No proxy of the environment and no redirect
/// gets between members.
fn client(access: &Access, address: &str) -> reqwest::Client {
    let (idle, interval, count) = KEEPALIVE;
    let builder = reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WAIT)
        .pool_idle_timeout(None)
        .tcp_nodelay(true)
        .tcp_keepalive(idle)
        .tcp_keepalive_interval(interval)
        .tcp_keepalive_retries(count)
        .tcp_user_timeout(USER_TIMEOUT);
    let builder = match &access.identity {
        None => builder.tls_built_in_root_certs(false),
        Some(identity) => builder
            .use_preconfigured_tls(identity.calling())
            .dns_resolver(Arc::new(Fixed(address.to_owned()))),
    };
    builder.build().expect("only certificates and resolver settings can fail, and they are made before")
}

/// With TLS the URL says whom the call is for, so that the certificate is compared with it; [`Fixed`] knows where.
fn base(access: &Access, name: &Name, address: &str) -> String {
    match (&access.identity, address.rsplit_once(':')) {
        (Some(_), Some((_, port))) => format!("https://{name}:{port}"),
        (Some(_), None) => format!("https://{name}"),
        (None, _) => format!("http://{address}"),
    }
}

/// Every name is at one address; looked up for every connection, since a host may get another one.
struct Fixed(String);

impl Resolve for Fixed {
    fn resolve(&self, _: Host) -> Resolving {
        let address = self.0.clone();
        Box::pin(async move {
            let found = lookup_host(address).await?.collect::<Vec<_>>();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// What went wrong, down to the cause: the outermost sentence alone names only the URL.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &(dyn std::error::Error + 'static) = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
        let of_tls = match cause.downcast_ref::<rustls::Error>() {
            Some(error) => Some(tls::sentence(error)),
            None => cause.downcast_ref::<io::Error>().and_then(tls::of_io),
        };
        if let Some(sentence) = of_tls {
            return sentence;
        }
    }
    match error.source() {
        None => error.to_string(),
        Some(_) if error.is_connect() => format!("no connection: {innermost}"),
        Some(_) => innermost.to_string(),
    }
}

impl Peer {
    pub(super) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    fn post(&self, path: &str, body: &impl Serialize) -> RequestBuilder {
        self.request(Method::POST, path).json(body)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(self.access.token.expose_secret())
            .header(wire::CLUSTER, self.cluster.as_str())
            .header(wire::NODE, self.node.as_str());
        match &self.access.identity {
            Some(identity) => request.header(wire::CALLER, identity.name().node.as_str()),
            None => request,
        }
    }

    /// Calls and waits for what is returned, for as long as there are signs of life.
    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, NoAnswer> {
        let silent = |_| NoAnswer(format!("no sign of life for {SIGN_OF_LIFE_WAIT:?}"));
        let broken = |error: reqwest::Error| NoAnswer(reason(&error));
        let mut response =
            timeout(SIGN_OF_LIFE_WAIT, request.send()).await.map_err(silent)?.map_err(broken)?;
        if !response.status().is_success() {
            let said = timeout(SIGN_OF_LIFE_WAIT, stream::refusal(response)).await.map_err(silent)?;
            return Err(NoAnswer(format!("it refuses: {said}")));
        }
        let mut body = Vec::new();
        while let Some(chunk) =
            timeout(SIGN_OF_LIFE_WAIT, response.chunk()).await.map_err(silent)?.map_err(broken)?
        {
            // Newlines before the answer are signs of life and not kept: an order may take an hour of them.
            body.extend_from_slice(if body.is_empty() { chunk.trim_ascii_start() } else { &chunk });
            if body.len() > wire::MESSAGE_BYTES {
                return Err(NoAnswer("its answer has no end".into()));
            }
        }
        match serde_json::from_slice(&body) {
            Ok(Returned::Answer(answer)) => Ok(answer),
            Ok(Returned::NoAnswer(why)) => Err(NoAnswer(why)),
            Err(error) => Err(NoAnswer(format!("its answer cannot be read: {error}"))),
        }
    }

    /// The same for calls that do nothing lengthy.
    async fn quick<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, NoAnswer> {
        let silent = |_| NoAnswer(format!("no answer in {QUICK_WAIT:?}"));
        timeout(QUICK_WAIT, self.call(request)).await.map_err(silent)?
    }

    /// Calls for bytes as they are. Whoever waits for them has a deadline.
    async fn raw(&self, request: RequestBuilder) -> Result<Vec<u8>, NoAnswer> {
        let broken = |error: reqwest::Error| NoAnswer(reason(&error));
        let mut response = request.send().await.map_err(broken)?;
        if !response.status().is_success() {
            return Err(NoAnswer(format!("it refuses: {}", stream::refusal(response).await)));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            body.extend_from_slice(&chunk);
            if body.len() > wire::MESSAGE_BYTES {
                return Err(NoAnswer("its answer has no end".into()));
            }
        }
        Ok(body)
    }

    pub(super) fn transit(&self) -> MutexGuard<'_, Transit> {
        self.transit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, its facts on this member's clock. They may be older than what the stream brought meanwhile: judged by when
    /// they left, as that is. One of another node is none.
    fn local(&self, answer: Answer) -> Result<Answer, NoAnswer> {
        let received = self.clock.now();
        let Answer { reply, facts } = answer;
        if facts.node == self.node {
            let arrived = self.transit().arrival(facts.sent_at, received);
            Ok(Answer { reply, facts: facts.rebased(arrived) })
        } else {
            Err(NoAnswer(format!("{} answers at its address", facts.node)))
        }
    }
}

#[async_trait]
impl Member for Remote {
    async fn order(&self, stamp: Stamp, command: Command) -> Result<Answer, NoAnswer> {
        let request = self.peer.post(wire::ORDER, &OrderCall { stamp, command });
        self.peer.local(self.peer.call(request).await?)
    }

    async fn route(
        &self,
        endpoint: &EndpointName,
        stamp: Stamp,
        order: RouteOrder,
    ) -> Result<Answer, NoAnswer> {
        let call = RouteCall { endpoint: endpoint.clone(), stamp, order };
        let request = self.peer.post(wire::ROUTE, &call);
        self.peer.local(self.peer.quick(request).await?)
    }

    async fn vouch(&self, stamp: Stamp, ttl: Duration) -> Result<bool, NoAnswer> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.peer.quick(self.peer.post(wire::VOUCH, &VouchCall { stamp, ttl_ms })).await
    }

    async fn note(&self, note: Note) -> Result<(), NoAnswer> {
        match self.peer.quick(self.peer.post(wire::NOTE, &note)).await {
            // An earlier release keeps no notes: its word counts without.
            Err(NoAnswer(why)) if why.contains(wire::NO_PATH) => Ok(()),
            told => told,
        }
    }

    async fn sessions(&self) -> Result<Option<Vec<Session>>, NoAnswer> {
        self.peer.quick(self.peer.get(wire::SESSIONS)).await
    }

    async fn wal(&self, ask: WalAsk) -> Result<Vec<u8>, NoAnswer> {
        let silent = |_| NoAnswer(format!("no answer in {QUICK_WAIT:?}"));
        timeout(QUICK_WAIT, self.peer.raw(self.peer.post(wire::WAL, &ask))).await.map_err(silent)?
    }

    async fn park(
        &self,
        endpoint: &EndpointName,
        stamp: Stamp,
        ports: BTreeSet<u16>,
    ) -> Result<(), NoAnswer> {
        let call = ParkCall { endpoint: endpoint.clone(), stamp, ports };
        self.peer.quick(self.peer.post(wire::PARK, &call)).await
    }
}
