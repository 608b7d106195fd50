//! Certificates: how members prove to each other who they are, and how a private authority makes such certificates.
//!
//! A member's certificate carries the DNS name `<node>.<cluster>.locum` ([`Name`]). The name is never looked up
//! anywhere: it says who somebody is, and the addresses say where. Whoever calls a member expects exactly that
//! member's name, and whoever is called compares the caller's with what the call says.
//!
//! [`Identity`] is what a member has: its own certificate, and the authority that all others must be certified by. It
//! looks at its files again and again, so that a renewed certificate is used without a restart. [`issue`] makes
//! authorities and certificates; nothing that runs depends on it.

mod certificate;
mod credentials;
mod identity;
pub mod issue;
mod name;
mod words;

pub(crate) use certificate::member_names;
pub use certificate::{Summary, summaries};
pub use credentials::{Files, Flaw, Part, examine};
pub use identity::Identity;
pub use name::Name;
pub(crate) use words::{of_io, sentence};
