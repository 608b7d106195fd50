//! Free ports on 127.0.0.1.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

/// Where the search begins at the lowest: above what services are usually given.
const LOWEST: u16 = 10_000;
/// Where the range for outgoing connections begins when the kernel does not say.
const EPHEMERAL: u16 = 32_768;
/// How many ports are tried for each one wanted.
const TRIES: usize = 200;

/// Ports that nobody listens on. They stay taken until this value is dropped, so that a second demo finds others.
#[derive(Debug)]
pub(crate) struct Ports {
    taken: Vec<TcpListener>,
}

impl Ports {
    /// Finds `count` ports, all different.
    ///
    /// They lie below the range that outgoing connections take theirs from: a port of a server that is down for a
    /// moment could otherwise become the local end of some client's connection, and the server could not come back.
    ///
    /// # Errors
    /// Too few are free.
    pub(crate) fn find(count: usize) -> Result<Self> {
        let highest = ephemeral_start();
        let mut taken = Vec::with_capacity(count);
        for _ in 0..TRIES * count {
            if taken.len() == count {
                break;
            }
            let port = LOWEST + random_below(highest.saturating_sub(LOWEST).max(1))?;
            taken.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        }
        if taken.len() < count {
            bail!(
                "found only {} of {count} free ports between {LOWEST} and {highest} on 127.0.0.1",
                taken.len()
            );
        }
        Ok(Self { taken })
    }

    /// The numbers, in the order found.
    pub(crate) fn numbers(&self) -> Vec<u16> {
        self.taken.iter().filter_map(|listener| Some(listener.local_addr().ok()?.port())).collect()
    }
}

/// Where the kernel's range for outgoing connections begins, if that leaves room below it.
fn ephemeral_start() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let start = range.split_whitespace().next().and_then(|low| low.parse().ok());
    start.filter(|low| *low > LOWEST + 1_000).unwrap_or(EPHEMERAL)
}

fn random_below(limit: u16) -> Result<u16> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("read random bytes: {error}"))?;
    Ok(u16::try_from(u32::from_le_bytes(bytes) % u32::from(limit)).unwrap_or(0))
}

/// A password or token of 128 random bits, in hexadecimal.
pub(crate) fn random_secret() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("read random bytes: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn two_demos_find_different_ports() {
        let (one, two) = (Ports::find(12).expect("ports"), Ports::find(12).expect("ports"));
        let all: BTreeSet<_> = one.numbers().into_iter().chain(two.numbers()).collect();
        assert_eq!(all.len(), 24);
        assert!(all.iter().all(|port| *port < ephemeral_start()));
    }
}
