//! What the guard does for itself at its start, so that a machine in trouble does not hold it up.

use std::{fs, hint::black_box};

use rustix::mm::{MlockAllFlags, mlockall};

/// As much stack as the guard ever needs; touched once, so that it is there and locked.
const STACK: usize = 128 << 10;
/// Above the usual 1, below what watches over the kernel itself.
const PRIORITY: i32 = 50;

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
        let spared = fs::write("/proc/self/oom_score_adj", "-1000").is_ok();
        Self { locked, realtime: run_before_others(), spared }
    }

    /// What was not allowed, in words; None: nothing.
    pub(super) fn lacks(self) -> Option<String> {
        let lacks = [
            (self.locked, "lock its memory (CAP_IPC_LOCK, or LimitMEMLOCK=infinity)"),
            (self.realtime, "run in real time (CAP_SYS_NICE, or LimitRTPRIO=50)"),
            (self.spared, "be spared when memory runs out (CAP_SYS_RESOURCE, or OOMScoreAdjust=-1000)"),
        ];
        let lacks: Vec<&str> = lacks.iter().filter(|(has, _)| !has).map(|(_, what)| *what).collect();
        (!lacks.is_empty()).then(|| format!("the guard may not {}", lacks.join(", nor ")))
    }
}

#[inline(never)]
fn touch_stack() {
    let stack = [1_u8; STACK];
    black_box(&stack);
}

#[expect(unsafe_code, reason = "no safe crate in use has sched_setscheduler(2)")]
fn run_before_others() -> bool {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the pointer is to a value that lives through the call, which only reads it; 0 is this process.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) == 0 }
}
