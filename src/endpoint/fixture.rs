//! What a member shows, for tests.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use crate::model::{ClusterName, NodeId, NodeStatus, Role, Snapshot, Timeline};

pub(super) fn node(name: &str, role: Role, lag: Option<u64>) -> NodeStatus {
    NodeStatus {
        node: NodeId::new(name).unwrap(),
        api_address: None,
        database: Some(format!("{name}:5432")),
        heard_ms: 50.0,
        role,
        serving: role == Role::Primary,
        sync: false,
        streaming: role == Role::Standby,
        timeline: Some(Timeline(3)),
        lsn: None,
        lag_bytes: lag,
        replay_bytes: lag.map(|_| 0),
        disk_free_bytes: None,
        guard: None,
        hindrances: Vec::new(),
        promise: None,
        job: None,
        error: None,
        app: None,
    }
}

pub(super) fn snapshot(nodes: Vec<NodeStatus>) -> Snapshot {
    Snapshot {
        cluster: ClusterName::new("orders").unwrap(),
        node: NodeId::new("a").unwrap(),
        at: jiff::Timestamp::UNIX_EPOCH,
        leader: None,
        store_error: None,
        intent: None,
        nodes,
        endpoints: Vec::new(),
        rpo: None,
        findings: Vec::new(),
        plan: Vec::new(),
        if_it_crashed: Vec::new(),
        incident: None,
        last_incident: None,
        operations: Vec::new(),
    }
}
