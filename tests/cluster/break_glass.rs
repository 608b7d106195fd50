//! `deploy/BREAK-GLASS.md`, followed by hand on a pair that lost its store and its members.

use std::{fs, path::Path};

use crate::{
    fixture::{Node, SOON, until},
    guard_fixture::MOUNTS,
    pair::{LivePair, Wish, family, finds, of_folder, plan_of, send},
    plain::locum,
};

/// `pg_ctl` and the like, as the document types them. Its output goes to a file: a started server keeps it open.
async fn run(node: &Node, program: &str, arguments: &[&str]) {
    let log = node.state_dir.join("by-hand.log");
    let file = fs::File::options().create(true).append(true).open(&log).unwrap();
    let mut command = node.instance.command(program);
    command.args(arguments).stdin(std::process::Stdio::null());
    command.stdout(file.try_clone().unwrap()).stderr(file);
    let status = tokio::time::timeout(SOON, command.status()).await.expect("it ends").expect("it runs");
    assert!(status.success(), "{program} {arguments:?}: {}", fs::read_to_string(&log).unwrap());
}

async fn start(node: &Node) {
    let (data, log) = (node.config.data_dir.display().to_string(), node.folder().join("run/by-hand.log"));
    let options = node.config.options.join(" ");
    run(node, "pg_ctl", &["-D", &data, "-o", &options, "-l", &log.display().to_string(), "start"]).await;
}

async fn position(node: &Node) -> String {
    node.ask(
        "SELECT concat_ws(' ', pg_is_in_recovery(), (pg_control_checkpoint()).timeline_id,
         CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
              ELSE pg_current_wal_flush_lsn() END)",
    )
    .await
}

/// Step 3b.
async fn promote_by_hand(node: &Node) {
    node.ask("ALTER SYSTEM RESET synchronous_standby_names").await;
    node.ask("SELECT pg_reload_conf()").await;
    run(node, "pg_ctl", &["-D", &node.config.data_dir.display().to_string(), "promote"]).await;
    node.ask("CHECKPOINT").await;
}

/// Step 5.
async fn follow_by_hand(node: &Node, primary: &Node) {
    let (data, state) = (&node.config.data_dir, &node.state_dir);
    let files = ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf"];
    let copy = |from: &Path, to: &Path| {
        files.iter().for_each(|file| _ = fs::copy(from.join(file), to.join(file)).unwrap())
    };
    primary.ask("SELECT pg_create_physical_replication_slot('by_hand', true)").await;
    copy(data, state);
    let source = format!("host=127.0.0.1 port={} user=replicator dbname=postgres", primary.port);
    run(node, "pg_rewind", &["--target-pgdata", &data.display().to_string(), "--source-server", &source])
        .await;
    copy(state, data);
    let lines = format!(
        "primary_conninfo = 'host=127.0.0.1 port={} user=replicator application_name=by_hand'\n\
         primary_slot_name = 'by_hand'\nsynchronous_standby_names = ''\n",
        primary.port
    );
    let auto = data.join("postgresql.auto.conf");
    fs::write(&auto, fs::read_to_string(&auto).unwrap() + &lines).unwrap();
    fs::write(data.join("standby.signal"), "").unwrap();
    let owner = node.instance.owner();
    for file in files.iter().chain(&["standby.signal"]) {
        let _only_root_can = std::os::unix::fs::chown(data.join(file), Some(owner.uid), Some(owner.gid));
    }
    start(node).await;
    let streams =
        "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'by_hand' AND state = 'streaming'";
    primary.becomes(streams, "1").await;
}

/// Steps 1 and 2: members, guards and store are gone, and stay so.
async fn lose_everything(pair: &mut LivePair) {
    for host in &mut pair.hosts {
        host.member.kill();
        end_guards(&host.node).await;
    }
    fs::remove_dir_all(pair.config_file("alpha").with_file_name("store")).unwrap();
}

async fn end_server(node: &Node) {
    let server = node.instance.find().await.unwrap().unwrap();
    family(&node.config.data_dir).into_iter().for_each(|pid| send(pid, "KILL"));
    until("the server is gone", || async { server.has_exited().then_some(()) }).await;
    node.instance.kill_all(None).await.unwrap();
}

async fn lose_host(pair: &mut LivePair, name: &str) {
    pair.host_mut(name).member.kill();
    let node = &pair.host(name).node;
    end_server(node).await;
    end_guards(node).await;
}

/// One that is left freezes PostgreSQL when the last lease has run out.
async fn end_guards(node: &Node) {
    let is_guard = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"guard")
    };
    let left = || of_folder(node.folder()).into_iter().filter(is_guard).collect::<Vec<_>>();
    for pid in left() {
        send(pid, "TERM");
    }
    until("the end of the guards", || async { left().is_empty().then_some(()) }).await;
}

/// Step 1, of a server that may be frozen.
fn thaw(node: &Node) {
    let postmaster = family(&node.config.data_dir)[0];
    let groups = fs::read_to_string(format!("/proc/{postmaster}/cgroup")).unwrap();
    // None where version 2 is not mounted: it was stopped by signals then.
    if let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) {
        let files = MOUNTS.map(|mount| Path::new(mount).join(group).join("cgroup.freeze"));
        files.iter().filter(|file| file.exists()).for_each(|file| fs::write(file, "0").unwrap());
    }
    family(&node.config.data_dir).into_iter().for_each(|pid| send(pid, "CONT"));
}

/// Step 6, without `locum store accept`.
async fn give_back(pair: &mut LivePair) {
    fs::create_dir(pair.config_file("alpha").with_file_name("store")).unwrap();
    for host in &pair.hosts {
        fs::rename(&host.node.state_dir, host.node.folder().join("state.before")).unwrap();
    }
    for name in ["alpha", "beta"] {
        locum(&["adopt", "--yes"], &pair.config_file(name)).expect(0, &["Next: `locum run"]);
    }
    for host in &mut pair.hosts {
        host.member.start();
    }
    pair.whole(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standby_is_promoted_by_hand_and_the_pair_given_back() {
    let mut pair = LivePair::wished(&Wish::default()).await;
    let writer = pair.write().await;
    writer.goes_on().await;
    lose_everything(&mut pair).await;
    let acknowledged = writer.finish().await;
    // The primary's host is lost, too.
    end_server(&pair.host("alpha").node).await;

    let [alpha, beta] = ["alpha", "beta"].map(|name| &pair.host(name).node);
    assert!(position(beta).await.starts_with("t 1 "), "{}", position(beta).await);
    promote_by_hand(beta).await;
    assert!(position(beta).await.starts_with("f 2 "), "{}", position(beta).await);
    assert_eq!(
        crate::fixture::missing(beta, &acknowledged).await,
        0,
        "in sync the standby has what was acknowledged"
    );
    beta.ask("INSERT INTO t VALUES (-1)").await;

    follow_by_hand(alpha, beta).await;
    alpha.becomes("SELECT count(*) FROM t WHERE id = -1", "1").await;
    give_back(&mut pair).await;
    assert_eq!(pair.primary().await, "beta");
    let beta = &pair.host("beta").node;
    beta.becomes("SELECT count(*) FROM pg_stat_replication WHERE application_name LIKE 'locum%'", "1").await;
    beta.ask("SELECT pg_drop_replication_slot('by_hand')").await;
    // It is a pair like any other again.
    let operation = pair.ask("/v1/switchover", serde_json::json!({ "to": "alpha", "dry_run": false })).await;
    pair.over(&operation).await;
    pair.whole(1).await;
    assert_eq!(crate::fixture::missing(&pair.host("alpha").node, &acknowledged).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_goes_on_alone_by_hand_and_the_store_that_forgot_is_not_believed() {
    let mut pair = LivePair::wished(&Wish::default()).await;
    lose_everything(&mut pair).await;
    let beta = &pair.host("beta").node;
    run(beta, "pg_ctl", &["-D", &beta.config.data_dir.display().to_string(), "stop", "-m", "fast"]).await;
    let alpha = &pair.host("alpha").node;
    assert!(position(alpha).await.starts_with("f 1 "));
    // A commit waits for the standby that is not there, until the names are taken away.
    let session = alpha.connect().await;
    let waits = tokio::spawn(async move { session.batch_execute("INSERT INTO t VALUES (-2)").await });
    alpha.becomes("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'", "t").await;
    alpha.ask("ALTER SYSTEM RESET synchronous_standby_names").await;
    alpha.ask("SELECT pg_reload_conf()").await;
    waits.await.unwrap().unwrap();

    // Members with a memory, and a store without: nothing happens until a person says so.
    fs::create_dir(pair.config_file("alpha").with_file_name("store")).unwrap();
    let beta = &pair.host("beta").node;
    start(beta).await;
    for host in &mut pair.hosts {
        host.member.start();
    }
    pair.shows("the store is not believed", |s| finds(s, "store_not_believed") && s.intent.is_none()).await;
    for host in &mut pair.hosts {
        host.member.terminate().await;
        end_guards(&host.node).await;
    }
    // Its guard may have frozen it at the first look, before anybody had given his word for it.
    thaw(&pair.host("alpha").node);
    fs::remove_dir_all(pair.config_file("alpha").with_file_name("store")).unwrap();
    give_back(&mut pair).await;
    assert_eq!(pair.primary().await, "alpha");
    assert_eq!(pair.host("alpha").node.ask("SELECT count(*) FROM t WHERE id = -2").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_left_and_not_promoted_is_promoted_by_hand_and_the_pair_given_back() {
    let mut pair = LivePair::wished(&Wish::default()).await;
    let writer = pair.write().await;
    writer.goes_on().await;
    let acknowledged = writer.finish().await;
    lose_host(&mut pair, "beta").await;
    pair.shows("commits that only the primary has", |s| finds(s, "exposed")).await;
    let only_alpha_has = "SELECT count(*) FROM t WHERE id = -3";
    pair.host("alpha").node.ask("INSERT INTO t VALUES (-3) RETURNING id").await;
    lose_host(&mut pair, "alpha").await;

    // Only the standby's host comes back.
    pair.host_mut("beta").member.start();
    pair.shows("why it is not promoted", |s| plan_of(s).contains("acknowledged commits alone")).await;
    locum(&["explain"], &pair.config_file("beta")).expect(0, &["BREAK-GLASS.md"]);

    // Step 1.
    pair.host_mut("beta").member.terminate().await;
    end_guards(&pair.host("beta").node).await;
    // Step 3b.
    let beta = &pair.host("beta").node;
    if beta.instance.find().await.unwrap().is_none() {
        start(beta).await;
    }
    promote_by_hand(beta).await;
    assert!(position(beta).await.starts_with("f 2 "), "{}", position(beta).await);
    assert_eq!(beta.ask(only_alpha_has).await, "0", "nothing is lost, and nothing is tested");
    assert_eq!(crate::fixture::missing(beta, &acknowledged).await, 0, "what was acknowledged before");
    beta.ask("INSERT INTO t VALUES (-1) RETURNING id").await;

    // The other host is back, its member disabled. What it had is kept.
    let alpha = &pair.host("alpha").node;
    let (data, kept) = (&alpha.config.data_dir, alpha.folder().join("kept"));
    let copied = std::process::Command::new("cp").arg("-a").args([data, &kept]).status().unwrap();
    assert!(copied.success());
    // Step 5.
    follow_by_hand(alpha, beta).await;
    alpha.becomes("SELECT count(*) FROM t WHERE id = -1", "1").await;
    assert_eq!(alpha.ask(only_alpha_has).await, "0");
    // Step 6, with a new store.
    fs::remove_dir_all(pair.config_file("alpha").with_file_name("store")).unwrap();
    give_back(&mut pair).await;
    assert_eq!(pair.primary().await, "beta");
    pair.host("beta").node.ask("SELECT pg_drop_replication_slot('by_hand')").await;
    let operation = pair.ask("/v1/switchover", serde_json::json!({ "to": "alpha", "dry_run": false })).await;
    pair.over(&operation).await;
    pair.whole(1).await;
    assert_eq!(crate::fixture::missing(&pair.host("alpha").node, &acknowledged).await, 0);
}
