//! `locum check`, `adopt` and `init` without any PostgreSQL: usage, and what is refused before anything is asked.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

fn locum(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
    let done = command.env_clear().args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn help_shows_examples_and_fits_the_screen() {
    for verb in ["check", "adopt", "init"] {
        let (code, out, _) = locum(&[verb, "--help"]);
        assert_eq!(code, 0);
        assert!(out.contains("Example"), "{verb}: {out}");
        assert!(out.lines().all(|line| line.chars().count() <= 100), "{verb}: {out}");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["check", "--primary", "host=a"][..],
        &["check", "--primary", "host=a", "--standby", "host=b", "--peer", "host=c"],
        &["check", "--primary", "postgresql://a/x", "--standby", "host=b"],
        &["check", "--primary", "host", "--standby", "host=b"],
        &["init", "--primary", "--standby"],
        &["init", "--wal-segsize", "3"],
        &["init", "--wal-segsize", "2048"],
        &["adopt", "--frobnicate"],
    ] {
        let (code, out, err) = locum(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(!err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_told() {
    for verb in ["check", "adopt", "init"] {
        let (code, out, err) = locum(&[verb, "-c", "/nonexistent/locum.toml"]);
        assert_eq!((code, out.as_str()), (1, ""), "{verb}: {err}");
        assert!(err.contains("/nonexistent/locum.toml cannot be read"), "{verb}: {err}");
    }
}

fn configured(dir: &Path, postgres: &str) -> String {
    let witness = "[witness]\nverify = \"user=nobody dbname=postgres\"\n";
    let postgres = if postgres.is_empty() { witness } else { postgres };
    fs::write(dir.join("token"), "0123456789abcdef0123456789abcdef").unwrap();
    fs::set_permissions(dir.join("token"), fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "cluster = \"orders\"\nnode = \"seoul\"\nmembers = [\"seoul\"]\nstate_dir = \"{0}/state\"\n\
         [store]\nembedded = \"{0}/store.db\"\n[api]\ntoken_file = \"{0}/token\"\n{postgres}",
        dir.display()
    );
    let file = dir.join("locum.toml");
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn a_host_without_postgresql_has_nothing_to_prepare() {
    let dir = tempfile::tempdir().unwrap();
    let file = configured(dir.path(), "");
    for (verb, part) in
        [("check", "nothing to compare"), ("adopt", "nothing to adopt"), ("init", "nothing to make")]
    {
        let (code, _, err) = locum(&[verb, "-c", &file]);
        assert_eq!(code, 1);
        assert!(err.contains(part), "{verb}: {err}");
    }
    assert!(!dir.path().join("state").exists(), "nothing was made");
}

#[test]
fn a_folder_that_is_not_there_is_told_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    // Programs that are there and never run.
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for program in ["postgres", "pg_basebackup", "pg_controldata", "pg_rewind", "pg_waldump", "initdb"] {
        fs::write(bin.join(program), "#!/bin/false\n").unwrap();
        fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let postgres = format!(
        "[postgres]\ndata_dir = \"{0}/no/such/data\"\nbin_dir = \"{0}/bin\"\nconnect = \"host=/tmp user=postgres\"\n\
         address = \"127.0.0.1:5432\"\nreplication = \"user=replicator\"\n",
        dir.path().display()
    );
    let file = configured(dir.path(), &postgres);
    let (code, _, err) = locum(&["init", "--primary", "--yes", "-c", &file]);
    assert_eq!(code, 1, "{err}");
    for part in ["/no/such, which is no directory", "install -d -o postgres", "Nothing was changed"] {
        assert!(err.contains(part), "expected {part:?} in {err}");
    }
}
