//! HAProxy with the file that Patroni's users have, against Locum's health paths: it follows without a word from us.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use locum::model::OperationState;
use serde_json::json;
use tokio_postgres::NoTls;

use crate::{
    fixture::{free_ports, until},
    pair::{LivePair, family, send},
};

/// Ends with its value.
struct HaProxy {
    child: Child,
    _folder: tempfile::TempDir,
    primary: u16,
    standbys: u16,
}

impl HaProxy {
    /// The sample, with this pair's addresses in it.
    fn start(pair: &LivePair) -> Self {
        let [primary, standbys] = free_ports();
        let sample = include_str!("../../deploy/haproxy.cfg");
        let mut text =
            sample.replace(":5000", &format!(":{primary}")).replace(":5001", &format!(":{standbys}"));
        for (address, host) in [("10.0.0.1:5432", &pair.hosts[0]), ("10.0.0.2:5432", &pair.hosts[1])] {
            let line = format!("{address} maxconn 300 check port 8008");
            assert!(text.contains(&line), "the sample has changed");
            let here = format!("127.0.0.1:{} maxconn 300 check port {}", host.node.port, host.public);
            text = text.replace(&line, &here);
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, text).unwrap();
        let mut command = Command::new("haproxy");
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin")).arg("-db").arg("-q").arg("-f").arg(&file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("HAProxy, from Debian");
        Self { child, _folder: folder, primary, standbys }
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _collected = self.child.wait();
    }
}

/// Which server answers there; None: none does.
async fn server(port: u16) -> Option<(i32, bool)> {
    let at = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres connect_timeout=2");
    let (client, connection) = tokio_postgres::connect(&at, NoTls).await.ok()?;
    tokio::spawn(connection);
    let row = client.query_one("SELECT current_setting('port')::int, pg_is_in_recovery()", &[]).await.ok()?;
    Some((row.get(0), row.get(1)))
}

/// Waits until both ports lead where they should.
async fn follows(proxy: &HaProxy, pair: &LivePair) {
    let name = pair.primary().await;
    let (primary, standby) = (i32::from(pair.host(name).node.port), i32::from(pair.other(name).node.port));
    until("HAProxy leads to the primary and to the standby, and nowhere else", || async {
        // It would take them in turn.
        for _ in 0..4 {
            let found = (server(proxy.primary).await, server(proxy.standbys).await);
            if found != (Some((primary, false)), Some((standby, true))) {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_with_the_sample_follows_a_switchover_and_a_failover() {
    let pair = LivePair::new().await;
    let proxy = HaProxy::start(&pair);
    follows(&proxy, &pair).await;
    let first = pair.primary().await;
    assert_eq!(pair.over(&pair.ask("/v1/switchover", json!({})).await).await.state, OperationState::Done);
    pair.whole(1).await;
    let second = pair.primary().await;
    assert_ne!(first, second);
    follows(&proxy, &pair).await;
    send(family(&pair.host(second).node.config.data_dir)[0], "KILL");
    pair.whole_again(first).await;
    follows(&proxy, &pair).await;
}
