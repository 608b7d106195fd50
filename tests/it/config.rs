//! The configuration: what is refused, and that the message names the key and the way out.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use locum::{
    config::{self, EXAMPLE, Origin, Sources},
    model::{Durability, OnCrash, Policy},
};
use secrecy::ExposeSecret;
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
fn bad_settings_of_a_driver_are_answered_with_the_key_and_the_way_out() {
    let host = Host::new();
    let open = host.path("open");
    fs::write(&open, "a secret that everybody can read").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let open = open.display();
    let pooler = "driver=\"pgbouncer\"";
    let console = "console=\"host=127.0.0.1 user=locum\"";
    let cases: &[(&str, &str, &str)] = &[
        ("driver=\"haproxy\"", "endpoint[x].driver is \"haproxy\"", "\"vip\" or"),
        (pooler, "endpoint[x].console is missing", "one of its admin_users"),
        (
            &format!("{pooler},console=\"host=a user=b password=c\",databases=[\"d\"]"),
            "endpoint[x].console holds a password",
            "password_file",
        ),
        (
            &format!("{pooler},{console},databases=[\"*\"]"),
            "endpoint[x].databases holds \"*\"",
            "list the databases",
        ),
        (
            &format!("{pooler},{console},databases=[]"),
            "endpoint[x].databases lists none",
            "that lead to the primary",
        ),
        (
            &format!("{pooler},{console},databases=[\"d\"],options=\"dbname=e\""),
            "endpoint[x].options has no effect without file",
            "add file",
        ),
        (
            &format!("{pooler},{console},databases=[\"d\"],timeout=\"2s\",give_up=\"1s\""),
            "endpoint[x].give_up is shorter than timeout",
            "Lengthen",
        ),
        (
            &format!("{pooler},{console},databases=[\"d\"],hold=\"2s\""),
            "endpoint[x].hold is no known key",
            "",
        ),
        (
            "driver=\"vip\",address=\"10.0.0.9\",interface=\"lo\"",
            "endpoint[x].address is \"10.0.0.9\", which is no address",
            "with its prefix length",
        ),
        (
            "driver=\"vip\",address=\"10.0.0.9/24\",interface=\"nosuch0\"",
            "endpoint[x].interface is \"nosuch0\", and this host has no such interface",
            "`ip link` lists",
        ),
        (
            &format!("driver=\"webhook\",url=\"dns.example.com\",secret_file=\"{open}\""),
            "endpoint[x].url is \"dns.example.com\", which is no URL",
            "https://",
        ),
        (
            &format!("driver=\"webhook\",url=\"https://dns.example.com\",secret_file=\"{open}\""),
            "can be read by everybody",
            "chmod 600",
        ),
        ("driver=\"exec\",command=\"repoint\"", "endpoint[x].command is \"repoint\"", "the whole path"),
        ("driver=\"exec\",command=\"/nosuch\"", "endpoint[x].command /nosuch is no program", "chmod +x"),
    ];
    for (keys, what, fix) in cases {
        let set = format!("endpoint=[{{name=\"x\",target=\"primary\",{keys}}}]");
        let (code, said) = host.check_with(&[&set]);
        assert!(code == Some(1) && said.contains(what) && said.contains(fix), "{keys}: {code:?} {said}");
        assert!(!said.contains("password=c"), "{said}");
    }
}

#[test]
fn bad_input_is_answered_with_the_key_and_the_way_out() {
    let host = Host::new();
    let cases: &[(&str, &str, &str)] = &[
        // What is set; the key that the message names; the way out.
        ("policy.hagn=3s", "policy.hagn is no known key", "Did you mean policy.hang?"),
        ("hang=3s", "hang is no known key", "Did you mean hang in [policy]?"),
        ("policy.node=x", "policy.node is no known key", "stands at the top of the file"),
        ("polcy.hang=3s", "polcy is no known key", "Did you mean policy?"),
        ("store.etcd=[\"http://a:2379\"]", "store.etcd is given beside store.embedded", "Keep etcd for"),
        ("store.etcd_user=locum", "store.etcd_user has no effect with store.embedded", "Remove it"),
        ("store.etcd=http://a:2379", "store.etcd is the text", "Write it as"),
        ("policy.on_crash=slowest", "policy.on_crash is \"slowest\"", "\"fastest\""),
        ("policy.durability=safe", "policy.durability is \"safe\"", "\"sync-strict\""),
        ("policy.hang=3", "policy.hang has no unit", "\"3ms\" or \"3s\""),
        ("policy.hang=soon", "policy.hang is \"soon\"", "One looks like \"500ms\""),
        ("policy.hang=10ms", "policy.hang is 10ms", "Set it to \"200ms\" or longer"),
        ("policy.detect=50ms", "policy.detect is 50ms", "Set it to \"200ms\" or longer"),
        ("policy.leader_ttl=1ms", "policy.leader_ttl is 1ms", "Set it to \"500ms\" or longer"),
        ("policy.drain=1h", "policy.drain is not shorter than policy.handover", "Shorten drain"),
        ("policy.max_data_loss=lots", "policy.max_data_loss is \"lots\"", "\"16MiB\""),
        ("policy.max_failovers=0", "policy.max_failovers is the number 0", "whole number from 1"),
        ("policy.app_grace=10ms", "policy.app_grace is shorter than app.interval", "Lengthen app_grace"),
        ("postgres.clone_max_rate=1KiB", "postgres.clone_max_rate is 1KiB", "\"32KiB\" or more"),
        ("policy.flap_window=0s", "policy.flap_window is zero", "Set it to"),
        ("objectives.rto=0s", "objectives.rto is zero", "Set it to"),
        ("node=Seoul", "node is \"Seoul\"", "lower-case"),
        ("node=tokyo", "members does not list this node, tokyo", "Add \"tokyo\""),
        ("members=[seoul,seoul]", "members lists a node twice", "every node once"),
        ("members=seoul", "members is the text \"seoul\", not a list", "Write it as"),
        ("cluster=15", "cluster is the number 15", "Write it in quotes"),
        ("state_dir=state", "state_dir is \"state\"", "the whole path"),
        ("api.listen=8008", "api.listen is the number 8008", "Write it in quotes"),
        ("api.listen=localhost:8008", "api.listen is \"localhost:8008\"", "Use IP:PORT"),
        ("api.listen=127.0.0.1:0", "api.listen is \"127.0.0.1:0\"", "Name a port"),
        (
            "api.listen=127.0.0.1:8009",
            "api.peer_listen (127.0.0.1:8009) clashes with api.listen",
            "another port",
        ),
        (
            "postgres.address=127.0.0.1:8008",
            "api.listen (127.0.0.1:8008) clashes with postgres.address",
            "another port",
        ),
        ("endpoint[db].hold=3s", "endpoint[db] is no known key", "Set it in the file, in its [[endpoint]]"),
        (
            "api.listen=0.0.0.0:6432",
            "endpoint[db].listen (127.0.0.1:6432) clashes with api.listen",
            "another port",
        ),
        ("api.listen=0.0.0.0:8008", "api.address is not given", "Give the address that others use"),
        ("postgres.address=127.0.0.1:6432", "endpoint[db].listen", "another port"),
        ("postgres.address=db1", "postgres.address is \"db1\"", "Use HOST:PORT"),
        ("postgres.connect=nonsense", "postgres.connect is no connection string", "Write it as"),
        ("postgres.connect=user=x", "postgres.connect names no host", "host=/var/run/postgresql"),
        ("postgres.connect=host=/tmp user=x password=geheim", "postgres.connect holds a password", "peer"),
        (
            "postgres.connect=host=10.0.0.9 user=x",
            "postgres.connect leads to another host",
            "socket directory",
        ),
        ("postgres.replication=user=x password=geheim", "postgres.replication holds a password", "passfile="),
        ("postgres.replication=user=x host=y", "postgres.replication holds host", "Remove host"),
        (
            "postgres.options=[\"-c\", \"primary_conninfo=x\"]",
            "postgres.options holds primary_conninfo",
            "Remove",
        ),
        ("postgres.no_failover=maybe", "postgres.no_failover is the text \"maybe\"", "Use true or false"),
        ("app.health=healthz", "app.health is \"healthz\"", "Write \"http"),
        ("app.health=/bin/true", "app.address is missing", "Say where the app server"),
        ("app.status=20", "app.status is 20, which is no status of HTTP", "Change it"),
        ("app.interval=1ms", "app.interval is shorter", "Set it to"),
        ("postgres=5", "postgres is a section, not a value", "[postgres]"),
        ("endpoint=5", "endpoint is not a list of sections", "[[endpoint]]"),
        (
            "endpoint=[{name=\"db\",listen=\"127.0.0.1:6432\",target=\"replica\"}]",
            "endpoint[db].target is \"replica\"",
            "\"primary\" or \"standbys\" or \"app\"",
        ),
        (
            "endpoint=[{name=\"db\",target=\"primary\"}]",
            "endpoint[db].listen is missing",
            "Say where clients connect",
        ),
        (
            "endpoint=[{listen=\"127.0.0.1:6432\",target=\"primary\"}]",
            "endpoint[#1].name is missing",
            "Name it",
        ),
        (
            "endpoint=[{name=\"db\",listen=\"127.0.0.1:6432\",target=\"primary\",hold=\"1ms\"}]",
            "endpoint[db].hold is shorter",
            "Set it to",
        ),
        (
            "endpoint=[{name=\"db\",listen=\"127.0.0.1:6432\",target=\"primary\",max=3}]",
            "endpoint[db].max is no known key",
            "Remove it. Known in [endpoint]",
        ),
        (
            "endpoint=[{name=\"db\",listen=\"127.0.0.1:6432\",target=\"primary\",shutdown=\"9s\"}]",
            "endpoint[db].shutdown",
            "Set it to \"8s\" or less",
        ),
        (
            "endpoint=[{name=\"db\",listen=\"127.0.0.1:6432\",target=\"primary\",connect=\"1ms\"}]",
            "endpoint[db].connect",
            "Set it to \"2s\"",
        ),
        (
            "endpoint=[{name=\"db\",listen=\"127.0.0.1:6432\",target=\"primary\",fallback=true}]",
            "endpoint[db].fallback",
            "Remove it. Known in [endpoint]",
        ),
        (
            "endpoint=[{name=\"r\",listen=\"127.0.0.1:6432\",target=\"standbys\",balance=\"random\"}]",
            "endpoint[r].balance",
            "\"round-robin\" or \"least-connections\"",
        ),
    ];
    for (set, key, way_out) in cases {
        let (code, told) = host.check_with(&[set]);
        assert_eq!(code, Some(1), "{set}: {told}");
        assert!(told.contains(key), "{set}: expected {key:?} in\n{told}");
        assert!(told.contains(way_out), "{set}: expected {way_out:?} in\n{told}");
        assert!(!told.contains("geheim"), "{set}: the password is shown in\n{told}");
    }
}

#[test]
fn what_the_host_lacks_is_told() {
    let host = Host::new();
    let root = host.dir.path().display().to_string();
    fs::create_dir_all(host.path("old")).unwrap();
    fs::write(host.path("old/PG_VERSION"), "9.6\n").unwrap();
    fs::create_dir_all(host.path("new")).unwrap();
    fs::write(host.path("new/PG_VERSION"), "19\n").unwrap();
    fs::create_dir_all(host.path("half")).unwrap();
    fs::copy(host.path("bin/postgres"), host.path("half/postgres")).unwrap();
    fs::write(host.path("open"), "0123456789abcdef").unwrap();
    fs::set_permissions(host.path("open"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(host.path("empty"), "\n").unwrap();
    fs::set_permissions(host.path("empty"), fs::Permissions::from_mode(0o600)).unwrap();
    let cases = [
        (format!("postgres.data_dir={root}/none"), "cannot be used", "SHOW data_directory"),
        (format!("postgres.data_dir={root}/bin"), "no PostgreSQL data directory", "SHOW data_directory"),
        (format!("postgres.data_dir={root}/old"), "PostgreSQL 9.6, which is not supported", "14 to 18"),
        (format!("postgres.data_dir={root}/new"), "PostgreSQL 19, which is not supported", "14 to 18"),
        (
            format!("postgres.bin_dir={root}/half"),
            "lacks pg_basebackup, pg_controldata, pg_rewind, pg_waldump",
            "pg_config",
        ),
        (format!("state_dir={root}/data/state"), "inside postgres.data_dir", "Move it out"),
        (format!("store.embedded={root}/data/store.db"), "inside postgres.data_dir", "Move it out"),
        (format!("state_dir={root}/token"), "is no directory", "Name a directory"),
        (format!("api.token_file={root}/none"), "cannot be read", "/dev/urandom"),
        (format!("api.token_file={root}/open"), "can be read by everybody", "chmod 600"),
        (format!("api.token_file={root}/empty"), "does not hold one line", "Make it anew"),
    ];
    for (set, what, way_out) in &cases {
        let (code, told) = host.check_with(&[set]);
        assert_eq!(code, Some(1), "{set}: {told}");
        let key = set.split('=').next().unwrap();
        for part in [key, what, way_out] {
            assert!(told.contains(part), "{set}: expected {part:?} in\n{told}");
        }
    }
}

#[test]
fn a_link_into_the_data_directory_is_seen_through() {
    let host = Host::new();
    fs::create_dir_all(host.path("data/inner")).unwrap();
    std::os::unix::fs::symlink(host.path("data/inner"), host.path("link")).unwrap();
    let (code, told) = host.check_with(&[&format!("state_dir={}", host.path("link").display())]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("inside postgres.data_dir"), "{told}");
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

impl Host {
    /// The same host with etcd as its store.
    fn with_etcd(&self, lines: &str) -> (Option<i32>, String) {
        let text = self.good();
        let (before, after) =
            (text.split("[store]").next().unwrap(), text.split("store.db\"\n").nth(1).unwrap());
        fs::write(self.file(), format!("{before}[store]\n{lines}\n{after}")).unwrap();
        self.check_with(&[])
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> String {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
        self.path(name).display().to_string()
    }
}

#[test]
fn etcd_is_configured_with_what_it_needs() {
    let host = Host::new();
    assert_eq!(host.with_etcd("etcd = [\"http://127.0.0.1:2379\"]"), (Some(0), "ok\n".into()));
    let (code, told) = host.with_etcd("etcd = [\"http://10.0.0.1:2379\"]");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("warning: store.etcd is http"), "{told}");

    let ca = host.write("ca.pem", "a certificate", 0o644);
    let cert = host.write("cert.pem", "a certificate", 0o644);
    let key = host.write("key.pem", "a key", 0o600);
    let password = host.write("password", "geheim", 0o600);
    let whole = format!(
        "etcd = [\"https://10.0.0.1:2379\", \"https://etcd-2:2379\"]\netcd_ca_file = \"{ca}\"\n\
         etcd_cert_file = \"{cert}\"\netcd_key_file = \"{key}\"\n\
         etcd_user = \"locum\"\netcd_password_file = \"{password}\""
    );
    assert_eq!(host.with_etcd(&whole), (Some(0), "ok\n".into()));
    let config = config::load(&Sources::file(host.file())).unwrap().config;
    let config::Store::Etcd(etcd) = config.store else { panic!("not etcd") };
    assert_eq!(etcd.endpoints, ["https://10.0.0.1:2379", "https://etcd-2:2379"]);
    assert_eq!((etcd.user.as_deref(), etcd.ca_file), (Some("locum"), Some(host.path("ca.pem"))));
    let printed = host.locum(&["config", "print"]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("store.etcd_user") && printed.contains("store.etcd_ca_file"), "{printed}");
    assert!(printed.contains("https://etcd-2:2379") && !printed.contains("geheim"), "{printed}");
}

#[test]
fn what_is_wrong_with_etcd_is_answered_with_the_key_and_the_way_out() {
    let host = Host::new();
    let ca = host.write("ca.pem", "a certificate", 0o644);
    let open = host.write("open", "geheim", 0o644);
    let empty = host.write("empty", "\n", 0o600);
    let closed = host.write("closed", "geheim", 0o600);
    let https = format!("etcd = [\"https://10.0.0.1:2379\"]\netcd_ca_file = \"{ca}\"\n");
    let http = "etcd = [\"http://127.0.0.1:2379\"]\n";
    let missing = host.path("none").display().to_string();
    let cases: &[(String, &str, &str)] = &[
        ("etcd = []".into(), "store.etcd names 0 endpoints", "three are usual"),
        ("etcd = [\"10.0.0.1:2379\"]".into(), "store.etcd holds \"10.0.0.1:2379\"", "https://10.0.0.1:2379"),
        ("etcd = [\"etcd-1:2379\"]".into(), "begins neither with http://", "https://10.0.0.1:2379"),
        ("etcd = [\"http://127.0.0.1\"]".into(), "is not scheme, host and port", "Write each as"),
        ("etcd = [\"http://127.0.0.1:2379/v3\"]".into(), "is not scheme, host and port", "Write each as"),
        (
            "etcd = [\"http://x:geheim@127.0.0.1:2379\"]".into(),
            "store.etcd holds a user or a password",
            "etcd_password_file",
        ),
        ("etcd = [\"http://127.0.0.1:2379\", \"http://127.0.0.1:2379\"]".into(), "twice", "once"),
        (
            format!("etcd = [\"https://10.0.0.1:2379\", \"http://10.0.0.2:2379\"]\netcd_ca_file = \"{ca}\""),
            "mixes http and https",
            "Use https",
        ),
        ("etcd = [\"https://10.0.0.1:2379\"]".into(), "store.etcd_ca_file is not given", "etcd_ca_file ="),
        (format!("{http}etcd_ca_file = \"{ca}\""), "store.etcd_ca_file has no effect", "https://"),
        (format!("{https}etcd_cert_file = \"{ca}\""), "store.etcd_key_file is not given", "Give both"),
        (format!("{http}etcd_user = \"locum\""), "store.etcd_password_file is not given", "Give both"),
        (format!("{http}etcd_password_file = \"{closed}\""), "store.etcd_user is not given", "Give both"),
        (
            format!("{http}etcd_user = \"locum\"\netcd_password_file = \"{missing}\""),
            "store.etcd_password_file",
            "may read",
        ),
        (
            format!("{http}etcd_user = \"locum\"\netcd_password_file = \"{open}\""),
            "can be read by everybody",
            "chmod 600",
        ),
        (
            format!("{http}etcd_user = \"locum\"\netcd_password_file = \"{empty}\""),
            "is empty",
            "Name another file",
        ),
        (
            format!("{https}etcd_cert_file = \"{ca}\"\netcd_key_file = \"{open}\""),
            "store.etcd_key_file",
            "chmod 600",
        ),
        (
            format!("{http}etcd_pasword_file = \"{closed}\""),
            "etcd_pasword_file is no known key",
            "Did you mean",
        ),
        (format!("{http}[policy]\nleader_ttl = \"1s\""), "policy.leader_ttl is 1s", "Set it to \"2s\""),
    ];
    for (lines, what, way_out) in cases {
        let (code, told) = host.with_etcd(lines);
        assert_eq!(code, Some(1), "{lines}: {told}");
        assert!(told.contains(what), "{lines}: expected {what:?} in\n{told}");
        assert!(told.contains(way_out), "{lines}: expected {way_out:?} in\n{told}");
        assert!(!told.contains("geheim"), "{lines}: the password is shown in\n{told}");
    }
}

#[test]
fn the_example_s_etcd_is_sound() {
    let etcd = EXAMPLE.lines().map(|line| match line.strip_prefix("#   etcd") {
        Some(rest) => format!("etcd{rest}\n"),
        None if line.starts_with("embedded") => String::new(),
        None => format!("{line}\n"),
    });
    let draft = draft(&etcd.collect::<String>());
    assert_eq!(draft.warnings, []);
    let config::Store::Etcd(etcd) = draft.config.store else { panic!("not etcd") };
    assert_eq!(etcd.endpoints.len(), 3);
    assert!(etcd.ca_file.is_some() && etcd.cert_file.is_some() && etcd.key_file.is_some());
    assert!(etcd.user.is_some() && etcd.password_file.is_some());
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
fn an_app_endpoint_needs_an_app() {
    let host = Host::new();
    let text = host.good().replace("\"primary\"", "\"app\"");
    fs::write(host.file(), text.split("[app]").next().unwrap()).unwrap();
    let (code, told) = host.check_with(&[]);
    assert_eq!(code, Some(1));
    assert!(told.contains("endpoint[db].target is \"app\", but this file has no [app]"), "{told}");
}

#[test]
fn commands_of_an_app_server_are_looked_at_and_belong_to_one_that_can_be_passive() {
    let host = Host::new();
    let active = "endpoint=[{name=\"web\",target=\"app\",listen=\"127.0.0.1:6480\",mode=\"active-active\"}]";
    let cases: &[(&[&str], &str, &str)] = &[
        (&["app.start=run"], "app.start is \"run\"", "the whole path"),
        (&["app.start=/nosuch"], "app.start /nosuch is no program", "chmod +x"),
        (
            &["app.stop=/bin/true", active],
            "app.stop belongs to an app server that is active or passive",
            "Remove it",
        ),
        (&["app.promote=/bin/true", "app.command_timeout=0s"], "app.command_timeout is zero", "30s"),
        (&["app.database_file=/etc/passwd/orders.env"], "/etc/passwd is no directory", "Name a directory"),
        (
            &[
                "app.start=/bin/true",
                "endpoint=[{name=\"app-server\",target=\"app\",listen=\"127.0.0.1:6480\"}]",
            ],
            "endpoint[app-server].name is the name of two endpoints",
            "its own name",
        ),
    ];
    for (sets, what, fix) in cases {
        let (code, said) = host.check_with(sets);
        assert!(code == Some(1) && said.contains(what) && said.contains(fix), "{sets:?}: {code:?} {said}");
    }
    assert_eq!(host.check_with(&["app.start=/bin/true", "app.stop=/bin/true"]), (Some(0), "ok\n".into()));
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

#[test]
fn each_layer_wins_over_the_one_before_and_print_says_which() {
    let host = Host::new();
    let text = host.good() + "[policy]\nhang = \"3s\"\ndetect = \"600ms\"\ndrain = \"1s\"\n";
    fs::write(host.file(), text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_locum"))
        .env_clear()
        .env("LOCUM_POLICY__DETECT", "700ms")
        .env("LOCUM_POLICY__DRAIN", "2s")
        .env("LOCUM_LOG", "debug")
        .args(["config", "print", "--set", "policy.drain=3s", "-c"])
        .arg(host.file())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let line =
        |key: &str| printed.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap_or_default();
    let has = |key: &str, value: &str, origin: &str| {
        assert!(line(key).contains(&format!("= \"{value}\"")) && line(key).contains(origin), "{}", line(key));
    };
    has("policy.write_wait", "500ms", "# default");
    has("policy.hang", "3s", &format!("# file {}", host.file().display()));
    has("policy.detect", "700ms", "# environment LOCUM_POLICY__DETECT");
    has("policy.drain", "3s", "# flag --set");
    has("api.address", "127.0.0.1:8008", "# follows api.listen");
    has("app.address", "127.0.0.1:8081", "# follows app.health");
    assert!(!printed.contains("0123456789abcdef"), "the token is never printed");
}

#[test]
fn an_unknown_variable_is_named_as_it_was_written() {
    let host = Host::new();
    let output = Command::new(env!("CARGO_BIN_EXE_locum"))
        .env_clear()
        .env("LOCUM_POLICY__HAGN", "3s")
        .args(["config", "check", "-c"])
        .arg(host.file())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains("environment LOCUM_POLICY__HAGN") && told.contains("Did you mean policy.hang?"),
        "{told}"
    );
}

#[test]
fn what_is_loaded_is_what_was_written() {
    let host = Host::new();
    let sources = Sources {
        file: host.file(),
        set: [
            "policy.durability=async",
            "policy.on_crash=restart",
            "policy.max_data_loss=1MiB",
            "objectives.rpo=2s",
        ]
        .map(str::to_owned)
        .to_vec(),
    };
    let config = config::load(&sources).unwrap().config;
    assert_eq!(config.policy.durability, Durability::Async);
    assert_eq!(config.policy.on_crash, OnCrash::Restart);
    assert_eq!(config.policy.max_data_loss, 1 << 20);
    assert_eq!(config.policy.hang, Policy::default().hang);
    assert!((config.objectives.rpo_ms - 2_000.0).abs() < 1e-9);
    assert_eq!(config.api.token.expose_secret(), "0123456789abcdef0123456789abcdef");
    assert_eq!(config.endpoints.len(), 1);
    assert_eq!(config.leader_ttl, Duration::from_secs(3));
}

#[test]
fn programs_that_nobody_named_are_found_or_told() {
    let host = Host::new();
    let text = host.good().lines().filter(|line| !line.starts_with("bin_dir")).collect::<Vec<_>>().join("\n");
    fs::write(host.file(), text).unwrap();
    let run = |path: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
        command.env_clear().env("PATH", path).args(["config", "check", "-c"]).arg(host.file());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&host.path("bin")), (Some(0), "ok\n".into()));
    // PostgreSQL 14 is in no usual place here.
    fs::write(host.path("data/PG_VERSION"), "14\n").unwrap();
    let (code, told) = run(&host.path("none"));
    if !Path::new("/usr/lib/postgresql/14/bin/postgres").exists() {
        assert_eq!(code, Some(1));
        assert!(told.contains("postgres.bin_dir is not given") && told.contains("postgresql-14"), "{told}");
    }
}

#[test]
fn a_node_that_was_being_cloned_may_start() {
    let host = Host::new();
    fs::create_dir_all(host.path("state")).unwrap();
    fs::write(host.path("state/promise.json"), "{}").unwrap();
    fs::remove_file(host.path("data/PG_VERSION")).unwrap();
    let (code, told) = host.check_with(&[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("warning: postgres.data_dir"), "{told}");
}

#[test]
fn a_client_needs_only_its_own_section() {
    let host = Host::new();
    fs::write(host.file(), "[api]\nlisten = \"127.0.0.1:9\"\n[policy]\nhang = 3\nunknown = true\n").unwrap();
    let client = config::client(&Sources::file(host.file())).unwrap();
    assert_eq!(client.address, "127.0.0.1:9");
    fs::write(host.file(), "[api]\nlisten = 5\n").unwrap();
    assert!(config::client(&Sources::file(host.file())).is_err());
}

fn draft(text: &str) -> config::Draft {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("locum.toml");
    fs::write(&file, text).unwrap();
    config::read(&Sources::file(file)).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_example_is_sound() {
    assert_eq!(draft(EXAMPLE).warnings, []);
}

#[test]
fn the_example_shows_every_key_and_its_real_default() {
    let is_key = |line: &str| {
        let bare = line.strip_prefix('#').unwrap_or_default();
        bare.starts_with(|c: char| c.is_ascii_lowercase()) && bare.contains(" = ")
    };
    let full: String = EXAMPLE
        .lines()
        .map(|line| if is_key(line) { &line[1..] } else { line })
        .map(|line| format!("{line}\n"))
        .collect();
    let (sparse, full) = (draft(EXAMPLE), draft(&full));
    for (one, other) in sparse.settings.iter().zip(&full.settings) {
        assert_eq!((&one.key, &one.value), (&other.key, &other.value));
        assert!(matches!(other.origin, Origin::File(_)), "{} is not in the example", other.key);
    }
    assert_eq!(sparse.settings.len(), full.settings.len());
    assert_eq!(full.config.policy, Policy::default());
}

#[test]
fn the_pair_in_deploy_is_one_cluster_on_one_machine() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let read = |name: &str| fs::read_to_string(deploy.join(name)).unwrap();
    assert_eq!(read("seoul.toml"), EXAMPLE, "deploy/seoul.toml is what `locum config example` prints");
    let (seoul, busan) = (draft(&read("seoul.toml")).config, draft(&read("busan.toml")).config);
    assert_eq!(
        (&seoul.cluster, &seoul.members, &seoul.store),
        (&busan.cluster, &busan.members, &busan.store)
    );
    assert_eq!(seoul.policy, busan.policy);
    assert_ne!(seoul.node, busan.node);
    assert_ne!(seoul.state_dir, busan.state_dir);
    let ports = |config: &config::Config| {
        let mut ports = vec![config.api.listen, config.api.peer_listen];
        ports.extend(config.endpoints.iter().map(|endpoint| endpoint.listen));
        ports.extend(
            config
                .postgres
                .as_ref()
                .map(|postgres| postgres.address.parse::<std::net::SocketAddr>().unwrap()),
        );
        ports
    };
    assert!(ports(&seoul).iter().all(|port| !ports(&busan).contains(port)), "no port is used twice");
}
