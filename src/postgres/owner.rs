//! Who PostgreSQL's programs run as.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use super::InstanceError;

/// The user a data directory that does not exist yet will belong to, when Locum is root.
const USUAL: &str = "postgres";

/// From util-linux: the only way without `unsafe` to get the user's other groups, which Debian's `ssl-cert` needs.
const SETPRIV: &str = "/usr/bin/setpriv";

/// The user PostgreSQL's programs run as when Locum is root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id: the user's own, or that of the data directory if the user has no entry in `/etc/passwd`.
    pub gid: u32,
    name: Option<String>,
    home: Option<PathBuf>,
    /// It is in other groups too, and `setpriv` is here to give them.
    groups: bool,
}

impl Owner {
    /// Who `data_dir` belongs to; of one that does not exist this process's user or, as root, the usual one.
    pub(super) fn of(data_dir: &Path) -> Result<Self, InstanceError> {
        match fs::metadata(data_dir) {
            Ok(meta) if meta.uid() == 0 => Err(InstanceError::OwnedByRoot(data_dir.to_owned())),
            Ok(meta) => Ok(Self::with(meta.uid(), meta.gid())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::of_new(),
            Err(error) => Err(InstanceError::Io { what: format!("look at {}", data_dir.display()), error }),
        }
    }

    fn of_new() -> Result<Self, InstanceError> {
        if rustix::process::geteuid().is_root() {
            let entry = entries("/etc/passwd").into_iter().find(|e| e.first().is_some_and(|n| n == USUAL));
            let uid = entry.and_then(|e| e.get(2)?.parse().ok());
            uid.map(|uid| Self::with(uid, uid)).ok_or_else(|| InstanceError::NoUser(USUAL.to_owned()))
        } else {
            Ok(Self::this_process())
        }
    }

    /// Whoever this process runs as.
    pub(super) fn this_process() -> Self {
        Self::with(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    fn with(uid: u32, folder_gid: u32) -> Self {
        let text = uid.to_string();
        let entry = entries("/etc/passwd").into_iter().find(|e| e.get(2) == Some(&text));
        let name = entry.as_ref().map(|e| e[0].clone());
        let in_group = |e: &Vec<String>| {
            let members = e.get(3).map_or("", String::as_str);
            name.as_ref().is_some_and(|n| members.split(',').any(|m| m == n))
        };
        let groups = Path::new(SETPRIV).exists() && entries("/etc/group").iter().any(in_group);
        let gid = entry.as_ref().and_then(|e| e.get(3)?.parse().ok()).unwrap_or(folder_gid);
        let home = entry.as_ref().and_then(|e| e.get(5)).map(PathBuf::from);
        Self { uid, gid, name, home, groups }
    }

    /// Its name, where it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether this process has to become somebody else to be this user.
    pub(super) fn is_other(&self) -> bool {
        rustix::process::geteuid().is_root() && self.uid != 0
    }

    /// A command that runs as this user.
    pub(super) fn command(&self, program: &OsStr) -> Command {
        if !self.is_other() {
            return Command::new(program);
        }
        let mut command = if self.groups {
            let mut command = Command::new(SETPRIV);
            command.arg(format!("--reuid={}", self.uid)).arg(format!("--regid={}", self.gid));
            command.args(["--init-groups", "--"]).arg(program);
            command
        } else {
            let mut command = Command::new(program);
            command.uid(self.uid).gid(self.gid);
            command
        };
        // libpq looks for its files below HOME, and fails where it may not look: root's is of no use to it.
        command.env_remove("HOME").env_remove("USER").env_remove("LOGNAME");
        if let (Some(name), Some(home)) = (&self.name, &self.home) {
            command.env("HOME", home).env("USER", name).env("LOGNAME", name);
        }
        command
    }
}

/// The lines of a colon-separated file of the system; none if it cannot be read.
fn entries(path: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
}
