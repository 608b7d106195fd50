//! Locum: a leader-elected active/passive failover controller for PostgreSQL.
//!
//! Facts flow up, steps flow down: `facts → view → plan → step → effect → facts`. The plan is one pure function
//! ([`planner`]); everything that touches the world is an adapter behind a trait of [`ports`]. ARCHITECTURE.md has
//! the map.

pub mod agent;
pub mod api;
pub mod app;
pub mod check;
pub mod cli;
pub mod clock;
mod command;
pub mod config;
pub mod controller;
pub mod endpoint;
pub mod fence_command;
pub mod guard;
pub mod member;
pub mod model;
pub mod notes;
pub mod peers;
pub mod planner;
pub mod ports;
pub mod postgres;
pub mod report;
pub mod sidecars;
pub mod store;
pub mod tls;
