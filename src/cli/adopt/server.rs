//! What of the running server would not be there any more once Locum starts it, or is not the server that is meant.

use std::path::Path;

use crate::{
    agent::Memory,
    check::{About, Line, Seen, Severity},
    config::Config,
    postgres::{Instance, is_given_to_standbys},
};

/// Settings that every start gives on the command line.
const GIVEN: [&str; 2] = ["config_file", "data_directory"];

/// Lines that keep this server from being adopted.
pub(super) fn lines(instance: &Instance, options: &[String], seen: &Seen) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut block = |what: &str, here: String, there: String, why: &str| {
        lines.push(Line::new(Severity::Blocks, what, (here, there), why).about(About::Here));
    };
    let own = instance.data_dir().display().to_string();
    if let Some(dir) = seen.value("data_directory").filter(|dir| !same(Path::new(dir), instance.data_dir())) {
        let why = "postgres.connect leads to another server than postgres.data_dir names";
        block("data directory", dir.to_owned(), own, why);
        return lines;
    }
    let given = |name: &str| options.iter().any(|option| names(option, name));
    if let Some(file) = seen.value("config_file")
        && !same(Path::new(file), &instance.data_dir().join("postgresql.conf"))
        && !given("config_file")
    {
        let wanted = format!("\"-c\", \"config_file={file}\"");
        let why = "Locum would start it with the postgresql.conf of the data directory: name it in postgres.options";
        block("configuration file", file.to_owned(), wanted, why);
    }
    let lost = seen.settings.iter().filter(|(name, setting)| {
        let known = GIVEN.contains(&name.as_str()) || is_given_to_standbys(name) && setting.is_unset();
        setting.source == "command line" && !known && !given(name)
    });
    for (name, setting) in lost {
        let why = "was given when the server was started, and Locum would start it without: put it into \
                   postgresql.conf, or into postgres.options";
        block(
            name,
            format!("{} by the command line", setting.value),
            "in a file or postgres.options".into(),
            why,
        );
    }
    lines
}

/// What the state directory remembers and that does not fit.
pub(super) fn memory(config: &Config, memory: &Memory, seen: &Seen) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut block = |what: &str, here: String, there: String, why: &str| {
        lines.push(Line::new(Severity::Blocks, what, (here, there), why).about(About::Here));
    };
    if memory.node != config.node {
        let why = "state_dir belongs to another node: give each its own";
        block("state directory", format!("of node {}", memory.node), config.node.to_string(), why);
    }
    if let Some(system) = memory.system.filter(|system| system.0.to_string() != seen.system) {
        let why = "state_dir remembers another database cluster. Use a state_dir of its own for a new one";
        block("system identifier", seen.system.clone(), system.0.to_string(), why);
    }
    lines
}

/// Whether two paths lead to one directory, told by device and inode: a bind mount is another path to the same, and the same
/// path may lead elsewhere after a mount.
fn same(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| path.metadata().ok().map(|seen| (seen.dev(), seen.ino()));
    match (id(one), id(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// Whether an option sets this name: `-c name=value`, `name=value` or `--name=value`; `-p` and `-k` are short ones.
fn names(option: &str, name: &str) -> bool {
    let option = option.strip_prefix("-c").unwrap_or(option).trim_start();
    let set =
        option.strip_prefix("--").unwrap_or(option).split('=').next().unwrap_or_default().replace('-', "_");
    set.eq_ignore_ascii_case(name)
        || (name == "port" && option.starts_with("-p"))
        || (name == "unix_socket_directories" && option.starts_with("-k"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_is_the_same_under_every_path_and_two_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (data, link) = (folder.path().join("data"), folder.path().join("link"));
        std::fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, &link).unwrap();
        assert!(same(&data, &link) && same(&data, &folder.path().join("data/.")));
        assert!(!same(&data, folder.path()) && !same(&data, &folder.path().join("none")));
    }

    #[test]
    fn an_option_is_known_in_every_form() {
        for option in ["-c port=1", "port=1", "--port=1", "-p1", "-c  PORT=1"] {
            assert!(names(option, "port"), "{option}");
        }
        assert!(names("--shared-buffers=1GB", "shared_buffers"));
        assert!(!names("-c ports=1", "port"));
    }
}
