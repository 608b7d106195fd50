//! Real processes on this machine. Nothing here sleeps and hopes.

mod fixture;
mod postgres_clone;
mod postgres_process;
mod postgres_promote;
mod postgres_rewind;
mod postgres_wal;
