//! The configuration: what is refused, and that the message names the key and the way out.

mod drivers;
mod etcd;
mod example;
mod host;
mod layers;
mod values;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output},
};

use locum::config::{self, Sources};
use tempfile::TempDir;

/// A configuration in a directory of its own, with everything that the host must have for it.
struct Host {
    dir: TempDir,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Self { dir };
        fs::create_dir_all(host.path("data")).unwrap();
        fs::write(host.path("data/PG_VERSION"), "15\n").unwrap();
        // Tests may run as root, and PostgreSQL never does.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(host.path("data"), Some(65_534), None).unwrap();
        }
        fs::create_dir_all(host.path("bin")).unwrap();
        for program in ["postgres", "pg_basebackup", "pg_controldata", "pg_rewind", "pg_waldump"] {
            fs::write(host.path("bin").join(program), "").unwrap();
            fs::set_permissions(host.path("bin").join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(host.path("token"), "0123456789abcdef0123456789abcdef\n").unwrap();
        fs::set_permissions(host.path("token"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(host.file(), host.good()).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("locum.toml")
    }

    fn good(&self) -> String {
        let root = self.dir.path().display();
        format!(
            r#"
cluster = "orders"
node = "seoul"
members = ["seoul", "busan"]
state_dir = "{root}/state"
[store]
embedded = "{root}/store.db"
[api]
token_file = "{root}/token"
[postgres]
data_dir = "{root}/data"
bin_dir = "{root}/bin"
connect = "host=/tmp user=postgres dbname=postgres"
address = "127.0.0.1:5433"
replication = "user=replicator"
[[endpoint]]
name = "db"
listen = "127.0.0.1:6432"
target = "primary"
[app]
health = "http://127.0.0.1:8081/healthz"
"#
        )
    }

    fn locum(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
        command.env_clear().args(arguments).arg("-c").arg(self.file());
        command.output().unwrap()
    }

    fn check_with(&self, set: &[&str]) -> (Option<i32>, String) {
        let set: Vec<_> = set.iter().flat_map(|pair| ["--set", pair]).collect();
        let output = self.locum(&[&["config", "check"], set.as_slice()].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }
}

#[test]
fn a_good_configuration_is_ok() {
    assert_eq!(Host::new().check_with(&[]), (Some(0), "ok\n".into()));
}

#[test]
fn what_may_be_meant_so_is_a_warning() {
    let host = Host::new();
    let cases = [
        (vec!["policy.durability=async"], "warning: objectives.rpo is 0"),
        (vec!["policy.max_data_loss=1MiB"], "warning: policy.max_data_loss has no effect"),
        (vec!["policy.hang=10s"], "warning: policy.hang is 10s, longer than objectives.rto"),
    ];
    for (set, warning) in cases {
        let (code, told) = host.check_with(&set);
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains(warning) && told.contains("ok, with 1 warning"), "{told}");
    }
    let (code, told) =
        host.check_with(&["policy.durability=async", "objectives.rpo=1s", "policy.max_data_loss=1MiB"]);
    assert_eq!((code, told.as_str()), (Some(0), "ok\n"));
}

#[test]
fn all_problems_are_told_at_once() {
    let (_, told) = Host::new().check_with(&["policy.hagn=1s", "policy.durability=x", "node=Seoul"]);
    assert_eq!(told.matches("error: ").count(), 3, "{told}");
}

#[test]
fn a_missing_key_says_what_to_write() {
    let host = Host::new();
    fs::write(host.file(), "").unwrap();
    let (code, told) = host.check_with(&[]);
    assert_eq!(code, Some(1));
    for key in ["cluster is missing", "node is missing", "members is missing", "store does not say where"] {
        assert!(told.contains(key), "{told}");
    }
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_told_by_its_name() {
    let host = Host::new();
    fs::write(host.file(), "cluster = \"orders\"\nnode = \n").unwrap();
    let (code, told) = host.check_with(&[]);
    assert_eq!(code, Some(1));
    assert!(told.contains("locum.toml is no valid TOML") && told.contains("line 2"), "{told}");
    fs::remove_file(host.file()).unwrap();
    let (code, told) = host.check_with(&[]);
    assert_eq!(code, Some(1));
    assert!(told.contains("cannot be read") && told.contains("locum config example"), "{told}");
}

fn draft(text: &str) -> config::Draft {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("locum.toml");
    fs::write(&file, text).unwrap();
    config::read(&Sources::file(file)).unwrap_or_else(|problems| panic!("{problems}"))
}
