//! The health probe: asks the app server whether it is well, again and again.

use std::{
    error::Error,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    command,
    config::{self, BODY_MAX, Health},
    model::{AppFacts, AppFailure},
    ports::Clock,
};

/// Time between probes while they fail, unless the configured interval is shorter: recovery belongs to the RTO.
const FAILING_INTERVAL: Duration = Duration::from_millis(50);

/// A running probe. Dropping it ends it.
pub struct Probe {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    facts: Mutex<AppFacts>,
    changes: watch::Sender<u64>,
    /// Keeps one request that arrives while a probe is under way.
    asked: Notify,
}

/// How to ask once.
enum Question {
    Http { client: reqwest::Client, url: reqwest::Url, status: Option<u16>, body: Option<String> },
    Tcp(String),
    Command(PathBuf),
}

/// Why it is not healthy: how, and in words.
type Failure = (AppFailure, String);

impl Probe {
    /// Begins to probe. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(config: &config::App, clock: Arc<dyn Clock>) -> Self {
        let facts = AppFacts {
            address: config.address.clone(),
            healthy: false,
            failure: None,
            last_ok: None,
            failing_since: None,
            error: None,
            startable: false,
            starting: false,
        };
        let shared = Arc::new(Shared {
            facts: Mutex::new(facts),
            changes: watch::Sender::default(),
            asked: Notify::new(),
        });
        let task = tokio::spawn(run(Arc::clone(&shared), config.clone(), clock));
        Self { shared, task }
    }

    /// What the last probe found. Before the first: neither healthy nor failing.
    #[must_use]
    pub fn facts(&self) -> AppFacts {
        self.shared.facts().clone()
    }

    /// What the first probe found, or the last one since.
    pub async fn first(&self) -> AppFacts {
        let mut changes = self.changes();
        // The sender lives as long as this.
        _ = changes.wait_for(|changes| *changes > 0).await;
        self.facts()
    }

    /// Changes when the first probe has ended, and whenever the app becomes healthy or ceases to be.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Asks for a probe at once. While one is under way, which may have begun before what the caller waits for, another
    /// follows it directly. Several requests make one probe.
    pub fn now(&self) {
        self.shared.asked.notify_one();
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn facts(&self) -> MutexGuard<'_, AppFacts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(shared: Arc<Shared>, config: config::App, clock: Arc<dyn Clock>) {
    let question = Question::new(&config);
    loop {
        let began = clock.now();
        let answer = match &question {
            Ok(question) => timeout(config.timeout, question.ask()).await.unwrap_or_else(|_| {
                Err((AppFailure::Hangs, format!("no answer within {:?}", config.timeout)))
            }),
            Err(error) => Err((AppFailure::Unwell, error.clone())),
        };
        let healthy = answer.is_ok();
        let failure = answer.as_ref().err().map(|(failure, _)| *failure);
        let changed = {
            let mut facts = shared.facts();
            let first = facts.last_ok.is_none() && facts.failing_since.is_none();
            let changed = first || (facts.healthy, facts.failure) != (healthy, failure);
            (facts.healthy, facts.failure) = (healthy, failure);
            match answer {
                Ok(()) => {
                    facts.last_ok = Some(clock.now());
                    facts.failing_since = None;
                }
                Err((_, said)) => {
                    facts.failing_since.get_or_insert(began);
                    facts.error = Some(said);
                }
            }
            changed
        };
        if changed {
            shared.changes.send_modify(|count| *count += 1);
        }
        let interval = if healthy { config.interval } else { config.interval.min(FAILING_INTERVAL) };
        // Either the time is over or somebody asked: both mean the next probe.
        let _ = timeout(interval, shared.asked.notified()).await;
    }
}

impl Question {
    fn new(config: &config::App) -> Result<Self, String> {
        let (url, status, body) = match &config.health {
            Health::Tcp(address) => return Ok(Self::Tcp(address.clone())),
            Health::Command(program) => return Ok(Self::Command(program.clone())),
            Health::Http { url, status, body } => (url.clone(), *status, body.clone()),
        };
        let client = reqwest::Client::builder()
            // Each probe connects anew: an app server that no longer accepts is not healthy.
            .pool_max_idle_per_host(0)
            // A proxy of the environment has no place between a host and its own app server.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // The system's certificates cost memory, and plain HTTP needs none.
            .tls_built_in_root_certs(url.scheme() == "https")
            .build()
            .map_err(|error| words(&error))?;
        Ok(Self::Http { client, url, status, body })
    }

    async fn ask(&self) -> Result<(), Failure> {
        match self {
            Self::Http { client, url, status, body } => {
                get(client, url.clone(), *status, body.as_deref()).await
            }
            Self::Tcp(address) => match TcpStream::connect(address).await {
                Ok(_) => Ok(()),
                Err(error) => Err((AppFailure::Refuses, error.to_string())),
            },
            Self::Command(program) => {
                command::run(program, |_| ()).await.map_err(|said| (AppFailure::Unwell, said))
            }
        }
    }
}

/// One request. Well is an answer with `status`, or any 2xx, that contains `body`.
async fn get(
    client: &reqwest::Client,
    url: reqwest::Url,
    status: Option<u16>,
    body: Option<&str>,
) -> Result<(), Failure> {
    let unwell = |said: String| Err((AppFailure::Unwell, said));
    let failed = |error: reqwest::Error| {
        let failure = if error.is_connect() { AppFailure::Refuses } else { AppFailure::Unwell };
        (failure, words(&error.without_url()))
    };
    let mut response = client.get(url).send().await.map_err(failed)?;
    let answered = response.status();
    let wanted = status.map_or(answered.is_success(), |status| answered.as_u16() == status);
    if !wanted {
        return unwell(format!("answered {answered}"));
    }
    let Some(body) = body else { return Ok(()) };
    let mut read = Vec::new();
    while let Some(more) = response.chunk().await.map_err(failed)? {
        let room = BODY_MAX - read.len();
        read.extend_from_slice(&more[..more.len().min(room)]);
        if read.windows(body.len()).any(|part| part == body.as_bytes()) {
            return Ok(());
        }
        if read.len() == BODY_MAX {
            break;
        }
    }
    unwell(format!("answered {answered} without {body:?}"))
}

/// The whole chain of causes: the outermost of reqwest's errors says little.
fn words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}
