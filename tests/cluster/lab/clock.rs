//! What time it is on a host. No two hosts count their boot time from the same moment (each of their processes begins in a time
//! namespace), and where it was wished the wall clock of PostgreSQL and Locum on a host can be set (libfaketime).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    place,
    plan::{HostPlan, Plan},
    run,
};

/// By how much the boot time of a host is ahead of that of the host before, in seconds.
const APART: usize = 7_000_003;

/// What runs a program on a host, in its network and with its boot time; the program is to be added.
#[must_use]
pub(crate) fn on_host(plan: &Plan, host: &HostPlan) -> Command {
    let mut command = run::inside(&plan.namespace(&host.name), "unshare");
    let number = plan.hosts.iter().position(|other| other.name == host.name).unwrap_or_default();
    let ahead = (number * APART).to_string();
    command.args(["--time", "--boottime", &ahead, "--monotonic", &ahead, "--"]);
    command
}

/// The words that begin a program's line whose wall clock can be set, if that was wished. Behind whatever changes the user: what
/// the library shares under the number of a process belongs to who it is loaded by first.
#[must_use]
pub(crate) fn settable(plan: &Plan, host: &HostPlan) -> Vec<String> {
    let Some(library) = library().filter(|_| plan.wish.clocks) else { return Vec::new() };
    vec![
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", file(plan, &host.name).display()),
        // The wall clock alone; looked at anew each time.
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "FAKETIME_NO_CACHE=1".to_owned(),
    ]
}

fn file(plan: &Plan, host: &str) -> PathBuf {
    plan.folder_of(host).join("clock")
}

/// Where Debian's package `libfaketime` puts it.
fn library() -> Option<PathBuf> {
    let triples = fs::read_dir("/usr/lib").ok()?.flatten();
    triples.map(|triple| triple.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

/// Every host has the time of this machine.
///
/// # Errors
/// The library is missing, or the file system refuses.
pub(crate) fn make(plan: &Plan) -> Result<()> {
    if !plan.wish.clocks {
        return Ok(());
    }
    ensure!(
        library().is_some(),
        "clocks are set by libfaketime, which is not installed (scripts/setup --tests)"
    );
    plan.members().try_for_each(|host| set(plan, &host.name, 0))
}

/// Sets the wall clock of a host so many seconds ahead of this machine's.
///
/// # Errors
/// The laboratory was built without such clocks, or the file system refuses.
pub(crate) fn set(plan: &Plan, host: &str, ahead: i64) -> Result<()> {
    ensure!(plan.wish.clocks, "the laboratory was built without clocks that can be set");
    let (path, fresh) = (file(plan, host), file(plan, host).with_extension("new"));
    fs::write(&fresh, format!("{ahead:+}\n")).context("write the clock's file")?;
    place::give_to_postgres(&fresh)?;
    fs::rename(&fresh, &path).context("write the clock's file")
}

/// Removes what the library shares under the numbers of processes that were killed.
pub(crate) fn remove(plan: &Plan) {
    let shared = fs::read_dir("/dev/shm").into_iter().flatten().flatten().filter(|_| plan.wish.clocks);
    for entry in shared {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = ["faketime_shm_", "sem.faketime_sem_"].iter().find_map(|prefix| name.strip_prefix(prefix));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _somebody_else_did = fs::remove_file(entry.path());
        }
    }
}
