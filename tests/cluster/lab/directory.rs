//! What befalls a data directory while its server runs.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Part, place, plan::Plan, postgres, processes, run, within::within_limit};

/// How long a directory may take to be removed in which a server makes files meanwhile.
const REMOVED: Duration = Duration::from_secs(10);

/// How long a server may run without a directory.
const NOTICED: Duration = Duration::from_secs(90);

/// What befalls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fate {
    /// It is removed.
    Removed,
    /// It is moved away.
    Moved,
    /// The directory that it is in is renamed.
    ParentMoved,
    /// An empty directory is mounted over it.
    MountedOver,
    /// It is moved away, and that of another system takes its place.
    Replaced,
}

impl Fate {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Removed, Self::Moved, Self::ParentMoved, Self::MountedOver, Self::Replaced];

    /// Its name, as on the command line.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "directory-removed",
            Self::Moved => "directory-moved",
            Self::ParentMoved => "directory-parent-moved",
            Self::MountedOver => "directory-mounted-over",
            Self::Replaced => "directory-replaced",
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn begin(self, plan: &Plan, host: &str) -> Result<()> {
        let (data, away) = (plan.data_of(host), away(plan, host));
        match self {
            Self::Removed => {
                // The WAL at once: of a `pg_wal` that loses one file after the other PostgreSQL makes a segment anew, empty, while
                // it goes on writing to the old one, and sends the zeros of one or the other to standbys, which confirm them.
                fs::rename(data.join("pg_wal"), &away).context("move the WAL")?;
                fs::remove_dir_all(&away).context("remove the WAL")?;
                let gone = within_limit(REMOVED, || {
                    let _may_have_got_a_file_meanwhile = fs::remove_dir_all(&data);
                    !data.exists()
                });
                ensure!(gone, "{} cannot be removed", data.display());
                Ok(())
            }
            Self::Moved => fs::rename(data, away).context("move the directory"),
            Self::ParentMoved => {
                ensure!(plan.wish.disk_mb.is_none(), "the parent is a disk of its own");
                fs::rename(plan.disk_of(host), away).context("move the directory's parent")
            }
            Self::MountedOver => {
                fs::create_dir(&away).context("make a directory")?;
                place::give_to_postgres(&away)?;
                run::words(&format!("mount --bind {} {}", away.display(), data.display())).map(drop)
            }
            Self::Replaced => {
                fs::rename(&data, away).context("move the directory")?;
                let mut command = postgres::program(plan, "initdb");
                command.args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(&data);
                run::command_output(command, None).map(drop)
            }
        }
    }

    /// Does what a person does about it, who finds out what happened.
    ///
    /// # Errors
    /// Something could not be put right.
    pub(crate) fn heal(self, plan: &Plan, host: &str) -> Result<()> {
        let (data, away) = (plan.data_of(host), away(plan, host));
        match self {
            Self::Removed => {
                // A standby goes on until its postmaster looks for its lock file, which it does once a minute.
                let in_vain = || working_in(plan, host, &data.with_file_name("data (deleted)"));
                ensure!(
                    within_limit(NOTICED, || in_vain().is_empty()),
                    "{host} still runs without a directory"
                );
                Ok(())
            }
            // Where Locum has made the node anew in its place, what was moved away is not needed any more.
            Self::Moved if data.exists() => {
                processes::end(|| working_in(plan, host, &away))?;
                fs::remove_dir_all(away).context("remove the directory")
            }
            Self::Moved => fs::rename(away, data).context("move the directory back"),
            Self::ParentMoved => fs::rename(away, plan.disk_of(host)).context("move the parent back"),
            Self::MountedOver => {
                unmount(&data)?;
                fs::remove_dir_all(away).context("remove the directory")
            }
            Self::Replaced => {
                fs::remove_dir_all(&data).context("remove what was put there")?;
                fs::rename(away, data).context("move the directory back")
            }
        }
    }
}

/// Where a directory is moved to: on the same file system, and not in the directory's parent.
fn away(plan: &Plan, host: &str) -> PathBuf {
    if plan.wish.disk_mb.is_some() {
        plan.disk_of(host).join("away")
    } else {
        plan.folder_of(host).join("away")
    }
}

/// The processes that have a directory as theirs.
fn working_in(plan: &Plan, host: &str, directory: &std::path::Path) -> Vec<processes::Process> {
    let all = Part::Postgres.of(plan, host).into_iter();
    let there = |pid: i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == directory);
    all.filter(|process| there(process.pid)).collect()
}

fn unmount(path: &std::path::Path) -> Result<()> {
    let mut command = Command::new("umount");
    command.arg("-l").arg(path);
    run::command_output(command, None).map(drop)
}
