//! One PostgreSQL: what matters of it to Locum, and nothing else.
//!
//! The write-ahead log is a list of record numbers, so that "is a prefix of" and "has diverged" are exact. Every record
//! is eight bytes long.

use std::collections::{BTreeMap, BTreeSet};

use locum::model::{ControlState, Lsn, Stamp, StandbyName, Switch, Timeline};

use super::{Tick, mix::Mix, rng::Rng};

/// The position after `len` records.
pub(crate) const fn lsn(len: usize) -> Lsn {
    Lsn(0x1000 + 8 * len as u64)
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proc {
    Down,
    Starting {
        until: Tick,
        standby: bool,
    },
    Standby,
    Promoting {
        until: Tick,
    },
    Primary,
    /// A clean stop: no new commits; ends when the standbys have the shutdown checkpoint.
    Stopping {
        until: Tick,
        limit: Tick,
        written: bool,
    },
}

/// A `primary_conninfo` with its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conninfo {
    pub(crate) host: usize,
    pub(crate) slot: String,
    pub(crate) name: StandbyName,
}

/// A running walreceiver.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    pub(crate) from: usize,
    /// The postmaster at the other end.
    pub(crate) generation: u64,
    pub(crate) heard: Tick,
    pub(crate) name: StandbyName,
}

/// A running walsender.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    /// Where its standby runs.
    pub(crate) host: usize,
    pub(crate) flushed: usize,
    pub(crate) heard: Tick,
    pub(crate) streaming: bool,
}

/// A commit that waits for its acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) id: u32,
    /// The log's length with it.
    pub(crate) len: usize,
    /// Told without having waited: a session that lowered its level, or a wait that was cancelled.
    pub(crate) weak: bool,
    /// Its client never gives up waiting.
    pub(crate) patient: bool,
}

#[derive(Clone)]
pub(crate) struct Pg {
    pub(crate) proc: Proc,
    /// Grows with every postmaster.
    pub(crate) generation: u64,
    /// Every process is stopped, and may be continued.
    pub(crate) frozen: bool,
    /// The guard holds every process.
    pub(crate) held: bool,
    /// Only the postmaster is stopped: no new connection, but old sessions go on.
    pub(crate) deaf: bool,
    /// The postmaster is gone, and backends are left until then.
    pub(crate) orphans_until: Tick,

    pub(crate) wal: Vec<u32>,
    pub(crate) replayed: usize,
    /// Where the receiver has got since the start, if there was one.
    pub(crate) received: Option<usize>,
    pub(crate) timeline: u32,
    pub(crate) history: Vec<Switch>,
    pub(crate) control_timeline: u32,
    checkpoint_due: Option<Tick>,
    pub(crate) control: ControlState,
    /// The length before the last checkpoint's record.
    pub(crate) checkpoint: usize,
    pub(crate) standby_signal: bool,
    /// Under which stamp this directory, or the one it was copied from, last became a primary's.
    pub(crate) primary_since: Option<Stamp>,

    pub(crate) conninfo: Option<Conninfo>,
    /// What the running server has read of it.
    pub(crate) conninfo_read: Option<Conninfo>,
    pub(crate) receiver: Option<Receiver>,
    pub(crate) retry_at: Tick,
    pub(crate) paused: bool,

    /// `synchronous_standby_names`, as written, and as every session shows it.
    pub(crate) names: Vec<StandbyName>,
    /// What commits really wait for: the checkpointer has taken it over.
    pub(crate) names_in_force: Vec<StandbyName>,
    names_due: Option<Tick>,
    pub(crate) checkpointer_busy_until: Tick,
    pub(crate) slots: BTreeSet<String>,
    pub(crate) senders: BTreeMap<StandbyName, Sender>,
    /// How far each slot has been confirmed, as long as this postmaster lives.
    pub(crate) slot_at: BTreeMap<String, usize>,
    pub(crate) waiters: Vec<Waiter>,
}

impl Pg {
    /// A primary or a standby that streams from `from`, as somebody set them up by hand.
    pub(crate) fn new(from: Option<Conninfo>) -> Self {
        Self {
            proc: if from.is_some() { Proc::Standby } else { Proc::Primary },
            generation: 1,
            frozen: false,
            held: false,
            deaf: false,
            orphans_until: 0,
            wal: vec![0; 4],
            replayed: 4,
            received: None,
            timeline: 1,
            history: Vec::new(),
            control_timeline: 1,
            checkpoint_due: None,
            control: ControlState::Other,
            checkpoint: 0,
            standby_signal: from.is_some(),
            primary_since: None,
            conninfo: from.clone(),
            conninfo_read: from,
            receiver: None,
            retry_at: 0,
            paused: false,
            names: Vec::new(),
            names_in_force: Vec::new(),
            names_due: None,
            checkpointer_busy_until: 0,
            slots: super::NAMES.iter().map(|name| format!("locum_{name}")).collect(),
            senders: BTreeMap::new(),
            slot_at: BTreeMap::new(),
            waiters: Vec::new(),
        }
    }

    // ---- what can be seen ---------------------------------------------------------------------

    pub(crate) fn is_down(&self) -> bool {
        self.proc == Proc::Down
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen || self.held
    }

    pub(crate) fn has_processes(&self, now: Tick) -> bool {
        !self.is_down() || self.orphans_until > now
    }

    /// Backends take and acknowledge commits.
    pub(crate) fn commits(&self, now: Tick) -> bool {
        !self.is_frozen() && (self.proc == Proc::Primary || (self.is_down() && self.orphans_until > now))
    }

    /// Walsenders send, and hear replies.
    pub(crate) fn sends(&self, now: Tick) -> bool {
        let alive = matches!(self.proc, Proc::Primary | Proc::Stopping { .. } | Proc::Standby);
        !self.is_frozen() && (alive || (self.is_down() && self.orphans_until > now))
    }

    pub(crate) fn accepts(&self) -> bool {
        !self.is_frozen() && !self.deaf && matches!(self.proc, Proc::Primary | Proc::Standby)
    }

    /// What a promotion would have, as far as the running server says.
    pub(crate) fn flushed(&self) -> usize {
        self.received.unwrap_or(0).max(self.replayed)
    }

    pub(crate) fn tli(&self) -> Timeline {
        Timeline(self.timeline)
    }

    pub(crate) fn holds(&self, id: u32, len: usize) -> bool {
        self.wal.get(len - 1) == Some(&id)
    }

    /// The timeline of the record that ends there. None: it has none.
    pub(crate) fn timeline_at(&self, len: usize) -> Option<Timeline> {
        let past = self.history.iter().find(|switch| lsn(len) <= switch.at);
        (len <= self.wal.len()).then(|| past.map_or(self.tli(), |switch| switch.timeline))
    }

    // ---- what is done to it -------------------------------------------------------------------

    /// A session commits. It is told so by [`Pg::step`], when what is in force is satisfied.
    pub(crate) fn commit(&mut self, id: u32, weak: bool, patient: bool) {
        self.wal.push(id);
        self.waiters.push(Waiter { id, len: self.wal.len(), weak, patient });
    }

    /// A client gives up waiting: it is told so, with a warning.
    pub(crate) fn cancel_wait(&mut self, rng: &mut Rng) {
        if !self.waiters.is_empty() {
            let index = rng.index(self.waiters.len());
            self.waiters[index].weak |= !self.waiters[index].patient;
        }
    }

    /// A record that nobody waits for.
    pub(crate) fn write(&mut self, id: u32) {
        self.wal.push(id);
    }

    pub(crate) fn start(&mut self, standby: bool, now: Tick, rng: &mut Rng) {
        self.generation += 1;
        self.proc = Proc::Starting { until: now + rng.range(3, 40), standby };
        (self.frozen, self.held, self.deaf) = (false, false, false);
        self.control = ControlState::Other;
        self.conninfo_read.clone_from(&self.conninfo);
        self.retry_at = now;
        self.paused = false;
        self.names_due = None;
    }

    /// The postmaster is killed; its children live on for a moment.
    pub(crate) fn crash(&mut self, now: Tick, rng: &mut Rng) {
        let committing = !self.is_frozen() && self.proc == Proc::Primary;
        self.end(now);
        if committing {
            self.orphans_until = now + rng.below(4);
        }
    }

    /// Nothing is left.
    pub(crate) fn kill(&mut self, now: Tick) {
        self.end(now);
        self.forget_sessions();
    }

    pub(crate) fn end_orphans(&mut self) {
        self.orphans_until = 0;
        self.forget_sessions();
    }

    fn end(&mut self, now: Tick) {
        if !self.is_down() {
            self.control = ControlState::Other;
        }
        self.proc = Proc::Down;
        self.orphans_until = now;
        (self.frozen, self.held, self.deaf) = (false, false, false);
        self.receiver = None;
        self.received = None;
        self.slot_at.clear();
    }

    fn forget_sessions(&mut self) {
        if self.is_down() {
            self.waiters.clear();
            self.senders.clear();
        }
    }

    pub(crate) fn stop(&mut self, now: Tick, rng: &mut Rng) {
        if self.proc == Proc::Primary {
            self.proc = Proc::Stopping { until: now + rng.range(2, 20), limit: now + 3000, written: false };
            self.waiters.clear();
        }
    }

    /// A standby that is stopped in order.
    pub(crate) fn stop_standby(&mut self, now: Tick) {
        self.end(now);
        self.control = ControlState::ShutDownInRecovery;
        self.control_timeline = self.timeline;
    }

    pub(crate) fn promote(&mut self, now: Tick, rng: &mut Rng) {
        self.proc = Proc::Promoting { until: now + rng.range(2, 12) };
        self.receiver = None;
    }

    /// SIGHUP, after settings were written.
    pub(crate) fn reload(&mut self, now: Tick, rng: &mut Rng, mix: &Mix) {
        self.conninfo_read.clone_from(&self.conninfo);
        let lag = if rng.chance(mix.slow_checkpointer) { rng.below(200) } else { rng.below(3) };
        self.names_due = Some(now + lag);
    }

    pub(crate) fn checkpoint_soon(&mut self, now: Tick, rng: &mut Rng) {
        self.checkpoint_due = Some(now + rng.range(2, 100));
    }

    /// A restartpoint may be minutes away.
    pub(crate) fn restartpoint_later(&mut self, now: Tick, rng: &mut Rng) {
        self.checkpoint_due = Some(now + rng.range(50, 2000));
    }

    /// A checkpoint, now.
    pub(crate) fn checkpoint_now(&mut self) {
        (self.checkpoint, self.control_timeline) = (self.replayed.min(self.wal.len()), self.timeline);
    }

    // ---- time passes --------------------------------------------------------------------------

    /// One tick. Returns the commits that are acknowledged in it.
    pub(crate) fn step(&mut self, now: Tick, rng: &mut Rng, fresh: &mut impl FnMut() -> u32) -> Vec<Waiter> {
        if self.is_down() && self.orphans_until == now {
            self.forget_sessions();
        }
        if self.is_frozen() {
            return Vec::new();
        }
        match self.proc {
            Proc::Starting { until, standby } if until <= now => self.started(standby, now, rng, fresh()),
            Proc::Promoting { until } if until <= now => self.promoted(now, rng, fresh()),
            Proc::Stopping { until, limit, written } if until <= now => {
                if !written {
                    self.checkpoint = self.wal.len();
                    self.wal.push(fresh());
                    self.proc = Proc::Stopping { until, limit, written: true };
                }
                let end = self.wal.len();
                if limit <= now || self.senders.values().all(|sender| sender.flushed >= end) {
                    self.end(now);
                    self.forget_sessions();
                    (self.control, self.control_timeline) = (ControlState::ShutDown, self.timeline);
                }
            }
            Proc::Standby if !self.paused => {
                let speed = usize::try_from(rng.range(0, 8)).unwrap_or(0);
                self.replayed = (self.replayed + speed).min(self.wal.len());
            }
            Proc::Primary | Proc::Stopping { .. } => self.replayed = self.wal.len(),
            _ => {}
        }
        let running = !self.is_down() && !matches!(self.proc, Proc::Starting { .. });
        if running && self.checkpoint_due.is_some_and(|due| due <= now) && self.checkpointer_busy_until <= now
        {
            self.checkpoint_due = None;
            self.checkpoint_now();
        }
        if running && self.names_due.is_some_and(|due| due <= now) && self.checkpointer_busy_until <= now {
            self.names_due = None;
            self.names_in_force.clone_from(&self.names);
        }
        self.acknowledge(now)
    }

    fn started(&mut self, standby: bool, now: Tick, rng: &mut Rng, id: u32) {
        self.senders.clear();
        self.waiters.clear();
        self.names_in_force.clone_from(&self.names);
        if standby {
            self.proc = Proc::Standby;
            self.received = None;
            let back = usize::try_from(rng.below(30)).unwrap_or(0);
            self.replayed = self.replayed.min(self.wal.len()).saturating_sub(back).max(4);
        } else {
            self.proc = Proc::Primary;
            self.wal.push(id);
            self.checkpoint_soon(now, rng);
        }
    }

    fn promoted(&mut self, now: Tick, rng: &mut Rng, id: u32) {
        self.history.push(Switch { timeline: self.tli(), at: lsn(self.wal.len()) });
        self.timeline += 1;
        self.wal.push(id);
        self.replayed = self.wal.len();
        (self.standby_signal, self.paused, self.received) = (false, false, None);
        self.proc = Proc::Primary;
        self.checkpoint_soon(now, rng);
    }

    fn acknowledge(&mut self, now: Tick) -> Vec<Waiter> {
        if !self.commits(now) || self.waiters.is_empty() {
            return Vec::new();
        }
        let reached = self
            .names_in_force
            .iter()
            .filter_map(|name| self.senders.get(name))
            .filter(|sender| sender.streaming)
            .map(|sender| sender.flushed)
            .max();
        let (all, reached) = (self.names_in_force.is_empty(), reached.unwrap_or(0));
        let (told, wait) =
            self.waiters.iter().partition(|waiter| all || waiter.weak || waiter.len <= reached);
        self.waiters = wait;
        told
    }
}

/// The slot of the node that a standby of this name is on.
pub(crate) fn slot_of(name: &StandbyName) -> String {
    name.0.rsplit_once('_').map_or_else(|| name.0.clone(), |(slot, _)| slot.to_owned())
}

/// Whether `standby` can stream from `upstream`, as PostgreSQL judges it: by timeline numbers and positions.
pub(crate) fn fits(standby: &Pg, upstream: &Pg) -> bool {
    let end = standby.wal.len();
    if standby.timeline == upstream.timeline {
        return end <= upstream.wal.len();
    }
    let left = upstream.history.iter().find(|switch| switch.timeline == standby.tli());
    left.is_some_and(|switch| lsn(end) <= switch.at && end <= upstream.wal.len())
}

/// How many records two logs have in common.
pub(crate) fn common(a: &Pg, b: &Pg) -> usize {
    a.wal.iter().zip(&b.wal).take_while(|(a, b)| a == b).count()
}

/// Where PostgreSQL believes that two histories part: by timeline numbers and positions alone.
pub(crate) fn fork(a: &Pg, b: &Pg) -> usize {
    let line = |pg: &Pg| -> Vec<(u32, Option<Lsn>)> {
        let past = pg.history.iter().map(|switch| (switch.timeline.0, Some(switch.at)));
        past.chain([(pg.timeline, None)]).collect()
    };
    let len_of = |at: Lsn| usize::try_from((at.0 - 0x1000) / 8).unwrap_or(usize::MAX);
    let mut fork = 0;
    for ((tli_a, end_a), (tli_b, end_b)) in line(a).into_iter().zip(line(b)) {
        if tli_a != tli_b {
            break;
        }
        let ends = [end_a.map_or(a.wal.len(), len_of), end_b.map_or(b.wal.len(), len_of)];
        fork = ends[0].min(ends[1]);
        if end_a != end_b {
            break;
        }
    }
    fork
}
