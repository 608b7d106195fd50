//! Which layer wins, what is loaded in the end, and what a client needs of it.

use std::{fs, process::Command, time::Duration};

use locum::{
    config::{self, Sources},
    model::{Durability, OnCrash, Policy},
};
use secrecy::ExposeSecret as _;

use super::Host;

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
fn a_client_needs_only_its_own_section() {
    let host = Host::new();
    fs::write(host.file(), "[api]\nlisten = \"127.0.0.1:9\"\n[policy]\nhang = 3\nunknown = true\n").unwrap();
    let client = config::client(&Sources::file(host.file())).unwrap();
    assert_eq!(client.address, "127.0.0.1:9");
    fs::write(host.file(), "[api]\nlisten = 5\n").unwrap();
    assert!(config::client(&Sources::file(host.file())).is_err());
}
