//! What the guard does for itself at its start, so that a machine in trouble does not hold it up.
//!
//! The unit file `deploy/locum@.service` grants what is asked for here; a test compares the two.

use std::{fs, hint::black_box};

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{Resource, getrlimit},
};

/// As much stack as the guard ever needs; touched once, so that it is there and locked.
const STACK: usize = 128 << 10;
/// The real-time priority that is asked for (`SCHED_FIFO`): above the usual 1, below what watches over the kernel itself. The
/// unit's `LimitRTPRIO`.
pub const REALTIME_PRIORITY: i32 = 50;
/// The guard's `oom_score_adj`: the kernel never ends it when memory runs out. The unit's `OOMScoreAdjust`, since no more than
/// a process was given can it ask for.
pub const GUARD_OOM_SCORE: i32 = -1000;
/// The member's, and so the postmaster's, as Debian gives it: the kernel takes others first, but a member that grows without
/// bound can be ended.
pub const MEMBER_OOM_SCORE: i32 = -900;

const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// What of it was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Posture {
    /// Memory that was touched stays in memory.
    pub(super) locked: bool,
    /// It runs before all ordinary processes.
    pub(super) realtime: bool,
    /// The kernel does not end it when memory runs out.
    pub(super) spared: bool,
}

impl Posture {
    /// Takes it, as far as this user may.
    pub(super) fn take() -> Self {
        // On fault, and the way to frozen is walked beforehand: the program as a whole is many times what is needed.
        let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
        let locked = mlockall(flags).is_ok();
        touch_stack();
        let spared = fs::write(OOM_SCORE, GUARD_OOM_SCORE.to_string()).is_ok();
        Self { locked, realtime: run_before_others(), spared }
    }

    /// What was not allowed, in words; None: nothing.
    pub(super) fn lacks(self) -> Option<String> {
        let lacks = [
            (self.locked, "lock its memory (CAP_IPC_LOCK, or LimitMEMLOCK=infinity)".to_owned()),
            (self.realtime, format!("run in real time (CAP_SYS_NICE, or LimitRTPRIO={REALTIME_PRIORITY})")),
            (
                self.spared,
                format!(
                    "be spared when memory runs out (CAP_SYS_RESOURCE, or OOMScoreAdjust={GUARD_OOM_SCORE})"
                ),
            ),
        ];
        let lacks: Vec<String> = lacks.into_iter().filter(|(has, _)| !has).map(|(_, what)| what).collect();
        (!lacks.is_empty()).then(|| format!("the guard may not {}", lacks.join(", nor ")))
    }
}

/// The member's own part: it was started with the guard's score, so that the guard may have it, and takes the member's.
/// Raising it needs no privilege, and what was granted once the guard may take again.
pub fn settle_member() {
    let score = fs::read_to_string(OOM_SCORE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if score.is_some_and(|score| score < MEMBER_OOM_SCORE)
        && let Err(error) = fs::write(OOM_SCORE, MEMBER_OOM_SCORE.to_string())
    {
        tracing::warn!(%error, "this member keeps the guard's oom_score_adj");
    }
}

#[inline(never)]
fn touch_stack() {
    let stack = [1_u8; STACK];
    black_box(&stack);
}

/// At the priority that is asked for, else at the highest one that this user may have: any goes before ordinary processes.
fn run_before_others() -> bool {
    let allowed = getrlimit(Resource::Rtprio).current.unwrap_or(u64::MAX);
    let allowed = i32::try_from(allowed).unwrap_or(i32::MAX).min(REALTIME_PRIORITY);
    take_priority(REALTIME_PRIORITY) || allowed > 0 && take_priority(allowed)
}

#[expect(unsafe_code, reason = "no safe crate in use has sched_setscheduler(2)")]
fn take_priority(priority: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the pointer is to a value that lives through the call, which only reads it; 0 is this process.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) == 0 }
}
