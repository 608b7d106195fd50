//! Endpoints that somebody else than the proxy brings about: a PgBouncer, a virtual IP, a webhook, a program, the commands
//! of an app server.
//!
//! [`Driven`] is the part that all have: it takes orders by the same routing table as the proxy, answers at once, and has
//! its [`Driver`] carry them out, again and again until that succeeds or its limit is over. So no driver holds up a
//! failover, however long its world does not answer: whoever leads sees in the facts how far it has come.

mod app;
mod console;
mod driven;
mod exec;
mod pgbouncer;
mod vip;
mod webhook;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;

pub use driven::Driven;
pub use webhook::signature;

use crate::{
    app::Server,
    config::{self, DrivenBy},
    model::{ClusterName, Driver as Which, NodeId, Stamp},
    ports::Clock,
};

/// What clients are to find now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The member has just started: nothing was ordered yet.
    Nothing,
    /// They are led to this node, reached at `address` (`host:port`).
    Lead { node: NodeId, address: String },
    /// New ones wait, those that are there go on.
    Hold,
    /// In a switchover: what is under way ends, and nothing new begins.
    Quiet,
    /// There is nobody to be led to.
    Cut,
}

/// An order on its way to whoever carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// The order's stamp.
    pub(super) stamp: Stamp,
    /// What it asks for.
    pub(super) wish: Wish,
}

/// Who carries out what an endpoint is ordered to do.
///
/// A call may be dropped at any await: when a later order comes, and when its time is over.
#[async_trait]
pub(super) trait Driver: Send + Sync {
    /// Where clients find it, or what it acts on, for people. No secrets.
    fn shows(&self) -> String;
    /// Brings it about, and makes sure that it is so. Whatever is so already is left alone.
    ///
    /// # Errors
    /// Why it is not so, for a person.
    async fn carry_out(&self, task: &Task) -> Result<(), String>;
    /// How often to look again, once it is so; None: never.
    fn looks_every(&self) -> Option<Duration> {
        None
    }
    /// The member ends.
    async fn end(&self) {}
}

/// What drivers need beside their configuration.
pub struct Surroundings<'a> {
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// This member's node.
    pub node: &'a NodeId,
    /// Where notes survive the member.
    pub state_dir: &'a Path,
    /// Whether this node's PostgreSQL has the right to serve as the primary at this moment.
    pub may_serve: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The app server of this host.
    pub app: Option<Arc<Server>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Driven {
    /// Begins to take orders. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What the driver needs from the start cannot be had.
    pub fn open(config: &config::Driven, around: &Surroundings<'_>) -> Result<Arc<Self>, String> {
        let driver: Arc<dyn Driver> = match &config.by {
            DrivenBy::Pgbouncer(settings) => {
                Arc::new(pgbouncer::PgBouncer::new(settings, &config.name, around))
            }
            DrivenBy::Webhook(settings) => Arc::new(webhook::Hook::new(settings, config, around)?),
            DrivenBy::Exec(command) => Arc::new(exec::Program::new(command, config, around)),
            DrivenBy::App => match &around.app {
                Some(server) => Arc::new(app::AppServer::new(Arc::clone(server), around.node)),
                None => return Err("there is no app server whose commands could be run".into()),
            },
            DrivenBy::Vip(settings) => Arc::new(vip::Vip::new(settings, config.target, around)),
        };
        let which: Which = config.driver();
        Ok(Self::start(config, which, driver, Arc::clone(&around.clock)))
    }
}
