//! `locum endpoint`: the proxy beside an app, on a host that has no member.

mod balance;
mod follow;
mod parking;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::ValueEnum;
use tokio::{sync::watch, task::JoinSet};

use super::{Exit, Failure, client::base_of, output, run_member::told_to_stop};
use crate::{
    clock::SystemClock,
    config::{self, Balance, Tuning},
    controller::Remembered,
    endpoint::Proxy,
    model::{EndpointKind, EndpointName, RouteOrder, Stamp},
};

/// An ordered endpoint that follows several members at once.
struct Following {
    proxy: Arc<Proxy>,
    kind: EndpointKind,
    remembered: Option<Arc<Remembered>>,
    /// Clients are held for a hand-over, under this stamp.
    held: watch::Sender<Option<Stamp>>,
}

/// `locum endpoint`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The API of a member, such as http://10.0.0.1:8008; give all of them, so that one is always heard
    #[arg(long = "member", value_name = "URL", required = true)]
    pub members: Vec<String>,
    /// Where clients connect
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6432")]
    pub listen: SocketAddr,
    /// What it leads to
    #[arg(long, value_enum, default_value_t = Target::Primary)]
    pub target: Target,
    /// Of several targets: who is next
    #[arg(long, value_enum, default_value_t = Next::RoundRobin)]
    pub balance: Next,
    /// A standby that lacks or has not replayed more gets no new connections
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = config::parse_bytes)]
    pub max_lag: u64,
    /// While there is no such standby, the primary serves
    #[arg(long)]
    pub fallback: bool,
    /// Where it remembers over a restart how new what it followed was, so as to follow nothing older
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// How long a new connection waits at most during a failover
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    pub hold: Duration,
    /// How many may wait; of more than that the oldest is closed
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub max_held: usize,
    /// How many clients may be connected at once; more wait in the kernel's queue
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub max_connections: usize,
    /// After SIGTERM open connections may go on for so long
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub shutdown: Duration,
}

/// What it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// The PostgreSQL that takes writes
    Primary,
    /// The PostgreSQL of every standby that is close enough behind it
    Standbys,
    /// The active app server
    App,
    /// Every app server that is healthy
    Apps,
}

/// Of several targets, who is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Next {
    /// One after the other
    RoundRobin,
    /// The one with the fewest open connections
    LeastConnections,
}

impl Target {
    const fn kind(self) -> EndpointKind {
        match self {
            Self::Primary => EndpointKind::Primary,
            Self::Standbys => EndpointKind::Standbys,
            Self::App => EndpointKind::App,
            Self::Apps => EndpointKind::Apps,
        }
    }
}

/// Runs it until SIGTERM or SIGINT.
pub(super) async fn execute(args: &Args) -> Result<ExitCode, Failure> {
    let kind = args.target.kind();
    let is_ordered = matches!(kind, EndpointKind::Primary | EndpointKind::App);
    let mut members = Vec::new();
    for member in &args.members {
        members.push(base_of(member)?);
    }
    let at = |path: &str| -> Vec<reqwest::Url> {
        let at = |member: &reqwest::Url| {
            let mut url = member.clone();
            url.set_path(path);
            url
        };
        members.iter().map(at).collect()
    };
    output::log_to_stderr();
    let endpoint = config::Endpoint {
        name: EndpointName::new("sidecar").context("name the endpoint")?,
        target: kind,
        listen: args.listen,
        max_held: args.max_held,
        hold: args.hold,
        tuning: Tuning {
            max_connections: args.max_connections,
            shutdown: args.shutdown,
            max_lag: args.max_lag,
            fallback: args.fallback,
            balance: match args.balance {
                Next::RoundRobin => Balance::RoundRobin,
                Next::LeastConnections => Balance::LeastConnections,
            },
            ..Tuning::default()
        },
    };
    let remembered = match args.state_dir.as_deref() {
        Some(folder) => {
            let opened = std::fs::create_dir_all(folder).and_then(|()| Remembered::open(folder));
            Some(Arc::new(
                opened.with_context(|| format!("read what is remembered in {}", folder.display()))?,
            ))
        }
        None => None,
    };
    let proxy = Proxy::bind(&endpoint, Arc::new(SystemClock)).map_err(anyhow::Error::from)?;
    if let Some(stamp) = remembered.as_ref().and_then(|remembered| remembered.opened().stamp) {
        // Nothing older is followed from now on.
        _ = proxy.order(stamp, RouteOrder::Hold);
    }
    let mut followers = JoinSet::new();
    if is_ordered {
        let following = Arc::new(Following {
            proxy: Arc::clone(&proxy),
            kind,
            remembered,
            held: watch::Sender::default(),
        });
        // Only sessions of the primary are parked in a hand-over.
        let name = (kind == EndpointKind::Primary).then(parking::name).transpose()?;
        for mut url in at("/v1/events") {
            if let Some(name) = &name {
                url.query_pairs_mut().append_pair("sidecar", name);
            }
            let following = Arc::clone(&following);
            followers.spawn(async move { follow::follow(&following, url).await });
        }
        if let Some(name) = name {
            let (proxy, held) = (Arc::clone(&proxy), following.held.subscribe());
            let members = parking::members(at("/v1/sessions"), &name)?;
            followers.spawn(async move { parking::park(&proxy, held, members).await });
        }
    } else {
        let (proxy, endpoint, status) = (Arc::clone(&proxy), endpoint.clone(), at("/v1/status"));
        followers.spawn(async move { balance::balance(&proxy, &endpoint, status).await });
    }
    output::talk(&format!("Clients are led at {}. Ctrl-C ends it.", proxy.facts().listen));
    told_to_stop().await?;
    drop(followers);
    proxy.drain().await;
    Ok(Exit::Done.into())
}

/// Asks a member.
fn client(url: &reqwest::Url, connect: Duration) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .connect_timeout(connect)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_built_in_native_certs(url.scheme() == "https")
        .build()
}
