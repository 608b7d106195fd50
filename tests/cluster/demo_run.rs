//! `locum demo` as its users run it: the program, real servers, its exit code and its JSON.

use std::{path::Path, process::Output};

use serde_json::Value;

/// Runs it in a directory of its own, so that what it leaves behind is seen.
fn demo(temporary: &Path, arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_locum"))
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", temporary)
        .output()
        .expect("run locum demo")
}

/// A directory that PostgreSQL's user may pass through.
fn temporary() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o711);
    tempfile::Builder::new().prefix("lt-").permissions(mode).tempdir_in("/tmp").expect("directory")
}

fn played(arguments: &[&str]) -> Value {
    let dir = temporary();
    let output = demo(dir.path(), &[arguments, &["--json", "-"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0, "nothing is left");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What the issue promises others about the JSON.
fn is_sound(result: &Value, faults: usize) {
    let incidents = result["incidents"].as_array().expect("incidents");
    assert_eq!(incidents.len(), faults);
    for incident in incidents {
        let phases = incident["phases"].as_array().expect("phases");
        let sum: f64 = phases.iter().filter_map(|phase| phase["ms"].as_f64()).sum();
        let rto = incident["rto_ms"].as_f64().expect("rto_ms");
        assert!((sum - rto).abs() <= 1.0, "phases add up: {sum} and {rto}");
        assert_eq!(incident["verdict"]["rto"], "met");
    }
    let client = &result["client"];
    assert!(client["acknowledged"].as_u64().expect("acknowledged") > 100);
    assert_eq!(client["duplicated"], 0);
    assert_eq!(client["outage_ms"].as_array().expect("outage_ms").len(), faults);
}

#[test]
fn a_crash_in_sync_mode_loses_nothing_that_was_acknowledged() {
    let result = played(&["--scenario", "crash"]);
    is_sound(&result, 1);
    assert_eq!(result["client"]["lost"], 0);
    assert_ne!(result["faults"][0]["primary_before"], result["faults"][0]["primary_after"]);
}

#[test]
fn a_hang_is_found_and_ended() {
    let result = played(&["--scenario", "hang"]);
    is_sound(&result, 1);
    assert_eq!(result["client"]["lost"], 0);
}

#[test]
fn a_switchover_loses_nothing() {
    let result = played(&["--scenario", "switchover"]);
    is_sound(&result, 1);
    assert_eq!(result["client"]["lost"], 0);
    assert_eq!(result["incidents"][0]["kind"], "switchover");
}

#[test]
fn a_dead_app_server_is_replaced_without_moving_the_database() {
    let result = played(&["--scenario", "app"]);
    is_sound(&result, 1);
    assert_eq!(result["faults"][0]["primary_before"], result["faults"][0]["primary_after"]);
}

#[test]
fn the_old_primary_comes_back_and_takes_over_in_async_mode_too() {
    let result = played(&["--scenario", "crash-twice", "--durability", "async"]);
    is_sound(&result, 2);
    assert_eq!(result["faults"][0]["primary_before"], result["faults"][1]["primary_after"]);
}

#[test]
fn a_second_demo_beside_the_first_works() {
    std::thread::scope(|scope| {
        let both = [
            scope.spawn(|| played(&["--scenario", "crash"])),
            scope.spawn(|| played(&["--scenario", "crash"])),
        ];
        for one in both {
            is_sound(&one.join().expect("played"), 1);
        }
    });
}
