//! PostgreSQL on this host: its processes, files and programs. No policy, no epochs, no SQL.
//!
//! Everything that touches the data directory runs on a blocking thread with a deadline, so that a hung file system
//! holds up nobody but the one who asked. What may be done when is decided elsewhere.

mod clone;
mod conf;
mod conninfo;
mod control;
mod create;
mod disk;
mod error;
mod history;
mod identity;
mod idle;
mod instance;
mod interlock;
mod kept;
mod kept_salvage;
mod kill;
mod known;
mod ledger;
mod loss;
mod names;
pub mod observe;
mod old_data;
mod owner;
mod pages;
pub mod probe;
mod proc;
mod process;
mod progress;
mod promote;
mod psql;
mod record;
mod recovery;
mod rewind;
mod run;
mod salvage;
mod segment;
pub mod session;
pub mod sql;
mod start;
mod stop;
mod through;
mod unfinished;
mod wal;

pub use clone::{CloneError, CloneFrom, OLD_SUFFIX};
pub use conninfo::{BadConninfo, Conninfo, Source};
pub use create::{NewCluster, open_to_others};
pub use error::PgError;
pub use history::{BadHistory, parse_history};
pub use instance::{Instance, InstanceError};
pub use kept_salvage::{KeptSalvage, SalvageLimits, kept, read_list};
pub use kill::{KillError, Killed};
pub use old_data::copy as copy_data;
pub use owner::Owner;
pub use pages::{CHUNK, WalPlace, belongs, is_blank};
pub use process::Postmaster;
pub use promote::{PromoteError, promote};
pub use psql::{Psql, PsqlError};
pub use recovery::{HINDRANCES, is_given_to_standbys, worth_telling};
pub use rewind::{RewindError, Rewound};
pub use salvage::{DATA, Salvaged, Tail, in_short};
pub use start::StartError;
pub use stop::Stopped;
pub use through::{ThroughEndpoint, password_of};
pub use wal::LostTail;
