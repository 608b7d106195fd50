//! A program of the operator's that leads clients to a node.
//!
//! It is run for every order to lead clients somewhere, with no arguments, and with in its environment: `LOCUM_CLUSTER`,
//! `LOCUM_MEMBER` (whose Locum runs it), `LOCUM_ENDPOINT`, `LOCUM_TARGET` (`primary` or `app`), `LOCUM_NODE` and
//! `LOCUM_ADDRESS` (`host:port`: where to), and the stamp in `LOCUM_INCARNATION`, `LOCUM_EPOCH`, `LOCUM_VERSION`. Exit
//! status 0 confirms it. It is run again until then, so it must bear that; when its time is over, or when a later order
//! comes, it is killed with everything it has begun that is still in its process group.

use std::{
    io::{Read as _, Seek as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::{Driver, Surroundings, Task, Wish};
use crate::{
    config,
    model::{ClusterName, EndpointKind, EndpointName, NodeId},
};

/// How much of what it says is kept for people.
const SAID: u64 = 400;

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

/// Kills the group of a run that is given up.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // None of it is left: that is what is wanted.
            _ = kill_process_group(pid, Signal::KILL);
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
        let shown = self.command.display();
        let target = match self.kind {
            EndpointKind::Primary => "primary",
            EndpointKind::App => "app",
        };
        // A file, not a pipe: it neither blocks who says much nor waits for who is left in the background.
        let mut errors = tempfile::tempfile().map_err(|error| format!("keep what {shown} says: {error}"))?;
        let into = errors.try_clone().map_err(|error| format!("keep what {shown} says: {error}"))?;
        let mut child = Command::new(&self.command)
            .env("LOCUM_CLUSTER", self.cluster.as_str())
            .env("LOCUM_MEMBER", self.member.as_str())
            .env("LOCUM_ENDPOINT", self.endpoint.as_str())
            .env("LOCUM_TARGET", target)
            .env("LOCUM_NODE", node.as_str())
            .env("LOCUM_ADDRESS", address)
            .env("LOCUM_INCARNATION", task.stamp.incarnation.to_string())
            .env("LOCUM_EPOCH", task.stamp.epoch.to_string())
            .env("LOCUM_VERSION", task.stamp.version.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(into))
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{shown} could not be run: {error}"))?;
        // Until the child is waited for, its number is nobody else's. What it leaves in the background may go on.
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let status = child.wait().await.map_err(|error| format!("wait for {shown}: {error}"))?;
        group.0 = None;
        if status.success() {
            return Ok(());
        }
        let mut said = Vec::new();
        let read = errors.rewind().and_then(|()| errors.take(SAID).read_to_end(&mut said));
        read.map_err(|error| format!("read what {shown} says: {error}"))?;
        Err(format!("{shown} ended with {status}: {}", String::from_utf8_lossy(&said).trim()))
    }
}
