//! When to probe, and what a probe's outcome means for the facts.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::inner::Inner;
use crate::{
    model::{Mono, Server},
    postgres::probe::{self, ProbeError},
};

/// Between two probes of a primary that writes.
const WRITING: Duration = Duration::from_millis(500);
/// Between two probes of a primary that does not: an idle server stays idle.
const IDLE: Duration = Duration::from_secs(2);
/// Between two probes while they fail.
const FAILING: Duration = Duration::from_millis(200);
/// A probe without an answer for this long is shown as failing, since its start, while it goes on.
const SHOWN: Duration = Duration::from_millis(300);
/// The kept connection counts as silent when its last look is older than this.
const SILENT: Duration = Duration::from_millis(400);
/// WAL beyond this since the last probe is somebody's work; less is the probe's own wake.
const WAKE: u64 = 256;
/// How long after its start a probe is due at the latest, so that a server found idle is looked at again.
const STEP: Duration = Duration::from_millis(100);

/// Probes the server while it is a primary, until aborted. One probe at a time.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut last = Mono(0);
    loop {
        let hurried = timeout(STEP, inner.overdue.notified()).await.is_ok();
        if !inner.board.read(|s| matches!(s.facts.server.value, Server::Primary(_))) {
            continue;
        }
        let now = inner.now();
        let pause = if hurried { Duration::ZERO } else { pause(&inner) };
        if now.since(last) >= pause {
            last = now;
            one(&inner, now).await;
        }
    }
}

fn pause(inner: &Inner) -> Duration {
    inner.board.read(|s| {
        let Server::Primary(primary) = &s.facts.server.value else { return IDLE };
        if s.probe.failing_since.is_some() {
            FAILING
        } else if s.probe.last_ok.is_none() || primary.flushed.bytes_since(s.probed) > WAKE {
            WRITING
        } else {
            IDLE
        }
    })
}

async fn one(inner: &Inner, started: Mono) {
    let probe = async {
        match probe::once(&inner.access).await {
            // Whoever is let in already shows whether it takes writes.
            Err(said @ (ProbeError::Full(_) | ProbeError::Refused(_))) => {
                inner.refused(Some(said.to_string()));
                match inner.sql().await {
                    Ok(sql) => probe::commit(&sql).await,
                    Err(_) => Err(said),
                }
            }
            outcome => {
                if !matches!(outcome, Err(ProbeError::Turned(_) | ProbeError::Stalled(_))) {
                    inner.refused(None);
                }
                outcome
            }
        }
    };
    tokio::pin!(probe);
    let outcome = tokio::select! {
        outcome = &mut probe => outcome,
        () = sleep(SHOWN) => {
            let why = format!("no answer for {} ms", SHOWN.as_millis());
            failing(inner, started, why, None);
            probe.await
        }
    };
    let ended = inner.now();
    match outcome {
        Ok(flushed) => inner.board.update(|s| {
            s.probed = flushed;
            s.probe.last_ok = Some(ended);
            s.probe.took_us = Some(ended.0.saturating_sub(started.0));
            s.probe.failing_since = None;
            (s.probe.error, s.probe.code) = (None, None);
            s.refresh();
        }),
        Err(error @ ProbeError::Stalled(_)) => failing(inner, started, error.to_string(), None),
        Err(ProbeError::Failed { code, said }) => failing(inner, started, said, Some(code)),
        Err(error @ ProbeError::Turned(_)) if silent(inner, ended) => {
            failing(inner, started, error.to_string(), None);
        }
        // Turned away while the kept connection answers, or refused: the server is alive, and says so.
        Err(error) => inner.board.update(|s| {
            s.probe.error = Some(error.to_string());
            s.refresh();
        }),
    }
}

/// `code`: the server answered with it.
fn failing(inner: &Inner, since: Mono, why: String, code: Option<String>) {
    inner.board.update(|s| {
        s.probe.failing_since.get_or_insert(since);
        (s.probe.error, s.probe.code) = (Some(why), code);
        s.refresh();
    });
}

fn silent(inner: &Inner, now: Mono) -> bool {
    now.since(inner.board.read(|s| s.facts.server.at)) > SILENT
}
