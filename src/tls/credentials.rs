//! The three files of a member: the authority, its certificate, its key. Read, and judged against each other.

use std::{fmt, fs, io, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_rustls::rustls::{
    self, CertificateError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};

use super::{Name, Summary, certificate, sentence};

/// How long before its end a certificate is to be renewed.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where a member's credentials are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificates of the authority, one or (while it is being replaced) several.
    pub ca: PathBuf,
    /// The member's certificate, followed by those between it and the authority, if any.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// One of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The authority.
    Ca,
    /// The certificate.
    Cert,
    /// The key.
    Key,
}

/// What is wrong with one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Which.
    pub part: Part,
    /// What is wrong, beginning with the file.
    pub what: String,
    /// What to do.
    pub fix: String,
    /// True if a member can start with it all the same: time heals it, or a renewed file does.
    pub tolerable: bool,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// The bytes of the three files.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// What connections are made with.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) own: Arc<CertifiedKey>,
    pub(super) servers: Arc<dyn ServerCertVerifier>,
    pub(super) callers: Arc<dyn ClientCertVerifier>,
    pub(super) summary: Summary,
}

/// The cryptography that all of it uses.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

impl Files {
    fn path(&self, part: Part) -> &PathBuf {
        match part {
            Part::Ca => &self.ca,
            Part::Cert => &self.cert,
            Part::Key => &self.key,
        }
    }

    fn flaw(&self, part: Part, what: impl fmt::Display, fix: impl Into<String>) -> Flaw {
        let what = format!("{} {what}", self.path(part).display());
        Flaw { part, what, fix: fix.into(), tolerable: false }
    }

    /// Reads the three files.
    pub(super) fn contents(&self) -> Result<Contents, Vec<Flaw>> {
        let mut flaws = Vec::new();
        let mut read = |part| match fs::read(self.path(part)) {
            Ok(bytes) => bytes,
            Err(error) => {
                flaws.push(self.unreadable(part, &error));
                Vec::new()
            }
        };
        let contents = Contents { ca: read(Part::Ca), cert: read(Part::Cert), key: read(Part::Key) };
        if flaws.is_empty() { Ok(contents) } else { Err(flaws) }
    }

    fn unreadable(&self, part: Part, error: &io::Error) -> Flaw {
        let fix = match error.kind() {
            io::ErrorKind::NotFound => {
                "Make it with `locum certs init` and `locum certs issue`, and copy it here."
            }
            io::ErrorKind::PermissionDenied => "Run as its owner, or give its group the right to read it.",
            _ => "Name a file that can be read.",
        };
        self.flaw(part, format!("cannot be read: {error}"), fix)
    }

    /// A key that everybody may read proves nothing.
    fn open_key(&self) -> Option<Flaw> {
        let mode = fs::metadata(&self.key).ok()?.permissions().mode();
        let fix = format!("Close it: chmod 600 {} (or 640, with a group of your own).", self.key.display());
        (mode & 0o007 != 0).then(|| self.flaw(Part::Key, "can be read by everybody on this machine", fix))
    }

    /// Makes credentials for `own` of what was read, as of `now`, with what can be tolerated.
    ///
    /// # Errors
    /// Every flaw, if one of them cannot be tolerated.
    pub(super) fn judge(
        &self,
        contents: &Contents,
        own: &Name,
        now: Timestamp,
    ) -> Result<(Credentials, Vec<Flaw>), Vec<Flaw>> {
        let mut flaws: Vec<Flaw> = self.open_key().into_iter().collect();
        let fix_ca = "Copy the ca.crt that `locum certs init` made.";
        let fix_cert = format!(
            "Make it with `locum certs issue --cluster {} --node {}`, and copy certificate and key here.",
            own.cluster, own.node
        );
        let roots = self.roots(contents).map_err(|what| self.flaw(Part::Ca, what, fix_ca));
        let chain = certificate::read_all(&contents.cert)
            .map_err(|what| self.flaw(Part::Cert, what, fix_cert.clone()));
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| {
            self.flaw(Part::Key, format!("holds no private key in PEM: {error}"), fix_cert.clone())
        });
        let (roots, chain, key) = match (roots, chain, key) {
            (Ok(roots), Ok(chain), Ok(key)) => (Arc::new(roots), chain, key),
            (roots, chain, key) => {
                flaws.extend(roots.err().into_iter().chain(chain.err()).chain(key.err()));
                return Err(flaws);
            }
        };
        match self.assemble(roots, chain, key, own, now) {
            Ok((credentials, age)) => {
                flaws.extend(age);
                if flaws.iter().all(|flaw| flaw.tolerable) { Ok((credentials, flaws)) } else { Err(flaws) }
            }
            Err((part, what)) => {
                flaws.push(self.flaw(part, what, fix_cert));
                Err(flaws)
            }
        }
    }

    fn roots(&self, contents: &Contents) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for der in certificate::read_all(&contents.ca)? {
            if !certificate::summary(&der)?.authority {
                return Err("holds a certificate that is no authority's".into());
            }
            roots.add(der).map_err(|error| format!("holds a certificate that cannot be used: {error}"))?;
        }
        Ok(roots)
    }

    fn assemble(
        &self,
        roots: Arc<RootCertStore>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        own: &Name,
        now: Timestamp,
    ) -> Result<(Credentials, Option<Flaw>), (Part, String)> {
        let bad_ca = |error: &dyn fmt::Display| (Part::Ca, format!("cannot be used: {error}"));
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider()).build();
        let servers = servers.map_err(|error| bad_ca(&error))?;
        let callers = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        let callers = callers.map_err(|error| bad_ca(&error))?;
        let summary = chain.first().map_or(Err("is empty".into()), |der| certificate::summary(der));
        let summary = summary.map_err(|what| (Part::Cert, what))?;
        if !summary.members.contains(own) {
            return Err((
                Part::Cert,
                format!("is not the certificate of this node: {}", not_of(&summary, own)),
            ));
        }
        // Its age is judged apart, so that an expired one of another authority is called by its real fault.
        let (first, last) = (summary.not_before, summary.not_after);
        let then = if now > last {
            last
        } else if now < first {
            first
        } else {
            now
        };
        let then = UnixTime::since_unix_epoch(Duration::from_secs(then.as_second().unsigned_abs()));
        let name = ServerName::try_from(own.to_string()).map_err(|error| (Part::Cert, error.to_string()))?;
        let serves = servers.verify_server_cert(&chain[0], &chain[1..], &name, &[], then).map(drop);
        let calls = callers.verify_client_cert(&chain[0], &chain[1..], then).map(drop);
        serves.and(calls).map_err(|error| (Part::Cert, own_sentence(&error, &self.ca)))?;
        let own = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => (Part::Key, "is not the key of the certificate".to_owned()),
            error => (Part::Key, format!("cannot be used: {error}")),
        })?;
        let age = self.age(&summary, now);
        Ok((Credentials { own: Arc::new(own), servers, callers, summary }, age))
    }

    fn age(&self, summary: &Summary, now: Timestamp) -> Option<Flaw> {
        let renew =
            "Renew it with `locum certs issue --force`; the member takes the new files without a restart.";
        let (what, fix) = if now > summary.not_after {
            (format!("expired at {}: no member accepts it", summary.not_after), renew)
        } else if now < summary.not_before {
            (format!("is valid only from {}", summary.not_before), "Are this host's date and time right?")
        } else if summary.not_after.duration_since(now).unsigned_abs() < RENEW_BEFORE {
            (format!("expires at {}", summary.not_after), renew)
        } else {
            return None;
        };
        Some(Flaw { tolerable: true, ..self.flaw(Part::Cert, what, fix) })
    }
}

/// Whom a certificate is of instead.
fn not_of(summary: &Summary, own: &Name) -> String {
    match summary.members.first() {
        None => format!("it has no name like {own}, only {:?}", summary.names),
        Some(other) if other.cluster == own.cluster => {
            format!("it is of node {}, not {}", other.node, own.node)
        }
        Some(other) => format!("it is of cluster {}, not {}", other.cluster, own.cluster),
    }
}

/// Why a member's own certificate would not be accepted.
fn own_sentence(error: &rustls::Error, ca: &std::path::Path) -> String {
    use CertificateError as E;
    match error {
        rustls::Error::InvalidCertificate(E::UnknownIssuer | E::BadSignature) => {
            format!("is not certified by the authority in {}", ca.display())
        }
        rustls::Error::InvalidCertificate(E::Expired | E::ExpiredContext { .. }) => {
            format!("is certified by an authority that has expired ({})", ca.display())
        }
        other => format!("would not be accepted: {}", sentence(other)),
    }
}

/// Everything that is wrong with a member's credentials now; reads the files.
#[must_use]
pub fn examine(files: &Files, own: &Name, now: Timestamp) -> Vec<Flaw> {
    match files.contents().and_then(|contents| files.judge(&contents, own, now)) {
        Ok((_, flaws)) | Err(flaws) => flaws,
    }
}
