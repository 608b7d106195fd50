//! Hermetic tests: no PostgreSQL, no other host; only loopback ports and temporary folders.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod api;
mod app;
mod certs;
mod check;
mod cli;
mod config;
mod drivers;
mod guard;
mod peer;
mod peer_cut;
mod peer_tls;
mod prepare;
mod proxy;
mod report;
mod service;
mod store;
