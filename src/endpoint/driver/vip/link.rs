//! The machine's side of a virtual IP: which addresses it has, and raw frames on an interface.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd as _, OwnedFd},
    process::Stdio,
    time::Duration,
};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, eth, recv, send, socket_with,
};
use tokio::{io::unix::AsyncFd, process::Command, time::timeout};

use super::frames::{Mac, announcements, claimed_by, probe};
use crate::config::Address;

/// How long an answer may take on a local network, and how often it is asked for: a frame can be lost.
const ANSWER: Duration = Duration::from_millis(75);
const ASKED: usize = 2;
/// Longer than any frame of interest.
const FRAME: usize = 256;
/// Where `ip` is, for a user whose search path leaves that out.
const PATHS: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// True if this machine has the address.
pub(super) fn has(ip: IpAddr) -> io::Result<bool> {
    Ok(match ip {
        IpAddr::V4(ip) => is_local(&fs::read_to_string("/proc/net/fib_trie")?, ip),
        IpAddr::V6(ip) => is_listed(&fs::read_to_string("/proc/net/if_inet6")?, ip),
    })
}

/// In the kernel's routing tree a local address is a leaf whose next line says so.
fn is_local(tree: &str, ip: Ipv4Addr) -> bool {
    let leaf = format!("|-- {ip}");
    let mut lines = tree.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line == leaf
            && lines.clone().take_while(|next| next.starts_with('/')).any(|next| next == "/32 host LOCAL")
        {
            return true;
        }
    }
    false
}

fn is_listed(table: &str, ip: Ipv6Addr) -> bool {
    let hex: String = ip.octets().iter().map(|byte| format!("{byte:02x}")).collect();
    table.lines().any(|line| line.starts_with(&hex))
}

/// Adds or removes it. There or gone already is no error.
pub(super) async fn change(verb: &str, address: Address, interface: &str) -> Result<(), String> {
    let text = format!("{}/{}", address.ip, address.prefix);
    let mut words = vec!["address", verb, &text, "dev", interface];
    if verb == "add" && address.ip.is_ipv6() {
        // Whether somebody has it was asked before; the kernel's own question would take a second.
        words.push("nodad");
    }
    let done = run(&words).await;
    let is_so = has(address.ip).map_err(|error| format!("read this machine's addresses: {error}"))?;
    if is_so == (verb == "add") {
        Ok(())
    } else {
        Err(done.err().unwrap_or_else(|| "it had no effect".into()))
    }
}

/// Runs `ip`.
async fn run(words: &[&str]) -> Result<String, String> {
    let path = std::env::var("PATH").map_or_else(|_| PATHS.to_owned(), |path| format!("{path}:{PATHS}"));
    let mut command = Command::new("ip");
    command.args(words).env("PATH", path).stdin(Stdio::null()).kill_on_drop(true);
    let shown = format!("ip {}", words.join(" "));
    let output = command.output().await.map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// An interface on which one kind of frames is sent and received.
pub(super) struct Link {
    socket: AsyncFd<OwnedFd>,
    mac: Mac,
    ip: IpAddr,
}

impl Link {
    /// Opens it. None: nobody on it could be asked for an address (a loopback, a tunnel).
    pub(super) async fn open(interface: &str, ip: IpAddr) -> Result<Option<Self>, String> {
        // Not from /sys, which may belong to another network namespace.
        let said = run(&["-o", "link", "show", "dev", interface]).await?;
        let (index, mac) =
            described(&said).ok_or_else(|| format!("`ip link` says of {interface}: {said}"))?;
        let Some(mac) = mac else { return Ok(None) };
        let open = || -> io::Result<AsyncFd<OwnedFd>> {
            let protocol = if ip.is_ipv4() { eth::ARP } else { eth::IPV6 };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            // Nothing is received before it is bound to the interface.
            let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
            bind(&socket, protocol, index)?;
            #[expect(
                deprecated,
                reason = "its successor is unsafe; an OwnedFd never changes its descriptor, so this is sound"
            )]
            AsyncFd::new(socket)
        };
        let socket = open().map_err(|error| {
            format!("raw frames on {interface}: {error} (it needs root, or CAP_NET_RAW and CAP_NET_ADMIN)")
        })?;
        Ok(Some(Self { socket, mac, ip }))
    }

    /// Who else has the address; None: nobody answered.
    pub(super) async fn holder(&self) -> io::Result<Option<Mac>> {
        for _ in 0..ASKED {
            self.send(&probe(self.mac, self.ip)).await?;
            match timeout(ANSWER, self.hear()).await {
                Ok(heard) => return heard.map(Some),
                Err(_) => continue,
            }
        }
        Ok(None)
    }

    /// Tells everybody that it is here.
    pub(super) async fn announce(&self) -> io::Result<()> {
        for frame in announcements(self.mac, self.ip) {
            self.send(&frame).await?;
        }
        Ok(())
    }

    async fn send(&self, frame: &[u8]) -> io::Result<()> {
        let write = |fd: &OwnedFd| Ok(send(fd, frame, SendFlags::empty())?);
        self.socket.async_io(tokio::io::Interest::WRITABLE, write).await.map(|_| ())
    }

    async fn hear(&self) -> io::Result<Mac> {
        let mut buffer = [0_u8; FRAME];
        loop {
            let read = |fd: &OwnedFd| Ok(recv(fd, &mut buffer[..], RecvFlags::TRUNC)?.0);
            let length = self.socket.async_io(tokio::io::Interest::READABLE, read).await?;
            if let Some(mac) = claimed_by(&buffer[..length.min(FRAME)], self.mac, self.ip) {
                return Ok(mac);
            }
        }
    }
}

/// The number of an interface and its Ethernet address, if it has one, from a line of `ip -o link`.
fn described(line: &str) -> Option<(i32, Option<Mac>)> {
    let index = line.split(':').next()?.trim().parse().ok()?;
    let text = line.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap_or_default();
    let bytes: Vec<u8> = text.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    Some((index, Mac::try_from(bytes).ok()))
}

/// A hardware address, for people.
pub(super) fn shown(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[expect(unsafe_code, reason = "no safe crate in use has the address of a packet socket")]
fn bind(socket: &OwnedFd, protocol: Protocol, index: i32) -> io::Result<()> {
    let family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    // In network order already.
    let protocol = u16::try_from(protocol.as_raw().get()).map_err(io::Error::other)?;
    let address = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: protocol,
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the pointer is to a value of that length, which lives through the call and is only read.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail that way")]
mod tests {
    use super::*;

    #[test]
    fn a_local_address_is_found_and_a_part_of_one_is_not() {
        let tree = "Local:\n     |-- 10.0.0.1\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n";
        assert!(is_local(tree, "10.0.0.1".parse().unwrap()));
        for other in ["10.0.0.255", "10.0.0.2", "10.0.0.0"] {
            assert!(!is_local(tree, other.parse().unwrap()), "{other}");
        }
        let table = "fd000000000000000000000000000009 02 40 00 80     eth0\n";
        assert!(is_listed(table, "fd00::9".parse().unwrap()));
        assert!(!is_listed(table, "fd00::8".parse().unwrap()));
        let line = "2: eth0@if9: <UP> mtu 1500 qdisc noqueue \\    link/ether 02:00:00:00:00:0a brd ff:ff:ff:ff:ff:ff";
        assert_eq!(described(line), Some((2, Some([2, 0, 0, 0, 0, 10]))));
        let line =
            "1: lo: <UP> mtu 65536 qdisc noqueue \\    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00";
        assert_eq!(described(line), Some((1, None)));
        assert!(has("127.0.0.1".parse().unwrap()).unwrap());
    }
}
