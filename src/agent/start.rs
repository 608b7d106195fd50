//! Starting the server, and waiting until it is what it was started to be.
//!
//! Recovery takes as long as it takes: what is given up is one that gets nothing done.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{guarding::name_of, inner::Inner, orders::Unable};
use crate::{
    model::{Server, Stamp},
    postgres::{Postmaster, StartError},
};

/// A server that was started must be attended to within this.
const ATTENDED: Duration = Duration::from_secs(5);
/// Between two looks at what gets done.
const LOOK: Duration = Duration::from_secs(1);
/// Less than this in `start_timeout` is no progress: a startup process that waits for WAL looks for it every five seconds, which
/// reads some pages. A segment of the usual size.
const PROGRESS: u64 = 16 << 20;

/// How a wait for the server ended.
pub(super) enum Waited {
    /// It is as wanted.
    Reached,
    /// It has ended.
    Ended,
    /// It runs, and got nothing done for `start_timeout`.
    Stalled,
    /// An order of a later epoch was promised meanwhile: what was wanted is wanted no more.
    Outdated,
}

impl Inner {
    /// Starts the server and has it attended to.
    pub(super) async fn start(self: &Arc<Self>) -> Result<Postmaster, Unable> {
        self.job(Some("starting PostgreSQL".into()));
        let started = {
            let _life = self.life.lock().await;
            self.instance.start().await
        };
        let postmaster = started.map_err(|error| match error {
            StartError::Running(pid) => Unable::Failed(format!("it runs already, as process {pid}")),
            error => Unable::Failed(error.to_string()),
        })?;
        let name = |postmaster: &Postmaster| (postmaster.pid(), name_of(postmaster));
        self.wish.send_modify(|wish| wish.started = Some(name(&postmaster)));
        self.look_around.notify_one();
        let mut attached = self.attached.subscribe();
        let same = |seen: &Option<Postmaster>| seen.as_ref().is_some_and(|p| name(p) == name(&postmaster));
        let attended = tokio::time::timeout(ATTENDED, attached.wait_for(same)).await.is_ok();
        if attended || !postmaster.has_exited() {
            return Ok(postmaster);
        }
        Err(Unable::Failed(format!("PostgreSQL ended at once: {}", self.instance.log_tail().await)))
    }

    /// Waits until the server is as an order of that stamp wants it, or cannot be expected to become so.
    pub(super) async fn wait_for(&self, stamp: Stamp, wanted: impl Fn(&Server) -> bool) -> Waited {
        let mut progress = Progress { since: Instant::now(), done: 0 };
        loop {
            let over = |facts: &crate::model::AgentFacts| {
                let server = &facts.server.value;
                if wanted(server) {
                    return Some(Waited::Reached);
                }
                if matches!(server, Server::Down(_)) {
                    return Some(Waited::Ended);
                }
                let later =
                    facts.promise.is_some_and(|promise| promise > stamp && !promise.same_epoch(stamp));
                later.then_some(Waited::Outdated)
            };
            if self.board.until(LOOK, |facts| over(facts).is_some()).await {
                if let Some(waited) = self.board.read(|s| over(&s.facts)) {
                    return waited;
                }
                continue;
            }
            let postmaster = self.attached.borrow().clone();
            let done = postmaster.map_or(0, |postmaster| postmaster.work_done());
            if progress.stands_for(done, Instant::now()) >= self.start_timeout {
                return Waited::Stalled;
            }
        }
    }

    /// Waits until the server is as wanted. One that gets nowhere is left as it is: whoever ordered this decides.
    pub(super) async fn await_server(
        &self,
        stamp: Stamp,
        wanted: impl Fn(&Server) -> bool,
    ) -> Result<(), Unable> {
        match self.wait_for(stamp, wanted).await {
            Waited::Reached => Ok(()),
            Waited::Ended => Err(self.ended().await),
            Waited::Stalled => Err(self.stalled().await),
            Waited::Outdated => Err(Unable::Refused("an order of a later epoch has come".into())),
        }
    }

    /// What is said of a server that has ended.
    pub(super) async fn ended(&self) -> Unable {
        Unable::Failed(format!("PostgreSQL ended: {}", self.instance.log_tail().await))
    }

    /// What is said of a server that gets nowhere.
    pub(super) async fn stalled(&self) -> Unable {
        Unable::Failed(format!(
            "PostgreSQL accepts no connections, and has read and written next to nothing for {:.0?}: {}",
            self.start_timeout,
            self.instance.log_tail().await
        ))
    }
}

/// How much was done, and since when no more than that.
struct Progress {
    since: Instant,
    done: u64,
}

impl Progress {
    /// How long nothing worth the name was done.
    fn stands_for(&mut self, done: u64, now: Instant) -> Duration {
        if done >= self.done.saturating_add(PROGRESS) {
            (self.since, self.done) = (now, done);
        }
        // A process that has ended takes what it did with it.
        self.done = self.done.min(done);
        now.duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_no_progress_and_what_an_ended_process_did_is_not_missed() {
        let begun = Instant::now();
        let at = |secs: u64| begun + Duration::from_secs(secs);
        let mut progress = Progress { since: begun, done: 0 };
        assert_eq!(progress.stands_for(PROGRESS / 2, at(10)), Duration::from_secs(10));
        assert_eq!(progress.stands_for(PROGRESS, at(20)), Duration::ZERO);
        assert_eq!(progress.stands_for(PROGRESS / 4, at(30)), Duration::from_secs(10), "one has ended");
        assert_eq!(progress.stands_for(PROGRESS, at(40)), Duration::from_secs(20));
        assert_eq!(progress.stands_for(PROGRESS / 4 + PROGRESS, at(50)), Duration::ZERO);
    }
}
