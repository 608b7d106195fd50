//! What this machine offers: PostgreSQL's programs, and the user they may run as. Looks, and changes nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// The major versions that Locum supports.
const SUPPORTED: std::ops::RangeInclusive<u32> = 14..=18;
/// What the demo calls.
const PROGRAMS: [&str; 6] =
    ["postgres", "initdb", "pg_basebackup", "pg_rewind", "pg_controldata", "pg_waldump"];
/// The users PostgreSQL may run as when the demo is started by root, best first. It refuses to run as root.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Its name, for messages.
    pub(crate) name: String,
    /// Its numeric user.
    pub(crate) uid: u32,
    /// Its primary group.
    pub(crate) gid: u32,
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Where PostgreSQL's programs are.
    pub(crate) bin_dir: PathBuf,
    /// Their version, for example `15.18`.
    pub(crate) version: String,
    /// Whom PostgreSQL runs as; None: as ourselves.
    pub(crate) account: Option<Account>,
    /// This very program, which the members and app servers run too.
    pub(crate) locum: PathBuf,
}

impl Machine {
    /// Looks around.
    ///
    /// # Errors
    /// No supported PostgreSQL is installed, or none of its programs may be run by anybody but root.
    pub(crate) fn look() -> Result<Self> {
        let (bin_dir, version) = newest(&candidates())?;
        // Running programs are recognised by their file, which the kernel names without symbolic links.
        let bin_dir = bin_dir.canonicalize().context("look at PostgreSQL's programs")?;
        let account = if rustix::process::geteuid().is_root() { Some(unprivileged()?) } else { None };
        let locum = std::env::current_exe().context("find this program's own file")?;
        Ok(Self { bin_dir, version, account, locum })
    }
}

/// Directories that may hold PostgreSQL's programs: Debian's, Red Hat's, and what the search path leads to.
fn candidates() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (root, suffix) in [("/usr/lib/postgresql", "bin"), ("/usr", "bin")] {
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            let named = root != "/usr" || entry.file_name().to_string_lossy().starts_with("pgsql-");
            if named {
                found.push(entry.path().join(suffix));
            }
        }
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        found.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    found.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    found
}

/// The newest complete and supported installation among `dirs`, and its version.
fn newest(dirs: &[PathBuf]) -> Result<(PathBuf, String)> {
    let mut good = BTreeMap::new();
    let mut rejected = Vec::new();
    for dir in dirs.iter().filter(|dir| dir.join("postgres").is_file()) {
        let Some(version) = version_of(dir) else { continue };
        let missing: Vec<_> = PROGRAMS.into_iter().filter(|name| !dir.join(name).is_file()).collect();
        match major(&version) {
            Some(number) if !SUPPORTED.contains(&number) => {
                rejected.push(format!("{} is version {version}", dir.display()));
            }
            Some(_) if !missing.is_empty() => {
                rejected.push(format!("{} lacks {}", dir.display(), missing.join(", ")));
            }
            Some(number) => {
                good.entry(number).or_insert_with(|| (dir.clone(), version));
            }
            None => {}
        }
    }
    if let Some((_, found)) = good.pop_last() {
        return Ok(found);
    }
    let seen = if rejected.is_empty() { String::new() } else { format!(" ({})", rejected.join("; ")) };
    bail!(
        "no PostgreSQL {} to {} found in /usr/lib/postgresql/*/bin, /usr/pgsql-*/bin or the search path{seen}; \
         install it, on Debian 12 with `apt-get install postgresql-15`",
        SUPPORTED.start(),
        SUPPORTED.end()
    )
}

/// What `postgres --version` says, for example `15.18`.
fn version_of(dir: &Path) -> Option<String> {
    let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(2)?.to_owned();
    major(&version).map(|_| version)
}

/// `15` of `15.18`, `18` of `18beta1`.
fn major(version: &str) -> Option<u32> {
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

/// The user that PostgreSQL runs as when we are root.
fn unprivileged() -> Result<Account> {
    let passwd = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    USERS.into_iter().find_map(|name| account(&passwd, name)).context(
        "started as root, and PostgreSQL refuses to run as root; there is neither a user `postgres` nor `nobody`: \
         start the demo as an ordinary user",
    )
}

/// A line of `/etc/passwd`.
fn account(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        Some(Account { name: name.to_owned(), uid, gid: fields.next()?.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_postgresql_is_named_with_the_package_that_brings_it() {
        let error = newest(&[PathBuf::from("/nonexistent")]).expect_err("nothing there").to_string();
        assert!(error.contains("postgresql-15"), "{error}");
    }

    #[test]
    fn a_version_is_read_from_releases_and_previews() {
        assert_eq!((major("15.18"), major("18beta1"), major("devel")), (Some(15), Some(18), None));
    }

    #[test]
    fn an_account_is_found_by_its_exact_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\n";
        let postgres = Account { name: "postgres".into(), uid: 101, gid: 104 };
        assert_eq!(account(passwd, "postgres"), Some(postgres));
        assert_eq!(account(passwd, "post"), None);
    }
}
