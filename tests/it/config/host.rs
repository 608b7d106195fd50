//! What the configuration names and the host lacks.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use super::Host;

#[test]
fn what_the_host_lacks_is_told() {
    let host = Host::new();
    let root = host.dir.path().display().to_string();
    fs::create_dir_all(host.path("old")).unwrap();
    fs::write(host.path("old/PG_VERSION"), "9.6\n").unwrap();
    fs::create_dir_all(host.path("new")).unwrap();
    fs::write(host.path("new/PG_VERSION"), "19\n").unwrap();
    fs::create_dir_all(host.path("half")).unwrap();
    fs::copy(host.path("bin/postgres"), host.path("half/postgres")).unwrap();
    fs::write(host.path("open"), "0123456789abcdef").unwrap();
    fs::set_permissions(host.path("open"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(host.path("empty"), "\n").unwrap();
    fs::set_permissions(host.path("empty"), fs::Permissions::from_mode(0o600)).unwrap();
    let cases = [
        (format!("postgres.data_dir={root}/none"), "cannot be used", "SHOW data_directory"),
        (format!("postgres.data_dir={root}/bin"), "no PostgreSQL data directory", "SHOW data_directory"),
        (format!("postgres.data_dir={root}/old"), "PostgreSQL 9.6, which is not supported", "14 to 18"),
        (format!("postgres.data_dir={root}/new"), "PostgreSQL 19, which is not supported", "14 to 18"),
        (
            format!("postgres.bin_dir={root}/half"),
            "lacks pg_basebackup, pg_controldata, pg_rewind, pg_waldump",
            "pg_config",
        ),
        (format!("state_dir={root}/data/state"), "inside postgres.data_dir", "Move it out"),
        (format!("store.embedded={root}/data/store.db"), "inside postgres.data_dir", "Move it out"),
        (format!("state_dir={root}/token"), "is no directory", "Name a directory"),
        (format!("api.token_file={root}/none"), "cannot be read", "/dev/urandom"),
        (format!("api.token_file={root}/open"), "can be read by everybody", "chmod 600"),
        (format!("api.token_file={root}/empty"), "does not hold one line", "Make it anew"),
    ];
    for (set, what, way_out) in &cases {
        let (code, told) = host.check_with(&[set]);
        assert_eq!(code, Some(1), "{set}: {told}");
        let key = set.split('=').next().unwrap();
        for part in [key, what, way_out] {
            assert!(told.contains(part), "{set}: expected {part:?} in\n{told}");
        }
    }
}

#[test]
fn a_link_into_the_data_directory_is_seen_through() {
    let host = Host::new();
    fs::create_dir_all(host.path("data/inner")).unwrap();
    std::os::unix::fs::symlink(host.path("data/inner"), host.path("link")).unwrap();
    let (code, told) = host.check_with(&[&format!("state_dir={}", host.path("link").display())]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("inside postgres.data_dir"), "{told}");
}

#[test]
fn programs_that_nobody_named_are_found_or_told() {
    let host = Host::new();
    let text = host.good().lines().filter(|line| !line.starts_with("bin_dir")).collect::<Vec<_>>().join("\n");
    fs::write(host.file(), text).unwrap();
    let run = |path: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
        command.env_clear().env("PATH", path).args(["config", "check", "-c"]).arg(host.file());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&host.path("bin")), (Some(0), "ok\n".into()));
    // PostgreSQL 14 is in no usual place here.
    fs::write(host.path("data/PG_VERSION"), "14\n").unwrap();
    let (code, told) = run(&host.path("none"));
    if !Path::new("/usr/lib/postgresql/14/bin/postgres").exists() {
        assert_eq!(code, Some(1));
        assert!(told.contains("postgres.bin_dir is not given") && told.contains("postgresql-14"), "{told}");
    }
}

#[test]
fn a_node_that_was_being_cloned_may_start() {
    let host = Host::new();
    fs::create_dir_all(host.path("state")).unwrap();
    fs::write(host.path("state/promise.json"), "{}").unwrap();
    fs::remove_file(host.path("data/PG_VERSION")).unwrap();
    let (code, told) = host.check_with(&[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("warning: postgres.data_dir"), "{told}");
}
