//! Data directories that do not belong here are neither followed nor overwritten.

use crate::{
    fixture::{Node, until},
    pair::{LivePair, THIRD, Third, Wish, finds},
};

const SYSTEM: &str = "SELECT system_identifier FROM pg_control_system()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_of_another_system_is_refused_at_the_first_start() {
    let (alpha, beta) = (Node::new("alpha"), Node::new("beta"));
    for node in [&alpha, &beta] {
        node.init(16).await;
    }
    alpha.start().await;
    let mut pair = LivePair::around([alpha, beta], &Wish::default());
    for host in &mut pair.hosts {
        host.member.start();
    }
    let seen = pair.shows("a data directory of another system", |s| finds(s, "foreign_data")).await;
    assert_eq!(seen.intent, None, "no cluster is declared around it");
    for host in &mut pair.hosts {
        host.member.terminate().await;
    }
    let [alpha, beta] = pair.hosts.each_ref().map(|host| &host.node);
    assert!(alpha.instance.find().await.unwrap().is_some(), "the primary was not touched");
    assert!(beta.instance.find().await.unwrap().is_none(), "the other one was not started");
    beta.start().await;
    assert_ne!(alpha.ask(SYSTEM).await, beta.ask(SYSTEM).await, "it was overwritten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_that_was_exchanged_is_refused() {
    let mut pair = LivePair::new().await;
    let standby = pair.other(pair.primary().await).node.name;
    let host = pair.host_mut(standby);
    host.member.terminate().await;
    let postmaster = host.node.instance.find().await.unwrap().unwrap();
    host.node.instance.stop_fast(&postmaster, crate::fixture::SOON).await.unwrap();
    let (data, own) = (host.node.config.data_dir.clone(), host.node.folder().join("data.own"));
    std::fs::rename(&data, &own).unwrap();
    host.node.init(16).await;
    host.member.start();
    let (code, log) = host.member.ends().await;
    assert!(code == Some(1) && log.contains("the data directory is of system"), "{log}");

    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&own, &data).unwrap();
    host.member.start();
    until("PostgreSQL of the standby", || async { pair.host(standby).node.instance.find().await.unwrap() })
        .await;
    let writer = pair.write().await;
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_member_of_a_name_is_refused() {
    let mut pair = LivePair::new().await;
    let node = Node::new(THIRD);
    node.init(16).await;
    let mut second = Third(pair.further(node, &Wish::default().set("node=beta")));
    second.0.member.start();
    let (code, log) = second.0.member.ends().await;
    assert!(code == Some(1) && log.contains("a member of beta runs at 127.0.0.1:"), "{log}");
    assert!(log.contains("already: stop that one, or give this one a name of its own"), "{log}");
    let writer = pair.write().await;
    pair.ends(writer, 0).await;
}
