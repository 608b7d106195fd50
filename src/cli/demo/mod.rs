//! `locum demo`: a whole cluster on this machine, broken on purpose, and judged by its clients.

pub mod app;
mod check;
mod folder;
mod history;
mod link;
mod loopback;
mod machine;
mod node;
mod processes;
mod writers;
