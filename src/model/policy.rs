//! What the business and the operator decided. One threshold per use; each says in which direction it errs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Durability;

/// A postmaster that says "not yet" is alive and at work: PostgreSQL's own recovery after a killed backend syncs every
/// file first. It gets so many times `hang`, by the leader and by its own agent alike. Fewer: a killed backend on a slow
/// disk is a failover. More: a recovery that never ends is waited for longer.
pub const RECOVERY_HANGS: u32 = 5;

/// What to do when the primary's postmaster dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCrash {
    /// Promote the standby.
    Failover,
    /// Start it again in place; fail over only when that fails.
    Restart,
    /// Whichever of the two is estimated to be sooner.
    Fastest,
}

/// Whether the active app server goes with the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppTie {
    /// When the database moves, the app server beside the new primary becomes the active one.
    Tied,
    /// It stays where it is for as long as it is well.
    Free,
}

/// What the guard does when the right to serve has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuardMode {
    /// It freezes PostgreSQL, and kills it in the end.
    Enforce,
    /// It only reports what it would have done.
    Observe,
}

/// The policy. `config` fills it from `locum.toml`; see `locum config example` for each key in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What an acknowledged commit promises.
    pub durability: Durability,
    /// Async only: the greatest live RPO, in bytes, at which a failover goes ahead by itself.
    pub max_data_loss: u64,
    /// Silence of a member before it is suspected. Too short: false suspicion (harmless alone). Too long: slower.
    pub detect: Duration,
    /// How long probes of the primary may fail before it counts as hung. Too short: needless failover under load.
    pub hang: Duration,
    /// What to do when the postmaster dies.
    pub on_crash: OnCrash,
    /// Sync: how long writes may wait for a lost standby before the sync set is emptied. Shorter: a blip ends the
    /// promise. Longer: writes stall longer.
    pub write_wait: Duration,
    /// How long an app server's probes may fail before another takes over.
    pub app_grace: Duration,
    /// Whether the active app server goes with the primary.
    pub app: AppTie,
    /// How long a switchover waits for transactions to end before it cuts them.
    pub drain: Duration,
    /// How long a switchover may take until it is rolled back.
    pub handover: Duration,
    /// More failovers than this within `flap_window` need a person; and a primary that crashed more often than this is not
    /// started in its place at once any more.
    pub max_failovers: usize,
    /// The window of `max_failovers`.
    pub flap_window: Duration,
    /// A switchover is refused while the standby lacks more bytes than this.
    pub max_switchover_lag: u64,
    /// The most WAL, in bytes, that the primary keeps for a standby that is away; 0: no limit. Smaller: a node that was away
    /// is cloned where it could have streamed. Larger: the disk needs that room.
    pub max_slot_wal: u64,
    /// How long a primary may serve on its last renewal. Shorter: a store that is slow for as long stops a sound primary.
    /// Longer: a failover that must wait for it (async) takes longer.
    pub lease_ttl: Duration,
    /// What happens when that time is over.
    pub guard: GuardMode,
    /// How long a server stays frozen, so that it can go on when its right returns, before it is killed.
    pub freeze_max: Duration,
    /// How long a standby that still receives WAL may hold up a failover until a person is asked.
    pub veto_max: Duration,
    /// How long a failover may wait for WAL that only the fenced old primary still has. Zero: it does not. Shorter: more
    /// may be lost with a slow disk or link. Longer: one that hangs holds up the failover for as long.
    pub rescue_max: Duration,
    /// A fence command is configured: a way to make sure of a silent primary without waiting for its lease.
    pub has_fence_command: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            max_data_loss: 16 << 20,
            detect: Duration::from_millis(500),
            hang: Duration::from_secs(2),
            on_crash: OnCrash::Failover,
            write_wait: Duration::from_millis(500),
            app_grace: Duration::from_millis(500),
            app: AppTie::Tied,
            drain: Duration::from_millis(500),
            handover: Duration::from_secs(15),
            max_failovers: 3,
            flap_window: Duration::from_secs(600),
            max_switchover_lag: 16 << 20,
            max_slot_wal: 16 << 30,
            lease_ttl: Duration::from_secs(3),
            guard: GuardMode::Enforce,
            freeze_max: Duration::from_secs(10),
            veto_max: Duration::from_secs(30),
            rescue_max: Duration::from_secs(2),
            has_fence_command: false,
        }
    }
}
