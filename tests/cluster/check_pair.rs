//! `locum check` on real servers: what differs is found, and nothing is changed.

use std::fs;

use crate::{
    fixture::{Node, SOON},
    pair::{LivePair, Wish},
    plain::{locum, told},
};

fn line<'a>(lines: &'a serde_json::Value, what: &str) -> &'a serde_json::Value {
    let found =
        lines.as_array().unwrap().iter().find(|line| line["what"].as_str().unwrap().starts_with(what));
    found.unwrap_or_else(|| panic!("no {what} in {lines:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_between_two_nodes_is_listed_and_a_pair_that_is_alike_has_no_blocker() {
    let pair = LivePair::prepared(&Wish::default()).await;
    let (alpha, beta) = (&pair.host("alpha").node, &pair.host("beta").node);
    let config = pair.config_file("beta");
    let peer = alpha.config.connect.clone();
    let alike = locum(&["check", "--json", "--peer", &peer], &config).expect(0, &[]).json();
    let worst = |line: &serde_json::Value| line["severity"] != "notice";
    assert!(!alike["lines"].as_array().unwrap().iter().any(worst), "{alike:#}");
    assert_eq!((&alike["here"]["role"], &alike["there"]["role"]), (&"standby".into(), &"primary".into()));

    // The standby alone knows whom it follows; it asks as the replication role, and says what that cannot see.
    locum(&["check"], &config).expect(0, &["was asked as replicator", "Nothing was changed"]);
    locum(&["check"], &pair.config_file("alpha")).expect(0, &["only this node was looked at"]);

    alpha.ask("ALTER SYSTEM SET work_mem = '64MB'").await;
    alpha.ask("ALTER SYSTEM SET synchronous_commit = 'remote_write'").await;
    alpha.ask("CREATE EXTENSION pg_trgm").await;
    let hba = alpha.config.data_dir.join("pg_hba.conf");
    let lines = fs::read_to_string(&hba).unwrap();
    fs::write(
        &hba,
        format!("host replication replicator 127.0.0.1/32 reject\n{lines}\nhost all app 10.0.0.0/8 md5\n"),
    )
    .unwrap();
    alpha.ask("SELECT pg_reload_conf()").await;
    beta.ask("ALTER SYSTEM SET max_connections = 120").await;
    let postmaster = beta.instance.find().await.unwrap().unwrap();
    beta.instance.stop_fast(&postmaster, SOON).await.unwrap();
    beta.start().await;
    alpha.becomes("SHOW work_mem", "64MB").await;

    let found = locum(&["check", "--json", "--peer", &peer], &config).expect(1, &[]).json();
    let lines = &found["lines"];
    assert_eq!(line(lines, "work_mem")["there"], "64MB");
    assert_eq!(line(lines, "work_mem")["severity"], "notice");
    assert_eq!(line(lines, "max_connections")["severity"], "restart");
    assert_eq!(line(lines, "synchronous_commit")["severity"], "reload");
    assert_eq!(line(lines, "pg_hba.conf line")["severity"], "reload");
    // Over the socket nothing can be tried; over the network it is.
    let tcp = format!("host=127.0.0.1 port={} user=postgres", alpha.port);
    let tried = locum(&["check", "--peer", &tcp], &config).expect(1, &["streaming from there as replicator"]);
    assert!(tried.out.contains("pg_hba.conf rejects"), "{}", tried.all());

    // Two nodes without any configuration.
    let mut two = std::process::Command::new(env!("CARGO_BIN_EXE_locum"));
    two.args(["check", "--primary", &peer, "--standby", &beta.config.connect]);
    told(two.output().unwrap()).expect(
        1,
        &["work_mem: 64MB on the primary, 4MB on the standby", "on the standby: streaming: does not stream"],
    );

    // Two that have nothing to do with each other.
    let stranger = Node::new("gamma");
    stranger.init(1).await;
    stranger.start().await;
    let other = locum(&["check", "--peer", &stranger.config.connect], &config);
    other.expect(1, &["system identifier", "wal_segment_size", "role replicator of postgres.replication"]);
    let gone = format!("host={} port=1 user=postgres", alpha.folder().display());
    locum(&["check", "--peer", &gone], &config)
        .expect(1, &["the other node cannot be read", "Nothing was changed"]);
}
