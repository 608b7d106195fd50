//! The server that is guarded, and the two ways to stop it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::{
    cgroup::Cgroup,
    family::{Children, Proc, Standing, signal},
    rule::Refused,
    segments::Segments,
};
use crate::model::{GuardMethod, Mono};

/// How often it is looked whether all stand still before the guard turns to its messages again; with [`PAUSE`] 20 ms.
const LOOKS: usize = 20;
/// Between two looks. The guard sleeps then: before all others as it is, it would keep them from standing still.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
/// How far it is looked up whose child a process is.
const ANCESTORS: usize = 8;
/// How many processes that were stopped by signals are remembered, to be ended if their postmaster is killed meanwhile.
const REMEMBERED: usize = 4_096;

/// A server under guard.
pub(super) struct Target {
    pub(super) postmaster: u32,
    /// The agent's name for it.
    pub(super) generation: u64,
    /// Never somebody else who got the number.
    pub(super) pidfd: OwnedFd,
    pub(super) children: Children,
    /// Whose processes these are.
    uid: u32,
    /// Whoever maps one of these is of this server, also as an orphan.
    segments: Segments,
    cgroup: Option<Cgroup>,
    /// Stopped by signals, and not let go since; with the time of the start, so that nobody is taken for it later.
    stopped: Vec<(u32, u64)>,
    /// Every process was seen standing still at the last look.
    still: bool,
    /// Its sessions were told to stand still: see `hold.rs`.
    pub(super) held: bool,
    /// When they have their turn.
    pub(super) turn_ends: Option<Mono>,
}

impl Target {
    /// Takes a server under guard. `generation`: when its postmaster was started, by which the agent vouches for it wherever
    /// its data directory is now; anything else, and it must work in that directory. `group`: if possible in a control group
    /// of its own.
    pub(super) fn take(proc: &Proc, postmaster: u32, generation: u64, group: bool) -> Result<Self, Refused> {
        let pid = Pid::from_raw(postmaster.cast_signed()).ok_or(Refused::NotIt)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| Refused::NotIt)?;
        let children = Children::of(proc, postmaster);
        // Only now, with the pidfd in hand, is what is looked at what is held.
        if proc.started(postmaster) != Some(generation) && !proc.works_here(postmaster) {
            return Err(Refused::NotIt);
        }
        let uid = proc.owner(postmaster).ok_or(Refused::NotIt)?;
        let mut segments = Segments::default();
        segments.look(proc, postmaster);
        let cgroup = if group { Cgroup::enclose(proc, postmaster, &children).ok() } else { None };
        let stopped = Vec::with_capacity(REMEMBERED);
        Ok(Self {
            postmaster,
            generation,
            pidfd,
            children,
            uid,
            segments,
            cgroup,
            stopped,
            still: false,
            held: false,
            turn_ends: None,
        })
    }

    /// Notes the segment that its postmaster has now: it makes another one when it recovers.
    pub(super) fn look_again(&mut self, proc: &Proc) {
        let mut now = self.segments;
        now.look(proc, self.postmaster);
        // If it has ended by now, it may have been another process that was looked at.
        if !self.has_ended() {
            self.segments = now;
        }
    }

    /// How it is stopped.
    pub(super) fn method(&self) -> GuardMethod {
        if self.cgroup.is_some() { GuardMethod::Cgroup } else { GuardMethod::Signals }
    }

    /// Readable once the postmaster has ended.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// True if the postmaster has ended.
    pub(super) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// True if it stood still when it was taken under guard: a guard before this one froze it.
    pub(super) fn was_frozen(&self) -> bool {
        self.cgroup.as_ref().is_some_and(Cgroup::is_frozen)
    }

    /// Walks the whole way to frozen with nothing to freeze, so that every page of it is in memory, and locked.
    pub(super) fn rehearse(&mut self, proc: &Proc) {
        self.children.each(proc, |pid| {
            proc.parent(pid);
            proc.standing(pid);
            proc.role(pid);
        });
        self.segments.are_mapped_by(proc, self.postmaster);
        proc.standing(self.postmaster);
        if let Some(group) = &self.cgroup {
            let frozen = group.is_frozen();
            // Writes what is there already.
            let _ = group.set_frozen(frozen);
            group.wait(Timespec::default());
        }
    }

    /// Stops every process by signals, without waiting: for a server that is never let go on. A change of a control group waits
    /// for whoever changes another one at the time; a signal waits for nobody.
    pub(super) fn halt(&mut self, proc: &Proc) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::STOP);
        // Once more for those that were born until the postmaster stopped.
        for _ in 0..2 {
            self.children.each(proc, |pid| signal(pid, Signal::STOP, || proc.parent(pid) == self.postmaster));
        }
    }

    /// Begins to freeze it, and waits a moment for it. True: every process was seen standing still.
    pub(super) fn freeze(&mut self, proc: &Proc) -> bool {
        for _ in 0..LOOKS {
            if self.press(proc) {
                return true;
            }
            self.pause();
        }
        self.press(proc)
    }

    /// Tells whoever moves to stand still. True: nobody moves.
    pub(super) fn press(&mut self, proc: &Proc) -> bool {
        if let Some(group) = &self.cgroup {
            // A write that fails is seen in that they do not stand still.
            let _ = group.set_frozen(true);
            self.still = group.is_frozen();
            return self.still;
        }
        // The postmaster first: once it was seen standing still, no child is born any more.
        let mut still = proc.standing(self.postmaster) != Standing::Moves;
        if !still {
            let _ = pidfd_send_signal(&self.pidfd, Signal::STOP);
        }
        self.children.each(proc, |pid| {
            if proc.standing(pid) == Standing::Moves {
                signal(pid, Signal::STOP, || proc.parent(pid) == self.postmaster);
                still = false;
                if let Some(started) = proc.started(pid)
                    && self.stopped.len() < REMEMBERED
                    && !self.stopped.contains(&(pid, started))
                {
                    self.stopped.push((pid, started));
                }
            }
        });
        self.still = still;
        still
    }

    /// Keeps a frozen one so, if somebody lets it go on.
    pub(super) fn hold(&mut self, proc: &Proc) {
        let moves = match &self.cgroup {
            Some(group) => !group.is_frozen(),
            // Only a postmaster that moves can make new sessions; to look at all of them takes too long.
            None => proc.standing(self.postmaster) == Standing::Moves,
        };
        // Until all were seen standing still again: it may have made a child since the last look.
        if moves || !self.still {
            self.press(proc);
        }
    }

    /// Lets it go on.
    pub(super) fn thaw(&mut self, proc: &Proc) {
        if let Some(group) = &self.cgroup {
            let _ = group.set_frozen(false);
            if !self.held {
                return;
            }
        }
        self.children.each(proc, |pid| signal(pid, Signal::CONT, || proc.parent(pid) == self.postmaster));
        let _ = pidfd_send_signal(&self.pidfd, Signal::CONT);
        self.held = false;
        self.stopped.clear();
    }

    /// SIGKILL to every process of it. May be repeated while [`Target::is_gone`] says no.
    pub(super) fn kill(&mut self, proc: &Proc) {
        if self.kill_group(proc) {
            return;
        }
        if self.has_ended() {
            self.kill_orphans(proc);
            return;
        }
        let _ = pidfd_send_signal(&self.pidfd, Signal::STOP);
        for _ in 0..LOOKS {
            if proc.standing(self.postmaster) != Standing::Moves {
                break;
            }
            self.pause();
        }
        // The children first: orphans would go on acknowledging commits.
        let mut before = None;
        for _ in 0..LOOKS {
            let count = self.children.each(proc, |pid| {
                signal(pid, Signal::KILL, || proc.parent(pid) == self.postmaster);
            });
            if before == Some(count) {
                break;
            }
            before = Some(count);
        }
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// True if nothing of it is left.
    pub(super) fn is_gone(&self) -> bool {
        self.has_ended() && self.cgroup.as_ref().is_none_or(Cgroup::is_empty)
    }

    /// Its postmaster has ended: ends what is left of it if somebody must, and gives back the group to be removed.
    pub(super) fn bury(self, proc: &Proc, kill: bool) -> Option<Cgroup> {
        if kill {
            self.kill_group(proc);
            self.kill_orphans(proc);
        }
        self.cgroup
    }

    /// SIGKILL to whoever maps a segment of the server, whosever child it is, and to those that this guard has stopped: nobody
    /// else would ever let them go on.
    fn kill_orphans(&self, proc: &Proc) {
        for (pid, started) in &self.stopped {
            signal(*pid, Signal::KILL, || proc.started(*pid) == Some(*started));
        }
        if self.segments.is_empty() {
            return;
        }
        proc.each_process(|pid| {
            if proc.is_of(pid, self.uid) && self.segments.are_mapped_by(proc, pid) {
                signal(pid, Signal::KILL, || self.segments.are_mapped_by(proc, pid));
            }
        });
    }

    /// SIGKILL to all that is in the group; where something is in it that the server's programs have left behind, only to
    /// what is the server's. False: there is no group, or this kernel cannot.
    fn kill_group(&self, proc: &Proc) -> bool {
        let Some(group) = &self.cgroup else { return false };
        let mut left_behind = false;
        group.each(|pid| left_behind |= !self.is_of_server(proc, pid));
        if !left_behind || self.segments.is_empty() {
            return group.kill();
        }
        // Nobody is born in it while it stands still, and SIGKILL ends those that do.
        let _ = group.set_frozen(true);
        for _ in 0..LOOKS {
            if group.is_frozen() {
                break;
            }
            group.wait(PAUSE);
        }
        group.each(|pid| {
            if self.is_of_server(proc, pid) {
                signal(pid, Signal::KILL, || self.is_of_server(proc, pid));
            }
        });
        let _ = group.set_frozen(false);
        true
    }

    /// Whether a process is the postmaster, maps a segment of the server, or was started by one of these.
    fn is_of_server(&self, proc: &Proc, pid: u32) -> bool {
        let mut one = pid;
        for _ in 0..ANCESTORS {
            let parent = proc.parent(one);
            if one == self.postmaster || parent == self.postmaster {
                return true;
            }
            if parent == 0 || self.segments.are_mapped_by(proc, one) {
                return parent != 0;
            }
            one = parent;
        }
        false
    }

    fn pause(&self) {
        match &self.cgroup {
            Some(group) => group.wait(PAUSE),
            None => {
                let mut none: [PollFd<'_>; 0] = [];
                let _ = poll(&mut none, Some(&PAUSE));
            }
        }
    }
}
