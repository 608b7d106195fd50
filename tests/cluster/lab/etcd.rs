//! Members of etcd, each on its host.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{
    clock,
    plan::{ETCD_PEER_PORT, ETCD_PORT, HostPlan, Plan},
    processes, run,
};
use crate::lab::member::spawn;

fn data(plan: &Plan, host: &HostPlan) -> PathBuf {
    let on_disk = plan.wish.etcd_on_disk && plan.wish.disk_mb.is_some() && host.postgres;
    if on_disk { plan.disk_of(&host.name).join("etcd") } else { plan.folder_of(&host.name).join("etcd") }
}

/// Starts one, new or again.
///
/// # Errors
/// It cannot be started.
pub(crate) fn start(plan: &Plan, host: &HostPlan) -> Result<()> {
    let data = data(plan, host);
    fs::create_dir_all(&data).context("make etcd's folder")?;
    let peer = |host: &HostPlan| format!("http://{}:{ETCD_PEER_PORT}", host.ip);
    let client = format!("http://{}:{ETCD_PORT}", host.ip);
    let all: Vec<_> = plan.etcds().map(|host| format!("{}={}", host.name, peer(host))).collect();
    let mut command = clock::on_host(plan, host);
    command.args(["etcd", "--name", &host.name, "--data-dir"]).arg(&data);
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer(host), "--initial-advertise-peer-urls", &peer(host)]);
    command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
    command.args(["--initial-cluster-token", &plan.id, "--logger", "zap", "--log-outputs", "stderr"]);
    spawn(command, &plan.folder_of(&host.name).join("etcd.log"))
}

fn ctl(plan: &Plan, host: &HostPlan, arguments: &[&str]) -> Result<String> {
    let mut command = run::inside(&plan.namespace(&host.name), "etcdctl");
    command.env("ETCDCTL_API", "3").arg(format!("--endpoints=http://{}:{ETCD_PORT}", host.ip));
    command.arg("--command-timeout=2s").args(arguments);
    run::command_output(command, None)
}

/// A member's own number, and that of its leader.
fn numbers(plan: &Plan, host: &HostPlan) -> Option<(u64, u64)> {
    let text = ctl(plan, host, &["endpoint", "status", "--write-out=json"]).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    let status = value.get(0)?.get("Status")?;
    Some((status["header"]["member_id"].as_u64()?, status["leader"].as_u64()?))
}

/// The host of etcd's leader, as it says itself. None: nobody leads.
#[must_use]
pub(crate) fn leader(plan: &Plan) -> Option<String> {
    let leads = |host: &&HostPlan| numbers(plan, host).is_some_and(|(own, leader)| own == leader);
    plan.etcds().find(leads).map(|host| host.name.clone())
}

/// Makes the member of that host etcd's leader.
///
/// # Errors
/// etcd refuses, or nobody leads.
pub(crate) fn lead_from(plan: &Plan, host: &str) -> Result<()> {
    let leader = leader(plan).context("a leader of etcd")?;
    if leader == host {
        return Ok(());
    }
    let (wanted, _) = numbers(plan, plan.host(host)).context("the member that is to lead")?;
    ctl(plan, plan.host(&leader), &["move-leader", &format!("{wanted:x}")]).map(drop)
}

/// True if a member of etcd runs on that host.
#[must_use]
pub(crate) fn runs(plan: &Plan, host: &str) -> bool {
    processes::of_host(plan, host).iter().any(processes::Process::is_etcd)
}
