//! Hermetic tests: real sockets and files on this machine, no PostgreSQL.

mod app;
mod proxy;
//! Hermetic tests: no PostgreSQL, nothing outside this process but loopback ports.

mod api;
mod peer;
