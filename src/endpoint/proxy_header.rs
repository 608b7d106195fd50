//! The PROXY protocol, version 2: the header that tells a target whom it serves (its specification, section 2.2). Pure.

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
/// TCP over IPv4, and over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header for a connection from `client` to `listen`, the address it connected to.
pub(super) fn header(client: SocketAddr, listen: SocketAddr) -> Vec<u8> {
    let (client_ip, listen_ip) = (client.ip().to_canonical(), listen.ip().to_canonical());
    let mut header = SIGNATURE.to_vec();
    header.push(PROXY);
    match (client_ip, listen_ip) {
        (IpAddr::V4(client), IpAddr::V4(listen)) => {
            header.extend([TCP4, 0, 12]);
            header.extend(client.octets());
            header.extend(listen.octets());
        }
        (client, listen) => {
            header.extend([TCP6, 0, 36]);
            header.extend(six(client));
            header.extend(six(listen));
        }
    }
    header.extend(client.port().to_be_bytes());
    header.extend(listen.port().to_be_bytes());
    header
}

fn six(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail that way")]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_as_the_specification_lays_it_out() {
        let four = header("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:6432".parse().unwrap());
        assert_eq!(&four[..12], SIGNATURE);
        assert_eq!(&four[12..16], [0x21, 0x11, 0, 12]);
        assert_eq!(&four[16..], [10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0x19, 0x20]);
        let six = header("[::1]:1".parse().unwrap(), "[::1]:2".parse().unwrap());
        assert_eq!((&six[12..16], six.len()), ([0x21, 0x21, 0, 36].as_slice(), 16 + 36));
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_listener_is_shown_as_ipv4() {
        let header = header("[::ffff:10.0.0.1]:1".parse().unwrap(), "[::ffff:10.0.0.2]:2".parse().unwrap());
        assert_eq!(header[13], TCP4);
    }
}
