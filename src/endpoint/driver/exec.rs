//! A program of the operator's that leads clients to a node.
//!
//! It is run for every order to lead clients somewhere, with no arguments, and with in its environment: `LOCUM_CLUSTER`,
//! `LOCUM_MEMBER` (whose Locum runs it), `LOCUM_ENDPOINT`, `LOCUM_TARGET` (`primary` or `app`), `LOCUM_NODE` and
//! `LOCUM_ADDRESS` (`host:port`: where to), and the stamp in `LOCUM_INCARNATION`, `LOCUM_EPOCH`, `LOCUM_VERSION`. Exit
//! status 0 confirms it. It is run again until then, so it must bear that; when its time is over, or when a later order
//! comes, it is killed with everything it has begun that is still in its process group.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{Driver, Surroundings, Task, Wish};
use crate::{
    command, config,
    model::{ClusterName, EndpointKind, EndpointName, NodeId},
};

pub(super) struct Program {
    command: PathBuf,
    cluster: ClusterName,
    member: NodeId,
    endpoint: EndpointName,
    kind: EndpointKind,
}

impl Program {
    pub(super) fn new(command: &Path, config: &config::Driven, around: &Surroundings<'_>) -> Self {
        Self {
            command: command.to_owned(),
            cluster: around.cluster.clone(),
            member: around.node.clone(),
            endpoint: config.name.clone(),
            kind: config.target,
        }
    }
}

#[async_trait]
impl Driver for Program {
    fn shows(&self) -> String {
        self.command.display().to_string()
    }

    async fn carry_out(&self, task: &Task) -> Result<(), String> {
        let Wish::Lead { node, address } = &task.wish else { return Ok(()) };
        command::run(&self.command, |command| {
            command
                .env("LOCUM_CLUSTER", self.cluster.as_str())
                .env("LOCUM_MEMBER", self.member.as_str())
                .env("LOCUM_ENDPOINT", self.endpoint.as_str())
                .env("LOCUM_TARGET", self.kind.as_str())
                .env("LOCUM_NODE", node.as_str())
                .env("LOCUM_ADDRESS", address)
                .env("LOCUM_INCARNATION", task.stamp.incarnation.to_string())
                .env("LOCUM_EPOCH", task.stamp.epoch.to_string())
                .env("LOCUM_VERSION", task.stamp.version.to_string());
        })
        .await
    }
}
