//! The configuration of etcd as the store.

use std::{fs, os::unix::fs::PermissionsExt as _};

use locum::config::{self, EXAMPLE, Sources};

use super::{Host, draft};

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
