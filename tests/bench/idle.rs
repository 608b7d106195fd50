//! What idle connections cost: so many through each proxy to a server that greets each client and then says nothing.

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::servers::{Kid, Place, free_ports, haproxy, locum};

/// How many.
const CONNECTIONS: usize = 5_000;
/// A startup packet without parameters, protocol 3.0.
const STARTUP: &[u8] = &[0, 0, 0, 9, 0, 3, 0, 0, 0];
/// `ReadyForQuery`, idle.
const READY: &[u8] = &[b'Z', 0, 0, 0, 5, b'I'];

pub(crate) fn measure(place: &Place) -> Result<()> {
    println!("\n== {CONNECTIONS} idle connections");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let target = listener.local_addr()?.port();
        tokio::spawn(greet(listener));
        let [one, two] = free_ports()?;
        report("haproxy", &haproxy(place.folder(), one, target)?, one).await?;
        report("locum", &locum(two, &format!("127.0.0.1:{target}"))?, two).await
    })
}

async fn greet(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut startup = [0; STARTUP.len()];
            if stream.read_exact(&mut startup).await.is_ok() && stream.write_all(READY).await.is_ok() {
                // Until the client goes.
                _ = stream.read(&mut startup).await;
            }
        });
    }
}

async fn report(name: &str, kid: &Kid, port: u16) -> Result<()> {
    let before = kid.resident()?;
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.context("connect")?;
        client.write_all(STARTUP).await?;
        client.read_exact(&mut [0; READY.len()]).await.context("be greeted")?;
        clients.push(client);
    }
    let after = kid.resident()?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let each = after.saturating_sub(before) / CONNECTIONS as u64;
    println!(
        "  {name:8} resident {:.1} MiB (without any: {:.1} MiB; {each} bytes each)",
        mib(after),
        mib(before)
    );
    Ok(())
}
