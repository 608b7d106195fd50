//! `locum endpoint`: a proxy without a member follows what members show.

use std::process::{Child, Command, Stdio};

use crate::{
    fixture::free_ports,
    pair::{LivePair, Wish, Writer, family, primary_of, send},
    plain::told,
};

/// A running one. Dropping it kills it.
struct Sidecar(Child);

impl Sidecar {
    /// Listens at `port` and follows the members with these public ports.
    fn start(port: u16, members: &[u16]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
        command.args(["endpoint", "--listen", &format!("127.0.0.1:{port}")]);
        for member in members {
            command.args(["--member", &format!("http://127.0.0.1:{member}")]);
        }
        Self(command.stdin(Stdio::null()).spawn().expect("locum endpoint"))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _collected = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_follows_a_failover_and_a_switchover_and_carries_on_while_no_member_is_heard() {
    let mut pair = LivePair::wished(&Wish::durability("async")).await;
    let first = pair.primary().await;
    let second = pair.other(first).node.name;
    let [both, one] = free_ports();
    let members = [pair.host(first).public, pair.host(second).public];
    let sidecar = Sidecar::start(both, &members);
    // It knows a single member, which will be gone.
    let _lonely = Sidecar::start(one, &[pair.host(first).public]);
    let writer = Writer::start(&[both, one]).await;

    send(family(&pair.host(first).node.config.data_dir)[0], "KILL");
    pair.shows("another primary", |s| primary_of(s) == Some(second)).await;
    writer.goes_on().await;
    pair.whole(1).await;
    pair.hand_over(first).await;
    writer.goes_on().await;
    pair.whole(2).await;

    // Back on the second one, so that the first one's member can go without its server.
    pair.hand_over(second).await;
    pair.whole(3).await;
    writer.goes_on().await;
    pair.host_mut(first).member.kill();
    writer.goes_on().await;
    pair.host_mut(first).member.start();
    // Told to stop, it ends in order; the other one's clients go on.
    send(sidecar.0.id().cast_signed(), "TERM");
    let rows = writer.finish().await;
    assert!(rows.len() > 100);
    let writer = Writer::start(&[one]).await;
    let ended = pair.ends(writer, 3).await;
    assert_eq!(primary_of(&ended), Some(second));
}

#[test]
fn wrong_use_is_told_with_the_way_out() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
        told(command.arg("endpoint").args(arguments).stdin(Stdio::null()).output().unwrap())
    };
    run(&[]).expect(2, &["--member"]);
    run(&["--member", "no url at all"]).expect(2, &["is not the URL of an API", "http://10.0.0.1:8008"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    run(&["--member", "127.0.0.1:1", "--listen", &at]).expect(1, &["is in use by another process"]);
}
