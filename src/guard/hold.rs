//! A standby that seems to leave recovery without an order: its sessions stand still before recovery has ended, so that they
//! acknowledge nothing, and only what ends recovery runs.
//!
//! A session may stand still with a lock that the startup process needs. So both have their turns: never do sessions run
//! while the startup process does, and it alone ends recovery. It is let end because a server that was stopped in mid-promotion
//! has to be cloned, and one that was not is rewound.

use std::time::Duration;

use rustix::{
    event::{Timespec, poll},
    process::{Signal, pidfd_send_signal},
};

use super::{
    family::{Proc, Role, Standing, signal},
    target::Target,
};
use crate::model::Mono;

/// How long the startup process runs until the sessions have their turn.
pub(super) const TURN: Duration = Duration::from_millis(20);
/// The turn of the sessions: enough for one to be run on a busy machine, and to give back the locks that it stood still with.
const SESSIONS: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// A process that was stopped stands still after this, unless it waits for a disk.
const STOPS: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

impl Target {
    /// Lets every session stand still, and the postmaster, which would make others; what ends recovery goes on.
    pub(super) fn hold_sessions(&mut self, proc: &Proc) {
        self.held = true;
        self.turn_ends = None;
        // All of them first: to read what each one is may take a while.
        self.to_each(proc, Signal::STOP, |_| true);
        let _ = pidfd_send_signal(&self.pidfd, Signal::STOP);
        // Those that were born until the postmaster stopped.
        self.to_each(proc, Signal::STOP, |_| true);
        self.to_each(proc, Signal::CONT, |pid| proc.role(pid) != Role::Other);
    }

    /// Once it is time: the sessions run for a moment, while the startup process stands still.
    pub(super) fn take_turn(&mut self, proc: &Proc, now: Mono) {
        let ends = *self.turn_ends.get_or_insert(now.plus(TURN));
        if now < ends {
            return;
        }
        self.turn_ends = None;
        self.to_each(proc, Signal::STOP, |pid| proc.role(pid) == Role::Startup);
        sleep(STOPS);
        let mut stands = true;
        self.children.each(proc, |pid| {
            stands &= proc.role(pid) != Role::Startup || proc.standing(pid) != Standing::Moves;
        });
        if stands {
            self.to_each(proc, Signal::CONT, |pid| proc.role(pid) == Role::Other);
            sleep(SESSIONS);
            self.to_each(proc, Signal::STOP, |pid| proc.role(pid) == Role::Other);
        }
        self.to_each(proc, Signal::CONT, |pid| proc.role(pid) == Role::Startup);
    }

    fn to_each(&self, proc: &Proc, what: Signal, mut is_meant: impl FnMut(u32) -> bool) {
        self.children.each(proc, |pid| {
            if is_meant(pid) {
                signal(pid, what, || proc.parent(pid) == self.postmaster);
            }
        });
    }
}

fn sleep(length: Timespec) {
    let _ = poll(&mut [], Some(&length));
}
