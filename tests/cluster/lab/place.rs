//! Where a laboratory is on this machine: its folder, the programs it runs, and how it is cleared away.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use super::{TOKEN, clock, disk, helper, network, plan::Plan, plan::Store, processes, run};

/// Folders of laboratories begin so.
pub(crate) const PREFIX: &str = "locum-lab-";
/// Says what a laboratory consists of.
pub(crate) const PLAN: &str = "plan.json";
/// Who PostgreSQL runs as.
pub(crate) const USER: &str = "postgres";
/// The programs of the system that are used.
const PROGRAMS: [&str; 8] = ["ip", "nft", "nsenter", "unshare", "setpriv", "etcd", "psql", "mount"];

/// Where laboratories are.
#[must_use]
pub(crate) fn root() -> PathBuf {
    std::env::temp_dir()
}

/// The store that is used where nobody says: `LOCUM_LAB_STORE` is `embedded` or `etcd`.
#[must_use]
pub(crate) fn default_store() -> Store {
    match std::env::var("LOCUM_LAB_STORE").as_deref() {
        Ok("embedded") => Store::Embedded,
        _ => Store::Etcd(3),
    }
}

/// Whether a laboratory can be built here, and if not, why.
///
/// # Errors
/// It cannot.
pub(crate) fn available() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the laboratory makes network namespaces, which needs root"
    );
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).exists());
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|name| !there(name)).collect();
    ensure!(missing.is_empty(), "the laboratory needs {}", missing.join(", "));
    postgres_programs().map(drop)
}

/// The program under test: what Cargo says to a test, or the one beside an example, or `LOCUM_LAB_PROGRAM`.
///
/// # Errors
/// It was not built.
pub(crate) fn locum() -> Result<PathBuf> {
    let told = std::env::var_os("LOCUM_LAB_PROGRAM").map(PathBuf::from);
    let built = option_env!("CARGO_BIN_EXE_locum").map(PathBuf::from);
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("locum"));
    let found = told.or(built).or_else(beside).filter(|path| path.exists());
    found.context("the program was not built: cargo build --bin locum")
}

/// PostgreSQL's programs: those that `TEST_PG_BIN` names, else the newest that are installed.
///
/// # Errors
/// There are none.
pub(crate) fn postgres_programs() -> Result<PathBuf> {
    let has_them = |dir: &PathBuf| dir.join("initdb").exists();
    if let Some(told) = std::env::var_os("TEST_PG_BIN").map(PathBuf::from) {
        return Some(told).filter(has_them).context("there is no initdb where TEST_PG_BIN says");
    }
    let mut usual = (14..=18).rev().map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin")));
    usual.find(has_them).context("PostgreSQL 14 to 18 is not installed")
}

/// Gives a path to PostgreSQL's user.
///
/// # Errors
/// There is no such user, or this is not root.
pub(crate) fn give_to_postgres(path: &Path) -> Result<()> {
    let id = |flag: &str| -> Result<u32> { Ok(run::words(&format!("id {flag} {USER}"))?.trim().parse()?) };
    chown(path, Some(id("-u")?), Some(id("-g")?)).with_context(|| format!("chown {}", path.display()))
}

/// Makes the folders and the plan's file.
///
/// # Errors
/// The file system refuses.
pub(crate) fn make(plan: &Plan) -> Result<()> {
    fs::create_dir(&plan.folder)?;
    fs::set_permissions(&plan.folder, fs::Permissions::from_mode(0o755))?;
    fs::write(plan.folder.join(PLAN), serde_json::to_string_pretty(plan)?)?;
    secret(&plan.folder.join("token"), TOKEN)?;
    fs::create_dir(plan.folder.join("store"))?;
    for host in &plan.hosts {
        let folder = plan.folder_of(&host.name);
        fs::create_dir(&folder)?;
        fs::create_dir(folder.join("state"))?;
        fs::create_dir(plan.socket_of(&host.name))?;
        fs::create_dir(plan.disk_of(&host.name))?;
        for owned in [folder.clone(), plan.socket_of(&host.name), plan.disk_of(&host.name)] {
            give_to_postgres(&owned)?;
        }
    }
    Ok(())
}

/// Writes a file that nobody else may read.
///
/// # Errors
/// The file system refuses.
pub(crate) fn secret(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).context("close a file to others")
}

/// Ends everything and removes everything. Does what it can: the first thing that failed is told at the end.
///
/// # Errors
/// Something is left.
pub(crate) fn clear(plan: &Plan) -> Result<()> {
    // A frozen disk would hold processes in a state in which nothing ends them.
    let thawed = disk::thaw_all(plan);
    let ended = helper::end_all(plan).and_then(|()| {
        plan.namespaces().iter().try_for_each(|namespace| {
            for process in processes::of_namespace(namespace) {
                processes::send(process.pid, Signal::KILL);
            }
            processes::end(|| processes::of_namespace(namespace))
        })
    });
    clock::remove(plan);
    plan.servers().for_each(|host| free_shared_memory(&plan.data_of(&host.name)));
    let unmounted = disk::remove(plan);
    let unlinked = network::remove(plan);
    let removed = unmounted.and_then(|()| fs::remove_dir_all(&plan.folder).context("remove the folder"));
    thawed.and(ended).and(removed).and(unlinked)
}

/// A killed server leaves a tiny System V segment: line 7 of its lock file names it, line 1 who made it.
fn free_shared_memory(data_dir: &Path) {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).unwrap_or_default();
    let mut lines = text.lines();
    // A server in single-user mode writes its number with a minus.
    let maker = lines.next().unwrap_or_default().trim().trim_start_matches('-').to_owned();
    let Some(segment) = lines.nth(5).and_then(|line| line.split_whitespace().nth(1)) else { return };
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let is_it = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // key shmid perms size cpid lpid nattch
        fields.get(1) == Some(&segment)
            && fields.get(4) == Some(&maker.as_str())
            && fields.get(6) == Some(&"0")
    };
    if table.lines().any(is_it) {
        let _somebody_else_did = run::words(&format!("ipcrm -m {segment}"));
    }
}

/// Every laboratory on this machine.
#[must_use]
pub(crate) fn all() -> Vec<Plan> {
    let entries = fs::read_dir(root()).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    folders.filter_map(|folder| Plan::read(&folder.path()).ok()).collect()
}

/// Clears away what killed owners left.
pub(crate) fn clear_stale() {
    for plan in all() {
        if plan.owner.is_some_and(|owner| !processes::runs(owner)) {
            // Somebody else may be at it at the same time: what is left then is theirs to tell.
            if let Err(error) = clear(&plan) {
                eprintln!("an old laboratory, {}: {error:#}", plan.folder.display());
            }
        }
    }
}

/// Copies every log to a folder, for a look at what went wrong.
pub(crate) fn keep_logs(plan: &Plan, to: &Path) {
    let to = to.join(&plan.id);
    for host in &plan.hosts {
        let folder = plan.folder_of(&host.name);
        let target = to.join(&host.name);
        let copied = fs::create_dir_all(&target).and_then(|()| {
            ["member.log", "etcd.log", "state/postgres.log", "locum.toml"].iter().try_for_each(|log| {
                let name = Path::new(log).file_name().unwrap_or_default();
                if folder.join(log).exists() {
                    fs::copy(folder.join(log), target.join(name)).map(drop)
                } else {
                    Ok(())
                }
            })
        });
        if let Err(error) = copied {
            eprintln!("the logs of {} are not kept: {error}", host.name);
        }
    }
    eprintln!("logs are kept in {}", to.display());
}

/// The one laboratory that a person plays with.
///
/// # Errors
/// There is none, or more than one.
pub(crate) fn the_one() -> Result<Plan> {
    let mut all: Vec<_> = all().into_iter().filter(|plan| plan.owner.is_none()).collect();
    match all.len() {
        1 => all.pop().context("one laboratory"),
        0 => bail!("no laboratory is up: scripts/lab up"),
        _ => bail!("more than one laboratory is up; name its folder with --in"),
    }
}
