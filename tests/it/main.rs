//! Hermetic tests: no PostgreSQL, no network beyond loopback.

mod store;
