//! The app server beside a node: is it healthy, and by which commands does it become the active one, or a passive one?
//! Whether it should serve is decided elsewhere.

mod database;
mod probe;
mod server;

pub use database::{Database, follow_database};
pub use probe::Probe;
pub use server::Server;
