//! What the machine says about the configuration: directories, programs, versions, rights. Changes nothing.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::{
    Config, Etcd, Origin, Postgres, Problem, Setting, Store, app, check::with_origin, drivers, parse::quote,
};
use crate::{
    clock::SystemClock,
    ports::Clock as _,
    tls::{self, Name, Part},
};

/// The PostgreSQL versions that the code supports.
const VERSIONS: std::ops::RangeInclusive<u32> = 14..=18;
/// The programs that an agent runs.
const PROGRAMS: [&str; 5] = ["postgres", "pg_basebackup", "pg_controldata", "pg_rewind", "pg_waldump"];

/// Every problem of this host. Fills in `bin_dir` where the configuration leaves it open.
///
/// `is_new`: what is in the data directory does not matter yet, the command that makes it looks for itself.
pub(super) fn check(config: &mut Config, settings: &mut Vec<Setting>, is_new: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let state_dir = config.state_dir.clone();
    writable("state_dir", &state_dir, &mut problems);
    match &config.store {
        Store::Embedded(file) => {
            if let Some(parent) = file.parent() {
                writable("store.embedded", parent, &mut problems);
            }
        }
        Store::Etcd(etcd) => secrets(etcd, &mut problems),
    }
    if let Some(postgres) = &mut config.postgres {
        let used = fs::read_dir(&state_dir).is_ok_and(|mut entries| entries.next().is_some());
        let version = if is_new { None } else { data_dir(postgres, used, &mut problems) };
        if version.is_some() {
            owner(postgres, &mut problems);
        }
        if postgres.bin_dir.as_os_str().is_empty() {
            find_programs(postgres, version, settings, &mut problems);
        } else {
            programs(&postgres.bin_dir, &mut problems);
        }
        really_inside(&state_dir, postgres, &mut problems);
    }
    certificates(config, &mut problems);
    config.driven.iter().for_each(|driven| drivers::check_host(driven, &mut problems));
    if let Some(app) = &config.app {
        app::check_host(app, &mut problems);
    }
    problems.into_iter().map(|problem| with_origin(problem, settings)).collect()
}

/// The files that prove who this member is.
fn certificates(config: &Config, problems: &mut Vec<Problem>) {
    let Some(files) = &config.api.tls else { return };
    let name = match Name::new(config.node.clone(), config.cluster.clone()) {
        Ok(name) => name,
        Err(what) => {
            problems.push(Problem::error(
                "api.tls_cert_file",
                format!("cannot exist: {what}"),
                "Rename the node or the cluster.",
            ));
            return;
        }
    };
    for flaw in tls::examine(files, &name, SystemClock.wall()) {
        let key = match flaw.part {
            Part::Ca => "api.tls_ca_file",
            Part::Cert => "api.tls_cert_file",
            Part::Key => "api.tls_key_file",
        };
        let make = if flaw.tolerable { Problem::warning } else { Problem::error };
        problems.push(make(key, flaw.what, flaw.fix));
    }
}

/// A directory that exists and can be written, or can be made.
pub(super) fn writable(key: &str, path: &Path, problems: &mut Vec<Problem>) {
    let nearest = path.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok());
    let Some(nearest) = nearest else { return };
    let shown = nearest.display();
    if !nearest.is_dir() {
        let what = format!("needs the directory {}, but {shown} is no directory", path.display());
        problems.push(Problem::error(key, what, "Name a directory."));
    } else if access(nearest, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let what = format!("needs to write in {shown}, which this user may not");
        let fix = if nearest == path {
            format!("Give it to the user that runs Locum: chown USER {shown}.")
        } else {
            format!("Make {} and give it to the user that runs Locum.", path.display())
        };
        problems.push(Problem::error(key, what, fix));
    }
}

/// A program of the operator's, which Locum runs with its own rights.
pub(super) fn program(key: &str, path: &Path, problems: &mut Vec<Problem>) {
    let (shown, file) = (path.display(), fs::metadata(path).ok().filter(fs::Metadata::is_file));
    match file.map(|file| file.mode()) {
        Some(mode) if mode & 0o002 != 0 => {
            let what = format!("{shown} can be changed by everybody on this machine");
            problems.push(Problem::error(key, what, "Close it: chmod o-w."));
        }
        Some(mode) if mode & 0o111 != 0 => {}
        _ => {
            let what = format!("{shown} is no program that can be run");
            problems.push(Problem::error(key, what, "Name one, and make it executable: chmod +x."));
        }
    }
}

/// The files of etcd's user and certificates: readable for this user, and those that are secret for nobody else.
fn secrets(etcd: &Etcd, problems: &mut Vec<Problem>) {
    let files = [
        ("store.etcd_ca_file", &etcd.ca_file, false),
        ("store.etcd_cert_file", &etcd.cert_file, false),
        ("store.etcd_key_file", &etcd.key_file, true),
        ("store.etcd_password_file", &etcd.password_file, true),
    ];
    for (key, path, secret) in files {
        let Some(path) = path else { continue };
        readable(key, path, secret, problems);
    }
}

/// A file with a secret in it.
pub(super) fn secret(key: &str, path: &Path, problems: &mut Vec<Problem>) {
    readable(key, path, true, problems);
}

fn readable(key: &str, path: &Path, secret: bool, problems: &mut Vec<Problem>) {
    let shown = path.display();
    match fs::read(path) {
        Err(error) => {
            let what = format!("{shown} cannot be read: {error}");
            problems.push(Problem::error(key, what, "Name a file that the user who runs Locum may read."));
        }
        Ok(content) if content.trim_ascii().is_empty() => {
            problems.push(Problem::error(key, format!("{shown} is empty"), "Name another file."));
        }
        Ok(_) if secret && fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0) => {
            let what = format!("{shown} can be read by everybody on this machine");
            let fix = format!("Close it: chmod 600 {shown} (or 640, with a group of your own).");
            problems.push(Problem::error(key, what, fix));
        }
        Ok(_) => {}
    }
}

/// The major version of the data directory, if it is one that can be used.
fn data_dir(postgres: &Postgres, used: bool, problems: &mut Vec<Problem>) -> Option<u32> {
    const KEY: &str = "postgres.data_dir";
    let shown = postgres.data_dir.display();
    let text = match fs::read_to_string(postgres.data_dir.join("PG_VERSION")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let what = format!("{shown} may not be read by this user");
            problems.push(Problem::error(KEY, what, "Run Locum as root or as the directory's owner."));
            return None;
        }
        // A clone takes the place of what is there. Of something else than a data directory, or what is left of one,
        // nobody meant that.
        Err(_) if holds_something_else(&postgres.data_dir) => {
            let what =
                format!("{shown} is no PostgreSQL data directory: it holds other things, and no PG_VERSION");
            problems.push(Problem::error(KEY, what, "Name the directory that `SHOW data_directory` prints."));
            return None;
        }
        // A clone that was interrupted leaves a directory that is none; the agent goes on with it.
        Err(_) if used => {
            let what = format!("{shown} is no data directory at the moment");
            problems.push(Problem::warning(KEY, what, "This node has run before: it will be cloned again."));
            return None;
        }
        Err(_) if postgres.data_dir.exists() => {
            let what = format!("{shown} is no PostgreSQL data directory: it has no PG_VERSION");
            problems.push(Problem::error(KEY, what, "Name the directory that `SHOW data_directory` prints."));
            return None;
        }
        Err(error) => {
            let what = format!("{shown} cannot be used: {error}");
            problems.push(Problem::error(KEY, what, "Name the directory that `SHOW data_directory` prints."));
            return None;
        }
    };
    let version = text.trim().split('.').next().and_then(|major| major.parse().ok());
    match version {
        Some(version) if VERSIONS.contains(&version) => Some(version),
        _ => {
            let (first, last) = (VERSIONS.start(), VERSIONS.end());
            let what = format!("{shown} belongs to PostgreSQL {}, which is not supported", text.trim());
            let fix = format!("Supported are the versions {first} to {last}; upgrade the cluster first.");
            problems.push(Problem::error(KEY, what, fix));
            None
        }
    }
}

/// Files that even a damaged data directory has one of.
const MARKS: [&str; 3] = ["global", "pg_wal", "postgresql.auto.conf"];

fn holds_something_else(dir: &Path) -> bool {
    let any = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    let file = fs::symlink_metadata(dir).is_ok_and(|metadata| metadata.is_file());
    file || (any && !MARKS.iter().any(|mark| dir.join(mark).exists()))
}

/// PostgreSQL's programs must run as the owner of the data directory.
fn owner(postgres: &Postgres, problems: &mut Vec<Problem>) {
    let me = rustix::process::geteuid();
    let Ok(metadata) = fs::metadata(&postgres.data_dir) else { return };
    let shown = postgres.data_dir.display();
    if metadata.uid() == 0 {
        let what = format!("{shown} belongs to root, as whom PostgreSQL refuses to run");
        let fix = format!("Give it to the user that PostgreSQL runs as: chown -R postgres {shown}.");
        problems.push(Problem::error("postgres.data_dir", what, fix));
    } else if !me.is_root() && me.as_raw() != metadata.uid() {
        let what = format!("{shown} belongs to user {}, but Locum runs as {}", metadata.uid(), me.as_raw());
        problems.push(Problem::error(
            "postgres.data_dir",
            what,
            "Run Locum as root or as the directory's owner.",
        ));
    }
}

fn missing(dir: &Path) -> Vec<&'static str> {
    let runs = |name: &&&str| {
        let file = fs::metadata(dir.join(name));
        !file.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    PROGRAMS.iter().filter(runs).copied().collect()
}

fn programs(dir: &Path, problems: &mut Vec<Problem>) {
    let missing = missing(dir);
    if !missing.is_empty() {
        let what = format!("{} lacks {}", dir.display(), missing.join(", "));
        let fix =
            "Name the directory that `pg_config --bindir` prints, or install PostgreSQL's server and client.";
        problems.push(Problem::error("postgres.bin_dir", what, fix));
    }
}

fn find_programs(
    postgres: &mut Postgres,
    version: Option<u32>,
    settings: &mut Vec<Setting>,
    problems: &mut Vec<Problem>,
) {
    let of = |v| {
        [
            format!("/usr/lib/postgresql/{v}/bin"),
            format!("/usr/pgsql-{v}/bin"),
            format!("/usr/lib/postgresql{v}/bin"),
        ]
    };
    // A directory that is still to be made has no version: the only one that is installed will do, a choice will not.
    let installed: Vec<u32> = VERSIONS
        .filter(|v| version.is_none() && of(*v).iter().any(|dir| missing(Path::new(dir)).is_empty()))
        .collect();
    let only = if installed.len() == 1 { installed.first().copied() } else { None };
    let usual = version.or(only).into_iter().flat_map(of);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = usual.map(PathBuf::from).chain(std::env::split_paths(&path));
    match candidates.filter(|dir| dir.is_absolute()).find(|dir| missing(dir).is_empty()) {
        Some(dir) => {
            let origin = Origin::Derived("found on this host".into());
            settings.push(Setting {
                key: "postgres.bin_dir".into(),
                value: quote(&dir.display().to_string()),
                origin,
            });
            postgres.bin_dir = dir;
        }
        None => {
            let version = version.map_or_else(String::new, |v| format!(" {v}"));
            let what =
                format!("is not given, and the programs of PostgreSQL{version} were found in no usual place");
            let fix = format!(
                "Install them (on Debian: apt-get install postgresql{}), or name the directory that `pg_config --bindir` prints.",
                version.replace(' ', "-")
            );
            problems.push(Problem::error("postgres.bin_dir", what, fix));
        }
    }
}

/// The same as the check on words, for what symbolic links and mounts make of them.
fn really_inside(state_dir: &Path, postgres: &Postgres, problems: &mut Vec<Problem>) {
    use std::os::unix::fs::MetadataExt;
    let Ok(state) = state_dir.canonicalize() else { return };
    let id = |path: &Path| path.metadata().ok().map(|seen| (seen.dev(), seen.ino()));
    // By device and inode: a bind mount leads to the same directory by another path.
    let Some(data) = id(&postgres.data_dir) else { return };
    if state.ancestors().any(|folder| id(folder) == Some(data)) {
        let what = format!(
            "is really {}, inside postgres.data_dir, which a clone replaces as a whole",
            state.display()
        );
        problems.push(Problem::error("state_dir", what, "Move it out, for example to /var/lib/locum."));
    }
}
