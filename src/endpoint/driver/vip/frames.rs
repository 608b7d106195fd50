//! The frames by which an address is asked for and announced: ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861,
//! RFC 4862). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A hardware address.
pub(super) type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// Ethernet and IPv4, with their lengths.
const ARP_HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// What was known before is to be replaced.
const OVERRIDE: u8 = 0x20;
/// The option with the sender's own hardware address, in units of eight bytes.
const TARGET_LINK: [u8; 2] = [2, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Who has this address? Asked without claiming it.
pub(super) fn probe(mac: Mac, ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => arp(mac, REQUEST, Ipv4Addr::UNSPECIFIED, [0; 6], ip),
        IpAddr::V6(ip) => {
            let [.., a, b, c] = ip.octets();
            let group =
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            discovery(mac, Ipv6Addr::UNSPECIFIED, group, SOLICITATION, 0, ip, &[])
        }
    }
}

/// It is here now: for whoever remembers another place. Some listen to requests only, some to replies only.
pub(super) fn announcements(mac: Mac, ip: IpAddr) -> Vec<Vec<u8>> {
    match ip {
        IpAddr::V4(ip) => vec![arp(mac, REQUEST, ip, [0; 6], ip), arp(mac, REPLY, ip, BROADCAST, ip)],
        IpAddr::V6(ip) => {
            let option = [TARGET_LINK.as_slice(), &mac].concat();
            vec![discovery(mac, ip, ALL_NODES, ADVERTISEMENT, OVERRIDE, ip, &option)]
        }
    }
}

/// Who says in this frame that the address is theirs; None: nobody else does.
pub(super) fn claimed_by(frame: &[u8], own: Mac, ip: IpAddr) -> Option<Mac> {
    let body = frame.get(14..)?;
    let claims = match ip {
        IpAddr::V4(ip) => {
            frame.get(12..14)? == ARP && body.get(..6)? == ARP_HEAD && body.get(14..18)? == ip.octets()
        }
        IpAddr::V6(ip) => {
            frame.get(12..14)? == IPV6
                && *body.get(6)? == ICMPV6
                && *body.get(40)? == ADVERTISEMENT
                && body.get(48..64)? == ip.octets()
        }
    };
    let by: Mac = frame.get(6..12)?.try_into().ok()?;
    (claims && by != own).then_some(by)
}

fn arp(mac: Mac, operation: u8, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Vec<u8> {
    let parts: [&[u8]; 9] = [
        &BROADCAST,
        &mac,
        &ARP,
        &ARP_HEAD,
        &[0, operation],
        &mac,
        &sender.octets(),
        &target_mac,
        &target.octets(),
    ];
    parts.concat()
}

fn discovery(
    mac: Mac,
    from: Ipv6Addr,
    to: Ipv6Addr,
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: &[u8],
) -> Vec<u8> {
    let message = |sum: [u8; 2]| {
        let parts: [&[u8]; 5] = [&[kind, 0], &sum, &[flags, 0, 0, 0], &target.octets(), option];
        parts.concat()
    };
    let open = message([0, 0]);
    // A message is a few dozen bytes.
    let length = u16::try_from(open.len()).unwrap_or(u16::MAX).to_be_bytes();
    let pseudo: [&[u8]; 4] =
        [&from.octets(), &to.octets(), &[0, 0, length[0], length[1]], &[0, 0, 0, ICMPV6]];
    let sealed = message(checksum(&[pseudo.concat(), open].concat()));
    let [.., a, b, c, d] = to.octets();
    let head = [0x60, 0, 0, 0, length[0], length[1], ICMPV6, 255];
    let parts: [&[u8]; 7] =
        [&[0x33, 0x33, a, b, c, d], &mac, &IPV6, &head, &from.octets(), &to.octets(), &sealed];
    parts.concat()
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = (!sum).to_be_bytes();
    [high, low]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail that way")]
mod tests {
    use super::*;

    const MINE: Mac = [2, 0, 0, 0, 0, 1];
    const THEIRS: Mac = [2, 0, 0, 0, 0, 2];

    #[test]
    fn a_probe_claims_nothing_and_an_announcement_does() {
        for ip in ["10.0.0.9", "fd00::9"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(claimed_by(&probe(THEIRS, ip), MINE, ip), None);
            for frame in announcements(THEIRS, ip) {
                assert_eq!(claimed_by(&frame, MINE, ip), Some(THEIRS));
                assert_eq!(claimed_by(&frame, THEIRS, ip), None, "its own");
                let other = if ip.is_ipv4() { "10.0.0.8" } else { "fd00::8" };
                assert_eq!(claimed_by(&frame, MINE, other.parse().unwrap()), None);
                for length in 0..frame.len() {
                    claimed_by(&frame[..length], MINE, ip);
                }
            }
        }
    }

    #[test]
    fn a_message_with_its_checksum_sums_up_to_nothing() {
        let ip: Ipv6Addr = "fd00::1:9".parse().unwrap();
        let frame = probe(MINE, ip.into());
        let (from, to, message) = (&frame[22..38], &frame[38..54], &frame[54..]);
        assert_eq!(to, "ff02::1:ff01:9".parse::<Ipv6Addr>().unwrap().octets());
        let length = u8::try_from(message.len()).unwrap();
        let whole = [from, to, &[0, 0, 0, length, 0, 0, 0, ICMPV6], message].concat();
        assert_eq!(checksum(&whole), [0, 0]);
    }
}
