//! The app server beside a node: is it healthy? Whether it should serve is decided elsewhere.

mod probe;

pub use probe::Probe;
