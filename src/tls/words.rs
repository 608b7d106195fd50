//! What went wrong in a handshake, in words that an operator can act on. `it` is the other side.

use std::{error::Error as StdError, io};

use jiff::Timestamp;
use tokio_rustls::rustls::{
    AlertDescription as Alert, CertificateError as Bad, Error, InvalidMessage, pki_types::UnixTime,
};

/// The sentence for an error of this side's TLS.
pub(crate) fn sentence(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => "it shows no certificate".into(),
        Error::InvalidCertificate(bad) => certificate(bad),
        Error::AlertReceived(alert) => told(*alert),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS: its [api] has no tls_… keys, or something else listens there".into()
        }
        other => format!("the TLS handshake failed: {other}"),
    }
}

fn certificate(bad: &Bad) -> String {
    match bad {
        Bad::UnknownIssuer | Bad::BadSignature => {
            "its certificate is of another authority than the one in api.tls_ca_file".into()
        }
        Bad::ExpiredContext { not_after, .. } => format!("its certificate expired at {}", date(*not_after)),
        Bad::Expired => "its certificate has expired".into(),
        Bad::NotValidYetContext { not_before, .. } => {
            format!("its certificate is valid only from {}; are the clocks right?", date(*not_before))
        }
        Bad::NotValidForNameContext { expected, presented } => {
            let presented: Vec<_> = presented.iter().map(|name| plain(name)).collect();
            format!("its certificate is of {}, not of {}", presented.join(", "), expected.to_str())
        }
        Bad::NotValidForName => "its certificate is not of the member that was called".into(),
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => {
            "its certificate is not made for members: it needs both server and client authentication".into()
        }
        other => format!("its certificate is not acceptable: {other:?}"),
    }
}

/// What the other side said of this side's certificate, and closed.
fn told(alert: Alert) -> String {
    match alert {
        Alert::UnknownCA | Alert::DecryptError => {
            "it does not accept our certificate: its api.tls_ca_file holds another authority".into()
        }
        Alert::CertificateExpired => "it says that our certificate has expired; or its clock is wrong".into(),
        Alert::CertificateRequired => "it asks for a certificate, and we showed none".into(),
        Alert::BadCertificate => "it does not accept our certificate: it meant to call another member".into(),
        Alert::UnsupportedCertificate => {
            "it does not accept our certificate, which is not made for members: it needs both server and client \
             authentication"
                .into()
        }
        Alert::ProtocolVersion => "it does not speak TLS 1.3".into(),
        other => format!("it ended the TLS handshake: {other:?}"),
    }
}

/// The same for an error of a connection, if TLS is to blame for it.
pub(crate) fn of_io(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?;
    if let Some(error) = inner.downcast_ref::<Error>() {
        return Some(sentence(error));
    }
    let mut next: Option<&(dyn StdError + 'static)> = Some(inner);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<io::Error>().and_then(of_io) {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| "an impossible date".into(), |date| date.to_string())
}

/// `DnsName("a.b")` as rustls writes names, without its wrapping.
fn plain(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}
