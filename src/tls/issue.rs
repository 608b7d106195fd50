//! Makes authorities and members' certificates, in memory. Where they are kept is the caller's business.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose as Purpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose as Usage,
};

use super::{Name, Summary, summaries};
use crate::model::ClusterName;

/// How long before it is made a certificate is valid: clocks of hosts differ.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);
/// What an authority calls itself, before the name of its cluster.
const AUTHORITY: &str = "Locum authority of cluster ";

/// A certificate and its key, both in PEM.
pub struct Made {
    /// The certificate.
    pub cert: String,
    /// Its key: a secret.
    pub key: String,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// From.
    pub from: Timestamp,
    /// Until.
    pub until: Timestamp,
}

impl Validity {
    /// From `now`, and a day before it, for so long.
    #[must_use]
    pub fn lasting(now: Timestamp, length: Duration) -> Self {
        let from = now.checked_sub(BACKDATED).unwrap_or(Timestamp::MIN);
        Self { from, until: now.checked_add(length).unwrap_or(Timestamp::MAX) }
    }
}

/// The authority of a cluster, as far as its certificate says whose it is. None: it was made by other means.
#[must_use]
pub fn cluster_of(authority: &Summary) -> Option<ClusterName> {
    let (_, name) = authority.subject.split_once(AUTHORITY)?;
    ClusterName::new(name.split(',').next()?).ok()
}

/// Makes the authority of a cluster.
///
/// # Errors
/// What went wrong, as a sentence.
pub fn authority(cluster: &ClusterName, validity: Validity) -> Result<Made, String> {
    let mut params = params(&format!("{AUTHORITY}{cluster}"), validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![Usage::KeyCertSign, Usage::CrlSign];
    let key = KeyPair::generate().map_err(|error| format!("cannot make a key: {error}"))?;
    let cert = params.self_signed(&key).map_err(|error| format!("cannot make the certificate: {error}"))?;
    Ok(Made { cert: cert.pem(), key: key.serialize_pem() })
}

/// Makes a member's certificate, good for calling and for being called. It ends no later than its authority.
///
/// `addresses` are host names and IP addresses that other clients may know the member by; members use its name.
///
/// # Errors
/// What went wrong, as a sentence.
pub fn member(
    authority: &Made,
    name: &Name,
    addresses: &[String],
    validity: Validity,
) -> Result<Made, String> {
    let ca = summaries(authority.cert.as_bytes())?;
    let [ca] = ca.as_slice() else {
        return Err("the authority's file holds more than one certificate".into());
    };
    let mut names = vec![name.to_string()];
    for address in addresses {
        if Name::reserves(address) {
            return Err(format!("{address} is a name for members; the certificate has its own one, {name}"));
        }
        names.push(address.clone());
    }
    let until = validity.until.min(ca.not_after);
    let mut params = params(&name.to_string(), Validity { until, ..validity });
    params.subject_alt_names = CertificateParams::new(names)
        .map_err(|error| format!("an address cannot be written into a certificate: {error}"))?
        .subject_alt_names;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![Usage::DigitalSignature];
    params.extended_key_usages = vec![Purpose::ServerAuth, Purpose::ClientAuth];
    let ca_key =
        KeyPair::from_pem(&authority.key).map_err(|error| format!("the authority's key is none: {error}"))?;
    let issuer = Issuer::from_ca_cert_pem(&authority.cert, ca_key)
        .map_err(|error| format!("the authority's certificate is none: {error}"))?;
    let key = KeyPair::generate().map_err(|error| format!("cannot make a key: {error}"))?;
    let cert =
        params.signed_by(&key, &issuer).map_err(|error| format!("cannot make the certificate: {error}"))?;
    Ok(Made { cert: cert.pem(), key: key.serialize_pem() })
}

fn params(common_name: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut whose = DistinguishedName::new();
    whose.push(DnType::CommonName, common_name);
    params.distinguished_name = whose;
    params.not_before = SystemTime::from(validity.from).into();
    params.not_after = SystemTime::from(validity.until).into();
    params
}
