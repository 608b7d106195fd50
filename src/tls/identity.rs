//! A member's identity: what it shows, and whom it believes. Follows its files while it runs.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
    time::Duration,
};

use jiff::Timestamp;
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig,
    SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};

use super::{
    Files, Flaw, Name, Summary, certificate,
    credentials::{Contents, Credentials, provider},
};
use crate::ports::Clock;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often what is wrong with them is said again.
const REMIND_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Who a member is, to other members. Connections that are made use what is in force at that moment; those that are
/// open go on.
pub struct Identity {
    own: Name,
    files: Files,
    clock: Arc<dyn Clock>,
    current: Arc<Current>,
    /// What the files held when it was opened.
    opened: Contents,
    /// Why what the files hold now is not in use.
    refused: Mutex<Option<String>>,
}

/// What is in force. Rustls asks it anew in every handshake.
struct Current(RwLock<Arc<Credentials>>);

impl Identity {
    /// Reads the files of the member `own`.
    ///
    /// # Errors
    /// Everything that is wrong with them. A certificate that has merely expired is logged and taken: the member
    /// runs without its peers until the files are renewed.
    pub fn open(files: Files, own: Name, clock: Arc<dyn Clock>) -> Result<Arc<Self>, Vec<Flaw>> {
        let opened = files.contents()?;
        let (credentials, flaws) = files.judge(&opened, &own, clock.wall())?;
        warn(&flaws);
        let current = Arc::new(Current(RwLock::new(Arc::new(credentials))));
        Ok(Arc::new(Self { own, files, clock, current, opened, refused: Mutex::new(None) }))
    }

    /// Whom this is.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.own
    }

    /// Until when the certificate in force is valid.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.current.get().summary.not_after
    }

    /// Why what the files hold now is not in use; None: it is.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_refused(&self, why: Option<String>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// How members are called. The name in the URL says whom, the resolver where.
    pub(crate) fn calling(&self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let mut config = builder
            .expect("ring knows TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(self.current.clone())
            .with_client_cert_resolver(self.current.clone());
        // A resumed session would not look at certificates again.
        config.resumption = Resumption::disabled();
        config
    }

    /// How calls are taken: from whoever the authority has certified.
    pub(crate) fn serving(&self) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let mut config = builder
            .expect("ring knows TLS 1.3")
            .with_client_cert_verifier(self.current.clone())
            .with_cert_resolver(self.current.clone());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config
    }

    /// Begins to follow the files; ends when this is dropped. Must be called within a Tokio runtime.
    ///
    /// Files that cannot be used are refused with a log line, and what is in force stays in force. They are given one
    /// more look first: certificate and key are not replaced in the same moment.
    pub fn follow(self: &Arc<Self>) {
        tokio::spawn(follow(Arc::downgrade(self)));
    }

    /// Looks once.
    fn look(&self, seen: &mut Seen) {
        let read = self.files.contents();
        if read.as_ref().is_ok_and(|read| seen.in_force == *read) {
            seen.flaws.clear();
            self.set_refused(None);
            return;
        }
        let judged = read.and_then(|read| {
            let now = self.clock.wall();
            let (credentials, flaws) = self.files.judge(&read, &self.own, now)?;
            // What has expired is no better than what is in force.
            if now > credentials.summary.not_after { Err(flaws) } else { Ok((credentials, flaws, read)) }
        });
        match judged {
            Ok((credentials, flaws, read)) => {
                let Summary { not_after, serial, .. } = &credentials.summary;
                tracing::info!(expires = %not_after, serial, "a new certificate is in use");
                warn(&flaws);
                self.current.set(credentials);
                *seen = Seen { in_force: read, flaws: Vec::new() };
                self.set_refused(None);
            }
            Err(flaws) if seen.flaws == flaws => self.refuse(&flaws),
            Err(flaws) => seen.flaws = flaws,
        }
    }

    fn refuse(&self, flaws: &[Flaw]) {
        let why = flaws.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        if self.refused().as_ref() == Some(&why) {
            return;
        }
        let until = self.expires();
        tracing::warn!(why, %until, "the new certificate files are refused, and the old certificate stays in use");
        self.set_refused(Some(why));
    }

    /// Says again what is wrong with what is in force.
    fn remind(&self) {
        let files = self.files.contents();
        if let Ok((_, flaws)) = files.and_then(|read| self.files.judge(&read, &self.own, self.clock.wall())) {
            warn(&flaws);
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("own", &self.own).field("files", &self.files).finish_non_exhaustive()
    }
}

/// What the last look showed.
struct Seen {
    /// The bytes that are in force.
    in_force: Contents,
    /// What was wrong with others at the last look.
    flaws: Vec<Flaw>,
}

async fn follow(identity: Weak<Identity>) {
    let Some(opened) = identity.upgrade().map(|identity| identity.opened.clone()) else { return };
    let mut seen = Seen { in_force: opened, flaws: Vec::new() };
    let mut looks = 0u32;
    loop {
        let Some(identity) = identity.upgrade() else { return };
        // Reading may take a disk's time.
        let looked = tokio::task::spawn_blocking(move || {
            identity.look(&mut seen);
            if looks > 0 && LOOK_EVERY * looks >= REMIND_EVERY {
                identity.remind();
                looks = 0;
            }
            (seen, looks + 1)
        });
        match looked.await {
            Ok(looked) => (seen, looks) = looked,
            Err(error) => {
                tracing::error!(%error, "the certificate files are not followed any more");
                return;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn warn(flaws: &[Flaw]) {
    for flaw in flaws {
        tracing::warn!(what = %flaw, fix = flaw.fix, "certificate");
    }
}

impl Current {
    fn get(&self) -> Arc<Credentials> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, credentials: Credentials) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.get().own))
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.get().own))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ServerCertVerifier for Current {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let servers = Arc::clone(&self.get().servers);
        let verified =
            servers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        // To the letter: a wildcard is everybody's name, and so nobody's.
        let names = certificate::member_names(end_entity);
        if names.iter().any(|name| name.to_string() == server_name.to_str()) {
            Ok(verified)
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.get().servers.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.get().servers.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.get().servers.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Current {
    /// No hints: every member has one certificate and shows that.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.get().callers.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.get().callers.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.get().callers.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.get().callers.supported_verify_schemes()
    }
}
