//! What systemd is told of a member: that it is ready, what it does, that it lives, that it stops. Without systemd
//! nothing at all.
//!
//! It lives while its controller publishes snapshots, which it does at least every 50 ms, whatever the store and
//! PostgreSQL do. A loop that hangs is restarted by systemd; the unit's kill mode leaves PostgreSQL alone.

use std::{future::Future, sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::model::Snapshot;

/// How often the status line is looked at where systemd asks for no sign of life.
const LOOK: Duration = Duration::from_secs(1);
/// Signs of life in the time that systemd allows for one.
const SIGNS: u32 = 4;
/// How long systemd may take to take a message. One that is lost costs nothing: the next one says the same.
const TELL: Duration = Duration::from_secs(1);

/// The conversation with systemd.
pub(super) struct Service(Option<JoinHandle<()>>);

impl Service {
    /// Says that the member is ready, and from then on that it lives.
    pub(super) async fn begin(snapshots: watch::Receiver<Arc<Snapshot>>) -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(None);
        }
        tell("READY=1".into()).await;
        Self(Some(tokio::spawn(live(snapshots, sd_notify::watchdog_enabled(), tell))))
    }

    /// Says that it stops.
    pub(super) async fn stops(self) {
        if let Some(task) = self.0 {
            task.abort();
            tell("STOPPING=1\nSTATUS=stops; PostgreSQL goes on".into()).await;
        }
    }
}

async fn live<F: Future<Output = ()>>(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    watched: Option<Duration>,
    tell: impl Fn(String) -> F,
) {
    let mut tick = interval(watched.map_or(LOOK, |limit| (limit / SIGNS).min(LOOK)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = String::new();
    loop {
        tick.tick().await;
        // An error means that the controller is gone: it gives no sign any more.
        if !snapshots.has_changed().unwrap_or(false) {
            continue;
        }
        let status = status(&snapshots.borrow_and_update());
        let mut message = if watched.is_some() { "WATCHDOG=1".to_owned() } else { String::new() };
        if status != last {
            message = format!("{message}\nSTATUS={status}");
            last = status;
        }
        if !message.is_empty() {
            tell(message.trim_start().to_owned()).await;
        }
    }
}

/// One line for `systemctl status`.
fn status(snapshot: &Snapshot) -> String {
    let name = |node: Option<&crate::model::NodeId>| node.map_or("none", |node| node.as_str()).to_owned();
    let primary = snapshot.intent.as_ref().and_then(|intent| intent.primary.as_ref());
    let serving = snapshot.nodes.iter().any(|node| node.serving);
    let findings = match snapshot.findings.len() {
        0 => String::new(),
        1 => "; 1 finding".to_owned(),
        count => format!("; {count} findings"),
    };
    let word = if serving { "serving" } else { "NOT serving" };
    format!("primary {}, {word}; leader {}{findings}", name(primary), name(snapshot.leader.as_ref()))
}

/// Sends it from a thread that may wait: systemd may be busy, and the member has better to do.
async fn tell(message: String) {
    let send = tokio::task::spawn_blocking(move || sd_notify::notify(&[NotifyState::Custom(&message)]));
    match timeout(TELL, send).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "cannot tell systemd"),
        Ok(Err(error)) => tracing::warn!(%error, "cannot tell systemd"),
        Err(_) => tracing::warn!("systemd takes no message"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::mpsc, time::sleep};

    use super::*;

    fn snapshot() -> Arc<Snapshot> {
        let text = r#"{"cluster": "orders", "node": "seoul", "at": "2026-11-22T08:45:00Z", "leader": "seoul",
            "store_error": null, "intent": null, "nodes": [], "endpoints": [], "rpo": null, "findings": [],
            "plan": [], "incident": null, "last_incident": null, "operations": []}"#;
        Arc::new(serde_json::from_str(text).expect("a snapshot"))
    }

    #[tokio::test]
    async fn a_controller_that_publishes_nothing_gives_no_sign_of_life() {
        let (publisher, snapshots) = watch::channel(snapshot());
        let (told, mut heard) = mpsc::unbounded_channel();
        let tell = move |message| {
            let told = told.clone();
            async move { told.send(message).expect("somebody listens") }
        };
        let limit = Duration::from_millis(40);
        let task = tokio::spawn(live(snapshots, Some(limit), tell));
        publisher.send_replace(snapshot());
        let first = heard.recv().await.expect("a sign");
        assert_eq!(first, "WATCHDOG=1\nSTATUS=primary none, NOT serving; leader seoul");
        publisher.send_replace(snapshot());
        assert_eq!(heard.recv().await.expect("a sign"), "WATCHDOG=1", "the status is told when it changes");
        // Ten times what systemd would allow, and nothing was published.
        sleep(limit * 10).await;
        assert!(heard.try_recv().is_err(), "a loop that hangs was said to live");
        task.abort();
    }
}
