//! A running pair is taken over with its clients connected, or refused with the reason.

use std::{fs, path::Path};

use crate::{
    fixture::{Node, Pair, SOON, until},
    pair::{LivePair, Wish, family},
    plain::locum,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_pair_is_adopted_with_clients_connected_and_without_a_restart() {
    let mut pair = LivePair::prepared(&Wish::default()).await;
    let sessions = [pair.host("alpha").node.connect().await, pair.host("beta").node.connect().await];
    let postmasters = pair.hosts.each_ref().map(|host| family(&host.node.config.data_dir)[0]);
    for name in ["alpha", "beta"] {
        let config = pair.config_file(name);
        locum(&["adopt", "--dry-run"], &config)
            .expect(0, &["It can be adopted without a restart", "Nothing was changed"]);
        locum(&["adopt", "--yes"], &config).expect(0, &["Next: `locum run"]);
        locum(&["adopt", "--yes"], &config).expect(0, &["Nothing is left to change here"]);
    }
    for host in &mut pair.hosts {
        host.member.start();
    }
    pair.whole(0).await;
    for session in &sessions {
        session.batch_execute("SELECT 1").await.expect("a session that nobody cut");
    }
    assert_eq!(pair.hosts.each_ref().map(|host| family(&host.node.config.data_dir)[0]), postmasters);
    let again = locum(&["adopt", "--yes", "--json"], &pair.config_file("alpha")).expect(0, &[]).json();
    assert_eq!((&again["managed_epoch"], &again["ok"]), (&1.into(), &true.into()));
    locum(&["adopt"], &pair.config_file("beta")).expect(0, &["Locum manages this node already"]);
    // The slot from before is the operator's to drop: adopt said so.
    pair.host("alpha").node.ask("SELECT pg_drop_replication_slot('beta')").await;
    let writer = pair.write().await;
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_made_with_a_way_back_and_debian_is_told_to_stay_away() {
    let Pair { mut primary, standby } = Pair::new().await;
    primary.config.replication = "user=locum_repl".into();
    // As Debian has it: the configuration elsewhere, with the word that starts it at boot beside it.
    let etc = primary.folder().join("run");
    let mut options: Vec<String> = primary.config.options.clone();
    fs::copy(primary.config.data_dir.join("postgresql.conf"), etc.join("postgresql.conf")).unwrap();
    fs::write(etc.join("start.conf"), "# at boot\nauto\n").unwrap();
    let postmaster = primary.instance.find().await.unwrap().unwrap();
    primary.instance.stop_fast(&postmaster, SOON).await.unwrap();
    options.push(format!("-c config_file={}", etc.join("postgresql.conf").display()));
    let hba = primary.config.data_dir.join("pg_hba.conf");
    options.push(format!("-c hba_file={}", hba.display()));
    options.push(format!("-c ident_file={}", primary.config.data_dir.join("pg_ident.conf").display()));
    primary.config.options = options;
    primary.instance = locum::postgres::Instance::new(&primary.config, &primary.state_dir).unwrap();
    let owner = primary.instance.owner();
    let _only_root_can =
        std::os::unix::fs::chown(etc.join("postgresql.conf"), Some(owner.uid), Some(owner.gid));
    primary.start().await;

    let pair = LivePair::around([primary, standby], &Wish::default());
    let config = pair.config_file("alpha");
    locum(&["adopt", "--yes"], &config)
        .expect(1, &["role locum_repl of postgres.replication", "--create-roles", "Nothing was changed"]);
    assert_eq!(fs::read_to_string(etc.join("start.conf")).unwrap(), "# at boot\nauto\n");
    locum(&["adopt", "--create-roles"], &config).expect(1, &["--yes", "Nothing was changed"]);
    let parts = [
        "undo: sed -i",
        "undo: DROP OWNED BY",
        "undo: REVOKE EXECUTE",
        "CREATE ROLE \"locum_repl\" LOGIN REPLICATION",
    ];
    locum(&["adopt", "--create-roles", "--yes"], &config).expect(0, &parts);
    assert_eq!(fs::read_to_string(etc.join("start.conf")).unwrap(), "# at boot\nmanual\n");
    let node = &pair.host("alpha").node;
    let may = "SELECT rolreplication AND has_function_privilege(oid, 'pg_read_binary_file(text)', 'EXECUTE') \
               FROM pg_roles WHERE rolname = 'locum_repl'";
    assert_eq!(node.ask(may).await, "t");
    locum(&["adopt", "--create-roles", "--yes"], &config).expect(0, &["Nothing is left to change here"]);
    // Every way back was written down, and works.
    let undo = fs::read_to_string(node.state_dir.join("adopt-undo.txt")).unwrap();
    assert_eq!(undo.lines().count(), 3, "{undo}");
    for line in undo.lines().rev() {
        if line.starts_with("sed") {
            assert!(std::process::Command::new("sh").args(["-c", line]).status().unwrap().success());
        } else {
            node.connect().await.batch_execute(line).await.unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
    assert_eq!(fs::read_to_string(etc.join("start.conf")).unwrap(), "# at boot\nauto\n");
    assert_eq!(node.ask("SELECT count(*) FROM pg_roles WHERE rolname = 'locum_repl'").await, "0");
}

/// The configuration of a node with one line changed.
fn changed(config: &Path, from: &str, to: &str) -> std::path::PathBuf {
    let text = fs::read_to_string(config).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    let path = config.with_extension("changed.toml");
    fs::write(&path, text.replace(from, to)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_be_adopted_is_refused_with_the_reason() {
    let pair = LivePair::prepared(&Wish::default()).await;
    let (alpha, beta) = (&pair.host("alpha").node, &pair.host("beta").node);
    let config = pair.config_file("alpha");

    // A role that is not there, and one that may nothing.
    let nobody = changed(&config, "user=postgres", "user=nobody");
    locum(&["adopt", "--yes"], &nobody).expect(1, &["role \"nobody\" does not exist", "Nothing was changed"]);
    alpha.ask("CREATE ROLE plain LOGIN").await;
    let plain = changed(&config, "user=postgres", "user=plain");
    locum(&["adopt", "--yes"], &plain).expect(1, &["lacks rights", "GRANT pg_monitor TO plain"]);

    // What was given by hand when the server was started.
    let short = changed(&config, "\"-c listen_addresses=127.0.0.1\"", "\"-c log_min_messages=warning\"");
    locum(&["adopt", "--yes"], &short).expect(1, &["listen_addresses", "by the command line"]);

    // Another manager's traces.
    let trace = alpha.config.data_dir.join("patroni.dynamic.json");
    fs::write(&trace, "{}").unwrap();
    locum(&["adopt", "--yes", "--force"], &config)
        .expect(1, &["another manager: Patroni", "Nothing was changed"]);
    fs::remove_file(&trace).unwrap();

    // The other node is no copy of this one.
    let stranger = Node::new("gamma");
    stranger.init(16).await;
    stranger.start().await;
    stranger.ask("CREATE ROLE replicator LOGIN REPLICATION").await;
    let peer = stranger.config.connect.clone();
    locum(&["adopt", "--yes", "--force", "--peer", &peer], &config)
        .expect(1, &["system identifier", "both take writes"]);

    // The standby gets nothing.
    beta.ask("ALTER SYSTEM SET primary_conninfo = ''").await;
    beta.ask("SELECT pg_reload_conf()").await;
    beta.becomes("SELECT count(*) FROM pg_stat_wal_receiver", "0").await;
    locum(&["adopt", "--yes"], &pair.config_file("beta")).expect(1, &["does not stream"]);

    // It does not run.
    let postmaster = beta.instance.find().await.unwrap().unwrap();
    beta.instance.stop_fast(&postmaster, SOON).await.unwrap();
    locum(&["adopt", "--yes"], &pair.config_file("beta"))
        .expect(1, &["no PostgreSQL runs in", "Nothing was changed"]);
    until("alpha is as it was", || async { alpha.try_connect().await.map(|_| ()) }).await;
    assert!(!alpha.state_dir.join("adopt-undo.txt").exists());
}
