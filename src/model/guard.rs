//! What is known of the guard: the process beside PostgreSQL that stops it when its right to serve has run out.

use serde::{Deserialize, Serialize};

use super::{Mono, Stamp};

/// What the guard is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardState {
    /// It stops nothing: no server is guarded, or it was disarmed.
    Off,
    /// It stops the server at the deadline. A deadline that has passed: it is being stopped, and not all of its
    /// processes are seen standing still yet.
    Armed,
    /// Every process of the server stands still. A later deadline of the same epoch lets it go on.
    Frozen,
    /// SIGKILL was sent to every process of the server. Only another server can be guarded from here on.
    Killed,
}

/// How the guard stops a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardMethod {
    /// The server has a control group of its own, frozen and killed as one.
    Cgroup,
    /// SIGSTOP and SIGKILL to the postmaster and each of its children.
    Signals,
}

impl GuardFacts {
    /// For people, at `now`: what it is doing, how, and what it could not do.
    #[must_use]
    pub fn in_words(&self, now: Mono) -> String {
        let state = match (self.state, self.deadline) {
            (GuardState::Off, _) if self.keeps => "keeps it in recovery".to_owned(),
            (GuardState::Off, _) => "off".to_owned(),
            (GuardState::Armed, Some(deadline)) => {
                format!("armed, {:.1} s left", deadline.since(now).as_secs_f64())
            }
            (GuardState::Armed, None) => "armed".to_owned(),
            (GuardState::Frozen, _) if self.strayed => format!(
                "has frozen PostgreSQL {:.1} s ago, because it left recovery without an order",
                now.since(self.since).as_secs_f64()
            ),
            (GuardState::Frozen, _) => {
                format!("has frozen PostgreSQL {:.1} s ago", now.since(self.since).as_secs_f64())
            }
            (GuardState::Killed, _) => "has killed PostgreSQL".to_owned(),
        };
        let method = match self.method {
            GuardMethod::Cgroup => "control group",
            GuardMethod::Signals => "signals",
        };
        let limits = [
            (!self.enforce).then_some("only reports"),
            (!self.realtime).then_some("not in real time"),
            (!self.locked).then_some("memory not locked"),
            (!self.spared).then_some("not spared when memory runs out"),
        ];
        let limits: Vec<&str> = limits.into_iter().flatten().collect();
        let limits = if limits.is_empty() { String::new() } else { format!(", {}", limits.join(", ")) };
        format!("{state} ({method}{limits})")
    }
}

/// The guard, as it describes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardFacts {
    /// What it is doing. While `enforce` is false: what it would have done.
    pub state: GuardState,
    /// Since when it is in this state.
    pub since: Mono,
    /// Until when the server may serve; kept after it has passed. None: not armed.
    pub deadline: Option<Mono>,
    /// The highest stamp it was given; it refuses lower ones. None: none yet.
    pub stamp: Option<Stamp>,
    /// The postmaster it guards. None: no server, or it has ended.
    pub postmaster: Option<u32>,
    /// How it stops it.
    pub method: GuardMethod,
    /// It runs before all ordinary processes (`SCHED_FIFO`).
    pub realtime: bool,
    /// Its memory is locked: it does not wait for a disk.
    pub locked: bool,
    /// The kernel does not end it when memory runs out. A guard of an earlier release does not tell, and counts as spared.
    #[serde(default = "yes")]
    pub spared: bool,
    /// False: it only reports what it would have done.
    pub enforce: bool,
    /// The server is in recovery, and is frozen when it leaves that without a deadline that runs.
    #[serde(default)]
    pub keeps: bool,
    /// It stopped the server because that left recovery without a deadline that ran.
    #[serde(default)]
    pub strayed: bool,
}

const fn yes() -> bool {
    true
}

/// Something that a guard asks for and may be refused: without it a machine in trouble can hold it up or end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardLack {
    /// Real-time priority: a machine whose CPUs are all busy freezes late.
    Realtime,
    /// Locked memory: the guard waits for a disk when it was paged out.
    Memory,
    /// An exemption from the OOM killer.
    Oom,
}

impl GuardLack {
    /// What it is, and what grants it.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Realtime => "real-time priority (LimitRTPRIO=50)",
            Self::Memory => "locked memory (LimitMEMLOCK=infinity)",
            Self::Oom => "to be spared when memory runs out (OOMScoreAdjust=-1000)",
        }
    }
}

impl GuardFacts {
    /// What it asked for and could not have.
    #[must_use]
    pub fn lacks(&self) -> Vec<GuardLack> {
        let lacks = [
            (self.realtime, GuardLack::Realtime),
            (self.locked, GuardLack::Memory),
            (self.spared, GuardLack::Oom),
        ];
        lacks.into_iter().filter(|(has, _)| !has).map(|(_, lack)| lack).collect()
    }
}
