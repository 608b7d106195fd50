//! The guard: the dead-man switch beside PostgreSQL.
//!
//! A small process of its own, [`run`], one per PostgreSQL. The agent hands it each new deadline through [`Client`];
//! when one passes without a later one, the guard freezes every process of the server, and kills them after
//! `freeze_max` or when it is told that a higher epoch is known. Nothing but a message moves the deadline: not the end
//! of a connection, nor of the agent. Beside a standby it is on duty as well: a server that leaves recovery without such a
//! deadline is frozen at once, and for good; its sessions stand still from the first sign of it (`hold.rs`).
//!
//! It decides nothing. What it does when is `rule.rs`, without I/O; how a server is frozen is `target.rs`. From deadline
//! to frozen it allocates nothing and touches no file system but `/proc` and the control group.

mod cgroup;
mod client;
mod family;
mod hold;
mod link;
mod peers;
mod posture;
mod recovery;
mod rule;
mod run;
mod segments;
mod spawn;
mod target;
mod watchdog;
mod wire;

pub use client::{Client, GuardError};
pub use posture::{GUARD_OOM_SCORE, MEMBER_OOM_SCORE, REALTIME_PRIORITY, settle_member};
pub use rule::Refused;
pub use run::{Options, run};
pub use spawn::Settings;
