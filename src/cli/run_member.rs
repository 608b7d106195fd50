//! `locum run`: wires one member together and runs it until it is told to stop. Only wiring; PostgreSQL outlives it.

use std::{
    collections::BTreeMap, fs::DirBuilder, future::Future, os::unix::fs::DirBuilderExt as _, path::Path,
    process::ExitCode, sync::Arc, time::Duration,
};

use anyhow::Context as _;
use tokio::{net::TcpListener, signal::unix::SignalKind, sync::watch, task::JoinHandle};

use super::{Exit, args::RunArgs, service::Service};
use crate::{
    agent::{Agent, Serving},
    api, app,
    clock::SystemClock,
    config::{self, Config},
    controller::{self, Deps, Feed, Remembered},
    endpoint::{self, Driven, Proxy, Surroundings},
    fence_command::FenceCommand,
    guard,
    member::Host,
    model::{EndpointKind, EndpointName, GuardMode, Mono, NodeId, RouteOrder, Snapshot},
    notes::Notes,
    peers::PeerBook,
    ports::{Clock, Console, Endpoint, Local, Store},
    postgres::ThroughEndpoint,
    store::{Embedded, Etcd, Records, Registration, RpoHistory},
    tls::{Identity, Name},
};

/// For so long a member that was removed still answers: whoever asked for that may be asking this very one what came of it.
/// Shorter: they are told that it timed out. Longer: it ends later.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a stop may take until it is cut short.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Runs the member until SIGTERM or SIGINT, or until its node is removed from the cluster.
///
/// # Errors
/// The configuration is not sound, a port is taken, the store cannot be opened, or the data directory belongs to
/// another node or system. Nothing was changed then.
pub async fn execute(args: RunArgs) -> anyhow::Result<ExitCode> {
    let loaded = crate::config::load(&args.source.sources())?;
    super::output::log_to_stderr();
    guard::settle_member();
    let config = loaded.config;
    let (stop, stopped) = watch::channel(false);
    let mut member = Running::start(&config, stopped).await?;
    tracing::info!(cluster = %config.cluster, node = %config.node, api = %config.api.listen, "member runs");
    let service = Service::begin(member.snapshots.clone()).await;
    let code = tokio::select! {
        told = told_to_stop() => told.map(|()| Exit::Done)?,
        () = removed(member.snapshots.clone(), &config.node) => {
            tracing::warn!("this node was removed from the cluster; `locum node add` brings it back");
            member.hold_still().await;
            member.step_down().await;
            tokio::time::sleep(LAST_WORDS).await;
            Exit::Removed
        }
    };
    tracing::info!("member stops; PostgreSQL goes on");
    service.stops().await;
    stop.send_replace(true);
    if tokio::time::timeout(STOP_LIMIT, member.stop()).await.is_err() {
        tracing::warn!("the stop took longer than {STOP_LIMIT:?} and was cut short");
    }
    Ok(code.into())
}

/// Waits until the store says that this node is no part of the cluster any more.
async fn removed(mut snapshots: watch::Receiver<Arc<Snapshot>>, node: &NodeId) {
    let is_removed = |snapshot: &Arc<Snapshot>| {
        snapshot.intent.as_ref().is_some_and(|intent| intent.removed.contains(node))
    };
    if snapshots.wait_for(is_removed).await.is_err() {
        // The controller is gone: that is for others to notice.
        std::future::pending().await
    }
}

/// Resolves at SIGTERM or SIGINT.
pub(super) async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        done = tokio::signal::ctrl_c() => done.context("listen for SIGINT"),
    }
}

/// A running member.
struct Running {
    host: Arc<Host>,
    records: Records,
    node: NodeId,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    loop_task: JoinHandle<()>,
    servers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Binds every port and opens every file before anything acts.
    async fn start(config: &Config, stopped: watch::Receiver<bool>) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let access = access(config, &clock)?;
        let records = Records::new(open_store(&config.store)?, config.cluster.clone());
        refuse_second(config, &records, connect(config, access.clone(), &clock)).await?;
        let public = bind("api.listen", config.api.listen).await?;
        let peer_port = bind("api.peer_listen", config.api.peer_listen).await?;
        make_dir("state_dir", &config.state_dir)?;
        let remembered =
            Remembered::open(&config.state_dir).context("read what this member remembers (state_dir)")?;
        let notes = Arc::new(Notes::open(&config.state_dir).context("read what a primary told (state_dir)")?);
        let history =
            RpoHistory::open(&config.state_dir.join("history.db")).context("open the RPO history")?;
        let mut endpoints: BTreeMap<EndpointName, Arc<dyn Endpoint>> = BTreeMap::new();
        let mut proxies = Vec::new();
        for endpoint in &config.endpoints {
            let proxy = Proxy::bind(endpoint, clock.clone())?;
            proxies.push((Arc::clone(&proxy), endpoint));
            endpoints.insert(endpoint.name.clone(), proxy);
        }
        let peers =
            PeerBook::open(config.node.clone(), &config.state_dir, connect(config, access.clone(), &clock));
        let app = config.app.as_ref().map(|app| app::Server::open(app, &config.node, clock.clone()));
        let agent = match &config.postgres {
            Some(postgres) => Some(Agent::start(
                postgres,
                app.clone(),
                &config.node,
                &config.state_dir,
                Serving {
                    ttl: config.policy.lease_ttl,
                    hang: config.policy.hang,
                    lease: Arc::new(records.clone()),
                    peers: peers.clone(),
                    remembered: Some(remembered.watch()),
                    notes: Some(Arc::clone(&notes)),
                    guard: Some(guard::Settings {
                        enforce: config.policy.guard == GuardMode::Enforce,
                        ..guard::Settings::new(
                            &config.state_dir,
                            &postgres.data_dir,
                            config.policy.freeze_max,
                        )
                    }),
                },
                clock.clone(),
            )?),
            None => None,
        };
        for driven in &config.driven {
            let around = Surroundings {
                cluster: &config.cluster,
                node: &config.node,
                state_dir: &config.state_dir,
                may_serve: right_of(agent.clone(), clock.clone()),
                app: app.clone(),
                clock: clock.clone(),
            };
            let opened = Driven::open(driven, &around).map_err(anyhow::Error::msg)?;
            endpoints.insert(driven.name.clone(), opened);
        }
        if let Some(promise) = agent.as_ref().and_then(|agent| agent.facts().promise) {
            // An endpoint remembers nothing over a restart, and the promise file does: no order below that counts.
            for endpoint in endpoints.values() {
                endpoint.order(promise, RouteOrder::Hold);
            }
        }
        let hears = watch::Sender::default();
        let (node, known, heard) = (config.node.clone(), remembered.watch(), hears.subscribe());
        let host = Host::new(node, agent, endpoints, known, heard, notes, clock.clone());
        let kept = (history, remembered, hears);
        let (console, loop_task) =
            controller::start(deps(config, &host, &peers, records.clone(), kept, clock));
        let console: Arc<dyn Console> = Arc::new(console);
        let snapshots = console.snapshots();
        for (proxy, endpoint) in &proxies {
            endpoint::follow(proxy, endpoint, snapshots.clone());
        }
        if let Some(app) = &app {
            tell_app(app, config, snapshots.clone());
        }
        let local: Arc<dyn Local> = host.clone();
        let servers = vec![
            serve(api::serve(public, console, config.api.token.clone(), wait(stopped.clone()))),
            serve(api::peer::serve(peer_port, config.cluster.clone(), local, access, wait(stopped))),
        ];
        Ok(Self { host, records, node: config.node.clone(), snapshots, loop_task, servers })
    }

    /// Decides nothing more.
    async fn hold_still(&mut self) {
        if !self.loop_task.is_finished() {
            self.loop_task.abort();
            _ = (&mut self.loop_task).await;
        }
    }

    /// Leaves leadership, so that another member need not wait for the lease to run out.
    async fn step_down(&self) {
        if let Err(error) = self.records.step_down(&self.node).await {
            tracing::warn!(%error, "leave leadership");
        }
    }

    /// Stops deciding first, then everything else.
    async fn stop(mut self) {
        self.hold_still().await;
        if controller::leave_unattended(&self.records, &self.node, self.host.remembers()).await {
            self.host.disarm().await;
        }
        self.step_down().await;
        self.host.stop().await;
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

/// Two members of one name would take turns to be found under it. A store that is away, or an old address at which nobody is any
/// more, is no reason not to start.
async fn refuse_second(
    config: &Config,
    records: &Records,
    connect: impl Fn(&Registration) -> Feed,
) -> anyhow::Result<()> {
    const ANSWER: Duration = Duration::from_secs(2);
    let own = registration(config);
    let known = tokio::time::timeout(ANSWER, records.members()).await.ok().and_then(Result::ok);
    let registered = known.into_iter().flatten().filter(|known| known.node == own.node);
    for place in registered.chain([own.clone()]) {
        // Nobody may be at its own address before it listens there itself.
        let answered = tokio::time::timeout(ANSWER, connect(&place).member.sessions()).await;
        if matches!(answered, Ok(Ok(_))) {
            anyhow::bail!(
                "a member of {} runs at {} already: stop that one, or give this one a name of its own (node)",
                own.node,
                place.peer_address
            );
        }
    }
    Ok(())
}

fn registration(config: &Config) -> Registration {
    Registration {
        node: config.node.clone(),
        api_address: config.api.address.clone(),
        peer_address: config.api.peer_address.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Keeps the app server informed of where its database is.
fn tell_app(app: &app::Server, config: &Config, snapshots: watch::Receiver<Arc<Snapshot>>) {
    let file = config.app.as_ref().and_then(|app| app.database_file.clone());
    let leads = config.endpoints.iter().find(|endpoint| endpoint.target == EndpointKind::Primary);
    let (through, told) = (leads.map(|endpoint| endpoint.listen), app.database());
    tokio::spawn(async move { app::follow_database(file.as_deref(), through, snapshots, told).await });
}

/// Whether this node's PostgreSQL has the right to serve.
fn right_of(agent: Option<Arc<Agent>>, clock: Arc<dyn Clock>) -> Arc<dyn Fn() -> bool + Send + Sync> {
    Arc::new(move || {
        let until = agent.as_ref().and_then(|agent| agent.facts().serves_until);
        until.is_some_and(|until| until > clock.now())
    })
}

/// What admits this member to others and others to this one.
fn access(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<api::peer::Access> {
    let identity = match &config.api.tls {
        None => None,
        Some(files) => {
            let name = Name::new(config.node.clone(), config.cluster.clone()).map_err(anyhow::Error::msg)?;
            let identity = Identity::open(files.clone(), name, clock.clone()).map_err(|flaws| {
                let flaws: Vec<_> = flaws.iter().map(|flaw| format!("{flaw}. {}", flaw.fix)).collect();
                anyhow::anyhow!("{}", flaws.join("; "))
            })?;
            identity.follow();
            Some(identity)
        }
    };
    Ok(api::peer::Access::new(config.api.token.clone(), identity))
}

fn deps(
    config: &Config,
    host: &Arc<Host>,
    peers: &Arc<PeerBook>,
    records: Records,
    (history, remembered, hears): (RpoHistory, Remembered, watch::Sender<BTreeMap<NodeId, Mono>>),
    clock: Arc<dyn Clock>,
) -> Deps {
    let peers = Arc::clone(peers);
    Deps {
        cluster: config.cluster.clone(),
        node: config.node.clone(),
        registration: registration(config),
        members: config.members.clone(),
        policy: config.policy.clone(),
        objectives: config.objectives,
        leader_ttl: config.leader_ttl,
        records,
        local: host.feed(),
        sidecars: host.sidecars(),
        connect: Box::new(move |registration| peers.feed(registration)),
        client: Arc::new(ThroughEndpoint::new(match (&config.postgres, &config.witness) {
            (Some(postgres), _) => &postgres.verify,
            (None, Some(witness)) => &witness.verify,
            // The checks ask for one of the two.
            (None, None) => "",
        })),
        fencer: config.fence_command.clone().map(|program| {
            Arc::new(FenceCommand::new(program, config.cluster.clone())) as Arc<dyn controller::Fencer>
        }),
        remembered,
        hears,
        clock,
        state_dir: config.state_dir.clone(),
        history: Some(history),
    }
}

/// How another member is connected.
fn connect(
    config: &Config,
    access: api::peer::Access,
    clock: &Arc<dyn Clock>,
) -> Box<dyn Fn(&Registration) -> Feed + Send + Sync> {
    let (cluster, clock) = (config.cluster.clone(), Arc::clone(clock));
    Box::new(move |peer| {
        let remote = api::peer::Remote::new(
            cluster.clone(),
            peer.node.clone(),
            peer.peer_address.clone(),
            access.clone(),
            Arc::clone(&clock),
        );
        Feed { node: peer.node.clone(), facts: remote.facts(), member: remote }
    })
}

/// Opens the store. etcd need not be up for it: a member runs and tells, and does nothing until it is.
pub(super) fn open_store(config: &config::Store) -> anyhow::Result<Arc<dyn Store>> {
    match config {
        config::Store::Embedded(file) => {
            if let Some(parent) = file.parent() {
                make_dir("store.embedded", parent)?;
            }
            let store = Embedded::open(file).with_context(|| format!("open the store {}", file.display()))?;
            Ok(Arc::new(store))
        }
        config::Store::Etcd(etcd) => {
            Ok(Arc::new(Etcd::open(etcd).context("open the store in etcd (store.etcd)")?))
        }
    }
}

/// Makes a directory that is not there yet, as `locum config check` promises; only its owner may enter.
fn make_dir(key: &str, path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("make the directory {} ({key})", path.display()))
}

async fn bind(key: &str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address} ({key}): another program has the port, or this user may not take it"
        )
    })
}

fn serve<F>(server: F) -> JoinHandle<()>
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "an API port stopped serving");
        }
    })
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone: the member ends.
    _ = stopped.wait_for(|stopped| *stopped).await;
}
