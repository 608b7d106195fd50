//! Hermetic tests: real sockets and files on this machine, no PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod app;
mod proxy;
