//! Until when an X.509 certificate is good. Nothing else of it is read (RFC 5280, 4.1).

use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject as _};

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`: the version, which old certificates lack.
const VERSION: u8 = 0xa0;

/// The end of the first certificate in a PEM text, in seconds since 1970. None: it is not understood.
#[must_use]
pub fn expiry(pem: &str) -> Option<i64> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (certificate, _) = inside(&der, SEQUENCE)?;
    let (body, _) = inside(certificate, SEQUENCE)?;
    let mut rest = if body.first() == Some(&VERSION) { element(body)?.2 } else { body };
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (validity, _) = inside(rest, SEQUENCE)?;
    let (_, _, after) = element(validity)?;
    let (tag, text, _) = element(after)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// The content of an element that must be of this kind, and what follows.
fn inside(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Tag, content and rest.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (length, bytes) = match first {
        short @ 0..=0x7f => (usize::from(short), bytes),
        long => {
            let (digits, bytes) = bytes.split_at_checked(usize::from(long & 0x7f))?;
            if digits.is_empty() || digits.len() > 4 {
                return None;
            }
            (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), bytes)
        }
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &str) -> Option<i64> {
    let full = match tag {
        // Of two digits, 50 to 99 are the last century.
        UTC_TIME if text.get(..2)?.parse::<u8>().ok()? >= 50 => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let digits = full.strip_suffix('Z')?;
    let parsed = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", digits).ok()?;
    Some(parsed.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_found() {
        let mut params = rcgen::CertificateParams::new(vec!["db".to_owned()]).unwrap();
        for (year, month, day) in [(2031, 2, 3), (2071, 12, 31)] {
            params.not_after = rcgen::date_time_ymd(year, month, day);
            let key = rcgen::KeyPair::generate().unwrap();
            let pem = params.clone().self_signed(&key).unwrap().pem();
            let expected = jiff::civil::date(
                i16::try_from(year).unwrap(),
                i8::try_from(month).unwrap(),
                i8::try_from(day).unwrap(),
            )
            .to_zoned(jiff::tz::TimeZone::UTC)
            .unwrap();
            assert_eq!(expiry(&pem), Some(expected.timestamp().as_second()));
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let half = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n";
        for text in ["", "nonsense", half] {
            assert_eq!(expiry(text), None);
        }
        assert_eq!(time(UTC_TIME, "991231235959Z"), Some(946_684_799));
        assert_eq!(time(UTC_TIME, "9"), None);
    }
}
