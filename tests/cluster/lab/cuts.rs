//! Which packets are dropped, silently. The bridge drops them, so that neither side is told: no reset, no error.
//!
//! ARP is let through: a host that is lost looks as it does behind a router.

use std::{fs, net::Ipv4Addr, path::PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{
    plan::{ETCD_PORT, HUB, Plan},
    run,
};

/// What is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cut {
    /// Everything from and to a host.
    Host(String),
    /// Everything from one host to another.
    OneWay(String, String),
    /// What a host says to etcd and etcd to it, its own member of etcd included. That member talks to the others.
    Store(String),
}

fn file(plan: &Plan) -> PathBuf {
    plan.folder.join("cuts.json")
}

/// Those in force.
///
/// # Errors
/// The record cannot be read.
pub(crate) fn current(plan: &Plan) -> Result<Vec<Cut>> {
    match fs::read_to_string(file(plan)) {
        Ok(text) => serde_json::from_str(&text).context("read cuts.json"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).context("read cuts.json"),
    }
}

/// Adds cuts.
///
/// # Errors
/// The packet filter refuses.
pub(crate) fn add(plan: &Plan, cuts: &[Cut]) -> Result<()> {
    let mut all = current(plan)?;
    all.extend(cuts.iter().filter(|cut| !all.contains(cut)).cloned().collect::<Vec<_>>());
    apply(plan, &all)
}

/// Takes cuts away.
///
/// # Errors
/// The packet filter refuses.
pub(crate) fn remove(plan: &Plan, cuts: &[Cut]) -> Result<()> {
    let mut all = current(plan)?;
    all.retain(|cut| !cuts.contains(cut));
    apply(plan, &all)
}

/// Makes exactly these cuts.
///
/// # Errors
/// The packet filter refuses.
pub(crate) fn apply(plan: &Plan, cuts: &[Cut]) -> Result<()> {
    let drops: String = cuts.iter().flat_map(|cut| at_the_bridge(plan, cut)).collect();
    run::nft(&plan.namespace(HUB), &table("bridge", "forward", &drops))?;
    for host in &plan.hosts {
        let cut = cuts.contains(&Cut::Store(host.name.clone()));
        let local = if cut {
            format!("iifname \"lo\" tcp dport {ETCD_PORT} drop\niifname \"lo\" tcp sport {ETCD_PORT} drop\n")
        } else {
            String::new()
        };
        run::nft(&plan.namespace(&host.name), &table("inet", "input", &local))?;
    }
    fs::write(file(plan), serde_json::to_string(cuts)?).context("write cuts.json")
}

/// Made and deleted first, so that this works whether there was one or not.
fn table(family: &str, hook: &str, rules: &str) -> String {
    format!(
        "table {family} cuts {{\n}}\ndelete table {family} cuts\ntable {family} cuts {{\nchain cuts {{\n\
         type filter hook {hook} priority 0;\n{rules}}}\n}}\n"
    )
}

fn at_the_bridge(plan: &Plan, cut: &Cut) -> Vec<String> {
    let ip = |name: &String| -> Ipv4Addr { plan.host(name).ip };
    match cut {
        Cut::Host(host) => {
            vec![format!("ip saddr {} drop\n", ip(host)), format!("ip daddr {} drop\n", ip(host))]
        }
        Cut::OneWay(from, to) => vec![format!("ip saddr {} ip daddr {} drop\n", ip(from), ip(to))],
        Cut::Store(host) => vec![
            format!("ip saddr {} tcp dport {ETCD_PORT} drop\n", ip(host)),
            format!("ip daddr {} tcp sport {ETCD_PORT} drop\n", ip(host)),
        ],
    }
}
