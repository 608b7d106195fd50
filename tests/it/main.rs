//! Hermetic tests: real sockets and files on this machine, no PostgreSQL.

mod app;
mod proxy;
