//! Bad input, bad clients, bad servers, and many clients at once.

use super::*;

#[tokio::test]
async fn garbage_reaches_the_server_as_it_is_and_harms_nobody() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut good = client(&proxy).await;
    ask(&mut good, "before").await.unwrap();
    for length in [1, 3, 4, 8, 100, 70_000] {
        let mut bytes = vec![0; length];
        getrandom::fill(&mut bytes).unwrap();
        let mut bad = client(&proxy).await;
        // Its server may close it at any time: what arrives is none of the proxy's business.
        let _ = bad.get_mut().write_all(&bytes).await;
    }
    assert_eq!(ask(&mut good, "after").await.unwrap(), "seoul after");
    until(&proxy, |facts| facts.open == 1 && facts.held == 0).await;
}

#[tokio::test]
async fn slow_clients_wait_no_longer_than_others_and_keep_nobody_out() {
    let hold = Duration::from_millis(300);
    let (proxy, seoul) = (bind(&endpoint(EndpointKind::Primary, 10, hold)), Server::start("seoul").await);
    // A startup packet, byte by byte, and never whole.
    let mut slow = Vec::new();
    for _ in 0..5 {
        slow.push(client(&proxy).await);
    }
    until(&proxy, |facts| facts.held == 5).await;
    let drip = async {
        loop {
            for client in &mut slow {
                let _ = client.get_mut().write_all(&[0]).await;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = drip => {}
        facts = until(&proxy, |facts| facts.held == 0) => assert_eq!(facts.refused_total, 5),
    }
    point(&proxy, stamp(1, 1), &seoul);
    assert_eq!(ask(&mut client(&proxy).await, "quick").await.unwrap(), "seoul quick");
}

#[tokio::test]
async fn a_client_that_never_reads_holds_up_its_own_server_only_and_can_be_cut() {
    let proxy = proxy();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &listener.local_addr().unwrap().to_string());
    let mut deaf = client(&proxy).await;
    deaf.get_mut().write_all(b"all of it\n").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.read_exact(&mut [0; 10]).await.unwrap();
    // Sockets take some megabytes; then the server has to wait: the proxy keeps no more than a buffer.
    let chunk = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while timeout(Duration::from_millis(500), server.write_all(&chunk)).await.is_ok() {
        sent += 1;
        assert!(sent < 256, "the proxy takes no end of it");
    }
    let mut other = client(&proxy).await;
    other.get_mut().write_all(b"hello\n").await.unwrap();
    let (mut another, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    another.write_all(b"answer\n").await.unwrap();
    assert_eq!(hear(&mut other).await.unwrap(), "answer");
    proxy.order(stamp(2, 2), RouteOrder::Cut);
    until(&proxy, |facts| facts.open == 0).await;
}

#[tokio::test]
async fn whoever_a_target_accepts_and_never_answers_is_served_by_the_next_one() {
    let (proxy, busan) = (proxy(), Server::start("busan").await);
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &hung.local_addr().unwrap().to_string());
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(client(&proxy).await);
    }
    until(&proxy, |facts| facts.open == 20).await;
    point(&proxy, stamp(2, 2), &busan);
    for client in &mut clients {
        assert_eq!(ask(client, "hello").await.unwrap(), "busan hello");
    }
    assert_eq!(proxy.facts().refused_total, 0);
}

/// Scenario 44: a thousand clients come back at once after a failover.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_clients_that_come_back_at_once_nobody_is_refused() {
    let (proxy, busan) = (proxy(), Server::start("busan").await);
    point_to(&proxy, stamp(1, 1), "seoul", &nobody().await);
    let mut clients = JoinSet::new();
    for number in 0..1000 {
        let proxy = Arc::clone(&proxy);
        clients.spawn(async move {
            let mut client = client(&proxy).await;
            ask(&mut client, &number.to_string()).await.unwrap() == format!("busan {number}")
        });
    }
    until(&proxy, |facts| facts.held >= 500).await;
    proxy.order(stamp(2, 2), RouteOrder::Cut);
    point(&proxy, stamp(2, 3), &busan);
    while let Some(served) = timeout(DEADLINE, clients.join_next()).await.expect("all are served") {
        assert!(served.unwrap());
    }
    let facts = until(&proxy, |facts| facts.open == 0).await;
    assert_eq!((facts.refused_total, facts.held), (0, 0));
}

#[tokio::test]
async fn a_target_that_refuses_is_tried_by_one_at_a_time() {
    let (proxy, address) = (proxy(), nobody().await);
    point_to(&proxy, stamp(1, 1), "seoul", &address);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(client(&proxy).await);
    }
    until(&proxy, |facts| facts.held == 20).await;
    let refuses = TcpListener::bind(&address).await.unwrap();
    let began = Instant::now();
    for _ in 0..5 {
        drop(timeout(DEADLINE, refuses.accept()).await.unwrap().unwrap());
    }
    assert!(began.elapsed() >= 4 * Duration::from_millis(50), "{:?}", began.elapsed());
}

#[tokio::test]
async fn whoever_says_much_while_it_waits_is_kept_waiting_and_heard_to_the_end() {
    let (proxy, seoul) = (proxy(), Server::start("seoul").await);
    let (mut answers, mut words) = client(&proxy).await.into_inner().into_split();
    let line = |n: usize| format!("{n:01023}");
    let all: Vec<u8> = (0..64 << 10).flat_map(|n| (line(n) + "\n").into_bytes()).collect();
    // Until the kernel has as much as it takes: the proxy keeps little of one who waits.
    let mut said = 0;
    while let Ok(more) = timeout(Duration::from_millis(500), words.write(&all[said..])).await {
        said += more.unwrap();
        assert!(said < all.len(), "the proxy takes no end of it");
    }
    assert_eq!(proxy.facts().held, 1);
    point(&proxy, stamp(1, 1), &seoul);
    let mut answers = BufReader::new(&mut answers).lines();
    for n in 0..said / 1024 {
        let answer = timeout(DEADLINE, answers.next_line()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer, format!("seoul {}", line(n)));
    }
}
