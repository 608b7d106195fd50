//! Real PostgreSQL servers, real processes. Nothing here sleeps and hopes.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, missing_docs, reason = "tests")]

mod fixture;
mod postgres_clone;
mod postgres_process;
mod postgres_promote;
mod postgres_rewind;
mod postgres_wal;
