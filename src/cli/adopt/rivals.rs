//! Who else manages this PostgreSQL. Two managers are worse than none.

use std::{fs, path::Path};

use crate::check::{About, Line, Seen, Severity};

/// Programs of other managers, by the name they run under.
const PROGRAMS: [(&str, &str); 7] = [
    ("patroni", "Patroni"),
    ("repmgrd", "repmgr"),
    ("pg_autoctl", "pg_auto_failover"),
    ("stolon-keeper", "Stolon"),
    ("stolon-sentinel", "Stolon"),
    ("pglookout", "pglookout"),
    ("pacemakerd", "Pacemaker"),
];

/// Files that they leave in the data directory.
const FILES: [(&str, &str); 4] = [
    ("patroni.dynamic.json", "Patroni"),
    ("postgresql.base.conf", "Patroni"),
    ("postgresql-auto-failover.conf", "pg_auto_failover"),
    ("stolon-temp-postgresql.conf", "Stolon"),
];

/// A line for each that is found. Those that rest on a running process alone may be about another cluster of this
/// host, and can be overridden.
pub(super) fn find(data_dir: &Path, seen: &Seen) -> (Vec<Line>, Vec<Line>) {
    let line = |who: &str, found: String| {
        let what = format!("another manager: {who}");
        let why = "two managers would promote against each other. Stop it on both hosts, disable its service, and \
                   remove what it left";
        Line::new(Severity::Blocks, what, (found, "none".to_owned()), why).about(About::Here)
    };
    let left = FILES.iter().filter(|(file, _)| data_dir.join(file).exists());
    let mut certain: Vec<_> =
        left.map(|(file, who)| line(who, format!("left {file} in the data directory"))).collect();
    certain
        .extend(seen.managers.iter().map(|name| line(name, "is in a database, or in a session".to_owned())));
    let running =
        running().into_iter().map(|(pid, who)| line(who, format!("runs as process {pid}"))).collect();
    (certain, running)
}

fn running() -> Vec<(u32, &'static str)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, manager(&fs::read(format!("/proc/{pid}/cmdline")).ok()?)?))).collect()
}

/// The manager that a command line belongs to: the program itself, or a script that an interpreter runs.
fn manager(cmdline: &[u8]) -> Option<&'static str> {
    let words = cmdline.split(|byte| *byte == 0).take(2);
    let names = words.filter_map(|word| Path::new(std::str::from_utf8(word).ok()?).file_name()?.to_str());
    let of = |name: &str| PROGRAMS.iter().find(|(program, _)| *program == name).map(|(_, who)| *who);
    names.into_iter().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_known_by_its_program_or_script() {
        assert_eq!(manager(b"/usr/bin/python3\0/usr/bin/patroni\0/etc/patroni.yml\0"), Some("Patroni"));
        assert_eq!(manager(b"/usr/bin/repmgrd\0-f\0"), Some("repmgr"));
        assert_eq!(manager(b"less\0-R\0patroni\0"), None);
        assert_eq!(manager(b""), None);
    }
}
