//! What the configuration of an endpoint changes: limits, deadlines, the PROXY header, IPv6, draining.

use super::*;

fn tuned(change: impl FnOnce(&mut locum::config::Endpoint)) -> Arc<Proxy> {
    let mut config = endpoint(EndpointKind::Primary, 1000, DEADLINE);
    change(&mut config);
    bind(&config)
}

#[tokio::test]
async fn clients_beyond_the_limit_are_served_when_others_leave() {
    let (proxy, seoul) = (tuned(|config| config.tuning.max_connections = 2), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let (mut first, mut second) = (client(&proxy).await, client(&proxy).await);
    ask(&mut first, "1").await.unwrap();
    ask(&mut second, "2").await.unwrap();
    let mut third = client(&proxy).await;
    third.get_mut().write_all(b"3\n").await.unwrap();
    // The others go on meanwhile, and the third one's words reach nobody.
    for _ in 0..50 {
        ask(&mut first, "more").await.unwrap();
    }
    assert_eq!((proxy.facts().open, seoul.lines.load(Ordering::SeqCst)), (2, 52));
    drop(second);
    assert_eq!(hear(&mut third).await.unwrap(), "seoul 3");
    assert_eq!(proxy.facts().refused_total, 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let idle = Duration::from_millis(300);
    let (proxy, seoul) = (tuned(|config| config.tuning.idle = Some(idle)), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let (mut busy, mut silent) = (client(&proxy).await, client(&proxy).await);
    let began = Instant::now();
    ask(&mut silent, "once").await.unwrap();
    let mut ended = Box::pin(ends_promptly_after(&mut silent));
    let mut over = None;
    while over.is_none() || began.elapsed() < 3 * idle {
        ask(&mut busy, "on and on").await.unwrap();
        if over.is_none() && timeout(Duration::from_millis(1), &mut ended).await.is_ok() {
            over = Some(began.elapsed());
        }
        assert!(began.elapsed() < DEADLINE);
    }
    assert!(over >= Some(idle), "{over:?}");
    ask(&mut busy, "still there").await.unwrap();
    assert_eq!(proxy.facts().cut_total, 0, "no order cut it");
}

#[tokio::test]
async fn a_connection_on_which_only_the_server_speaks_is_not_idle() {
    let idle = Duration::from_millis(300);
    let proxy = tuned(|config| config.tuning.idle = Some(idle));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &listener.local_addr().unwrap().to_string());
    let mut listens = client(&proxy).await;
    listens.get_mut().write_all(b"all of it\n").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let began = Instant::now();
    while began.elapsed() < 3 * idle {
        server.write_all(b"more\n").await.unwrap();
        assert_eq!(hear(&mut listens).await.unwrap(), "more");
    }
}

async fn ends_promptly_after(client: &mut BufReader<tokio::net::TcpStream>) {
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn the_target_is_told_whom_it_serves() {
    let proxy = tuned(|config| config.tuning.proxy_protocol = true);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    point_to(&proxy, stamp(1, 1), "seoul", &listener.local_addr().unwrap().to_string());
    let mut client = client(&proxy).await;
    client.get_mut().write_all(b"hello\n").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut got = [0; 28 + 6];
    timeout(DEADLINE, server.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(&got[..12], b"\r\n\r\n\0\r\nQUIT\n");
    let own = client.get_ref().local_addr().unwrap();
    let std::net::IpAddr::V4(ip) = own.ip() else { panic!("{own}") };
    assert_eq!((&got[12..16], &got[16..20]), ([0x21, 0x11, 0, 12].as_slice(), ip.octets().as_slice()));
    assert_eq!(got[24..26], own.port().to_be_bytes());
    assert_eq!(&got[28..], b"hello\n", "and then what the client says");
}

#[tokio::test]
async fn an_endpoint_listens_on_ipv6_and_leads_there() {
    let (proxy, seoul) =
        (tuned(|config| config.listen = "[::1]:0".parse().unwrap()), Server::at("seoul", "[::1]:0").await);
    point(&proxy, stamp(1, 1), &seoul);
    assert!(proxy.facts().listen.starts_with("[::1]:"));
    assert_eq!(ask(&mut client(&proxy).await, "six").await.unwrap(), "seoul six");
}

#[tokio::test]
async fn draining_lets_connections_end_by_themselves_and_takes_nobody_new() {
    let (proxy, seoul) = (tuned(|config| config.tuning.shutdown = DEADLINE), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let address = proxy.facts().listen;
    let mut existing = client(&proxy).await;
    ask(&mut existing, "1").await.unwrap();
    let draining = tokio::spawn({
        let proxy = Arc::clone(&proxy);
        async move { proxy.drain().await }
    });
    let end = Instant::now() + DEADLINE;
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        assert!(Instant::now() < end, "it stops listening");
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(ask(&mut existing, "2").await.unwrap(), "seoul 2");
    assert!(!draining.is_finished());
    drop(existing);
    timeout(DEADLINE, draining).await.expect("it ends with the last connection").unwrap();
}

#[tokio::test]
async fn a_drain_is_bounded() {
    let (proxy, seoul) =
        (tuned(|config| config.tuning.shutdown = Duration::from_millis(50)), Server::start("seoul").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut stays = client(&proxy).await;
    ask(&mut stays, "1").await.unwrap();
    timeout(DEADLINE, proxy.drain()).await.expect("it ends without the client's help");
    ends_promptly(&mut stays).await;
}

#[tokio::test]
async fn what_passes_is_counted_for_each_target_and_the_gap_between_two() {
    let (proxy, seoul, busan) = (tuned(|_| ()), Server::start("seoul").await, Server::start("busan").await);
    point(&proxy, stamp(1, 1), &seoul);
    let mut first = client(&proxy).await;
    ask(&mut first, "12345").await.unwrap();
    assert_eq!(proxy.facts().traffic.longest_gap_us, None, "it has not moved yet");
    let last = proxy.facts().last_server_byte.unwrap();
    proxy.order(stamp(2, 2), RouteOrder::Cut);
    point(&proxy, stamp(2, 3), &busan);
    let mut second = client(&proxy).await;
    ask(&mut second, "1").await.unwrap();
    let facts = proxy.facts();
    let gap = facts.last_server_byte.unwrap().0 - last.0;
    assert_eq!((facts.traffic.longest_gap_us, facts.traffic.last_gap_us), (Some(gap), Some(gap)));
    let shown: Vec<_> = facts
        .traffic
        .targets
        .iter()
        .map(|target| (target.node.as_str(), target.serving, target.bytes_up, target.bytes_down))
        .collect();
    // "12345\n" and "seoul 12345\n"; "1\n" and "busan 1\n".
    assert_eq!(shown, [("busan", true, 2, 8), ("seoul", false, 6, 12)]);
    assert_eq!(facts.traffic.targets[0].open, 1);
}

/// Microseconds that a test sets.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Mono {
        Mono(self.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> jiff::Timestamp {
        SystemClock.wall()
    }
}

#[tokio::test]
async fn the_longest_gap_stays_when_a_shorter_one_follows() {
    let clock = Arc::new(Hand::default());
    let proxy = Proxy::bind(&endpoint(EndpointKind::Primary, 1000, DEADLINE), clock.clone()).unwrap();
    let (seoul, busan) = (Server::start("seoul").await, Server::start("busan").await);
    for (epoch, server, at) in [(1, &seoul, 1_000), (2, &busan, 6_000), (3, &seoul, 8_000)] {
        clock.0.store(at, Ordering::SeqCst);
        point(&proxy, stamp(epoch, epoch), server);
        ask(&mut client(&proxy).await, "1").await.unwrap();
    }
    let gaps = || (proxy.facts().traffic.last_gap_us, proxy.facts().traffic.longest_gap_us);
    assert_eq!(gaps(), (Some(2_000), Some(5_000)));
    point_to(&proxy, stamp(4, 4), "jeju", &nobody().await);
    assert_eq!(gaps(), (None, Some(5_000)), "how long this one lasts is not known yet");
    let seoul = proxy.facts().traffic.targets.into_iter().find(|target| target.node == node("seoul"));
    assert_eq!(seoul.map(|seoul| seoul.bytes_up), Some(4), "both times together");
}
