//! Real PostgreSQL servers, real processes. Nothing here sleeps and hopes.
#![allow(clippy::disallowed_methods, reason = "what is timed here are real processes")]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, missing_docs, reason = "tests")]

mod adopt_pair;
mod agent_crash;
mod agent_fixture;
mod agent_names;
mod agent_promise;
mod agent_rejoin;
mod agent_takeover;
mod break_glass;
mod check_pair;
mod checker;
mod demo_ends;
mod demo_run;
mod fixture;
mod guard_agents;
mod guard_fixture;
mod guard_freeze;
mod init_pair;
mod lab;
mod lab_crash;
mod lab_disk;
mod lab_hang;
mod lab_member;
mod lab_network;
mod lab_store;
mod lab_sync;
mod pair;
mod pair_app;
mod pair_async;
mod pair_control;
mod pair_crash;
mod pair_fastest;
mod pair_hang;
mod pair_members;
mod pair_refused;
mod pair_rejoin;
mod pair_standby;
mod pair_switchover;
mod plain;
mod postgres_clone;
mod postgres_process;
mod postgres_promote;
mod postgres_rewind;
mod postgres_wal;
mod trial;
