//! Stopping the server in order, and less so.

use std::time::Duration;

use super::{Instance, KillError, Postmaster};

/// How a server was ended. In every case no process of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// With a shutdown checkpoint.
    Clean,
    /// By SIGQUIT: the next start recovers.
    Immediate,
    /// By SIGKILL: the next start recovers.
    Killed,
}

impl Instance {
    /// Fast shutdown. Escalates when it is not over within `deadline`: walsenders and archiver are terminated, then
    /// immediate shutdown, then [`Instance::kill_all`]; each bounded by a constant.
    ///
    /// # Errors
    /// [`KillError`]: processes are left even so.
    pub async fn stop_fast(&self, postmaster: &Postmaster, deadline: Duration) -> Result<Stopped, KillError> {
        let _ = (postmaster, deadline);
        todo!()
    }
}
