//! Starting, stopping and killing.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use locum::{
    model::ControlState,
    postgres::{StartError, Stopped},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use crate::fixture::{Node, Pair, SOON, Writers, missing, until};

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

async fn with_table() -> Node {
    let node = Node::new("alpha");
    node.init(16).await;
    node
}

#[tokio::test]
async fn a_server_starts_is_found_and_stops_cleanly() {
    let node = with_table().await;
    assert!(node.instance.find().await.unwrap().is_none());
    let postmaster = node.start().await;
    let found = node.instance.find().await.unwrap().unwrap();
    assert_eq!(found.pid(), postmaster.pid());
    assert!(!postmaster.has_exited() && postmaster.children().len() > 3);
    assert!(matches!(node.instance.start().await, Err(StartError::Running(pid)) if pid == postmaster.pid()));
    assert!(timeout(Duration::from_millis(20), postmaster.exited()).await.is_err());

    assert_eq!(node.instance.stop_fast(&postmaster, SOON).await.unwrap(), Stopped::Clean);
    timeout(SOON, found.exited()).await.unwrap();
    assert!(found.has_exited() && found.children().is_empty() && found.reload().is_err());
    assert!(node.instance.find().await.unwrap().is_none());
    assert_eq!(node.instance.control().await.unwrap().state, ControlState::ShutDown);
    assert!(node.instance.version().await.unwrap() >= 14);
}

#[tokio::test]
async fn a_start_that_fails_says_why_at_once() {
    let node = with_table().await;
    let _taken = TcpListener::bind(("127.0.0.1", node.port)).unwrap();
    let Err(StartError::Ended { log, .. }) = node.instance.start().await else { panic!("it started") };
    assert!(log.contains("Address already in use"), "{log}");
    assert!(node.instance.log_tail().await.contains("Address already in use"));
}

#[tokio::test]
async fn kill_all_leaves_no_process_and_loses_nothing_that_was_acknowledged() {
    let node = with_table().await;
    let mut postmaster = node.start().await;
    node.ask("CREATE TABLE t (id bigint PRIMARY KEY)").await;
    let mut all = Vec::new();
    for round in 0..6 {
        let writers = Writers::start(&node, 8, round * 1_000_000).await;
        // Known and not known: both ways must do.
        let known = (round % 2 == 0).then_some(&postmaster);
        let killed = node.instance.kill_all(known).await.unwrap();
        println!(
            "kill_all, 8 writers, known: {}: {} processes in {:?}",
            known.is_some(),
            killed.processes,
            killed.took
        );
        assert!(killed.processes >= 9 && killed.took < Duration::from_secs(1), "{killed:?}");
        assert_eq!(node.instance.kill_all(None).await.unwrap().processes, 0);
        all.extend(writers.finish().await);
        postmaster = node.start().await;
    }
    assert_eq!(missing(&node, &all).await, 0);
}

#[tokio::test]
async fn orphans_of_a_dead_postmaster_are_found_and_killed() {
    let node = with_table().await;
    for round in 0..5 {
        let postmaster = node.start().await;
        node.ask("CREATE TABLE IF NOT EXISTS t (id bigint PRIMARY KEY)").await;
        let writers = Writers::start(&node, 8, round * 1_000_000).await;
        send(postmaster.pid(), Signal::KILL);
        timeout(SOON, postmaster.exited()).await.unwrap();
        let killed = node.instance.kill_orphans().await.unwrap();
        println!("kill_orphans: {} processes in {:?}", killed.processes, killed.took);
        assert_eq!(node.instance.kill_orphans().await.unwrap().processes, 0);
        writers.finish().await;
    }
    node.start().await;
}

/// Killed processes give their memory back before they are gone.
#[tokio::test]
async fn a_server_starts_although_those_killed_just_now_had_much_memory() {
    let node = with_table().await;
    node.configure("shared_buffers = '1200MB'\nmax_parallel_workers_per_gather = 0\n");
    let mut postmaster = node.start().await;
    for round in 0..3 {
        // Unlogged: its pages need no disk, and are gone after each crash. Four to a page, less than a quarter of all
        // buffers, so that reading it goes through the buffers, too.
        node.ask("DROP TABLE IF EXISTS big").await;
        node.ask("CREATE UNLOGGED TABLE big (t text)").await;
        node.ask("ALTER TABLE big ALTER t SET STORAGE plain").await;
        node.ask("INSERT INTO big SELECT repeat('x', 1990) FROM generate_series(1, 120000)").await;
        let mut clients = Vec::new();
        for _ in 0..6 {
            let client = node.connect().await;
            client.batch_execute("SELECT count(*) FROM big").await.unwrap();
            clients.push(client);
        }
        send(postmaster.pid(), Signal::KILL);
        timeout(SOON, postmaster.exited()).await.unwrap();
        let killed = node.instance.kill_orphans().await.unwrap();
        println!("round {round}: {} processes in {:?}", killed.processes, killed.took);
        postmaster = node.start().await;
    }
}

/// A parent that never collects its child.
struct Careless(Child);

impl Drop for Careless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_postmaster_that_is_a_zombie_is_dead_and_in_nobodys_way() {
    use std::os::unix::process::CommandExt;
    let node = with_table().await;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "\"$0\" \"$@\" & exec sleep 300"]).arg(node.config.bin_dir.join("postgres"));
    command.arg("-D").arg(&node.config.data_dir).stderr(Stdio::null()).stdout(Stdio::null());
    for option in &node.config.options {
        command.args(option.splitn(2, ' '));
    }
    if rustix::process::geteuid().is_root() {
        command.uid(node.instance.owner().uid).gid(node.instance.owner().gid);
    }
    let _parent = Careless(command.spawn().unwrap());
    node.connect().await;
    let postmaster = node.instance.find().await.unwrap().unwrap();

    send(postmaster.pid(), Signal::KILL);
    timeout(SOON, postmaster.exited()).await.unwrap();
    node.instance.kill_orphans().await.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", postmaster.pid())).unwrap();
    assert!(stat.contains(") Z "), "{stat}");
    assert!(node.instance.find().await.unwrap().is_none());
    assert_ne!(node.start().await.pid(), postmaster.pid());
}

#[tokio::test]
async fn a_postmaster_that_does_not_listen_is_killed_in_the_end() {
    let node = with_table().await;
    let postmaster = node.start().await;
    send(postmaster.pid(), Signal::STOP);
    let stopped = node.instance.stop_fast(&postmaster, Duration::from_millis(100)).await.unwrap();
    assert_eq!(stopped, Stopped::Killed);
    node.start().await;
}

#[tokio::test]
async fn a_stop_that_a_standby_holds_up_becomes_clean_without_it() {
    let pair = Pair::new().await;
    let receiver = until("a receiver", || async {
        pair.standby.ask("SELECT pid FROM pg_stat_wal_receiver").await.parse().ok()
    });
    send(receiver.await, Signal::STOP);
    pair.primary.ask("INSERT INTO t SELECT generate_series(1, 1000)").await;
    let postmaster = pair.primary.instance.find().await.unwrap().unwrap();
    let stopped = pair.primary.instance.stop_fast(&postmaster, Duration::from_millis(500)).await.unwrap();
    assert_eq!(stopped, Stopped::Clean);
    assert_eq!(pair.primary.instance.control().await.unwrap().state, ControlState::ShutDown);
}
