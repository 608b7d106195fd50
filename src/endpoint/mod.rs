//! The built-in endpoint: the TCP proxy that clients connect to.
//!
//! It remembers the stamp of the last order it took and refuses lower ones; that rule and all others that can be are
//! in [`routing`], which does no I/O. It decides nothing: it is told where to lead, and holds its clients meanwhile.
//!
//! A connection's way: `proxy` accepts it, `wait` holds it until the target can be reached, `greet` covers the
//! moments in which it could still start over elsewhere, `relay` copies bytes through its `gate` until one side ends
//! or an order severs it. `switchboard` is what they share.

mod bind;
mod connection;
mod driver;
mod gate;
mod greet;
mod life;
mod proxy;
mod relay;
pub mod routing;
mod socket;
mod startup;
mod switchboard;
mod wait;

pub use bind::BindError;
pub use driver::{Driven, Surroundings, signature};
pub use proxy::Proxy;
