//! What is particular to the store in etcd, with real etcd on loopback: members that fall silent, die, are slow, are
//! wiped; sign-on and TLS. Times that depend on the machine are printed (`--nocapture`), and bounded with room to spare.

mod access;
mod faults;
pub(super) mod proxy;
pub(super) mod server;
mod tls;
