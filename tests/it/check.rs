//! What `locum check` finds: functions of what was seen.

use locum::check::{About, Line, Seen, Severity, Wanted, differences, wants};
use serde_json::{Value, json};

/// A change of one node, and the line that it must bring.
type Case = (&'static str, Severity, fn(&mut Value));

fn node(change: impl FnOnce(&mut Value)) -> Seen {
    let setting = |value: &str, context: &str| json!({ "value": value, "context": context, "source": "configuration file" });
    let mut seen = json!({
        "version": 150_018, "release": "15.18", "built": "PostgreSQL 15.18 on x86_64-pc-linux-gnu, compiled by gcc",
        "system": "7", "block": 8192, "in_recovery": false, "asked_as": "postgres", "superuser": true,
        "clock": [0.0, 0.05],
        "settings": {
            "wal_level": setting("replica", "postmaster"), "hot_standby": setting("on", "postmaster"),
            "max_wal_senders": setting("10", "postmaster"), "max_replication_slots": setting("10", "postmaster"),
            "max_connections": setting("100", "postmaster"), "listen_addresses": setting("10.0.0.1", "postmaster"),
            "data_checksums": setting("on", "internal"), "wal_log_hints": setting("off", "postmaster"),
            "fsync": setting("on", "sighup"), "full_page_writes": setting("on", "sighup"),
            "synchronous_commit": setting("on", "user"), "work_mem": setting("4096", "user"),
            "port": setting("5432", "postmaster"), "log_directory": setting("log", "sighup"),
            "wal_segment_size": setting("16777216", "internal"), "shared_preload_libraries": setting("", "postmaster"),
            "synchronous_standby_names": setting("", "sighup"),
        },
        "databases": [{ "name": "postgres", "encoding": "UTF8", "collate": "en_US.UTF-8", "provider": "c" }],
        "collations": { "c": "2.36", "i": "153.120" },
        "available": { "pg_trgm": "1.6", "plpgsql": "1.0" },
        "installed": { "pg_trgm": "1.6 in shop" },
        "replication": { "name": "replicator", "exists": true, "login": true, "replication": true },
        "hba": [{ "line_number": 1, "type": "host", "database": ["all"], "user_name": ["all"], "address": "10.0.0.0",
                  "netmask": "255.255.255.0", "auth_method": "scram-sha-256" }],
    });
    change(&mut seen);
    serde_json::from_value(seen).unwrap()
}

fn primary() -> Seen {
    node(|_| ())
}

fn standby(change: impl FnOnce(&mut Value)) -> Seen {
    node(|seen| {
        seen["in_recovery"] = true.into();
        seen["receiving"] = true.into();
        change(seen);
    })
}

fn wanted() -> Wanted {
    Wanted { members: 2, host: "10.0.0.1".into(), replication: "replicator".into(), now: 1_700_000_000 }
}

/// The only line that a change brings.
fn only(lines: &[Line], what: &str, severity: Severity) {
    assert_eq!(lines.len(), 1, "{what}: {lines:#?}");
    assert!(lines[0].what.contains(what), "{what}: {lines:#?}");
    assert_eq!(lines[0].severity, severity, "{lines:#?}");
    assert!(
        !lines[0].why.is_empty() && !lines[0].here.is_empty() && !lines[0].there.is_empty(),
        "{lines:#?}"
    );
}

#[test]
fn a_pair_that_is_alike_has_nothing_to_say() {
    assert_eq!(differences(&primary(), &standby(|_| ())), vec![]);
    assert_eq!(wants(&primary(), &wanted()), vec![]);
    assert_eq!(wants(&standby(|_| ()), &wanted()), vec![]);
}

#[test]
fn each_difference_is_one_line_of_the_right_weight() {
    let cases: [Case; 16] = [
        ("system identifier", Severity::Blocks, |s| s["system"] = "8".into()),
        ("role", Severity::Blocks, |s| s["in_recovery"] = false.into()),
        ("major version", Severity::Blocks, |s| s["version"] = 160_001.into()),
        ("minor version", Severity::Notice, |s| s["version"] = 150_017.into()),
        ("platform", Severity::Blocks, |s| {
            s["built"] = "PostgreSQL 15.18 on aarch64-unknown-linux-gnu, …".into()
        }),
        ("platform", Severity::Notice, |s| {
            s["built"] = "PostgreSQL 15.18 on x86_64-redhat-linux-gnu, …".into()
        }),
        ("max_connections", Severity::Restart, |s| s["settings"]["max_connections"]["value"] = "200".into()),
        ("shared_preload", Severity::Restart, |s| {
            s["settings"]["shared_preload_libraries"]["value"] = "x".into()
        }),
        ("synchronous_commit", Severity::Reload, |s| {
            s["settings"]["synchronous_commit"]["value"] = "off".into()
        }),
        ("work_mem", Severity::Notice, |s| s["settings"]["work_mem"]["value"] = "8192".into()),
        ("wal_segment_size", Severity::Blocks, |s| {
            s["settings"]["wal_segment_size"]["value"] = "1048576".into()
        }),
        ("C library", Severity::Blocks, |s| s["collations"]["c"] = "2.31".into()),
        ("ICU", Severity::Notice, |s| s["collations"]["i"] = "153.14".into()),
        ("database postgres", Severity::Blocks, |s| s["databases"][0]["encoding"] = "LATIN1".into()),
        ("extension pg_trgm", Severity::Notice, |s| s["available"]["pg_trgm"] = "1.5".into()),
        ("clock", Severity::Notice, |s| s["clock"] = json!([-3.0, 0.1])),
    ];
    for (what, severity, change) in cases {
        only(&differences(&primary(), &standby(change)), what, severity);
    }
}

#[test]
fn an_extension_in_use_whose_files_are_missing_blocks() {
    let without = standby(|s| _ = s["available"].as_object_mut().unwrap().remove("pg_trgm"));
    only(&differences(&primary(), &without), "extension pg_trgm", Severity::Blocks);
    let unused = standby(|s| s["available"]["postgis"] = "3.3".into());
    only(&differences(&primary(), &unused), "extensions only there", Severity::Notice);
}

#[test]
fn collations_that_sort_by_bytes_do_not_care_for_the_library() {
    let of = |recovery: bool| {
        node(|s| {
            s["in_recovery"] = recovery.into();
            s["databases"][0]["collate"] = "C.UTF-8".into();
            s["collations"]["c"] = if recovery { "2.31" } else { "2.36" }.into();
        })
    };
    only(&differences(&of(false), &of(true)), "C library", Severity::Notice);
}

#[test]
fn a_nodes_own_affairs_are_no_difference() {
    let own = standby(|s| {
        s["settings"]["port"]["value"] = "5433".into();
        s["settings"]["log_directory"]["value"] = "/var/log".into();
        s["settings"]["listen_addresses"]["value"] = "10.0.0.2".into();
        s["settings"]["work_mem"] = json!({ "value": "1", "context": "user", "source": "session" });
    });
    assert_eq!(differences(&primary(), &own), vec![]);
}

#[test]
fn a_line_of_pg_hba_is_missed_on_the_side_that_lacks_it() {
    let more = standby(|s| {
        let mut extra = s["hba"][0].clone();
        extra["user_name"] = json!(["app"]);
        s["hba"].as_array_mut().unwrap().push(extra);
    });
    let lines = differences(&primary(), &more);
    only(&lines, "pg_hba.conf line", Severity::Reload);
    assert_eq!((lines[0].here.as_str(), lines[0].about), ("not there", About::Both));
    assert_eq!(lines[0].there, "host all app 10.0.0.0/24 scram-sha-256");
    let unseen = standby(|s| s["hba"] = Value::Null);
    only(&differences(&primary(), &unseen), "pg_hba.conf", Severity::Notice);
}

#[test]
fn what_one_node_lacks_is_one_line_with_what_is_needed() {
    let cases: [Case; 14] = [
        ("wal_level", Severity::Restart, |s| s["settings"]["wal_level"]["value"] = "minimal".into()),
        ("hot_standby", Severity::Restart, |s| s["settings"]["hot_standby"]["value"] = "off".into()),
        ("max_wal_senders", Severity::Restart, |s| s["settings"]["max_wal_senders"]["value"] = "2".into()),
        ("max_replication_slots", Severity::Restart, |s| {
            s["settings"]["max_replication_slots"]["value"] = "0".into()
        }),
        ("listen_addresses", Severity::Restart, |s| {
            s["settings"]["listen_addresses"]["value"] = "localhost".into()
        }),
        ("checksums", Severity::Notice, |s| s["settings"]["data_checksums"]["value"] = "off".into()),
        ("fsync", Severity::Reload, |s| s["settings"]["fsync"]["value"] = "off".into()),
        ("role replicator", Severity::Blocks, |s| s["replication"] = json!({ "name": "replicator" })),
        ("role replicator", Severity::Blocks, |s| s["replication"]["replication"] = false.into()),
        ("role replicator", Severity::Reload, |s| {
            s["replication"]["lacks"] = json!(["pg_stat_file(text, boolean)"])
        }),
        ("physical slots", Severity::Notice, |s| s["slots"] = json!(["locum_b", "old"])),
        ("recovery", Severity::Blocks, |s| s["restoring"] = true.into()),
        ("certificate", Severity::Reload, |s| {
            s["certificate"] = json!({ "file": "s.crt", "until": 1_600_000_000 })
        }),
        ("pg_hba.conf line 9", Severity::Reload, |s| s["hba"] = json!([{ "line_number": 9, "error": "no" }])),
    ];
    for (what, severity, change) in cases {
        let lines = wants(&node(change), &wanted());
        only(&lines, what, severity);
        assert_eq!(lines[0].about, About::Here);
    }
    let lost = standby(|s| s["receiving"] = false.into());
    only(&wants(&lost, &wanted()), "streaming", Severity::Blocks);
    let plain = node(|s| {
        s["superuser"] = false.into();
        s["lacks"] = json!(["GRANT pg_monitor TO locum"]);
    });
    let lines = wants(&plain, &wanted());
    only(&lines, "postgres.connect", Severity::Blocks);
    assert!(lines[0].why.contains("GRANT pg_monitor TO locum"));
}

/// What a server shows of a setting that would end its recovery, or hold it up.
fn hinders(seen: &mut Value, setting: &str, in_force: bool) {
    let file = "/data/postgresql.auto.conf";
    seen["hindrances"] = json!([{ "setting": setting, "value": "90s", "file": file, "in_force": in_force }]);
}

#[test]
fn what_would_end_recovery_is_named_with_its_value_and_file_also_on_a_primary() {
    for setting in ["recovery_target_time", "promote_trigger_file", "recovery_min_apply_delay"] {
        let lines = wants(&node(|seen| hinders(seen, setting, true)), &wanted());
        only(&lines, setting, Severity::Notice);
        assert_eq!(lines[0].here, "90s in /data/postgresql.auto.conf");
        assert!(lines[0].why.contains(&format!("ALTER SYSTEM RESET {setting}")), "{lines:#?}");
        // A standby that does not have it yet gets it with its next start.
        only(&wants(&standby(|seen| hinders(seen, setting, false)), &wanted()), setting, Severity::Notice);
    }
    let in_force = |setting| wants(&standby(|seen| hinders(seen, setting, true)), &wanted());
    only(&in_force("recovery_min_apply_delay"), "recovery_min_apply_delay", Severity::Reload);
    only(&in_force("promote_trigger_file"), "promote_trigger_file", Severity::Reload);
    only(&in_force("recovery_target_name"), "recovery_target_name", Severity::Restart);
    let paused = wants(&standby(|seen| seen["paused"] = true.into()), &wanted());
    only(&paused, "replay", Severity::Reload);
}
