//! The app server of this host: made the active one when clients are led to this node, a passive one when they are led to
//! another. An app that is passive may so be cold.
//!
//! Commands must bear being repeated: each is run again until it succeeds, and once more when the member has been restarted.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::{Driver, Task, Wish};
use crate::{
    app::Server,
    model::{NodeId, Stamp},
};

/// How often it is made sure that the active one has not to be started again.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct AppServer {
    node: NodeId,
    server: Arc<Server>,
    /// What it was made last. None: nothing yet, in this life of the member.
    made: Mutex<Option<Made>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    /// The active one, under this stamp.
    Active(Stamp),
    Passive,
}

impl AppServer {
    pub(super) fn new(server: Arc<Server>, node: &NodeId) -> Self {
        Self { node: node.clone(), server, made: Mutex::default() }
    }

    async fn make(&self, wanted: Made) -> Result<(), String> {
        let before = *self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match (before, wanted) {
            (Some(Made::Active(same)), Made::Active(stamp)) if same == stamp => self.server.keep_up().await,
            (Some(Made::Active(_)), Made::Active(stamp)) => self.server.go_on(stamp).await,
            (_, Made::Active(stamp)) => self.server.activate(stamp).await,
            (Some(Made::Passive), Made::Passive) => Ok(()),
            (_, Made::Passive) => self.server.rest().await,
        }?;
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(wanted);
        Ok(())
    }
}

#[async_trait]
impl Driver for AppServer {
    fn shows(&self) -> String {
        self.server.shows()
    }

    async fn carry_out(&self, task: &Task) -> Result<(), String> {
        // Whatever else is ordered is about clients on their way, and not about who is active.
        let Wish::Lead { node, .. } = &task.wish else { return Ok(()) };
        self.make(if *node == self.node { Made::Active(task.stamp) } else { Made::Passive }).await
    }

    fn looks_every(&self) -> Option<Duration> {
        Some(LOOK)
    }
}
