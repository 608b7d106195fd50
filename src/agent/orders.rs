//! From an order to a reply: the promise first, then one command at a time, each with a deadline.
//!
//! An order runs to its end even if whoever gave it has gone: half a command is worse than a late one.

use std::{sync::Arc, sync::PoisonError, time::Duration};

use tokio::time::timeout;

use super::inner::Inner;
use crate::{
    model::{Command, Reply, Stamp},
    postgres::{KillError, PgError, sql::SqlError},
};

/// How long an order waits for the one before it.
const TURN: Duration = Duration::from_secs(5);
/// Fencing: the kill itself takes some 15 ms; a disk that hangs may keep a process from going.
const FENCE: Duration = Duration::from_secs(10);
/// Recruiting and promoting: some milliseconds, and whatever has to be replayed.
const TAKE_OVER: Duration = Duration::from_secs(30);
/// A checkpoint writes everything that is dirty.
const CHECKPOINT: Duration = Duration::from_secs(300);
/// A clean stop, with its checkpoint and the last WAL on its way to the standby.
const STOP: Duration = Duration::from_secs(60);
/// A start with its recovery, a rewind and a clone watch their own progress; this only keeps them from lasting for ever.
const AT_MOST: Duration = Duration::from_secs(24 * 3600);
/// Everything else is a file, a signal and some statements.
const QUICK: Duration = Duration::from_secs(15);

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unable {
    /// It does not fit; not to be repeated as it is.
    Refused(String),
    /// It may be repeated.
    Failed(String),
}

impl From<SqlError> for Unable {
    fn from(error: SqlError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<PgError> for Unable {
    fn from(error: PgError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<KillError> for Unable {
    fn from(error: KillError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::io::Error> for Unable {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Result<(), Unable>> for Reply {
    fn from(done: Result<(), Unable>) -> Self {
        match done {
            Ok(()) => Self::Done,
            Err(Unable::Refused(why)) => Self::Refused(why),
            Err(Unable::Failed(why)) => Self::Failed(why),
        }
    }
}

const fn deadline(command: &Command) -> Duration {
    match command {
        Command::Fence => FENCE,
        Command::Recruit | Command::Promote { .. } => TAKE_OVER,
        Command::Rescue { within, .. } => TAKE_OVER.saturating_add(*within),
        Command::Checkpoint => CHECKPOINT,
        Command::Stop => STOP,
        Command::Serve { .. }
        | Command::Follow(_)
        | Command::StartAlone
        | Command::Rewind(..)
        | Command::Clone(..) => AT_MOST,
        Command::SetNames(_)
        | Command::ProveNames
        | Command::PauseReplay
        | Command::ResumeReplay
        | Command::Forget
        | Command::Promise
        | Command::Admit(_)
        | Command::KeepSlots(_) => QUICK,
    }
}

/// A command is given up for one that is more urgent: a fence for nothing, a recruit, rescue or promotion only for a fence.
const fn urgency(command: &Command) -> u8 {
    match command {
        Command::Fence => 2,
        Command::Recruit | Command::Rescue { .. } | Command::Promote { .. } => 1,
        _ => 0,
    }
}

/// Whether its failure is worth telling long after.
const fn is_remembered(command: &Command) -> bool {
    matches!(command, Command::Serve { .. } | Command::Follow(_) | Command::Rewind(..) | Command::Clone(..))
}

impl Inner {
    /// Carries out an order.
    pub(super) async fn order(self: &Arc<Self>, stamp: Stamp, command: Command) -> Reply {
        let inner = Arc::clone(self);
        let carried = tokio::spawn(async move { inner.carry_out(stamp, command).await });
        carried.await.unwrap_or_else(|error| Reply::Failed(format!("the command broke off: {error}")))
    }

    async fn carry_out(self: Arc<Self>, stamp: Stamp, command: Command) -> Reply {
        let name = command.name();
        if let Err(unable) = self.promise(stamp, &command).await {
            return Err(unable).into();
        }
        let mut urgent = self.urgent.subscribe();
        urgent.mark_unchanged();
        if urgency(&command) > 0 {
            self.urgent.send_modify(|(count, how)| (*count, *how) = (*count + 1, urgency(&command)));
            urgent.mark_unchanged();
        }
        let Ok(_turn) = timeout(TURN, self.turn.lock()).await else {
            let other = *self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            return Reply::Failed(format!("{name} could not begin: {other} is under way"));
        };
        // Others may have promised more while this one waited.
        if let Some(higher) = self.held().await.promise.filter(|p| *p > stamp) {
            return Reply::Refused(outdated(stamp, higher));
        }
        self.busy_with(name);
        let done = tokio::select! {
            done = timeout(deadline(&command), self.execute(stamp, &command)) => done.unwrap_or_else(|_| {
                Err(Unable::Failed(format!("not done within {:?}", deadline(&command))))
            }),
            () = pre_empted(&mut urgent, urgency(&command)) => {
                // Says nothing about whether it would have worked: not to be remembered as a failure.
                self.busy_with("");
                self.board.update(|s| s.facts.job = None);
                tracing::info!(command = name, %stamp, "given up for a command that cannot wait");
                return Reply::Failed("given up for a command that cannot wait".into());
            }
        };
        self.busy_with("");
        self.board.update(|s| {
            s.facts.job = None;
            if let Err(Unable::Failed(why) | Unable::Refused(why)) = &done
                && is_remembered(&command)
            {
                s.failed(name, why.clone());
            }
        });
        match &done {
            Ok(()) => tracing::info!(command = name, %stamp, "done"),
            Err(unable) => tracing::warn!(command = name, %stamp, ?unable, "not done"),
        }
        done.into()
    }

    /// Refuses what is below the promise, and raises the promise, on disk, before anything else happens.
    async fn promise(self: &Arc<Self>, stamp: Stamp, command: &Command) -> Result<(), Unable> {
        if !matches!(command, Command::Fence) {
            self.read_term().await?;
        }
        let promised = self.held().await.promise;
        match promised {
            Some(higher) if higher > stamp => return Err(Unable::Refused(outdated(stamp, higher))),
            None if matches!(command, Command::Promote { .. }) => {
                let why = "this node has no promise file: it may have forgotten a higher epoch, so it is not promoted";
                return Err(Unable::Refused(why.into()));
            }
            Some(same) if same == stamp => return Ok(()),
            _ => {}
        }
        self.remember(move |p| p.promise = p.promise.max(Some(stamp))).await?;
        match self.held().await.promise {
            Some(higher) if higher > stamp => Err(Unable::Refused(outdated(stamp, higher))),
            _ => Ok(()),
        }
    }

    async fn execute(self: &Arc<Self>, stamp: Stamp, command: &Command) -> Result<(), Unable> {
        match command {
            Command::Fence => self.fence(stamp).await,
            Command::Recruit => self.recruit(stamp).await,
            Command::Rescue { from, within } => self.rescue(stamp, from, *within).await,
            Command::Promote { names, slots, floor } => self.promote(stamp, names, slots, *floor).await,
            Command::Serve { floor } => self.serve(stamp, *floor).await,
            Command::Checkpoint => self.checkpoint(stamp).await,
            Command::Stop => self.stop_clean(stamp).await,
            Command::Follow(upstream) => self.follow(stamp, upstream).await,
            Command::StartAlone => self.start_alone(stamp).await,
            Command::Rewind(upstream, switch) => self.rewind(stamp, upstream, *switch).await,
            Command::Clone(upstream, switch, source) => {
                self.clone_from(stamp, upstream, *switch, source.as_ref()).await
            }
            Command::SetNames(names) => self.set_names(names).await,
            Command::ProveNames => self.prove_names(stamp).await,
            Command::PauseReplay => self.pause_replay(stamp).await,
            Command::ResumeReplay => self.resume_replay().await,
            Command::Forget => {
                self.board.update(|s| s.facts.failed.clear());
                Ok(())
            }
            // It was promised before this.
            Command::Promise => Ok(()),
            Command::Admit(nodes) => self.admit(stamp, nodes).await,
            Command::KeepSlots(slots) => self.keep_slots(slots).await,
        }
    }
}

fn outdated(stamp: Stamp, promise: Stamp) -> String {
    format!("the order is of {stamp}, and this node has promised {promise}")
}

/// Resolves when something more urgent than `mine` was ordered.
async fn pre_empted(urgent: &mut tokio::sync::watch::Receiver<(u64, u8)>, mine: u8) {
    loop {
        if urgent.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if urgent.borrow_and_update().1 > mine {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_more_urgent_than_a_fence() {
        assert!(
            urgency(&Command::Fence)
                > urgency(&Command::Promote { names: vec![], slots: vec![], floor: None })
        );
        assert!(urgency(&Command::Recruit) > urgency(&Command::ProveNames));
    }
}
