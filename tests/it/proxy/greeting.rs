//! Until a server has answered, a connection can still start over.

use std::{sync::atomic::Ordering, time::Duration};

use locum::model::{EndpointKind, Reply, RouteOrder};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{sleep, timeout},
};

use super::harness::*;

/// PostgreSQL's startup packet: length, protocol 3.0, `user=a`.
const STARTUP: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";

#[tokio::test]
async fn a_connection_that_a_hung_server_never_answered_is_served_by_the_next_one() {
    let proxy = proxy();
    let (hung, busan) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    point_to(&proxy, stamp(1, 1), "seoul", &hung.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(STARTUP).await.unwrap();
    let (mut swallowed, _) = hung.accept().await.unwrap();
    let mut got = vec![0; STARTUP.len()];
    swallowed.read_exact(&mut got).await.unwrap();

    proxy.order(stamp(2, 2), RouteOrder::Cut);
    let facts = until(&proxy, |facts| facts.held == 1 && facts.open == 0).await;
    assert_eq!(facts.cut_total, 0);
    point_to(&proxy, stamp(2, 3), "busan", &busan.local_addr().unwrap().to_string());
    let (mut server, _) = timeout(DEADLINE, busan.accept()).await.unwrap().unwrap();
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(got, STARTUP);
    server.write_all(b"R\n").await.unwrap();
    assert_eq!(hear(&mut client).await.unwrap(), "R");
}

#[tokio::test]
async fn a_server_that_cannot_take_connections_now_is_tried_again() {
    let proxy = proxy();
    let seoul = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &seoul.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(STARTUP).await.unwrap();
    let starting = b"E\0\0\0\x20SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0".as_slice();
    // In turn: says that it starts, is killed before it answers, has no descriptor left to answer with, and serves.
    for (answer, expect) in [(starting, None), (b"", None), (b"".as_slice(), None), (b"R\n", Some("R"))] {
        let (mut server, _) = timeout(DEADLINE, seoul.accept()).await.unwrap().unwrap();
        server.read_exact(&mut vec![0; STARTUP.len()]).await.unwrap();
        server.write_all(answer).await.unwrap();
        if let Some(expect) = expect {
            assert_eq!(hear(&mut client).await.unwrap(), expect);
            assert!(proxy.facts().last_server_byte.is_some());
        } else {
            drop(server);
            until(&proxy, |facts| facts.held == 1).await;
            assert_eq!(proxy.facts().last_server_byte, None, "a refusal is no service");
        }
    }
}

#[tokio::test]
async fn a_connection_that_starts_over_tells_again_whom_it_serves() {
    let mut config = endpoint(EndpointKind::Primary, 10, DEADLINE);
    config.tuning.proxy_protocol = true;
    let (proxy, seoul) = (bind(&config), TcpListener::bind("127.0.0.1:0").await.unwrap());
    point_to(&proxy, stamp(1, 1), "seoul", &seoul.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(STARTUP).await.unwrap();
    for _ in 0..2 {
        // Dropped without an answer.
        let (mut server, _) = timeout(DEADLINE, seoul.accept()).await.unwrap().unwrap();
        let mut got = vec![0; 28 + STARTUP.len()];
        timeout(DEADLINE, server.read_exact(&mut got)).await.unwrap().unwrap();
        assert!(got.starts_with(b"\r\n\r\n\0\r\nQUIT\n") && got.ends_with(STARTUP), "{got:?}");
    }
}

#[tokio::test]
async fn an_error_as_the_first_answer_is_delivered_and_is_no_service() {
    let proxy = proxy();
    let seoul = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &seoul.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(STARTUP).await.unwrap();
    let (mut server, _) = seoul.accept().await.unwrap();
    server.read_exact(&mut vec![0; STARTUP.len()]).await.unwrap();
    server.write_all(b"E\0\0\0\x20SFATAL\0C53300\0\0\n").await.unwrap();
    assert!(hear(&mut client).await.unwrap().contains("53300"));
    assert_eq!(proxy.facts().last_server_byte, None);
}

#[tokio::test]
async fn a_cancel_request_is_passed_on_once_and_its_close_too() {
    let proxy = proxy();
    let seoul = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &seoul.local_addr().unwrap().to_string());
    let cancel = [0, 0, 0, 16, 4, 210, 22, 46, 1, 2, 3, 4, 5, 6, 7, 8];
    for waits in [true, false] {
        let mut client = client(&proxy).await;
        client.get_mut().write_all(&cancel).await.unwrap();
        let mut client = waits.then_some(client);
        let (mut server, _) = seoul.accept().await.unwrap();
        let mut got = vec![0; 16];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(got, cancel);
        drop(server);
        if let Some(client) = &mut client {
            ends_promptly(client).await;
        }
        until(&proxy, |facts| facts.open == 0 && facts.held == 0).await;
    }
}

#[tokio::test]
async fn a_request_to_an_app_server_is_never_sent_twice() {
    let proxy = bind(&endpoint(EndpointKind::App, 10, DEADLINE));
    let (seoul, busan) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Server::start("busan").await);
    point_to(&proxy, stamp(1, 1), "seoul", &seoul.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(b"POST\n").await.unwrap();
    let (mut server, _) = seoul.accept().await.unwrap();
    server.read_exact(&mut [0; 5]).await.unwrap();
    assert_eq!(point(&proxy, stamp(1, 2), &busan), Reply::Done, "an app may move within an epoch");
    ends_promptly(&mut client).await;
    assert_eq!(busan.lines.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_given_up_with_its_server_and_nobody_else_waits_for_it() {
    let (proxy, seoul) = (proxy(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    point_to(&proxy, stamp(1, 1), "seoul", &seoul.local_addr().unwrap().to_string());
    let mut changes = proxy.changes();
    let mut silent = client(&proxy).await;
    let (server, _) = seoul.accept().await.unwrap();
    changes.mark_unchanged();
    // As long as a server takes at least to lose its patience with a client.
    sleep(Duration::from_millis(1_100)).await;
    drop(server);
    ends_promptly(&mut silent).await;
    let facts = until(&proxy, |facts| facts.open == 0).await;
    assert_eq!((facts.held, facts.refused_total), (0, 0));
    assert!(!changes.has_changed().unwrap(), "the target has refused nobody");
}
