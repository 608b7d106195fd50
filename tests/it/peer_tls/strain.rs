//! What no member sends: garbage, handshakes that never end, a body without end.

use std::time::Duration;

use locum::tls::issue;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{Port, authority, whom, year};
use crate::peer::{DEADLINE, TOKEN};

#[tokio::test]
async fn garbage_is_survived_and_ended() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let mut garbage: Vec<Vec<u8>> = vec![
        b"\x00".repeat(3000),
        b"\xff".repeat(100_000),
        b"\x16\x03\x01\xff\xff".repeat(1000),
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00".to_vec(),
        b"SSH-2.0-x\r\n".to_vec(),
        b"\x16".repeat(70_000),
    ];
    garbage.extend((0..30).map(|seed: u32| {
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*state >> 24) as u8)
        };
        std::iter::once(0x16).chain((0..2000).scan(seed, |state, _| next(state))).collect()
    }));
    for bytes in garbage {
        let mut stream = TcpStream::connect(port.address).await.expect("connected");
        let _ = stream.write_all(&bytes).await; // it may have been ended already
        let read = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await;
        assert!(read.is_ok(), "the port ends the connection");
    }
    port.serves(&authority).await;
}

#[tokio::test]
async fn dawdlers_do_not_keep_members_out() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let mut dawdlers = Vec::new();
    // Far more than there is room for, each with a handshake that never ends; some say nothing at all.
    for count in 0..300 {
        let mut stream = TcpStream::connect(port.address).await.expect("the kernel takes it");
        if count % 3 > 0 {
            stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.expect("written");
        }
        dawdlers.push(stream);
    }
    let begun = Instant::now();
    port.serves(&authority).await;
    println!("a member was served {:?} after 300 dawdlers came", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(3), "sooner than a handshake's deadline");
    for stream in &mut dawdlers {
        let read = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await;
        assert!(read.is_ok(), "each is ended");
    }
    println!("the last of them was ended after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_body_without_end_is_refused() {
    let authority = authority();
    let made = issue::member(&authority, &whom("b", "orders"), &[], year()).expect("a certificate");
    let port = Port::of(&authority).await;
    let root = reqwest::Certificate::from_pem(authority.cert.as_bytes()).expect("a certificate");
    let own =
        reqwest::Identity::from_pem(format!("{}{}", made.cert, made.key).as_bytes()).expect("an identity");
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_built_in_root_certs(false)
        .add_root_certificate(root)
        .identity(own)
        .resolve("a.orders.locum", port.address)
        .timeout(DEADLINE)
        .build()
        .expect("a client");
    let url = format!("https://a.orders.locum:{}/peer/order", port.address.port());
    let request = client.post(url).bearer_auth(TOKEN).header("x-locum-cluster", "orders");
    let request = request.header("x-locum-node", "a").header("x-locum-caller", "b");
    match request.body(vec![b' '; 64 << 20]).send().await {
        Ok(response) => assert_eq!(response.status().as_u16(), 413),
        Err(error) => assert!(!error.is_timeout(), "ended while it was still being sent: {error:?}"),
    }
    assert_eq!(port.fake.asked(), Vec::<String>::new());
    port.serves(&authority).await;
}
