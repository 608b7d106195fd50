//! The proxy, with real sockets: who is held, served, cut, parked, and when a server last spoke.

mod balance;
mod greeting;
mod harness;
mod parking;
mod settings;
mod strain;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use locum::{
    clock::SystemClock,
    endpoint::{BindError, Proxy},
    model::{EndpointKind, Mode, Mono, Reply, RouteOrder},
    ports::Clock,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use harness::*;

#[tokio::test]
async fn a_client_that_came_before_the_first_order_is_served_after_it() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    let mut client = client(&proxy).await;
    client.get_mut().write_all(b"early\n").await.unwrap();
    until(&proxy, |facts| facts.held == 1 && facts.open == 0).await;
    assert_eq!(point(&proxy, stamp(1, 1), &seoul), Reply::Done);
    assert_eq!(hear(&mut client).await.unwrap(), "seoul early");
    let facts = until(&proxy, |facts| facts.held_total == 1 && facts.held == 0).await;
    assert_eq!((facts.open, facts.refused_total, facts.target), (1, 0, Some(node("seoul"))));
}

#[tokio::test]
async fn a_client_of_a_refusing_target_is_served_at_once_when_pointed_elsewhere() {
    let (proxy, busan) = (proxy(), Server::start("busan").await);
    let mut changes = proxy.changes();
    assert_eq!(point_to(&proxy, stamp(1, 1), "seoul", &nobody().await), Reply::Done);
    changes.mark_unchanged();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(client(&proxy).await);
    }
    until(&proxy, |facts| facts.held == 20).await;
    assert!(changes.has_changed().unwrap(), "that the target refuses is worth acting on");
    assert_eq!(*changes.borrow_and_update(), 2, "once, not for each client");
    point(&proxy, stamp(2, 2), &busan);
    for client in &mut clients {
        assert_eq!(ask(client, "hello").await.unwrap(), "busan hello");
    }
    assert_eq!(until(&proxy, |facts| facts.held == 0).await.refused_total, 0);
}

#[tokio::test]
async fn a_refusing_target_is_tried_again_without_any_order() {
    let proxy = proxy();
    let address = nobody().await;
    point_to(&proxy, stamp(1, 1), "seoul", &address);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(client(&proxy).await);
    }
    until(&proxy, |facts| facts.held == 20).await;
    let _seoul = Server::at("seoul", &address).await;
    for client in &mut clients {
        assert_eq!(ask(client, "hello").await.unwrap(), "seoul hello");
    }
}

#[tokio::test]
async fn a_stale_order_is_refused_and_routing_is_as_it_was() {
    let (proxy, seoul, busan) = (proxy(), Server::start("seoul").await, Server::start("busan").await);
    point(&proxy, stamp(2, 5), &seoul);
    let mut before = client(&proxy).await;
    ask(&mut before, "1").await.unwrap();
    for late in [stamp(2, 4), stamp(1, 9)] {
        assert!(matches!(point(&proxy, late, &busan), Reply::Refused(_)));
        assert!(matches!(proxy.order(late, RouteOrder::Cut), Reply::Refused(_)));
        assert!(matches!(proxy.park(late, BTreeSet::new()), Reply::Refused(_)));
    }
    assert!(matches!(point(&proxy, stamp(2, 6), &busan), Reply::Refused(_)), "two nodes for one epoch");
    assert_eq!(ask(&mut before, "2").await.unwrap(), "seoul 2");
    assert_eq!(ask(&mut client(&proxy).await, "3").await.unwrap(), "seoul 3");
    let facts = proxy.facts();
    assert_eq!((facts.stamp, facts.mode, facts.cut_total), (stamp(2, 5), Mode::Open, 0));
}

#[tokio::test]
async fn a_cut_closes_clients_promptly_and_lets_new_ones_wait() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = client(&proxy).await;
        ask(&mut client, "hello").await.unwrap();
        clients.push(client);
    }
    assert_eq!(proxy.order(stamp(2, 2), RouteOrder::Cut), Reply::Done);
    assert_eq!(proxy.facts().cut_total, 10);
    for client in &mut clients {
        ends_promptly(client).await;
    }
    until(&proxy, |facts| facts.open == 0).await;
    let mut late = client(&proxy).await;
    until(&proxy, |facts| facts.held == 1).await;
    point(&proxy, stamp(2, 3), &seoul);
    assert_eq!(ask(&mut late, "again").await.unwrap(), "seoul again");
}

#[tokio::test]
async fn a_hold_lets_existing_connections_go_on_and_new_ones_wait() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut existing = client(&proxy).await;
    ask(&mut existing, "1").await.unwrap();
    proxy.order(stamp(1, 2), RouteOrder::Hold);
    let mut new = client(&proxy).await;
    until(&proxy, |facts| facts.held == 1).await;
    assert_eq!(ask(&mut existing, "2").await.unwrap(), "seoul 2");
    point(&proxy, stamp(1, 3), &seoul);
    assert_eq!(ask(&mut new, "3").await.unwrap(), "seoul 3");
    assert_eq!(ask(&mut existing, "4").await.unwrap(), "seoul 4", "the same target keeps its connections");
    let facts = proxy.facts();
    assert_eq!(facts.held_total, 1, "who did not wait is not counted");
    assert!(facts.repoint.is_some_and(|repoint| repoint.under == stamp(1, 3) && repoint.confirmed.is_some()));
}

#[tokio::test]
async fn of_more_than_may_wait_the_oldest_is_closed_at_once_and_counted() {
    let (proxy, seoul) = (bind(&endpoint(EndpointKind::Primary, 2, DEADLINE)), Server::start("seoul").await);
    let mut first = client(&proxy).await;
    until(&proxy, |facts| facts.held == 1).await;
    let mut second = client(&proxy).await;
    until(&proxy, |facts| facts.held == 2).await;
    let mut third = client(&proxy).await;
    ends_promptly(&mut first).await;
    let facts = until(&proxy, |facts| facts.refused_total == 1).await;
    assert_eq!(facts.held, 2);
    point(&proxy, stamp(1, 1), &seoul);
    assert_eq!(ask(&mut second, "2").await.unwrap(), "seoul 2");
    assert_eq!(ask(&mut third, "3").await.unwrap(), "seoul 3");
}

#[tokio::test]
async fn whoever_waits_for_too_long_is_closed_and_counted() {
    let hold = Duration::from_millis(150);
    // Whether there is nowhere to lead it, or a target that is tried in vain all the time.
    for refuses in [false, true] {
        let proxy = bind(&endpoint(EndpointKind::Primary, 10, hold));
        if refuses {
            point_to(&proxy, stamp(1, 1), "seoul", &nobody().await);
        }
        let began = Instant::now();
        let mut waiting = client(&proxy).await;
        ends_promptly(&mut waiting).await;
        assert!(began.elapsed() >= hold);
        let facts = until(&proxy, |facts| facts.held == 0).await;
        assert_eq!((facts.refused_total, facts.held_total), (1, 0));
    }
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_is_forgotten() {
    let proxy = proxy();
    let silent = client(&proxy).await;
    let mut talker = client(&proxy).await;
    talker.get_mut().write_all(b"hello\n").await.unwrap();
    until(&proxy, |facts| facts.held == 2).await;
    drop((silent, talker));
    let facts = until(&proxy, |facts| facts.held == 0).await;
    assert_eq!((facts.refused_total, facts.held_total), (0, 0));
}

#[tokio::test]
async fn a_server_that_dies_ends_its_clients_and_they_wait_when_they_come_back() {
    let (proxy, seoul, busan) = (proxy(), Server::start("seoul").await, Server::start("busan").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut first = client(&proxy).await;
    ask(&mut first, "1").await.unwrap();
    seoul.kill().await;
    ends_promptly(&mut first).await;
    let mut again = client(&proxy).await;
    until(&proxy, |facts| facts.held == 1).await;
    point(&proxy, stamp(2, 2), &busan);
    assert_eq!(ask(&mut again, "2").await.unwrap(), "busan 2");
    assert_eq!(proxy.facts().cut_total, 0, "no order cut anything");
}

#[tokio::test]
async fn the_last_words_of_a_server_arrive_before_the_end() {
    let proxy = proxy();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &listener.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(b"go on\n").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.read_exact(&mut [0; 6]).await.unwrap();
    let words = vec![b'x'; 3_000_000];
    let (sent, heard) = (words.clone(), async {
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.map(|_| heard)
    });
    tokio::spawn(async move { server.write_all(&sent).await });
    assert!(timeout(DEADLINE, heard).await.unwrap().unwrap() == words);
}

#[tokio::test]
async fn a_client_that_has_said_all_still_hears_the_answer() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut client = client(&proxy).await;
    client.get_mut().write_all(b"bye\n").await.unwrap();
    client.get_mut().shutdown().await.unwrap();
    assert_eq!(hear(&mut client).await.unwrap(), "seoul bye");
    ends_promptly(&mut client).await;
}

#[tokio::test]
async fn the_last_byte_of_a_server_is_kept_when_the_route_moves_on() {
    let (proxy, seoul, busan) = (proxy(), Server::start("seoul").await, Server::start("busan").await);
    let bytes = |proxy: &Proxy| (proxy.facts().last_server_byte, proxy.facts().last_byte_before);
    point(&proxy, stamp(1, 1), &seoul);
    let mut first = client(&proxy).await;
    until(&proxy, |facts| facts.open == 1).await;
    assert_eq!(bytes(&proxy), (None, None), "a connection alone is no byte");
    let before = SystemClock.now();
    ask(&mut first, "1").await.unwrap();
    let after = SystemClock.now();
    let (Some(last), None) = bytes(&proxy) else { panic!("{:?}", proxy.facts()) };
    assert!((before..=after).contains(&last));

    proxy.order(stamp(2, 2), RouteOrder::Cut);
    assert_eq!(bytes(&proxy), (Some(last), None), "a cut moves nothing");
    point_to(&proxy, stamp(2, 3), "jeju", &nobody().await);
    assert_eq!(bytes(&proxy), (None, Some(last)), "a new target does");
    point(&proxy, stamp(3, 4), &busan);
    assert_eq!(bytes(&proxy), (None, Some(last)), "a target that never spoke does not hide it");
    let mut second = client(&proxy).await;
    ask(&mut second, "2").await.unwrap();
    assert!(bytes(&proxy).0.unwrap() > last);
    assert_eq!(bytes(&proxy).1, Some(last));
}

#[tokio::test]
async fn the_same_target_served_again_after_a_cut_shows_when_it_was_last_there() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    ask(&mut client(&proxy).await, "1").await.unwrap();
    let last: Option<Mono> = proxy.facts().last_server_byte;
    proxy.order(stamp(2, 2), RouteOrder::Cut);
    point(&proxy, stamp(2, 3), &seoul);
    assert_eq!((proxy.facts().last_server_byte, proxy.facts().last_byte_before), (None, last));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_hear_their_own_answers_across_a_repoint() {
    let (proxy, seoul, busan) = (proxy(), Server::start("seoul").await, Server::start("busan").await);
    point(&proxy, stamp(1, 1), &seoul);
    let acquainted = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for id in 0..200 {
        clients.spawn(talk(Arc::clone(&proxy), id, Arc::clone(&acquainted)));
    }
    until(&proxy, |_| acquainted.load(Ordering::SeqCst) == 200).await;
    proxy.order(stamp(2, 2), RouteOrder::Cut);
    until(&proxy, |facts| facts.open == 0).await;
    // What had reached the old one before may still be read there.
    until(&proxy, |_| seoul.has_no_connections()).await;
    let asked_before = seoul.lines.load(Ordering::SeqCst);
    point(&proxy, stamp(2, 3), &busan);
    while let Some(ended) = timeout(DEADLINE, clients.join_next()).await.expect("all are served") {
        ended.unwrap();
    }
    assert_eq!(seoul.lines.load(Ordering::SeqCst), asked_before, "nothing reaches the old one");
    let facts = until(&proxy, |facts| facts.open == 0).await;
    assert_eq!((facts.cut_total, facts.refused_total, facts.held), (200, 0, 0));
}

/// Talks to whoever answers, until the second server has answered often enough.
async fn talk(proxy: Arc<Proxy>, id: u64, acquainted: Arc<AtomicU64>) {
    let (mut number, mut by_busan) = (0, 0);
    while by_busan < 20 {
        let mut client = client(&proxy).await;
        while by_busan < 20 {
            number += 1;
            let line = format!("{id}:{number}:{}", "x".repeat(usize::try_from(number % 50).unwrap() * 100));
            let Ok(answer) = ask(&mut client, &line).await else { break };
            let (name, rest) = answer.split_once(' ').unwrap();
            assert_eq!(rest, line);
            assert!(name == "busan" || by_busan == 0, "an old server's answer after a new one's");
            by_busan += u64::from(name == "busan");
            acquainted.fetch_add(u64::from(number == 5), Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn a_taken_port_is_reported_with_address_endpoint_and_the_way_out() {
    let proxy = proxy();
    let mut config = endpoint(EndpointKind::Primary, 1, DEADLINE);
    config.listen = proxy.facts().listen.parse().unwrap();
    let error = Proxy::bind(&config, Arc::new(SystemClock)).err().unwrap();
    assert!(matches!(error, BindError::Taken { .. }), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("endpoint db") && words.contains(&proxy.facts().listen), "{words}");
    config.listen = "192.0.2.1:0".parse().unwrap();
    let error = Proxy::bind(&config, Arc::new(SystemClock)).err().unwrap();
    assert!(matches!(error, BindError::NotHere { .. }), "{error:?}");
}

#[tokio::test]
async fn a_proxy_that_is_dropped_is_closed() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut client = client(&proxy).await;
    ask(&mut client, "1").await.unwrap();
    drop(proxy);
    ends_promptly(&mut client).await;
}

#[tokio::test]
async fn closing_ends_everybody_and_frees_the_port() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    let address = proxy.facts().listen;
    let mut waiting = client(&proxy).await;
    until(&proxy, |facts| facts.held == 1).await;
    point(&proxy, stamp(1, 1), &seoul);
    ask(&mut waiting, "1").await.unwrap();
    proxy.order(stamp(1, 2), RouteOrder::Hold);
    let mut held = client(&proxy).await;
    until(&proxy, |facts| facts.held == 1).await;
    proxy.close();
    ends_promptly(&mut waiting).await;
    ends_promptly(&mut held).await;
    let mut config = endpoint(EndpointKind::Primary, 1, DEADLINE);
    config.listen = address.parse().unwrap();
    let end = Instant::now() + DEADLINE;
    while let Err(error) = Proxy::bind(&config, Arc::new(SystemClock)) {
        assert!(Instant::now() < end, "{error}");
        sleep(Duration::from_millis(1)).await;
    }
}
