//! The health probe: asks the app server's health path, again and again. 2xx is healthy, all else is not.

use std::{
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{config, model::AppFacts, ports::Clock};

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

/// Asks once. The words say why it is not healthy.
struct Question {
    client: reqwest::Client,
    url: String,
}

impl Probe {
    /// Begins to probe. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(config: &config::App, clock: Arc<dyn Clock>) -> Self {
        let facts = AppFacts {
            address: config.address.clone(),
            healthy: false,
            last_ok: None,
            failing_since: None,
            error: None,
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
            Ok(question) => question.ask().await,
            Err(error) => Err(error.clone()),
        };
        let healthy = answer.is_ok();
        let changed = {
            let mut facts = shared.facts();
            let first = facts.last_ok.is_none() && facts.failing_since.is_none();
            let changed = first || facts.healthy != healthy;
            facts.healthy = healthy;
            match answer {
                Ok(()) => {
                    facts.last_ok = Some(clock.now());
                    facts.failing_since = None;
                }
                Err(error) => {
                    facts.failing_since.get_or_insert(began);
                    facts.error = Some(error);
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
        let client = reqwest::Client::builder()
            .timeout(config.timeout)
            // Each probe connects anew: an app server that no longer accepts is not healthy.
            .pool_max_idle_per_host(0)
            // A proxy of the environment has no place between a host and its own app server.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // The system's certificates cost memory, and plain HTTP needs none.
            .tls_built_in_root_certs(config.health.starts_with("https:"))
            .build()
            .map_err(|error| words(&error))?;
        Ok(Self { client, url: config.health.clone() })
    }

    async fn ask(&self) -> Result<(), String> {
        let response =
            self.client.get(&self.url).send().await.map_err(|error| words(&error.without_url()))?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("answered {status}")) }
    }
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
