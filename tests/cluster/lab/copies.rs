//! Copies of a host's disk, as a hypervisor's snapshot is one: taken at one moment, put back while the host is off.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Result, ensure};

use super::{fault::Part, plan::Plan, processes, run::command_output};

fn place(plan: &Plan, host: &str) -> PathBuf {
    plan.folder_of(host).join("copy")
}

/// What lies on the host's disk: the data directory, and what its member remembers.
fn parts(plan: &Plan, host: &str) -> [(PathBuf, &'static str); 2] {
    [(plan.data_of(host), "data"), (plan.folder_of(host).join("state"), "state")]
}

/// Copies the disk as it is now. Its PostgreSQL and its member stand still meanwhile, so that the copy is of one moment.
///
/// # Errors
/// Something could not be stopped or copied.
pub(crate) fn take(plan: &Plan, host: &str) -> Result<()> {
    let place = place(plan, host);
    let _none_before = fs::remove_dir_all(&place);
    fs::create_dir_all(&place)?;
    let writing = || {
        let mut all = Part::Postgres.of(plan, host);
        all.extend(Part::Locum.of(plan, host));
        all
    };
    processes::stop(writing)?;
    let copied = parts(plan, host).iter().try_for_each(|(from, name)| copy(from, &place.join(name)));
    writing().iter().for_each(|process| processes::send(process.pid, rustix::process::Signal::CONT));
    copied
}

/// Puts the copy in the place of what is there. Nothing may run on the host.
///
/// # Errors
/// There is no copy, something runs, or it could not be put back.
pub(crate) fn put_back(plan: &Plan, host: &str) -> Result<()> {
    let running = Part::Everything.of(plan, host);
    ensure!(running.is_empty(), "{host} is not off");
    parts(plan, host).iter().try_for_each(|(to, name)| {
        fs::remove_dir_all(to)?;
        copy(&place(plan, host).join(name), to)
    })
}

/// With owners, modes and times. Sockets are made anew by whoever listens there.
fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto"]).arg(from).arg(to);
    command_output(command, None).map(drop)
}
