//! `locum certs`, and what `locum config check` says of certificates.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

fn locum(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
    let output = command.env_clear().args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// `locum certs VERB --dir DIR --cluster orders …`, which must succeed.
fn certs(verb: &str, dir: &Path, more: &[&str]) -> String {
    let (code, out, err) = run(verb, dir, more);
    assert_eq!(code, 0, "{out}{err}");
    out
}

fn run(verb: &str, dir: &Path, more: &[&str]) -> (i32, String, String) {
    let mut arguments = vec!["certs", verb, "--dir", dir.to_str().unwrap(), "--cluster"];
    let cluster = if more.first() == Some(&"invoices") { "invoices" } else { "orders" };
    arguments.push(cluster);
    arguments.extend(more.iter().filter(|argument| **argument != "invoices"));
    locum(&arguments)
}

#[test]
fn an_authority_and_a_certificate_are_made_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new/ca");
    let out = certs("init", &dir, &[]);
    assert!(out.contains("Locum authority of cluster orders") && out.contains("3649 days left"), "{out}");
    assert_eq!((mode(&dir), mode(&dir.join("ca.key")), mode(&dir.join("ca.crt"))), (0o700, 0o600, 0o644));
    let out =
        certs("issue", &dir, &["--node", "seoul", "--address", "10.0.0.1", "--address", "db1.example.com"]);
    assert!(out.contains("names       seoul.orders.locum, 10.0.0.1, db1.example.com"), "{out}");
    assert_eq!((mode(&dir.join("seoul.key")), mode(&dir.join("seoul.crt"))), (0o600, 0o644));
    let file = dir.join("seoul.crt");
    let (code, out, _) = locum(&["certs", "show", file.to_str().unwrap()]);
    assert_eq!(code, 0);
    for part in [
        "subject     CN=seoul.orders.locum",
        "issuer      CN=Locum authority of cluster orders",
        "364 days left",
        "node seoul of cluster orders",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (_, out, _) =
        locum(&["certs", "show", "--json", file.to_str().unwrap(), dir.join("ca.crt").to_str().unwrap()]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["certificates"][0]["members"][0]["node"], "seoul");
    assert_eq!(
        (&json["certificates"][0]["authority"], &json["certificates"][1]["authority"]),
        (&Value::Bool(false), &Value::Bool(true))
    );
    assert!(!out.contains("PRIVATE"));
}

/// Another program agrees that the certificate is in order.
#[test]
fn openssl_verifies_what_is_made() {
    let Ok(version) = Command::new("openssl").arg("version").output() else { return };
    assert!(version.status.success());
    let folder = tempfile::tempdir().unwrap();
    certs("init", folder.path(), &[]);
    certs("issue", folder.path(), &["--node", "seoul", "--address", "10.0.0.1"]);
    for purpose in ["sslserver", "sslclient"] {
        let mut command = Command::new("openssl");
        command.current_dir(folder.path()).args(["verify", "-x509_strict", "-purpose", purpose]);
        command.args(["-verify_hostname", "seoul.orders.locum", "-CAfile", "ca.crt", "seoul.crt"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{purpose}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn nothing_is_replaced_without_force_and_nothing_written_in_a_dry_run() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("ca");
    let out = certs("init", &dir, &["--dry-run"]);
    assert!(out.contains("would write") && !dir.exists(), "{out}");
    let (code, _, err) = run("issue", &dir, &["--node", "seoul"]);
    assert_eq!(code, 1);
    assert!(err.contains("ca.crt cannot be read") && err.contains("locum certs init --dir"), "{err}");
    certs("init", &dir, &["--json"]);
    certs("issue", &dir, &["--node", "seoul"]);
    let before = [fs::read(dir.join("ca.key")).unwrap(), fs::read(dir.join("seoul.key")).unwrap()];
    for (verb, more) in [("init", &[][..]), ("issue", &["--node", "seoul"])] {
        let (code, out, err) = run(verb, &dir, more);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(
            err.contains("is there already")
                && err.contains("--force")
                && err.contains("Nothing was written"),
            "{err}"
        );
    }
    let (_, out, _) = run("issue", &dir, &["--node", "seoul", "--force", "--dry-run", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["written"], false);
    assert_eq!(before, [fs::read(dir.join("ca.key")).unwrap(), fs::read(dir.join("seoul.key")).unwrap()]);
    certs("issue", &dir, &["--node", "seoul", "--force", "--days", "30"]);
    assert_ne!(before[1], fs::read(dir.join("seoul.key")).unwrap());
    assert_eq!(mode(&dir.join("seoul.key")), 0o600);
}

#[test]
fn mistakes_are_told_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    certs("init", dir, &[]);
    for (more, said) in [
        (&["invoices", "--node", "seoul"][..], "is that of cluster orders, not of invoices"),
        (&["--node", "seoul-"], "may end in '-'"),
        (&["--node", "ca"], "a node named ca"),
        (&["--node", "seoul", "--address", "busan.orders.locum"], "is a name for members"),
        (&["--node", "seoul", "--address", "säoul"], "cannot be written into a certificate"),
    ] {
        let (code, out, err) = run("issue", dir, more);
        assert_eq!((code, out.as_str()), (1, ""), "{more:?}: {err}");
        assert!(err.contains(said) && err.contains("Nothing was written"), "{more:?}: {err}");
    }
    for more in [&["--node", "Seoul!"][..], &["--node", "seoul", "--days", "0"], &[]] {
        assert_eq!(run("issue", dir, more).0, 2, "{more:?}");
    }
    fs::write(dir.join("none.crt"), "hello").unwrap();
    for (file, said) in [("none.crt", "holds no certificate"), ("absent.crt", "cannot be read")] {
        let (code, _, err) = locum(&["certs", "show", dir.join(file).to_str().unwrap()]);
        assert!(code == 1 && err.contains(said), "{err}");
    }
    fs::write(dir.join("ca.key"), "hello").unwrap();
    let (code, _, err) = run("issue", dir, &["--node", "seoul"]);
    assert!(code == 1 && err.contains("the authority's key"), "{err}");
    assert!(!dir.join("seoul.crt").exists());
    for verb in [
        &["certs", "--help"][..],
        &["certs", "init", "--help"],
        &["certs", "issue", "--help"],
        &["certs", "show", "--help"],
    ] {
        let (code, out, _) = locum(verb);
        assert!(
            code == 0 && out.contains("Example") && out.lines().all(|line| line.chars().count() <= 100),
            "{out}"
        );
    }
}

/// A member that only decides, so that nothing of PostgreSQL is looked at.
fn config(dir: &Path, node: &str, keys: &str) -> String {
    let token = dir.join("token");
    fs::write(&token, "0123456789abcdef0123456789abcdef").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let dir = dir.display();
    let text = format!(
        "cluster = \"orders\"\nnode = \"{node}\"\nmembers = [\"seoul\", \"busan\"]\nstate_dir = \"{dir}/state\"\n\
         [store]\nembedded = \"{dir}/store.db\"\n[api]\ntoken_file = \"{dir}/token\"\n{keys}\
         [witness]\nverify = \"user=nobody dbname=postgres\"\n"
    );
    let file = format!("{dir}/locum.toml");
    fs::write(&file, text).unwrap();
    file
}

fn check(file: &str) -> (i32, String) {
    let (code, out, err) = locum(&["config", "check", "-c", file]);
    (code, out + &err)
}

#[test]
fn config_check_judges_the_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    certs("init", dir, &[]);
    certs("issue", dir, &["--node", "seoul"]);
    certs("issue", dir, &["--node", "busan", "--days", "20"]);
    let keys = |node: &str| {
        let dir = dir.display();
        format!(
            "tls_ca_file = \"{dir}/ca.crt\"\ntls_cert_file = \"{dir}/{node}.crt\"\ntls_key_file = \"{dir}/{node}.key\"\n"
        )
    };
    assert_eq!(check(&config(dir, "seoul", &keys("seoul"))), (0, "ok\n".into()));
    let (code, said) = check(&config(dir, "busan", &keys("busan")));
    assert!(
        code == 0 && said.contains("warning: api.tls_cert_file") && said.contains("expires at"),
        "{said}"
    );
    let (code, said) = check(&config(dir, "seoul", &keys("busan")));
    assert!(
        code == 1
            && said.contains("error: api.tls_cert_file")
            && said.contains("it is of node busan, not seoul"),
        "{said}"
    );
    let part = format!("tls_ca_file = \"{}/ca.crt\"\n", dir.display());
    let (code, said) = check(&config(dir, "seoul", &part));
    assert!(
        code == 1 && said.contains("api.tls_key_file is missing") && said.contains("or not at all"),
        "{said}"
    );
    let (code, said) = check(&config(dir, "seoul", &keys("tokyo")));
    assert!(
        code == 1 && said.contains("tokyo.crt cannot be read") && said.contains("locum certs issue"),
        "{said}"
    );
    let (code, said) = check(&config(dir, "seoul", "tls_ca_fle = \"/x\"\n"));
    assert!(code == 1 && said.contains("Did you mean api.tls_ca_file?"), "{said}");
    let out = locum(&["config", "print", "-c", &config(dir, "seoul", &keys("seoul"))]).1;
    assert!(out.contains("api.tls_key_file") && !out.contains("PRIVATE"), "{out}");
}
