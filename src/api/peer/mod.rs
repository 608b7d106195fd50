//! Member to member: the port that carries facts to the leader and its orders back. Always authenticated.
//!
//! [`serve`] is the side that knows and does; [`Remote`] is the side that asks. Facts flow over one kept-open stream:
//! one message at once, one at every change, and one every 100 ms so that silence is noticed. Orders are calls that
//! return when they are done, with what the member knows right after; a sign of life comes while they are not.
//!
//! With an [`Identity`](crate::tls::Identity) on both sides everything goes through TLS, both sides show certificates,
//! and each compares the other's with whom it says to be; the token is asked for on top. Without, the token alone
//! admits, and the network must be trusted.
//!
//! An order that nobody waits for any more is carried out all the same: a promotion that stops half-way because a
//! connection broke would be worse than one whose answer is lost.

mod access;
mod lines;
mod link;
mod remote;
mod serve;
mod stream;
mod transit;
mod wire;

pub use access::Access;
pub use remote::Remote;
pub use serve::serve;
