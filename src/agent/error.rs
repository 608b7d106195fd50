//! Why an agent cannot start. Each message says what is wrong, what was left untouched, and what to do.

use std::path::PathBuf;

use crate::model::{NodeId, SystemId};

/// Why an agent cannot start. Nothing was changed in any of these cases.
#[expect(missing_docs, reason = "each message says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// `state_dir` cannot be used.
    #[error(
        "cannot use state_dir {}: {what}: {why}; PostgreSQL was left untouched; \
         name a folder that this user can write, outside the data directory", .path.display()
    )]
    StateDir { path: PathBuf, what: &'static str, why: String },
    /// Another process holds it.
    #[error(
        "another locum member uses state_dir {}; nothing was touched; stop that one, or give each its own",
        .path.display()
    )]
    StateInUse { path: PathBuf },
    /// The promise file is there and cannot be read.
    #[error(
        "cannot read the promise file {}: {why}; nothing was touched; repair or restore it: \
         without it this node does not know which orders it must refuse", .path.display()
    )]
    PromiseUnreadable { path: PathBuf, why: String },
    /// The promise file is another node's.
    #[error(
        "the promise file {} is node {names}'s, and this is {node}; nothing was touched; \
         set `node` or `state_dir` right", .path.display()
    )]
    ForeignPromise { path: PathBuf, names: NodeId, node: NodeId },
    /// The data directory is not the one the promise is about.
    #[error(
        "the promise file {} is about system {known}, but the data directory is of system {found}; nothing was \
         touched; set `postgres.data_dir` or `state_dir` right, or remove the file if the data was replaced on purpose",
        .path.display()
    )]
    ForeignSystem { path: PathBuf, known: SystemId, found: SystemId },
    /// A setting of `[postgres]` cannot be used.
    #[error("postgres.{key} cannot be used: {why}; nothing was touched; correct it in locum.toml")]
    Setting { key: &'static str, why: String },
    /// The data directory cannot be read.
    #[error("cannot look at the data directory {}: {why}; nothing was touched", .path.display())]
    DataDir { path: PathBuf, why: String },
}
