//! The example and the configurations in `deploy/`.

use std::{fs, path::Path};

use locum::{
    config::{self, EXAMPLE, Origin},
    model::Policy,
};

use super::draft;

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
