//! Hermetic tests: no PostgreSQL, no other host.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod cli;
mod config;
mod report;
//! Hermetic tests: real sockets and files on this machine, no PostgreSQL.

mod app;
mod proxy;
