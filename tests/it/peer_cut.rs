//! A network between two members that goes silent, without a reset, and comes back.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use locum::{
    api::peer::{self, Remote},
    clock::SystemClock,
    model::Command,
    ports::Member,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::{Instant, timeout},
};

use super::peer::{DEADLINE, Fake, TOKEN, cluster, heard, name, open, stamp};

/// How soon facts must come again.
const RECOVERY: Duration = Duration::from_secs(1);

/// Forwards bytes while `up`. What begins while it is down is lost for good, as a swallowed SYN is until the kernel
/// sends another; what is open keeps its bytes, as TCP does.
async fn relay(listener: TcpListener, to: SocketAddr, up: watch::Receiver<bool>) {
    let mut lost = Vec::new();
    loop {
        let (stream, _) = listener.accept().await.expect("accepted");
        if !*up.borrow() {
            lost.push(stream);
            continue;
        }
        let other = TcpStream::connect(to).await.expect("connected");
        let ((from, back), (answer, there)) = (stream.into_split(), other.into_split());
        tokio::spawn(forward(from, there, up.clone()));
        tokio::spawn(forward(answer, back, up.clone()));
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut up: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if up.wait_for(|up| *up).await.is_err() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn facts_come_again_within_a_second_after_a_silent_cut() {
    let fake = Fake::new("a");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let served = listener.local_addr().expect("bound");
    tokio::spawn(peer::serve(
        listener,
        cluster("orders"),
        fake.clone(),
        TOKEN.into(),
        std::future::pending(),
    ));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let between = listener.local_addr().expect("bound");
    let (network, up) = watch::channel(true);
    tokio::spawn(relay(listener, served, up));
    let clock = Arc::new(SystemClock);
    let remote = Remote::new(cluster("orders"), name("a"), between.to_string(), TOKEN.into(), clock);
    heard(&remote, |facts| open(facts) == 0).await;
    remote.order(stamp(), Command::Stop).await.expect("an answer"); // leaves a connection to be used again
    let mut times = Vec::new();
    // Lengths that end at any moment of a try and of the wait between two.
    for (change, cut) in (1..).zip([300, 1_100, 1_700, 2_300, 3_100, 3_900, 4_550, 6_800]) {
        network.send_replace(false);
        tokio::time::sleep(Duration::from_millis(cut)).await;
        fake.change(change);
        network.send_replace(true);
        let begun = Instant::now();
        heard(&remote, |facts| open(facts) == change).await;
        let facts = begun.elapsed();
        let answer = timeout(DEADLINE, remote.order(stamp(), Command::Stop)).await.expect("in time");
        println!(
            "after {cut} ms of silence: facts after {facts:?}, an order after {:?}: {}",
            begun.elapsed(),
            answer.is_ok()
        );
        times.push(facts);
    }
    assert!(times.iter().all(|time| *time < RECOVERY), "{times:?}");
}
