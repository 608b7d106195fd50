//! Hermetic tests: no PostgreSQL, nothing outside this process but loopback ports.

mod api;
mod peer;
