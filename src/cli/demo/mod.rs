//! `locum demo`: a whole cluster on this machine, broken on purpose, and judged by its clients.

mod folder;
mod loopback;
mod machine;
mod node;
mod processes;
