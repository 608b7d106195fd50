//! Stopping the server in order, and less so.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::timeout;

use super::{Instance, KillError, Postmaster};

/// How long a fast shutdown may go on after what it waits for was terminated.
const WITHOUT_SENDERS: Duration = Duration::from_secs(1);

/// How long an immediate shutdown may take. PostgreSQL itself kills children that ignore it after 5 s.
const IMMEDIATE: Duration = Duration::from_secs(1);

/// How a server was ended. In every case no process of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It ended by itself after a fast shutdown; the control file tells whether with a checkpoint.
    Clean,
    /// By SIGQUIT: the next start recovers.
    Immediate,
    /// By SIGKILL: the next start recovers.
    Killed,
}

impl Instance {
    /// Fast shutdown (SIGINT): it waits until connected standbys have everything. Escalates when it is not over within
    /// `deadline`: SIGTERM to walsenders and archiver, whose standbys may then lack the end; 1 s later immediate
    /// shutdown (SIGQUIT); 1 s later [`Instance::kill_all`].
    ///
    /// # Errors
    /// [`KillError`]: processes are left even so.
    pub async fn stop_fast(&self, postmaster: &Postmaster, deadline: Duration) -> Result<Stopped, KillError> {
        let how = self.ask_to_stop(postmaster, deadline).await;
        self.kill_all(Some(postmaster)).await?;
        Ok(how)
    }

    async fn ask_to_stop(&self, postmaster: &Postmaster, deadline: Duration) -> Stopped {
        // A signal that cannot be sent means that it is dead already; then `exited` resolves at once.
        let _sent = postmaster.signal(Signal::INT);
        if timeout(deadline, postmaster.exited()).await.is_ok() {
            return Stopped::Clean;
        }
        tracing::warn!(?deadline, "fast shutdown is not over; walsenders and archiver are terminated");
        terminate_what_holds(postmaster);
        if timeout(WITHOUT_SENDERS, postmaster.exited()).await.is_ok() {
            return Stopped::Clean;
        }
        tracing::warn!("fast shutdown is still not over; shutting down immediately");
        let _sent = postmaster.signal(Signal::QUIT);
        if timeout(IMMEDIATE, postmaster.exited()).await.is_ok() {
            return Stopped::Immediate;
        }
        tracing::warn!("immediate shutdown is not over; every process is killed");
        Stopped::Killed
    }
}

/// What a fast shutdown can wait for without end: a subscriber that takes nothing, an archive that fails. Every child is
/// told, since a title says nothing certain: sessions were told already, and the checkpointer does not heed it.
fn terminate_what_holds(postmaster: &Postmaster) {
    for child in postmaster.children() {
        let _gone_already = postmaster.signal_child(child, Signal::TERM);
    }
}
