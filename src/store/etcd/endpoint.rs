//! One endpoint of etcd: how to connect to it, and the connection that is kept. Connects when it is asked for.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::sync::Mutex;

use super::failure::{Failure, Verdict};
use crate::{config, ports::StoreError};

/// How long a connection, with its TLS handshake and sign-on, may take to come about.
const CONNECT: Duration = Duration::from_secs(2);
/// Rests between the pings of a connection on which nothing comes in. etcd ends connections that ping more often than
/// every five seconds.
const PING: Duration = Duration::from_secs(6);
/// A connection whose ping is not answered for so long is given up, and with it a watch on a host that is silent.
const PONG: Duration = Duration::from_secs(3);

/// One endpoint.
pub(super) struct Endpoint {
    pub(super) url: String,
    config: config::Etcd,
    client: Mutex<Option<Client>>,
    /// The kept connection has answered something.
    answered: AtomicBool,
}

impl Endpoint {
    pub(super) fn new(url: String, config: config::Etcd) -> Self {
        Self { url, config, client: Mutex::new(None), answered: AtomicBool::new(false) }
    }

    /// The connection that is kept, or a new one. One after a failure mends itself; see [`Endpoint::forget`].
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let mut kept = self.client.lock().await;
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let connect = async {
            let options = options(&self.config).await.map_err(Failure::undone)?;
            Client::connect([&self.url], Some(options)).await.map_err(|error| Failure::of(&error))
        };
        let client = match tokio::time::timeout(CONNECT, connect).await {
            Ok(client) => client.map_err(Failure::before_it_was_sent)?,
            Err(_) => {
                let why = format!("{} did not accept a connection within {CONNECT:?}", self.url);
                return Err(Failure::undone(StoreError::Outage(why)));
            }
        };
        self.answered.store(false, Ordering::Relaxed);
        *kept = Some(client.clone());
        Ok(client)
    }

    /// Lets the next call make a new connection: the kept one hangs, or what it signed on with counts no more.
    pub(super) async fn forget(&self) {
        self.client.lock().await.take();
    }

    /// Its connection is good.
    pub(super) fn has_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Adds what a connection that broke before it ever answered may mean: with TLS 1.3 a server that does not accept a
    /// certificate closes a connection that looked made, and its reason may be lost on the way.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        let unheard = self.config.ca_file.is_some() && !self.answered.load(Ordering::Relaxed);
        match failure.error {
            StoreError::Outage(why) if unheard && failure.verdict == Verdict::Unknown => {
                let why =
                    format!("{why}: {} may ask for another certificate than store.etcd_cert_file", self.url);
                Failure { error: StoreError::Outage(why), ..failure }
            }
            _ => failure,
        }
    }

    /// The host, as it is written.
    pub(super) fn host(&self) -> String {
        host(&self.url).unwrap_or_default()
    }
}

/// The host of a URL, without the brackets of an IPv6 address.
pub(super) fn host(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(host.trim_matches(['[', ']']).to_owned())
}

async fn options(config: &config::Etcd) -> Result<ConnectOptions, StoreError> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(CONNECT)
        .with_keep_alive(PING, PONG)
        // etcd permits no pings where nothing is asked.
        .with_keep_alive_while_idle(false)
        // A member that has lost the others says so, instead of letting calls and watches hang.
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    if let Some(ca) = &config.ca_file {
        let mut tls =
            TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca).await?)).timeout(CONNECT);
        if let (Some(cert), Some(key)) = (&config.cert_file, &config.key_file) {
            tls = tls.identity(Identity::from_pem(read(cert).await?, read(key).await?));
        }
        options = options.with_tls(tls);
    }
    if let (Some(user), Some(file)) = (&config.user, &config.password_file) {
        let password = String::from_utf8(read(file).await?)
            .map_err(|_| StoreError::Refused(format!("{} holds what is no text", file.display())))?;
        options = options.with_user(user, password.trim_end_matches(['\r', '\n']));
    }
    Ok(options)
}

async fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    tokio::fs::read(path)
        .await
        .map_err(|error| StoreError::Refused(format!("{} cannot be read: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_from_a_url() {
        assert_eq!(host("https://10.0.0.1:2379").as_deref(), Some("10.0.0.1"));
        assert_eq!(host("http://[fd00::1]:2379").as_deref(), Some("fd00::1"));
        assert_eq!(host("http://etcd-1:2379").as_deref(), Some("etcd-1"));
        assert_eq!(host("etcd-1"), None);
    }
}
