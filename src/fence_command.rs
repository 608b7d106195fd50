//! The fence command of the configuration: somebody else's way to make sure of a node that cannot be asked, a power
//! switch or a cloud's interface. Only its exit status counts, and only 0 is a yes.

use std::{path::PathBuf, process::Stdio, time::Duration};

use async_trait::async_trait;
use tokio::{process::Command, time::timeout};

use crate::{
    controller::Fencer,
    model::{ClusterName, NodeId, Stamp},
};

/// How long it may take. A power switch answers within seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// How much of what it says is kept for the operator.
const SAID: usize = 400;

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
        let run = Command::new(&self.program)
            .arg(node.as_str())
            .env("LOCUM_CLUSTER", self.cluster.as_str())
            .env("LOCUM_NODE", node.as_str())
            .env("LOCUM_EPOCH", stamp.epoch.to_string())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let shown = self.program.display();
        let output = match timeout(LIMIT, run).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(format!("the fence command {shown} could not be run: {error}")),
            Err(_) => return Err(format!("the fence command {shown} did not end within {LIMIT:?}")),
        };
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said.trim().chars().take(SAID).collect();
        Err(format!("the fence command {shown} ended with {}: {said}", output.status))
    }
}
