//! What a member's certificate calls it.

use std::fmt;

use tokio_rustls::rustls::pki_types::DnsName;

use crate::model::{ClusterName, NodeId};

/// The end of every member's name. It is no domain of the Internet, so that no public authority certifies it.
const DOMAIN: &str = "locum";

/// One node of one cluster; as a DNS name `<node>.<cluster>.locum`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterName,
}

impl Name {
    /// The name of a node, as far as certificates can express it.
    ///
    /// # Errors
    /// A sentence: a part of a DNS name cannot end in '-', while a node's name may.
    pub fn new(node: NodeId, cluster: ClusterName) -> Result<Self, String> {
        let name = Self { node, cluster };
        match DnsName::try_from(name.to_string()) {
            Ok(_) => Ok(name),
            Err(_) => Err(format!("a certificate cannot hold the name {name}: no part of it may end in '-'")),
        }
    }

    /// Reads a DNS name. None: it is no member's name, a wildcard for example.
    #[must_use]
    pub fn read(dns: &str) -> Option<Self> {
        let (node, cluster) = dns.strip_suffix(DOMAIN)?.strip_suffix('.')?.split_once('.')?;
        Some(Self { node: NodeId::new(node).ok()?, cluster: ClusterName::new(cluster).ok()? })
    }

    /// True if a DNS name lies where members' names are, wildcards and malformed ones included.
    #[must_use]
    pub fn reserves(dns: &str) -> bool {
        dns.trim_end_matches('.').rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(DOMAIN))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{DOMAIN}", self.node, self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else_is_a_member() {
        let name = Name::read("seoul.orders.locum").expect("a member's name");
        assert_eq!((name.node.as_str(), name.cluster.as_str()), ("seoul", "orders"));
        assert_eq!(Name::read(&name.to_string()), Some(name));
        for other in [
            "",
            "locum",
            ".locum",
            "seoul.locum",
            "*.orders.locum",
            "a.b.c.locum",
            "a.b.locum.org",
            "A.b.locum",
        ] {
            assert_eq!(Name::read(other), None, "{other}");
        }
        assert!(Name::reserves("*.orders.LOCUM.") && !Name::reserves("db1.example.com"));
    }

    #[test]
    fn a_name_that_no_certificate_can_hold_is_told() {
        let name = |node| {
            Name::new(NodeId::new(node).expect("a node"), ClusterName::new("orders").expect("a cluster"))
        };
        assert!(name("seoul-1").is_ok());
        assert!(name("seoul-").expect_err("DNS does not take it").contains("seoul-.orders.locum"));
    }
}
