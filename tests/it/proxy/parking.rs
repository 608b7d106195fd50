//! Parking: what a client says waits, what its server says goes on.

use super::*;

#[tokio::test]
async fn parking_stops_the_parked_only_and_loses_and_reorders_nothing() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut parked = client(&proxy).await;
    ask(&mut parked, "first").await.unwrap();
    let port = seoul.ports.lock().unwrap()[0];
    let mut flowing = client(&proxy).await;
    ask(&mut flowing, "first").await.unwrap();
    proxy.order(stamp(1, 2), RouteOrder::Hold);
    assert_eq!(proxy.park(stamp(1, 2), BTreeSet::from([port])), Reply::Done);

    let lines: u64 = 200_000;
    let (mut answers, mut words) = parked.into_inner().into_split();
    let said = tokio::spawn(async move {
        let all: String = (0..lines).map(|n| format!("{n}\n")).collect();
        words.write_all(all.as_bytes()).await.map(|()| words)
    });
    for n in 0..100 {
        assert_eq!(ask(&mut flowing, &n.to_string()).await.unwrap(), format!("seoul {n}"));
    }
    assert_eq!(seoul.lines.load(Ordering::SeqCst), 102, "not a line of the parked one");
    assert_eq!(proxy.order(stamp(1, 2), RouteOrder::Hold), Reply::Done);
    assert_eq!(ask(&mut flowing, "after").await.unwrap(), "seoul after");
    assert_eq!(seoul.lines.load(Ordering::SeqCst), 103, "a repeated order does not end the parking");

    point(&proxy, stamp(1, 3), &seoul);
    let mut answers = BufReader::new(&mut answers).lines();
    for n in 0..lines {
        let line = timeout(DEADLINE, answers.next_line()).await.unwrap().unwrap().unwrap();
        assert_eq!(line, format!("seoul {n}"));
    }
    said.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_parked_client_still_hears_its_server_and_a_cut_ends_it() {
    let proxy = proxy();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &listener.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(b"hello\n").await.unwrap();
    let (mut server, peer) = listener.accept().await.unwrap();
    until(&proxy, |facts| facts.open == 1).await;
    proxy.park(stamp(1, 1), BTreeSet::from([peer.port()]));
    server.write_all(b"notice\n").await.unwrap();
    assert_eq!(hear(&mut client).await.unwrap(), "notice");
    client.get_mut().write_all(b"never sent\n").await.unwrap();
    proxy.order(stamp(2, 2), RouteOrder::Cut);
    ends_promptly(&mut client).await;
    let mut got = Vec::new();
    let ended = timeout(PROMPT, server.read_to_end(&mut got)).await.expect("the server's side ends too");
    assert_eq!(
        ended.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset,
        "and is left, not told the end"
    );
    assert!(b"hello\n".starts_with(&got), "nothing that was parked has reached it");
}

#[tokio::test]
async fn the_end_of_what_a_parked_client_says_waits_too() {
    let proxy = proxy();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    point_to(&proxy, stamp(1, 1), "seoul", &address);
    let mut client = client(&proxy).await;
    client.get_mut().write_all(b"hello\n").await.unwrap();
    let (mut server, peer) = listener.accept().await.unwrap();
    server.read_exact(&mut [0; 6]).await.unwrap();
    until(&proxy, |facts| facts.open == 1).await;
    proxy.park(stamp(1, 1), BTreeSet::from([peer.port()]));
    client.get_mut().shutdown().await.unwrap();
    // When the second notice is heard, the look at the client that followed the first is over.
    for _ in 0..2 {
        server.write_all(b"notice\n").await.unwrap();
        assert_eq!(hear(&mut client).await.unwrap(), "notice");
    }
    let looks = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
    let there = rustix::net::recv(&server, &mut [0_u8; 1][..], looks);
    assert_eq!(there.map(|(count, _)| count), Err(rustix::io::Errno::AGAIN), "the server was told the end");
    point_to(&proxy, stamp(1, 2), "seoul", &address);
    assert_eq!(timeout(DEADLINE, server.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn who_is_parked_no_longer_flows() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut first = client(&proxy).await;
    ask(&mut first, "1").await.unwrap();
    let mut second = client(&proxy).await;
    ask(&mut second, "1").await.unwrap();
    let ports = seoul.ports.lock().unwrap().clone();
    for parked in [ports.clone(), vec![ports[1]]] {
        assert_eq!(proxy.park(stamp(1, 1), parked.into_iter().collect()), Reply::Done);
    }
    assert_eq!(ask(&mut first, "2").await.unwrap(), "seoul 2");
    second.get_mut().write_all(b"3\n").await.unwrap();
    assert_eq!(proxy.park(stamp(1, 1), BTreeSet::new()), Reply::Done);
    assert_eq!(hear(&mut second).await.unwrap(), "seoul 3");
}
