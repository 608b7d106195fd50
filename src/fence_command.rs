//! The fence command of the configuration: somebody else's way to make sure of a node that cannot be asked, a power
//! switch or a cloud's interface. Only its exit status counts, and only 0 is a yes.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use tokio::time::timeout;

use crate::{
    command,
    controller::Fencer,
    model::{ClusterName, NodeId, Stamp},
};

/// How long it may take. A power switch answers within seconds.
const LIMIT: Duration = Duration::from_secs(30);

/// See the file's head.
pub struct FenceCommand {
    program: PathBuf,
    cluster: ClusterName,
}

impl FenceCommand {
    /// A program that is run with the node's name as its argument, and LOCUM_CLUSTER, LOCUM_NODE and LOCUM_EPOCH in its
    /// environment.
    #[must_use]
    pub const fn new(program: PathBuf, cluster: ClusterName) -> Self {
        Self { program, cluster }
    }
}

#[async_trait]
impl Fencer for FenceCommand {
    async fn fence(&self, node: &NodeId, stamp: Stamp) -> Result<(), String> {
        let run = command::run(&self.program, |command| {
            command
                .arg(node.as_str())
                .env("LOCUM_CLUSTER", self.cluster.as_str())
                .env("LOCUM_NODE", node.as_str())
                .env("LOCUM_EPOCH", stamp.epoch.to_string());
        });
        timeout(LIMIT, run)
            .await
            .unwrap_or_else(|_| Err(format!("{} did not end within {LIMIT:?}", self.program.display())))
            .map_err(|why| format!("the fence command {why}"))
    }
}
