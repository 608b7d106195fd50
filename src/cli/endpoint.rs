//! `locum endpoint`: the proxy beside an app, on a host that has no member.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Exit, Failure, client::base_of, output, run_member::told_to_stop};
use crate::{
    clock::SystemClock,
    config::{self, Tuning},
    endpoint::{Proxy, sidecar},
    model::{EndpointKind, EndpointName, Snapshot},
};

/// A member that does not answer is asked again after this, and after twice as long each time until the second.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MOST: Duration = Duration::from_secs(2);
/// A member shows a sign of life every 5 s: after so long without any its host is gone.
const SILENCE: Duration = Duration::from_secs(12);
/// The most bytes of one event.
const EVENT_BYTES: usize = 16 << 20;

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
    /// The active app server
    App,
}

impl Target {
    const fn kind(self) -> EndpointKind {
        match self {
            Self::Primary => EndpointKind::Primary,
            Self::App => EndpointKind::App,
        }
    }
}

/// Runs it until SIGTERM or SIGINT.
pub(super) async fn execute(args: &Args) -> Result<ExitCode, Failure> {
    let mut urls = Vec::new();
    for member in &args.members {
        let mut url = base_of(member)?;
        url.set_path("/v1/events");
        urls.push(url);
    }
    output::log_to_stderr();
    let endpoint = config::Endpoint {
        name: EndpointName::new("sidecar").context("name the endpoint")?,
        target: args.target.kind(),
        listen: args.listen,
        max_held: args.max_held,
        hold: args.hold,
        tuning: Tuning {
            max_connections: args.max_connections,
            shutdown: args.shutdown,
            ..Tuning::default()
        },
    };
    let proxy = Proxy::bind(&endpoint, Arc::new(SystemClock)).map_err(anyhow::Error::from)?;
    let mut followers = JoinSet::new();
    for url in urls {
        let (proxy, kind) = (Arc::clone(&proxy), args.target.kind());
        followers.spawn(async move { follow(&proxy, kind, url).await });
    }
    output::talk(&format!("Clients are led at {}. Ctrl-C ends it.", proxy.facts().listen));
    told_to_stop().await?;
    drop(followers);
    proxy.drain().await;
    Ok(Exit::Done.into())
}

/// Does what one member shows, for ever.
async fn follow(proxy: &Proxy, kind: EndpointKind, url: reqwest::Url) {
    let mut wait = AGAIN;
    let mut lost = false;
    loop {
        let mut shown = 0_u64;
        let ended = listen(&url, |snapshot| {
            if shown == 0 {
                tracing::info!(member = %snapshot.node, %url, "follows a member");
            }
            shown += 1;
            if let Some((stamp, order)) = sidecar::order(&snapshot, kind, proxy.facts().stamp) {
                // Refused only where another member has shown something newer in this very moment.
                _ = proxy.order(stamp, order);
            }
        })
        .await;
        let why = ended.err().map_or_else(|| "it has ended".to_owned(), |error| format!("{error:#}"));
        if shown > 0 || !lost {
            tracing::warn!(%url, why, "a member is not heard; the last target stays");
        }
        (lost, wait) = (true, if shown > 0 { AGAIN } else { (wait * 2).min(AGAIN_MOST) });
        sleep(wait).await;
    }
}

/// Every snapshot of a member, until it breaks off.
async fn listen(url: &reqwest::Url, mut shows: impl FnMut(Snapshot)) -> Result<()> {
    let client = reqwest::Client::builder()
        .connect_timeout(AGAIN_MOST)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_built_in_native_certs(url.scheme() == "https")
        .build()?;
    let asked = client.get(url.clone()).send();
    let mut response = timeout(SILENCE, asked).await.context("no answer")??.error_for_status()?;
    let mut buffer = Vec::new();
    loop {
        let Some(chunk) = timeout(SILENCE, response.chunk()).await.context("no sign of life")?? else {
            return Ok(());
        };
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = buffer.drain(..end + 2).collect();
            if let Some(snapshot) = snapshot_of(&event)? {
                shows(snapshot);
            }
        }
        if buffer.len() > EVENT_BYTES {
            bail!("an event without end");
        }
    }
}

/// The snapshot of one event; None: a sign of life.
fn snapshot_of(event: &[u8]) -> Result<Option<Snapshot>> {
    let data = event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: "));
    let read = data.map(serde_json::from_slice).transpose();
    read.context("what it shows is not understood; is it of the same version?")
}
