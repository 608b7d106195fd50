//! Namespaces, a bridge between them, and nothing of the machine's own network.

use anyhow::Result;

use super::{
    plan::{CLIENTS, HUB, Plan},
    run,
};

/// Makes the namespaces and their links.
///
/// # Errors
/// Not root, or the kernel lacks bridges or virtual links.
pub(crate) fn make(plan: &Plan) -> Result<()> {
    for namespace in plan.namespaces() {
        run::words(&format!("ip netns add {namespace}"))?;
        run::words(&format!("ip -n {namespace} link set lo up"))?;
    }
    let hub = plan.namespace(HUB);
    run::words(&format!("ip -n {hub} link add bridge type bridge"))?;
    run::words(&format!("ip -n {hub} link set bridge up"))?;
    let hosts = plan.hosts.iter().map(|host| (host.name.as_str(), host.ip));
    for (name, ip) in hosts.chain([(CLIENTS, plan.clients)]) {
        let namespace = plan.namespace(name);
        run::words(&format!("ip -n {hub} link add {name} type veth peer name eth0 netns {namespace}"))?;
        run::words(&format!("ip -n {hub} link set {name} master bridge up"))?;
        run::words(&format!("ip -n {namespace} addr add {ip}/24 dev eth0"))?;
        run::words(&format!("ip -n {namespace} link set eth0 up"))?;
    }
    Ok(())
}

/// Removes them; what runs in them must have ended.
///
/// # Errors
/// One is left.
pub(crate) fn remove(plan: &Plan) -> Result<()> {
    for namespace in plan.namespaces() {
        if std::path::Path::new("/run/netns").join(&namespace).exists() {
            run::words(&format!("ip netns del {namespace}"))?;
        }
    }
    Ok(())
}
