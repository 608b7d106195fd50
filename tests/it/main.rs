//! Hermetic tests: real sockets and files on this machine, no PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod app;
mod proxy;
//! Hermetic tests: no PostgreSQL, nothing outside this process but loopback ports.

mod api;
mod peer;
//! Hermetic tests: no PostgreSQL, no other host.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod cli;
mod config;
mod report;
//! Hermetic tests: no PostgreSQL, no network beyond loopback.

mod store;
