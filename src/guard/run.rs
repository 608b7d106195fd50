//! The guard's process: one thread that waits for messages, for the deadline, and for the server's end.

use std::{
    array, fs, io,
    os::{fd::AsFd as _, fd::OwnedFd, unix::fs::PermissionsExt as _, unix::net::UnixListener},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, flock},
    io::Errno,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime},
};

use super::{
    cgroup::{self, Cgroup},
    family::Proc,
    hold::TURN,
    peers::{Heard, PEERS, Peer},
    posture::Posture,
    recovery::{Recovery, Sight},
    rule::{Effect, Refused, Rule},
    target::Target,
    watchdog::Watchdog,
    wire::{Ask, Told},
};
use crate::{
    clock::SystemClock,
    model::{GuardFacts, GuardMethod, GuardState, Mono},
    ports::Clock as _,
};

/// The socket, in the state directory.
pub(super) const SOCKET: &str = "guard.sock";
/// Held for as long as the guard lives: there is one per state directory.
pub(super) const LOCK: &str = "guard.lock";
/// What it says at its start; nothing later, for a disk that hangs would hold it up.
pub(super) const LOG: &str = "guard.log";
/// A frozen server is looked at so often: a stopped postmaster that somebody lets go on, as the kernel does when its
/// parent dies, needs 4 ms or more until a new session commits.
const HOLD: Duration = Duration::from_millis(2);
/// Until all stand still, or are gone, they are looked at so often.
const LOOK: Duration = Duration::from_millis(10);
/// An unarmed guard that nobody is connected to ends after this. It knows nothing then that the next member's would not;
/// long enough for a member that is restarted to find it.
const IDLE: Duration = Duration::from_secs(2);
/// How many frames of one connection are taken in a turn.
const FRAMES: usize = 16;
/// How often the group of a server that has ended is tried to be removed.
const REMOVALS: u32 = 500;

/// What a guard is told when it is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its socket is.
    pub state_dir: PathBuf,
    /// Whose server it guards.
    pub data_dir: PathBuf,
    /// How long a server may stand still until it is killed.
    pub freeze_max: Duration,
    /// False: only report.
    pub enforce: bool,
    /// A watchdog device to be armed as well.
    pub watchdog: Option<PathBuf>,
    /// Never use a control group.
    pub signals: bool,
}

/// Guards until it is no longer needed. Not to be called in a process that does anything else. `say` is given what a
/// person should know at its start.
///
/// # Errors
/// Another guard holds the directory, or the socket cannot be made.
pub fn run(options: &Options, say: impl FnOnce(&str)) -> io::Result<()> {
    // A session of its own, unless it leads a group already because a person started it.
    let _ = rustix::process::setsid();
    let state_dir = options.state_dir.canonicalize()?;
    let lock = fs::File::create(state_dir.join(LOCK))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| io::Error::other("another guard holds this state directory"))?;
    let data_dir = match options.data_dir.canonicalize() {
        // A clone will make it, at this very path.
        Err(error) if error.kind() == io::ErrorKind::NotFound => options.data_dir.clone(),
        found => found?,
    };
    let listener = listen(&state_dir.join(SOCKET))?;
    // A folder that may hang or be unmounted is nothing to stay in.
    std::env::set_current_dir("/")?;
    let posture = Posture::take();
    if let Some(lacks) = posture.lacks() {
        say(&lacks);
    }
    let ended = Guard::new(options, &data_dir, listener, posture)?.serve();
    let _gone_already = fs::remove_file(state_dir.join(SOCKET));
    drop(lock);
    ended
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

struct Guard {
    rule: Rule,
    posture: Posture,
    proc: Proc,
    groups: bool,
    target: Option<Target>,
    /// Of the server that is guarded.
    recovery: Option<Recovery>,
    /// The group of a server that has ended, and how often it was tried to remove it.
    grave: Option<(Cgroup, u32)>,
    watchdog: Option<Watchdog>,
    listener: UnixListener,
    timer: OwnedFd,
    peers: [Option<Peer>; PEERS],
    /// Since when nobody is connected.
    alone: Option<Mono>,
    /// What everybody was told last.
    told: Option<GuardFacts>,
    quit: bool,
}

impl Guard {
    fn new(options: &Options, data_dir: &Path, listener: UnixListener, posture: Posture) -> io::Result<Self> {
        let now = SystemClock.now();
        Ok(Self {
            rule: Rule::new(options.freeze_max, options.enforce, now),
            posture,
            proc: Proc::open(data_dir)?,
            groups: !options.signals && cgroup::is_there(),
            target: None,
            recovery: None,
            grave: None,
            watchdog: options.watchdog.as_deref().map(Watchdog::new),
            listener,
            timer: timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?,
            peers: array::from_fn(|_| None),
            alone: Some(now),
            told: None,
            quit: false,
        })
    }

    fn serve(mut self) -> io::Result<()> {
        while !self.quit && !self.is_forgotten() {
            self.advance();
            self.publish();
            self.wait()?;
        }
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.disarm();
        }
        Ok(())
    }

    /// Does what is due.
    fn advance(&mut self) {
        if self.target.as_ref().is_some_and(Target::has_ended) {
            self.ended();
        }
        // Before the clock is looked at: which of the two came first decides whether a promotion was an ordered one.
        self.mind_recovery();
        while let Some(effect) = self.rule.due(SystemClock.now()) {
            self.act(effect);
        }
        self.mind_held();
        if let Some(target) = &mut self.target
            && self.rule.enforce
        {
            match self.rule.state {
                GuardState::Frozen => target.hold(&self.proc),
                GuardState::Armed if self.rule.is_freezing() && target.press(&self.proc) => {
                    self.rule.frozen(SystemClock.now());
                }
                GuardState::Killed if !target.is_gone() => target.kill(&self.proc),
                _ => {}
            }
        }
        if self.grave.as_ref().is_some_and(|(group, tries)| group.remove() || *tries > REMOVALS) {
            self.grave = None;
        } else if let Some((_, tries)) = &mut self.grave {
            *tries += 1;
        }
        self.mind_watchdog();
    }

    fn act(&mut self, effect: Effect) {
        let Some(target) = &mut self.target else { return };
        match effect {
            Effect::Freeze if !self.rule.enforce => self.rule.frozen(SystemClock.now()),
            Effect::Kill if !self.rule.enforce => {}
            Effect::Freeze => {
                if self.rule.strayed {
                    target.halt(&self.proc);
                }
                if target.freeze(&self.proc) {
                    self.rule.frozen(SystemClock.now());
                }
            }
            Effect::Thaw => target.thaw(&self.proc),
            Effect::Kill => target.kill(&self.proc),
        }
    }

    /// A server that has left recovery without a right to do so is frozen, and its sessions stand still before.
    fn mind_recovery(&mut self) {
        match self.recovery.as_mut().map(Recovery::look) {
            None | Some(Sight::Nothing) => {}
            Some(Sight::Leaving) => {
                if self.rule.leaving_recovery(SystemClock.now())
                    && let Some(target) = &mut self.target
                {
                    target.hold_sessions(&self.proc);
                }
            }
            Some(Sight::Left) => {
                self.recovery = None;
                if let Some(effect) = self.rule.left_recovery(SystemClock.now()) {
                    self.act(effect);
                }
            }
        }
    }

    /// Lets the sessions that are held have their turn, or go on.
    fn mind_held(&mut self) {
        let Some(target) = self.target.as_mut().filter(|target| target.held) else { return };
        match (self.rule.held, self.rule.state) {
            (Some(_), _) => target.take_turn(&self.proc, SystemClock.now()),
            (None, GuardState::Off) => target.thaw(&self.proc),
            (None, GuardState::Armed) if !self.rule.is_freezing() => target.thaw(&self.proc),
            (None, _) => {}
        }
    }

    fn ended(&mut self) {
        self.recovery = None;
        let held = self.target.as_ref().is_some_and(|target| target.held);
        // Nobody but this guard would let those go on that are held.
        let kill = self.rule.enforce && (self.rule.state != GuardState::Off || held);
        if let Some(group) = self.target.take().and_then(|target| target.bury(&self.proc, kill)) {
            self.grave = Some((group, 0));
        }
        self.rule.ended(SystemClock.now());
    }

    /// Its server is under control while the deadline holds, and when it does nothing any more. Where neither can be
    /// said, the machine is better reset.
    fn mind_watchdog(&mut self) {
        let Some(watchdog) = &mut self.watchdog else { return };
        match self.rule.state {
            GuardState::Off => watchdog.disarm(),
            GuardState::Killed if self.target.as_ref().is_none_or(Target::is_gone) => watchdog.disarm(),
            GuardState::Armed if self.rule.enforce && !self.rule.is_freezing() => {
                watchdog.arm();
                watchdog.pet(SystemClock.now());
            }
            GuardState::Frozen if self.rule.enforce => watchdog.pet(SystemClock.now()),
            GuardState::Armed | GuardState::Frozen | GuardState::Killed => {}
        }
    }

    fn facts(&self) -> GuardFacts {
        let method = self.target.as_ref().map(Target::method);
        GuardFacts {
            state: self.rule.state,
            since: self.rule.since,
            deadline: self.rule.deadline,
            stamp: self.rule.stamp,
            postmaster: self.target.as_ref().map(|target| target.postmaster),
            method: method.unwrap_or(if self.groups { GuardMethod::Cgroup } else { GuardMethod::Signals }),
            realtime: self.posture.realtime,
            locked: self.posture.locked,
            spared: self.posture.spared,
            enforce: self.rule.enforce,
            keeps: self.keeps(),
            strayed: self.rule.strayed,
        }
    }

    /// It is there for a server in recovery.
    fn keeps(&self) -> bool {
        self.rule.kept && self.recovery.as_ref().is_some_and(Recovery::is_seen)
    }

    fn telling(&self, seq: u32, refused: Option<Refused>) -> Told {
        let generation = self.target.as_ref().map_or(0, |target| target.generation);
        Told { seq, refused, facts: self.facts(), generation }
    }

    /// Tells everybody what has changed. A new deadline alone is told only to the one who set it.
    fn publish(&mut self) {
        let facts = GuardFacts { deadline: None, ..self.facts() };
        if self.told == Some(facts) {
            return;
        }
        self.told = Some(facts);
        let frame = self.telling(0, None).bytes();
        for place in &mut self.peers {
            if place.as_mut().is_some_and(|peer| !peer.tell(&frame)) {
                *place = None;
            }
        }
    }

    /// Until a message comes, the server ends, or something is due; then takes the messages.
    fn wait(&mut self) -> io::Result<()> {
        self.set_timer()?;
        let (listening, peers) = {
            let none = || PollFd::from_borrowed_fd(self.timer.as_fd(), PollFlags::empty());
            let control = self.recovery.as_ref().and_then(Recovery::fd);
            let reading = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
            let mut fds: [PollFd<'_>; 4 + PEERS] = array::from_fn(|at| match at {
                0 => reading(self.timer.as_fd()),
                1 => reading(self.listener.as_fd()),
                2 => self.target.as_ref().map_or_else(none, |target| reading(target.fd())),
                3 => control.map_or_else(none, reading),
                _ => self.peers[at - 4].as_ref().map_or_else(none, |peer| reading(peer.fd())),
            });
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready = |at: usize| !fds[at].revents().is_empty();
            (ready(1), array::from_fn::<bool, PEERS, _>(|at| ready(4 + at)))
        };
        // What has come is taken before the clock is looked at: it may be the later deadline.
        for (at, ready) in peers.into_iter().enumerate() {
            if ready {
                self.hear(at);
            }
        }
        if listening {
            self.accept();
        }
        Ok(())
    }

    /// Sets the timer to the next instant at which there is something to do.
    fn set_timer(&mut self) -> io::Result<()> {
        let now = SystemClock.now();
        let look = match self.rule.state {
            GuardState::Frozen if self.rule.enforce => Some(HOLD),
            GuardState::Armed if self.rule.enforce && self.rule.is_freezing() => Some(LOOK),
            GuardState::Killed if self.rule.enforce && self.target.is_some() => Some(LOOK),
            _ if self.rule.held.is_some() => Some(TURN),
            _ => self.grave.is_some().then_some(LOOK),
        };
        let looks = self.recovery.as_ref().filter(|_| self.rule.kept);
        let next = [
            self.rule.next(),
            looks.and_then(Recovery::again).map(|after| now.plus(after)),
            look.map(|after| now.plus(after)),
            self.watchdog.as_ref().and_then(Watchdog::next).filter(|due| *due > now),
            self.alone.filter(|_| !self.is_needed()).map(|since| since.plus(IDLE)),
        ];
        // An instant of zero would stop the timer.
        let at = next.into_iter().flatten().min().map_or(0, |at| at.0.max(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(at / 1_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(at % 1_000_000 * 1_000).unwrap_or_default(),
        };
        let value = Itimerspec { it_interval: Timespec::default(), it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &value)?;
        Ok(())
    }

    fn accept(&mut self) {
        // One that is refused, or has gone again, is none.
        let Ok(Some(peer)) = Peer::accept(&self.listener) else { return };
        let free = self.peers.iter().position(Option::is_none);
        // Whoever hangs does not keep others out.
        self.peers[free.unwrap_or(0)] = Some(peer);
        self.alone = None;
    }

    fn hear(&mut self, at: usize) {
        for _ in 0..FRAMES {
            let Some(peer) = &mut self.peers[at] else { return };
            let frame = match peer.hear() {
                Heard::Frame(frame) => frame,
                Heard::Nothing => return,
                Heard::End => return self.drop_peer(at),
            };
            let Ok((seq, ask)) = Ask::parse(&frame) else { return self.drop_peer(at) };
            let refused = ask.map_or(Err(Refused::Unknown), |ask| self.take(ask)).err();
            let answer = self.telling(seq, refused).bytes();
            if !self.peers[at].as_mut().is_some_and(|peer| peer.tell(&answer)) {
                self.drop_peer(at);
            }
        }
    }

    fn drop_peer(&mut self, at: usize) {
        self.peers[at] = None;
        if self.peers.iter().all(Option::is_none) {
            self.alone = Some(SystemClock.now());
        }
    }

    fn take(&mut self, ask: Ask) -> Result<(), Refused> {
        let now = SystemClock.now();
        match ask {
            Ask::Hello { freeze_max, enforce } => self.rule.set(freeze_max, enforce, now),
            Ask::Watch { postmaster, generation } => return self.watch(postmaster, generation),
            Ask::Arm { deadline, stamp } => {
                if let Some(effect) = self.rule.arm(deadline, stamp, now)? {
                    self.act(effect);
                }
                // So that the answer tells what came of it.
                self.advance();
            }
            Ask::Disarm { stamp } => self.rule.disarm(stamp, now)?,
            Ask::Kill { stamp } => {
                if let Some(effect) = self.rule.kill(stamp, now)? {
                    self.act(effect);
                }
            }
            Ask::Keep => self.rule.keep()?,
            Ask::Quit if self.rule.is_engaged() => return Err(Refused::Guarding),
            Ask::Quit => self.quit = true,
        }
        Ok(())
    }

    fn watch(&mut self, postmaster: u32, generation: u64) -> Result<(), Refused> {
        if self.target.as_ref().is_some_and(Target::has_ended) {
            self.ended();
        }
        if let Some(same) = self.target.as_mut().filter(|target| target.postmaster == postmaster) {
            same.generation = generation;
            same.look_again(&self.proc);
            return Ok(());
        }
        // One that is armed is let go of only by a disarm, or by its end.
        if self.target.is_some() && self.rule.is_engaged() {
            return Err(Refused::Guarding);
        }
        let mut target = Target::take(&self.proc, postmaster, generation, self.groups)?;
        target.rehearse(&self.proc);
        self.recovery = Recovery::of(postmaster);
        self.rule.watch(target.was_frozen(), SystemClock.now());
        self.target = Some(target);
        Ok(())
    }

    /// True once it guards nothing, and nobody has been there for a while.
    fn is_forgotten(&self) -> bool {
        let alone = self.alone.is_some_and(|since| SystemClock.now() >= since.plus(IDLE));
        alone && !self.is_needed() && self.grave.is_none()
    }

    /// A server would miss it.
    fn is_needed(&self) -> bool {
        self.rule.is_engaged() || self.keeps()
    }
}
