//! Copies of a host's disk, as a hypervisor's snapshot is one: taken at one moment, put back while the host is off.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Result, ensure};

use super::{Back, fault::Part, plan::Plan, processes, run::command_output};

fn place(plan: &Plan, host: &str) -> PathBuf {
    plan.folder_of(host).join("copy")
}

/// What lies on the host's disk: the data directory, and what its member remembers.
fn parts(plan: &Plan, host: &str) -> [(PathBuf, &'static str); 2] {
    [(plan.data_of(host), "data"), (plan.folder_of(host).join("state"), "state")]
}

/// Longer than the steps in which files show when they were written.
const STEP: Duration = Duration::from_secs(1);

/// Copies the disk as it is now: first while its PostgreSQL and its member run, then once more what changed meanwhile, while they
/// stand still. So the copy is of one moment, and that is too short for anybody to take the host for lost.
///
/// # Errors
/// Something could not be stopped or copied.
pub(crate) fn take(plan: &Plan, host: &str) -> Result<()> {
    let place = place(plan, host);
    let _none_before = fs::remove_dir_all(&place);
    fs::create_dir_all(&place)?;
    let since = fs::metadata(&place)?.modified()? - STEP;
    for (from, name) in parts(plan, host) {
        // What is removed while it is copied fails this pass, and is of no interest to the next.
        let _some_vanished = copy(&from, &place.join(name));
    }
    let writing = || {
        let mut all = Part::Postgres.of(plan, host);
        all.extend(Part::Locum.of(plan, host));
        all
    };
    processes::stop(writing)?;
    let copied =
        parts(plan, host).iter().try_for_each(|(from, name)| copy_changed(from, &place.join(name), since));
    writing().iter().for_each(|process| processes::send(process.pid, rustix::process::Signal::CONT));
    copied
}

/// Makes a copy equal to what it is of: what is gone, is new, or was written since then.
fn copy_changed(from: &Path, to: &Path, since: SystemTime) -> Result<()> {
    for copied in fs::read_dir(to)? {
        let copied = copied?;
        if fs::symlink_metadata(from.join(copied.file_name())).is_err() {
            remove(&copied.path())?;
        }
    }
    for original in fs::read_dir(from)? {
        let original = original?;
        let (meta, copied) = (original.metadata()?, to.join(original.file_name()));
        match fs::symlink_metadata(&copied) {
            Ok(before) if meta.is_dir() && before.is_dir() => copy_changed(&original.path(), &copied, since)?,
            Ok(before)
                if before.file_type() == meta.file_type()
                    && before.len() == meta.len()
                    && meta.modified()? < since => {}
            Ok(_) => {
                remove(&copied)?;
                copy(&original.path(), &copied)?;
            }
            Err(_) => copy(&original.path(), &copied)?,
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let is_folder = fs::symlink_metadata(path)?.is_dir();
    Ok(if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }?)
}

/// Puts the copy in the place of what is there. Nothing may run on the host.
///
/// # Errors
/// There is no copy, something runs, or it could not be put back.
pub(crate) fn put_back(plan: &Plan, host: &str) -> Result<()> {
    put_back_of(plan, host, Back::Disk)
}

/// The same for a part of it.
///
/// # Errors
/// As [`put_back`].
pub(crate) fn put_back_of(plan: &Plan, host: &str, back: Back) -> Result<()> {
    let goes_back = |name: &str| match back {
        Back::Disk | Back::Unknown => true,
        Back::Data => name == "data",
        Back::Memory => name == "state",
    };
    let running = Part::Everything.of(plan, host);
    ensure!(running.is_empty(), "{host} is not off");
    parts(plan, host).iter().filter(|(_, name)| goes_back(name)).try_for_each(|(to, name)| {
        fs::remove_dir_all(to)?;
        copy(&place(plan, host).join(name), to)
    })
}

/// With owners, modes and times. Sockets are made anew by whoever listens there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto"]).arg(from).arg(to);
    command_output(command, None).map(drop)
}
