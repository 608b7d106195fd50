//! Disks that go back in time: copies of what is on each, taken at random moments, and the going back while the host is off.
//!
//! The data directory, the member's memory, or both; and the store, of which copies are taken, too. A copy is at least a second old. What was acknowledged because a disk
//! had it, and was in no renewal of the primary's lease when that disk went back, nobody can know: see `checks`.

use std::collections::VecDeque;

use locum::model::{ControlState, Known, LeaseRecord, Note, Stamp, StandbyName, Switch, Wal};

use super::{
    Tick,
    agent::Disk,
    host::Host,
    node,
    postgres::{Conninfo, Pg, lsn},
    world::World,
};

/// A copy is at least this old when it is put back.
const OLD: Tick = 100;
/// How many of each host are kept, and how many of a thousand ticks take one.
const KEPT: usize = 6;
const TAKEN: u64 = 15;

/// A data directory: what of a PostgreSQL is on disk.
struct Data {
    wal: Vec<u32>,
    replayed: usize,
    timeline: u32,
    history: Vec<Switch>,
    control_timeline: u32,
    control: ControlState,
    checkpoint: usize,
    standby_signal: bool,
    primary_since: Option<Stamp>,
    conninfo: Option<Conninfo>,
    names: Vec<StandbyName>,
    slots: std::collections::BTreeSet<String>,
}

impl Data {
    fn of(pg: &Pg) -> Self {
        Self {
            wal: pg.wal.clone(),
            replayed: pg.replayed,
            timeline: pg.timeline,
            history: pg.history.clone(),
            control_timeline: pg.control_timeline,
            control: pg.control,
            checkpoint: pg.checkpoint,
            standby_signal: pg.standby_signal,
            primary_since: pg.primary_since,
            conninfo: pg.conninfo.clone(),
            names: pg.names.clone(),
            slots: pg.slots.clone(),
        }
    }

    fn put_back(self, pg: &mut Pg) {
        (pg.wal, pg.replayed, pg.timeline, pg.history) =
            (self.wal, self.replayed, self.timeline, self.history);
        (pg.control_timeline, pg.control, pg.checkpoint) =
            (self.control_timeline, self.control, self.checkpoint);
        (pg.standby_signal, pg.conninfo) = (self.standby_signal, self.conninfo);
        pg.primary_since = self.primary_since;
        (pg.names, pg.slots) = (self.names, self.slots);
    }
}

struct Copy {
    taken: Tick,
    data: Data,
    memory: Disk,
    remembered: Known,
    note: Option<Note>,
}

/// The copies of one host's disk, oldest first.
#[derive(Default)]
pub(crate) struct Copies(VecDeque<Copy>);

impl Copies {
    /// Takes one now and then. One kept is replaced at random, so that old ones stay, too.
    fn take(&mut self, it: &Host, now: Tick, victim: usize) {
        if self.0.len() == KEPT {
            self.0.remove(victim);
        }
        let data = Data::of(&it.pg);
        let (memory, remembered) = (it.agent.disk.clone(), it.remembered_on_disk);
        let note = it.note_on_disk.clone();
        self.0.push_back(Copy { taken: now, data, memory, remembered, note });
    }
}

impl World {
    /// Copies what is on the disks, now and then.
    pub(crate) fn copy_disks(&mut self) {
        if self.rng.chance(TAKEN / 2) {
            self.store.keep_copy();
        }
        for host in 0..self.hosts.len() {
            if self.rng.chance(TAKEN) {
                let victim = self.rng.index(KEPT);
                self.copies[host].take(&self.hosts[host], self.now, victim);
            }
        }
    }

    /// Whether the store tells that a host has less than it had.
    fn is_known_to_lack(&self, host: usize) -> bool {
        let it = &self.hosts[host];
        let (timeline, end) = (it.pg.tli(), lsn(it.pg.wal.len()));
        let wal = Wal { timeline, switches: &it.pg.history, end, unfinished_until: None };
        let (me, name) = (node(host), &it.agent.disk.name);
        let lease = self.store.lease.as_ref().map(|(record, _)| record);
        let intent = self.store.intent.as_ref().map(|(intent, _)| intent);
        let own = lease.filter(|record| record.node == me).and_then(LeaseRecord::position);
        let declared =
            intent.filter(|intent| intent.primary.as_ref() == Some(&me)).and_then(|it| it.primary_floor);
        let confirmed = lease.and_then(|record| record.floors.get(name));
        let proven = intent.and_then(|intent| intent.floors.get(name));
        [own, declared, confirmed, proven].into_iter().flatten().any(|floor| !wal.contains(floor))
    }

    /// The host goes off, and comes back with the disk that it had some time ago.
    pub(crate) fn disk_back(&mut self, host: usize, until: Tick) {
        self.lose_host(host, until);
        let old = |copy: &Copy| copy.taken + OLD <= self.now;
        let count = self.copies[host].0.iter().filter(|copy| old(copy)).count();
        if count == 0 {
            return;
        }
        let index = self.rng.index(count);
        let Some(copy) = self.copies[host].0.remove(index) else { return };
        // What was copied since never happened.
        self.copies[host].0.truncate(index);
        let (data, memory) = self.rng.pick(self.mix.disks);
        let it = &mut self.hosts[host];
        let ago = self.now - copy.taken;
        if data && it.serves {
            let held = std::mem::take(&mut it.pg.wal);
            let (had, timeline) = (held.len(), it.pg.timeline);
            copy.data.put_back(&mut it.pg);
            self.log.say(|| {
                format!(
                    "the data of host {host} goes back by {ago} ticks, from {had} records on timeline {timeline} to {} on {}",
                    it.pg.wal.len(),
                    it.pg.timeline
                )
            });
            let lost = held.len() > it.pg.wal.len() || held[..] != it.pg.wal[..held.len()];
            self.checks.disk_back(host, &held, &it.pg);
            if lost && !self.is_known_to_lack(host) {
                self.checks.nobody_knows();
            }
        }
        let it = &mut self.hosts[host];
        if memory {
            let promise = copy.memory.promise;
            self.log.say(|| format!("the memory of host {host} goes back by {ago} ticks, to {promise:?}"));
            it.agent.disk = copy.memory;
            it.remembered_on_disk = copy.remembered;
            it.note_on_disk = copy.note;
            it.guard.begins_anew();
            self.checks.memory_back(host, promise);
        }
        self.disks_back += 1;
    }
}
