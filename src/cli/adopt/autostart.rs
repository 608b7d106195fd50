//! What starts and stops PostgreSQL besides Locum: Debian's `start.conf`, and a unit of systemd.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use super::action::{Action, Deed};

/// Whether systemd runs this machine (`sd_booted(3)`).
const SYSTEMD: &str = "/run/systemd/system";

/// What keeps others from starting this cluster. `config_file`: the server's own; `pid`: its postmaster.
pub(super) fn actions(config_file: &Path, pid: u32) -> io::Result<Vec<Action>> {
    let mut actions = Vec::new();
    if let Some(path) = config_file.parent().map(|dir| dir.join("start.conf")).filter(|path| path.exists()) {
        let text = fs::read_to_string(&path)?;
        if let Some(manual) = manual(&text) {
            let shown = path.display();
            actions.push(Action {
                what: "Debian no longer starts this cluster at boot, nor restarts it on an upgrade".into(),
                command: format!("set {shown} to manual"),
                undo: format!("sed -i 's/^manual$/{}/' {shown}", word(&text)),
                deed: Deed::Write(path, manual),
            });
        }
    }
    if let Some(unit) = unit_of(pid).filter(|_| Path::new(SYSTEMD).exists())
        && is_enabled(&unit)
    {
        actions.push(Action {
            what: "systemd no longer starts it at boot; it runs on".into(),
            command: format!("systemctl disable {unit}"),
            undo: format!("systemctl enable {unit}"),
            deed: Deed::Run(vec!["systemctl".into(), "disable".into(), unit]),
        });
    }
    Ok(actions)
}

/// True if systemd runs here.
pub(super) fn has_systemd() -> bool {
    Path::new(SYSTEMD).exists()
}

/// The word of a `start.conf`; without one, Debian takes `auto`.
fn word(text: &str) -> &str {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.into_iter().find(|line| !line.is_empty()).unwrap_or("auto")
}

/// The file with `manual` in it; None: it is not `auto`, so nothing starts the cluster.
fn manual(text: &str) -> Option<String> {
    if word(text) != "auto" {
        return None;
    }
    let mut found = false;
    let lines = text.lines().map(|line| match line.split('#').next().unwrap_or_default().trim() {
        "auto" => {
            found = true;
            "manual".to_owned()
        }
        _ => line.to_owned(),
    });
    let mut lines: Vec<String> = lines.collect();
    if !found {
        lines.push("manual".into());
    }
    Some(lines.join("\n") + "\n")
}

/// The unit that a process belongs to, unless it is Locum's.
fn unit_of(pid: u32) -> Option<String> {
    unit_in(&fs::read_to_string(PathBuf::from(format!("/proc/{pid}/cgroup"))).ok()?)
}

fn unit_in(cgroup: &str) -> Option<String> {
    let part = |line: &str| line.split('/').rfind(|part| part.ends_with(".service")).map(str::to_owned);
    let unit = cgroup.lines().find_map(part)?;
    unit.contains("postgres").then_some(unit)
}

fn is_enabled(unit: &str) -> bool {
    let asked = Command::new("systemctl").args(["is-enabled", "--quiet", unit]).status();
    asked.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_of_start_conf_is_changed() {
        let text = "# auto: started at boot\nauto\n";
        assert_eq!(manual(text).as_deref(), Some("# auto: started at boot\nmanual\n"));
        assert_eq!(manual("# nothing else\n").as_deref(), Some("# nothing else\nmanual\n"));
        assert_eq!(manual("manual\n"), None);
        assert_eq!(manual("disabled # by hand\n"), None);
    }

    #[test]
    fn the_unit_of_a_postmaster_is_found_in_its_control_group() {
        let debian = "0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n";
        assert_eq!(unit_in(debian).as_deref(), Some("postgresql@15-main.service"));
        assert_eq!(
            unit_in("1:cpu:/x\n0::/system.slice/postgresql-15.service\n").as_deref(),
            Some("postgresql-15.service")
        );
        assert_eq!(unit_in("0::/system.slice/system-locum.slice/locum@seoul.service/guarded\n"), None);
        assert_eq!(unit_in("0::/user.slice/user-0.slice/session-1.scope\n"), None);
    }
}
