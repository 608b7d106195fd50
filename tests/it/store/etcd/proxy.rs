//! A stretch of network before one endpoint: it can slow down, swallow what comes back, and break.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Every answer comes so much later.
    Slow(Duration),
    /// Requests get through, answers do not.
    Deaf,
    /// Nothing gets through, and nobody is told.
    Silent,
    /// Connections break, and none is accepted for long.
    Broken,
}

pub(crate) struct Network {
    pub(crate) url: String,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl Network {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let weather = watch::Sender::new(Weather::Fair);
        let seen = weather.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *seen.borrow() == Weather::Broken {
                    continue;
                }
                tokio::spawn(join(client, port, seen.clone()));
            }
        });
        Self { url, weather, task }
    }

    pub(crate) fn turns(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn join(client: TcpStream, port: u16, weather: watch::Receiver<Weather>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut broken = weather.clone();
    let weather = Arc::new(weather);
    tokio::select! {
        () = carry(from_client, to_server, &weather, false) => {}
        () = carry(from_server, to_client, &weather, true) => {}
        _ = broken.wait_for(|weather| *weather == Weather::Broken) => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    weather: &watch::Receiver<Weather>,
    is_answer: bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(read) = from.read(&mut buffer).await else { return };
        if read == 0 {
            return;
        }
        let now = *weather.borrow();
        match now {
            Weather::Slow(by) if is_answer => tokio::time::sleep(by).await,
            Weather::Deaf if is_answer => continue,
            Weather::Silent => continue,
            _ => {}
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
