//! A new pair from two empty places and one configuration.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Stdio};

use crate::{
    fixture::{Node, until},
    pair::{LivePair, Wish, send},
    plain::{command, locum, told},
};

const PASSWORD: &str = "a secret: it's 'quoted'";

/// A place whose server is configured by nothing but `locum init`, with a password in a file.
fn empty(name: &'static str, folder: &tempfile::TempDir) -> Node {
    let mut node = Node::new(name);
    let passfile = folder.path().join(format!("{name}.pgpass"));
    fs::write(&passfile, format!("*:*:*:replicator:{}\n", PASSWORD.replace(':', "\\:"))).unwrap();
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = node.instance.owner();
    let _only_root_can = std::os::unix::fs::chown(&passfile, Some(owner.uid), Some(owner.gid));
    node.config.options = Vec::new();
    node.config.replication = format!("user=replicator passfile={}", passfile.display());
    node
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("locum-test-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_empty_hosts_become_a_pair() {
    let secrets = folder();
    let mut pair = LivePair::around([empty("alpha", &secrets), empty("beta", &secrets)], &Wish::default());
    let [alpha, beta] = ["alpha", "beta"].map(|name| pair.config_file(name));

    let dry = locum(&["init", "--primary", "--dry-run", "--wal-segsize", "1"], &alpha);
    dry.expect(0, &["would do  initdb", "Nothing was changed"]);
    assert!(!pair.host("alpha").node.config.data_dir.exists());
    locum(&["init", "--primary"], &alpha).expect(1, &["--yes", "Nothing was changed"]);

    let made = locum(&["init", "--primary", "--yes", "--wal-segsize", "1"], &alpha);
    made.expect(0, &["initdb writes the files", "PostgreSQL runs as process", "with checksums", "--standby"]);
    locum(&["init", "--primary", "--yes"], &alpha)
        .expect(1, &["holds a database cluster already", "Nothing was changed"]);

    locum(&["init", "--yes"], &beta).expect(0, &["it is cloned as soon as"]);
    locum(&["init", "--standby", "--yes"], &beta).expect(0, &["This was done before"]);
    assert!(!pair.host("beta").node.config.data_dir.exists());
    locum(&["config", "check"], &beta).expect(0, &["is no data directory at the moment"]);

    for host in &mut pair.hosts {
        host.member.start();
    }
    pair.whole(0).await;
    let node = &pair.host("alpha").node;
    assert_eq!(node.ask("SHOW wal_segment_size").await, "1MB");
    assert_eq!(node.ask("SHOW data_checksums").await, "on");
    assert_eq!(node.ask("SHOW wal_log_hints").await, "on");
    assert_eq!(node.ask("SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'trust'").await, "0");
    let theirs = &pair.host("beta").node;
    assert_eq!(theirs.ask("SHOW port").await, theirs.port.to_string(), "its own, not the primary's");
    assert_eq!(theirs.ask("SHOW wal_log_hints").await, "on", "what is alike came with the clone");
    locum(&["init", "--standby", "--yes"], &beta).expect(1, &["has been a member before", "epoch 1"]);
    locum(&["check"], &beta).expect(0, &[]);

    // It fails over and back like any other pair: a role and its password are all a client needs.
    node.ask("CREATE ROLE app LOGIN PASSWORD 'app'").await;
    let at =
        format!("host=127.0.0.1 port={} user=app password=app dbname=postgres", pair.host("beta").database);
    let (client, connection) = tokio_postgres::connect(&at, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.query_one("SELECT current_user::text", &[]).await.unwrap().get::<_, String>(0), "app");
    let refused = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", pair.host("beta").database);
    assert!(
        tokio_postgres::connect(&refused, tokio_postgres::NoTls).await.is_err(),
        "no superuser over the network"
    );
    let operation = pair.ask("/v1/switchover", serde_json::json!({ "to": "beta", "dry_run": false })).await;
    pair.over(&operation).await;
    pair.whole(1).await;
    for host in &mut pair.hosts {
        host.member.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_init_leaves_nothing_or_says_how_to_remove_it() {
    let secrets = folder();
    let pair = LivePair::around([empty("alpha", &secrets), empty("beta", &secrets)], &Wish::default());
    let config = pair.config_file("alpha");
    let node = &pair.host("alpha").node;
    let making = node.instance.making_dir();
    let begin = || {
        let mut init = command(&["init", "--primary", "--yes"], &config);
        init.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };

    let init = begin();
    until("initdb works", || async { making.join("PG_VERSION").exists().then_some(()) }).await;
    send(init.id().cast_signed(), "TERM");
    told(init.wait_with_output().unwrap()).expect(1, &["interrupted", "was removed again"]);
    assert!(!making.exists() && !node.config.data_dir.exists());

    let mut init = begin();
    until("initdb works", || async { making.join("PG_VERSION").exists().then_some(()) }).await;
    init.kill().unwrap();
    init.wait().unwrap();
    until("initdb has ended", || async { crate::pair::of_folder(&making).is_empty().then_some(()) }).await;
    let remove = format!("rm -r {}", making.display());
    locum(&["init", "--primary", "--yes"], &config)
        .expect(1, &["was left by an init that was interrupted", &remove]);
    fs::remove_dir_all(&making).unwrap();
    locum(&["init", "--primary", "--yes"], &config).expect(0, &["PostgreSQL runs"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_place_for_a_new_cluster_is_refused() {
    let secrets = folder();
    let mut node = empty("alpha", &secrets);
    let passfile: PathBuf = node.config.replication.split("passfile=").nth(1).unwrap().into();
    let around = |node, change: &dyn Fn(&mut Node)| {
        let mut node: Node = node;
        change(&mut node);
        LivePair::around([node, Node::new("beta")], &Wish::default())
    };
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o644)).unwrap();
    fs::create_dir(&node.config.data_dir).unwrap();
    fs::write(node.config.data_dir.join("precious"), "x").unwrap();
    let owner = node.instance.owner();
    let _only_root_can = std::os::unix::fs::chown(&node.config.data_dir, Some(owner.uid), Some(owner.gid));
    node.config.options = vec!["-c config_file=/etc/postgresql/15/none/postgresql.conf".into()];
    let pair = around(node, &|_| ());
    let config = pair.config_file("alpha");
    let parts =
        ["is not empty", "open to others", "chmod 600", "which init does not make", "Nothing was changed"];
    locum(&["init", "--primary", "--yes"], &config).expect(1, &parts);
    let both = locum(&["init", "--yes", "--json"], &config).expect(1, &["is not there"]).json();
    assert_eq!(both["ok"], false);
    assert!(pair.host("alpha").node.config.data_dir.join("precious").exists());

    let pair = around(empty("alpha", &secrets), &|node| {
        node.config.connect = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", node.port);
    });
    let config = pair.config_file("alpha");
    locum(&["init", "--primary", "--allow", "everybody"], &config)
        .expect(1, &["over the network", "everybody is no network"]);
    fs::remove_file(&passfile).unwrap();
    locum(&["init", "--standby"], &config).expect(1, &["cannot be read", "umask 077"]);
    assert!(!pair.host("alpha").node.config.data_dir.exists());
}
