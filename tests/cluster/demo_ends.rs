//! However `locum demo` ends, nothing of it is left: signals at any moment, places it cannot use, `--keep` and
//! `--stop`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

fn temporary() -> tempfile::TempDir {
    let mode = fs::Permissions::from_mode(0o711);
    tempfile::Builder::new().prefix("lt-").permissions(mode).tempdir_in("/tmp").expect("directory")
}

fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
    command.arg("demo").env("TMPDIR", temporary).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Processes that work in a directory or name it in their arguments.
fn processes_of(dir: &Path) -> Vec<PathBuf> {
    let named = dir.to_string_lossy().into_owned();
    let all = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
    all.filter(|proc| {
        let cwd = fs::read_link(proc.join("cwd")).unwrap_or_default();
        let arguments = fs::read(proc.join("cmdline")).unwrap_or_default();
        cwd.starts_with(dir) || String::from_utf8_lossy(&arguments).contains(&named)
    })
    .collect()
}

fn nothing_is_left(dir: &Path) {
    assert_eq!(fs::read_dir(dir).expect("list").count(), 0, "files are left in {}", dir.display());
    assert!(processes_of(dir).is_empty(), "processes are left");
}

#[test]
fn a_signal_at_any_moment_leaves_nothing_running() {
    let moments = [30, 200, 500, 900, 1_300, 1_800, 2_500, 3_500, 5_000];
    for (number, moment) in moments.into_iter().enumerate() {
        let dir = temporary();
        let child = demo(dir.path()).spawn().expect("start");
        // Not a wait for a condition: the moment itself is what is varied.
        sleep(Duration::from_millis(moment));
        let signal = if number % 2 == 0 { Signal::INT } else { Signal::TERM };
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("pid")).expect("pid");
        kill_process(pid, signal).expect("signal");
        let output = child.wait_with_output().expect("wait");
        // A quick machine may be through with it by the last moment.
        let was_over = String::from_utf8_lossy(&output.stdout).contains("PASSED");
        assert!(!output.status.success() || was_over, "after {moment} ms");
        nothing_is_left(dir.path());
    }
}

#[test]
fn a_demo_that_was_kept_serves_until_it_is_stopped() {
    let dir = temporary();
    let output = demo(dir.path()).arg("--keep").output().expect("run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let count = said.split_whitespace().find(|word| word.ends_with("/rows/count")).expect("the app's URL");
    let answer = Command::new("curl").args(["--silent", "--fail", "--max-time", "5", count]).output();
    if let Ok(answer) = answer {
        assert!(String::from_utf8_lossy(&answer.stdout).contains("rows"), "{count} answers");
    }
    let made = fs::read_dir(dir.path()).expect("list").flatten().next().expect("its directory").path();
    assert!(!processes_of(&made).is_empty());
    let stopped = Command::new(env!("CARGO_BIN_EXE_locum")).args(["demo", "--stop"]).arg(&made).output();
    assert!(stopped.expect("stop").status.success());
    nothing_is_left(dir.path());
}

#[test]
fn a_place_that_cannot_be_used_is_named_with_the_way_out() {
    let began = Instant::now();
    let output = demo(Path::new("/nonexistent")).output().expect("run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("/nonexistent") && said.contains("TMPDIR"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_directory_that_no_demo_made_is_not_removed() {
    let dir = temporary();
    fs::write(dir.path().join("mine"), "precious").expect("write");
    let output = Command::new(env!("CARGO_BIN_EXE_locum")).args(["demo", "--stop"]).arg(dir.path()).output();
    let output = output.expect("run");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was touched"));
    assert!(dir.path().join("mine").exists());
}
