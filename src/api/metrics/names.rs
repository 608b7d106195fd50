//! Every metric, with its meaning. Base units: bytes, seconds; a truth is 0 or 1. What is not known is left out of the
//! page, never shown as 0.

/// A metric: its name and the sentence that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As on the page; a counter's name has `_total` on it there.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help, ".")]
            pub const $constant: Metric = Metric { name: $name, help: $help };
        )*
        /// All of them.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    BUILD_INFO = "locum_build_info", "1, with the version as a label";
    SNAPSHOT_AGE = "locum_snapshot_age_seconds", "How long ago the controller of this member last published what it knows";
    STORE_UP = "locum_store_up", "The store answers this member";
    LEADER = "locum_leader", "This member is the leader";
    EPOCH = "locum_epoch", "The epoch: grows by one with every declared primary";
    PAUSED = "locum_paused", "Automatic action is suspended by an operator";
    RPO_BYTES = "locum_rpo_bytes", "Bytes that would be lost if the primary vanished now, as of the last reading";
    RPO_SECONDS = "locum_rpo_seconds", "Seconds of work that would be lost if the primary vanished now, as of the last reading";
    RPO_AGE = "locum_rpo_age_seconds", "Age of that reading";
    RPO_AT_MOST = "locum_rpo_at_most_bytes", "Upper estimate while the primary cannot be read";
    RPO_ACKNOWLEDGED_SAFE = "locum_rpo_acknowledged_is_safe", "Every acknowledged commit is on a standby";
    PRIMARY = "locum_primary", "The node is the declared primary, takes writes and has the right to serve";
    NODE_HEARD_AGE = "locum_node_heard_age_seconds", "How long ago the member was heard";
    NODE_STREAMING = "locum_node_streaming", "The node is a standby that streams";
    NODE_SYNC = "locum_node_sync", "The node is in the sync set";
    NODE_LAG = "locum_node_lag_bytes", "Bytes the node has not flushed, of what the primary has";
    NODE_REPLAY_LAG = "locum_node_replay_lag_bytes", "Bytes the node has flushed and not replayed";
    NODE_DISK_FREE = "locum_node_disk_free_bytes", "Bytes that are free for the data and the WAL of the node: the lesser of both";
    APP_HEALTHY = "locum_app_healthy", "The health probe found the node's app server well";
    APP_ACTIVE = "locum_app_active", "The endpoint leads to the node's app server";
    FINDINGS = "locum_findings", "How many named problems there are";
    FINDING = "locum_finding", "1 for every named problem that there is";
    ENDPOINT_ACCEPTING = "locum_endpoint_accepting", "New connections of the endpoint get through";
    ENDPOINT_OPEN = "locum_endpoint_open_connections", "Connections that are open through the endpoint";
    ENDPOINT_HELD = "locum_endpoint_held_connections", "New connections that wait at the endpoint";
    ENDPOINT_CUT = "locum_endpoint_cut_connections", "Connections of the endpoint that orders have cut since its member started";
    ENDPOINT_SERVED = "locum_endpoint_served_after_waiting_connections", "Connections that waited at the endpoint and were then served, since its member started";
    ENDPOINT_REFUSED = "locum_endpoint_refused_connections", "Connections that the endpoint gave up, since its member started: too many waited, or for too long";
    ENDPOINT_GAP = "locum_endpoint_longest_gap_seconds", "The longest time between the last byte of one target's server and the first byte of the next one's, since the member started";
    TARGET_SERVING = "locum_endpoint_target_serving", "New connections of the endpoint go to the node";
    TARGET_OPEN = "locum_endpoint_target_open_connections", "Connections that are open between the endpoint and the node";
    TARGET_UP = "locum_endpoint_target_sent_bytes", "Bytes from clients of the endpoint to the node, since the member started";
    TARGET_DOWN = "locum_endpoint_target_received_bytes", "Bytes from the node to clients of the endpoint, since the member started";
    INCIDENT_OPEN = "locum_incident_open", "An incident is under way";
    INCIDENTS = "locum_incidents", "Incidents that the store holds, by kind; it keeps the last 1000";
    LAST_RTO = "locum_last_rto_seconds", "How long service was gone in the last incident of the kind";
    LAST_INCIDENT_TIME = "locum_last_incident_timestamp_seconds", "When the last incident of the kind began";
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn names_are_as_prometheus_wants_them_and_used_once() {
        let mut names: Vec<_> = ALL.iter().map(|metric| metric.name).collect();
        assert!(names.iter().all(|name| {
            name.starts_with("locum_") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        }));
        // `_total` is put on counters by the encoder.
        assert!(names.iter().all(|name| !name.ends_with("_ms") && !name.ends_with("_total")));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
