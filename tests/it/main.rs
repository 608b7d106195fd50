//! Hermetic tests: no PostgreSQL, no other host; only loopback ports and temporary folders.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod api;
mod app;
mod check;
mod cli;
mod config;
mod peer;
mod prepare;
mod proxy;
mod report;
mod service;
mod store;
