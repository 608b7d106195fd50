//! The built-in endpoint: the TCP proxy that clients connect to.
//!
//! Two kinds. Endpoints that lead to one node, the primary or the active app server, are ordered by the leader, since
//! there only one may be. Endpoints that balance, over standbys or app servers, follow what their own member sees; the
//! rule is in [`balance`], as pure as the other.
//!
//! An ordered one remembers the stamp of the last order it took and refuses lower ones; that rule and all others that can be are
//! in [`routing`], which does no I/O. It decides nothing: it is told where to lead, and holds its clients meanwhile.
//!
//! A connection's way: `proxy` accepts it, `wait` holds it until the target can be reached, `greet` covers the
//! moments in which it could still start over elsewhere, `relay` copies bytes through its `gate` until one side ends
//! or an order severs it. `switchboard` is what they share.

mod activation;
pub mod balance;
mod bind;
mod connection;
mod driver;
#[cfg(test)]
mod fixture;
mod follow;
mod gate;
mod greet;
mod idle;
mod lanes;
mod life;
mod proxy;
mod proxy_header;
mod queue;
mod relay;
pub mod routing;
pub mod sidecar;
mod socket;
mod startup;
mod switchboard;
#[cfg(test)]
mod switchboard_tests;
mod wait;

pub use bind::BindError;
pub use driver::{Driven, Surroundings, signature};
pub use follow::follow;
pub use proxy::Proxy;
