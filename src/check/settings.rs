//! Which settings matter to a pair, and why. Of every other one a difference is only worth a notice.

use super::{Line, Seen, Severity};

/// A standby with less than its primary does not start (PostgreSQL manual, 27.4.3).
const CAPACITY: [&str; 5] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

/// Set when the cluster was made: two that differ are not of one system.
const MADE: [&str; 3] = ["wal_segment_size", "block_size", "wal_block_size"];

/// Where a difference changes what clients or the pair can rely on.
const MATTER: [(&str, Severity, &str); 27] = [
    ("wal_level", Severity::Restart, "what can stream from the new primary is another after a failover"),
    ("hot_standby", Severity::Restart, "a standby without it takes no connections, the agent's neither"),
    (
        "wal_log_hints",
        Severity::Restart,
        "a former primary without it, or checksums, is cloned instead of rewound",
    ),
    ("shared_preload_libraries", Severity::Restart, "what needs the library fails after a failover"),
    ("max_replication_slots", Severity::Restart, "slots that fit on one do not fit on the other"),
    ("archive_mode", Severity::Restart, "WAL is archived only while one of the two is primary"),
    ("track_commit_timestamp", Severity::Restart, "commit times are there only on one of the two"),
    (
        "max_logical_replication_workers",
        Severity::Restart,
        "subscriptions run with other limits after a failover",
    ),
    ("fsync", Severity::Reload, "without it a crash damages the database"),
    ("full_page_writes", Severity::Reload, "without it a crash may damage the database"),
    ("synchronous_commit", Severity::Reload, "a commit promises something else after a failover"),
    ("archive_command", Severity::Reload, "WAL goes elsewhere after a failover, or nowhere"),
    ("archive_library", Severity::Reload, "WAL goes elsewhere after a failover, or nowhere"),
    ("ssl", Severity::Reload, "clients that insist on TLS are refused by one of the two"),
    ("ssl_min_protocol_version", Severity::Reload, "some clients are refused by one of the two"),
    ("password_encryption", Severity::Reload, "passwords are kept in another form after a failover"),
    ("max_slot_wal_keep_size", Severity::Reload, "how much WAL an absent standby may keep is another"),
    ("wal_keep_size", Severity::Reload, "how long a standby may be away without a clone is another"),
    ("hot_standby_feedback", Severity::Reload, "queries on the standby are cancelled on one of the two"),
    ("max_standby_streaming_delay", Severity::Reload, "replay waits longer for queries on one of the two"),
    ("wal_sender_timeout", Severity::Reload, "a dead connection is noticed later on one of the two"),
    (
        "default_transaction_isolation",
        Severity::Reload,
        "applications see another behaviour after a failover",
    ),
    ("default_transaction_read_only", Severity::Reload, "applications can only read after a failover"),
    ("statement_timeout", Severity::Reload, "statements are cancelled on one of the two"),
    ("idle_in_transaction_session_timeout", Severity::Reload, "sessions are ended on one of the two"),
    ("TimeZone", Severity::Reload, "applications see other times after a failover"),
    ("DateStyle", Severity::Reload, "applications see dates in another form after a failover"),
];

/// A node's own affair, Locum's, or the session's.
const OWN: [&str; 31] = [
    "application_name",
    "archive_cleanup_command",
    "client_encoding",
    "cluster_name",
    "config_file",
    "data_directory",
    "data_directory_mode",
    "event_source",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "in_hot_standby",
    "is_superuser",
    "krb_server_keyfile",
    "listen_addresses",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_min_apply_delay",
    "restore_command",
    "role",
    "search_path",
    "server_version",
    "server_version_num",
    "session_authorization",
    "synchronous_standby_names",
    "syslog_ident",
    "transaction_read_only",
    "unix_socket_directories",
    "unix_socket_group",
];

/// The same, by how their names begin.
const OWN_BEGIN: [&str; 6] =
    ["log_", "recovery_target", "shared_memory_size", "tcp_", "transaction_", "ssl_"];

/// Every setting that differs and matters.
pub(super) fn compare(here: &Seen, there: &Seen, lines: &mut Vec<Line>) {
    for (name, ours) in &here.settings {
        let Some(theirs) = there.settings.get(name) else { continue };
        let known = MATTER.iter().find(|(known, ..)| known == name);
        let of_session = [ours, theirs].iter().any(|s| ["session", "client"].contains(&s.source.as_str()));
        let own = OWN.contains(&name.as_str()) || OWN_BEGIN.iter().any(|begin| name.starts_with(begin));
        if ours.value == theirs.value || of_session || (own && known.is_none()) {
            continue;
        }
        let shown = (shown(here, name), shown(there, name));
        lines.push(if CAPACITY.contains(&name.as_str()) {
            let why = "a standby that has less than its primary does not start, and each is a standby in its turn: \
                       make them equal, the greater value on both";
            Line::new(Severity::Restart, name, shown, why)
        } else if MADE.contains(&name.as_str()) {
            Line::new(Severity::Blocks, name, shown, "chosen when the cluster was made: these are not one system")
        } else if name == "data_checksums" {
            let why = "one of the two notices damaged pages, the other does not; `pg_checksums` changes it, stopped";
            Line::new(Severity::Notice, name, shown, why)
        } else if let Some((_, severity, why)) = known {
            Line::new(*severity, name, shown, *why)
        } else {
            let how = match ours.context.as_str() {
                "postmaster" => "to be changed by a restart",
                "internal" => "it follows from other settings or from how PostgreSQL was built",
                _ => "to be changed by a reload",
            };
            Line::new(Severity::Notice, name, shown, format!("is another after a failover; {how}"))
        });
    }
}

/// A value as people write it.
pub(super) fn shown(seen: &Seen, name: &str) -> String {
    match seen.settings.get(name) {
        None => "not readable".into(),
        Some(setting) => match setting.shown.as_deref().unwrap_or(&setting.value) {
            "" => "(empty)".into(),
            value => value.to_owned(),
        },
    }
}
