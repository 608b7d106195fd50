//! What a certificate says. Whether it is to be believed is not asked here.

use std::net::IpAddr;

use jiff::Timestamp;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::Name;

/// One certificate, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whose it is.
    pub subject: String,
    /// Who certified it.
    pub issuer: String,
    /// Every alternative name: DNS names and IP addresses.
    pub names: Vec<String>,
    /// Those that are members' names.
    pub members: Vec<Name>,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// True if it may certify others.
    pub authority: bool,
    /// The serial number, in hexadecimal digits.
    pub serial: String,
}

/// The certificates of a PEM file, in its order.
///
/// # Errors
/// What is wrong, in words that follow the file's name.
pub(super) fn read_all(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| format!("is no PEM file: {error}"))?;
    if all.is_empty() { Err("holds no certificate (-----BEGIN CERTIFICATE-----)".into()) } else { Ok(all) }
}

/// What the certificates of a PEM file say, in its order.
///
/// # Errors
/// What is wrong, in words that follow the file's name.
pub fn summaries(pem: &[u8]) -> Result<Vec<Summary>, String> {
    read_all(pem)?.iter().map(|der| summary(der)).collect()
}

/// What one says.
pub(super) fn summary(der: &[u8]) -> Result<Summary, String> {
    let (_, parsed) = X509Certificate::from_der(der)
        .map_err(|error| format!("holds a certificate that cannot be read: {error}"))?;
    let names = alternative_names(&parsed);
    let instant = |seconds| {
        Timestamp::from_second(seconds).map_err(|error| format!("holds an impossible date: {error}"))
    };
    Ok(Summary {
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        members: names.iter().filter_map(|name| Name::read(name)).collect(),
        names,
        not_before: instant(parsed.validity().not_before.timestamp())?,
        not_after: instant(parsed.validity().not_after.timestamp())?,
        authority: parsed.is_ca(),
        serial: parsed.raw_serial_as_string(),
    })
}

/// The members' names in a certificate that has been verified; none if it cannot be read.
pub(crate) fn member_names(der: &[u8]) -> Vec<Name> {
    summary(der).map(|summary| summary.members).unwrap_or_default()
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
