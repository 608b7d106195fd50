//! What must never happen, looked at in every tick. Only what the outside would notice, and a few facts that must
//! hold for that; what a check needs to remember it keeps here, not where a planted mistake could touch it.

use std::collections::BTreeMap;

use std::time::Duration;

use locum::model::{
    Cause, Command, Durability, Epoch, Incarnation, Intent, LeaseRecord, LiveRpo, Lsn, Member, NodeId,
    Policy, Stamp, StandbyName, Step, Timeline, View,
};

use super::{
    MOST, Tick,
    bug::Bug,
    host::Host,
    host_of,
    postgres::{Pg, Waiter, common, lsn},
};

/// Which primary: what orders reigns.
pub(crate) type Term = (Incarnation, Epoch);

pub(crate) const fn term(stamp: Stamp) -> Term {
    (stamp.incarnation, stamp.epoch)
}

/// The newest primary, and since when.
#[derive(Clone, Copy)]
struct Newest {
    term: Term,
    host: usize,
    since: Tick,
}

/// An acknowledged commit.
struct Ack {
    id: u32,
    len: usize,
    /// On which timeline.
    timeline: Timeline,
    lost: bool,
    /// Who acknowledged it, and when.
    by: usize,
    at: Tick,
    /// By which of its postmasters, and without having waited for a standby.
    generation: u64,
    alone: bool,
    /// A disk that had it went back in time …
    gone: bool,
    /// … and no record in the store tells of it: it was acknowledged after the last renewal.
    unknown: bool,
}

/// Up to when what each postmaster of each host acknowledged is in the store: the last look before a renewal. What standbys
/// confirmed to one that has ended since was seen by nobody, unless it was renewed before.
#[derive(Clone, Default)]
struct Renewed([BTreeMap<u64, Tick>; MOST]);

impl Renewed {
    fn tells_of(&self, ack: &Ack) -> bool {
        let of = |generation| self.0[ack.by].range(generation).any(|(_, looked)| *looked >= ack.at);
        if ack.alone { of(ack.generation..=u64::MAX) } else { of(ack.generation..=ack.generation) }
    }
}

#[derive(Default)]
pub(crate) struct Checks {
    pub(crate) violation: Option<String>,
    durability: Option<Durability>,
    max_loss: u64,
    /// With a planted mistake, only what comes of it counts, not the mistake itself.
    lenient: bool,
    names_shown: bool,
    acks: Vec<Ack>,
    acked: Vec<bool>,
    acknowledges: BTreeMap<Term, usize>,
    newest: Option<Newest>,
    promised: [Option<Stamp>; MOST],
    led: [BTreeMap<Term, NodeId>; MOST],
    endpoint: [Stamp; MOST],
    guard: [Stamp; MOST],
    /// Under which stamp a recruit attested that it stands still.
    stands: [Option<Stamp>; MOST],
    /// How long what is acknowledged without waiting may outlast the epoch.
    outlasts: Tick,
    detect: Tick,
    /// The intent as stored.
    intent: Option<Intent>,
    /// How far the last primary was known to have come when its place was given to another: by who ended its epoch, or by its
    /// lease.
    known: Option<Lsn>,
    pub(crate) failovers: u64,
    pub(crate) switchovers: u64,
    pub(crate) lost: u64,
    /// Acknowledged without waiting: cancelled waits, and sessions that lowered their level.
    pub(crate) weak: u64,
    /// Acknowledged by a server whose guard and member were both gone.
    pub(crate) unguarded: u64,
    /// Lost with a disk that went back, where the last renewal of the lease was before they were acknowledged.
    pub(crate) unrenewed: u64,
    restored: bool,
    /// What the store knows by renewals of the lease.
    renewed: Renewed,
    /// What every other member was told of, as long as none of their memories goes back.
    noted: Renewed,
    any_unknown: bool,
    /// Whose data went back since it was last primary.
    went_back: [bool; MOST],
    pub(crate) diverged: bool,
}

fn ticks(length: Duration) -> Tick {
    u64::try_from(length.as_millis() / 10).unwrap_or(u64::MAX)
}

impl Checks {
    pub(crate) fn new(policy: &Policy, bug: Option<Bug>) -> Self {
        Self {
            durability: Some(policy.durability),
            max_loss: policy.max_data_loss,
            lenient: bug.is_some(),
            names_shown: bug == Some(Bug::NamesShown),
            outlasts: ticks(policy.lease_ttl) * 102 / 100 + 2,
            detect: ticks(policy.detect),
            ..Self::default()
        }
    }

    pub(crate) fn violate(&mut self, text: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(text());
        }
    }

    pub(crate) fn is_acked(&self, id: u32) -> bool {
        self.acked.get(id as usize).copied().unwrap_or(false)
    }

    pub(crate) fn acks(&self) -> usize {
        self.acks.len()
    }

    // ---- commits ------------------------------------------------------------------------------

    /// A server acknowledges a commit.
    pub(crate) fn acknowledged(
        &mut self,
        host: usize,
        epoch: Term,
        commit: Waiter,
        hosts: &[Host],
        now: Tick,
    ) {
        let newer = self.newest.filter(|newest| newest.term > epoch && newest.host != host);
        // Killing member and guard together is what systemd must help against.
        let unguarded = hosts[host].guard.gone;
        if commit.weak {
            self.weak += 1;
            let Some(newest) = newer.filter(|newest| now > newest.since + self.outlasts) else { return };
            // A store that was put back grants what it granted before, to one that knows no better yet.
            if unguarded || self.restored {
                self.unguarded += 1;
                return;
            }
            return self.violate(|| {
                format!(
                    "host {host} tells clients of {epoch:?} what did not wait, long after {:?} began",
                    newest.term
                )
            });
        }
        if let Some(newest) = newer
            && !self.went_back[newest.host]
            && !hosts[newest.host].pg.holds(commit.id, commit.len)
        {
            if unguarded && self.durability == Some(Durability::Async) {
                self.unguarded += 1;
                return;
            }
            self.violate(|| {
                format!("host {host} acknowledges in {epoch:?} what the primary of {:?} lacks", newest.term)
            });
        }
        let index = commit.id as usize;
        if self.acked.len() <= index {
            self.acked.resize(index + 64, false);
        }
        self.acked[index] = true;
        let Waiter { id, len, .. } = commit;
        let (generation, alone) = (hosts[host].pg.generation, hosts[host].pg.names_in_force.is_empty());
        let (lost, gone, unknown, timeline) = (false, false, false, hosts[host].pg.tli());
        self.acks.push(Ack { id, len, timeline, lost, by: host, at: now, generation, alone, gone, unknown });
        let first = *self.acknowledges.entry(epoch).or_insert(host);
        if first != host {
            self.violate(|| format!("hosts {first} and {host} acknowledge commits of {epoch:?}"));
        }
    }

    /// A promotion begins, while these other servers acknowledge commits.
    pub(crate) fn promotes(&mut self, host: usize, stamp: Stamp, others: &[usize]) {
        self.stands[host] = None;
        if self.durability == Some(Durability::Async) && !others.is_empty() {
            self.violate(|| {
                format!("host {host} is promoted ({stamp}) while {others:?} acknowledge commits")
            });
        }
    }

    /// A stopped primary is about to be started in place.
    pub(crate) fn starts(&mut self, host: usize, stamp: Stamp) {
        if let Some(intent) = &self.intent
            && intent.epoch > stamp.epoch
            && intent.primary.as_ref().and_then(host_of).is_some_and(|declared| declared != host)
            && self.promised[host].is_some_and(|promised| promised.epoch > stamp.epoch)
        {
            self.violate(|| format!("host {host} is started as primary under {stamp} against its promise"));
        }
    }

    /// A server is out of recovery, by promotion or by a start.
    pub(crate) fn becomes_primary(
        &mut self,
        host: usize,
        epoch: Term,
        promoted: bool,
        hosts: &[Host],
        now: Tick,
    ) {
        let pg = &hosts[host].pg;
        self.stands[host] = None;
        let (unknown, missing): (Vec<usize>, Vec<usize>) = (0..self.acks.len())
            .filter(|index| !self.acks[*index].lost && !pg.holds(self.acks[*index].id, self.acks[*index].len))
            .partition(|index| self.acks[*index].unknown);
        for index in unknown {
            self.acks[index].lost = true;
            self.unrenewed += 1;
        }
        // Two histories of one timeline: PostgreSQL cannot tell them apart by a position, and nobody else can.
        let replaced = |ack: &Ack| pg.timeline_at(ack.len) == Some(ack.timeline);
        if self.goes_on_unknowing() && missing.iter().any(|index| replaced(&self.acks[*index])) {
            return self.diverges();
        }
        if let Some(first) = missing.first() {
            let (count, at) = (missing.len(), lsn(self.acks[*first].len));
            if self.durability != Some(Durability::Async) || !promoted {
                // An old primary that starts in place once more, and may acknowledge nothing, is nobody's loss yet.
                if promoted || self.newest.is_none_or(|newest| newest.term <= epoch) {
                    self.violate(|| {
                        format!(
                            "host {host} is primary of {epoch:?} without {count} acknowledged commits ({at})"
                        )
                    });
                }
                return;
            }
            self.loss(host, hosts);
            for index in missing {
                self.acks[index].lost = true;
                self.lost += 1;
            }
        }
        if self.newest.is_none_or(|newest| epoch >= newest.term) {
            self.went_back[host] = false;
            self.newest = Some(Newest { term: epoch, host, since: now });
        }
    }

    /// In async a promotion may lose what was known and allowed, and what was written after that was known.
    fn loss(&mut self, host: usize, hosts: &[Host]) {
        let old = self.newest.map_or(host, |newest| newest.host);
        // Where the old one's disk went back, it is no measure; the new one never left what it had of it.
        let left = hosts[host].pg.history.last().map(|switch| switch.at).filter(|_| self.went_back[old]);
        let kept = left.unwrap_or_else(|| lsn(common(&hosts[host].pg, &hosts[old].pg)));
        let Some(known) = self.known else {
            return self.violate(|| format!("host {host} loses commits, and nobody knew how many"));
        };
        let limit = self.max_loss;
        if known.bytes_since(kept) > limit {
            self.violate(|| {
                format!("host {host} keeps {kept} only; the old primary was known to have {known}, the limit is {limit}")
            });
        }
    }

    /// At the end: everything that was acknowledged, and was not given up knowingly, is there.
    pub(crate) fn finished(&mut self, pg: &Pg) {
        let lacks = |ack: &&Ack| !ack.lost && !ack.unknown && !pg.holds(ack.id, ack.len);
        let missing = self.acks.iter().filter(lacks).count();
        if missing > 0 {
            self.violate(|| format!("{missing} acknowledged commits are missing in the end"));
        }
    }

    // ---- agents -------------------------------------------------------------------------------

    /// An agent begins with an order.
    pub(crate) fn carried_out(&mut self, host: usize, stamp: Stamp, command: &Command) {
        let promised = self.promised[host];
        if !self.lenient && promised > Some(stamp) {
            self.violate(|| {
                format!("agent {host} carries out {} of {stamp}, below {promised:?}", command.name())
            });
        }
        self.promised[host] = promised.max(Some(stamp));
    }

    /// The promise as the file has it now.
    pub(crate) fn promise(&mut self, host: usize, now: Option<Stamp>) {
        if self.lenient {
            return;
        }
        if now < self.promised[host] {
            self.violate(|| format!("the promise of agent {host} goes back to {now:?}"));
        }
        self.promised[host] = now;
    }

    pub(crate) fn recruited(&mut self, host: usize, stamp: Stamp) {
        self.stands[host] = Some(stamp);
    }

    /// A recruit is led to an upstream, so it may move again: to the primary declared since, and to no other.
    pub(crate) fn led_to(&mut self, host: usize, upstream: &NodeId) {
        let (Some(stood), Some(intent)) = (self.stands[host].take(), &self.intent) else { return };
        let open = stood.same_epoch(intent.stamp()) && intent.primary.as_ref() != Some(upstream);
        if open && !self.restored {
            self.violate(|| {
                format!("recruit {host} is led to {upstream}, which is not the declared primary")
            });
        }
    }

    /// A recruit takes its attest back: a rescue moves it.
    pub(crate) fn moves(&mut self, host: usize) {
        self.stands[host] = None;
    }

    /// A recruit was looked at: it must be where it said.
    pub(crate) fn stands_at(&mut self, host: usize, said: usize, is: usize) {
        if said != is {
            self.violate(|| format!("recruit {host} attested {} and is at {}", lsn(said), lsn(is)));
        }
    }

    pub(crate) fn grows(&mut self, host: usize) {
        if self.stands[host].is_some() {
            self.violate(|| format!("recruit {host} receives WAL after it attested that it stands still"));
        }
    }

    /// A rewind or clone begins.
    pub(crate) fn rebuilds(&mut self, host: usize) {
        self.stands[host] = None;
        let Some(intent) = &self.intent else { return };
        let within = |set: &[Member]| set.iter().any(|member| host_of(&member.node) == Some(host));
        // A member that is still being added promises nothing yet, and can be added only once it answers.
        let set = within(&intent.sync) && within(&intent.sync_next);
        let declared = intent.primary.as_ref().and_then(host_of) == Some(host);
        if (set || declared) && !self.restored {
            self.violate(|| format!("host {host} is rebuilt while it is in the sync set or declared"));
        }
    }

    // ---- disks that go back -------------------------------------------------------------------

    /// The data of a host that had `held` went back to what `pg` has now. What is in no renewal of the lease is known to
    /// nobody but those who have it.
    pub(crate) fn disk_back(&mut self, host: usize, held: &[u32], pg: &Pg) {
        (self.stands[host], self.went_back[host]) = (None, true);
        for ack in self.acks.iter_mut().filter(|ack| !ack.lost) {
            ack.gone |= held.get(ack.len - 1) == Some(&ack.id) && !pg.holds(ack.id, ack.len);
        }
        self.note_unknown();
    }

    /// Some of what a disk had, acknowledged or not, is gone with it, and in no record of the store.
    pub(crate) const fn nobody_knows(&mut self) {
        self.any_unknown = true;
    }

    fn note_unknown(&mut self) {
        for ack in self.acks.iter_mut().filter(|ack| ack.gone && !ack.lost) {
            ack.unknown |= !self.renewed.tells_of(ack) && !self.noted.tells_of(ack);
            self.any_unknown |= ack.unknown;
        }
    }

    /// The memory of a host's member went back.
    pub(crate) fn memory_back(&mut self, host: usize, promise: Option<Stamp>) {
        (self.promised[host], self.guard[host]) = (promise, Stamp::default());
        self.noted = Renewed::default();
        self.note_unknown();
    }

    /// Everybody has written down what the primary on a host told, whose server was looked at then.
    pub(crate) fn noted(&mut self, host: usize, looked: Tick, generation: u64) {
        let known = self.noted.0[host].entry(generation).or_default();
        *known = (*known).max(looked);
    }

    /// The primary lease was renewed by a host whose server `pg` was looked at then.
    pub(crate) fn renewed(&mut self, host: usize, looked: Tick, pg: &Pg, record: &LeaseRecord) {
        let known = self.renewed.0[host].entry(pg.generation).or_default();
        *known = (*known).max(looked);
        if self.any_unknown {
            let confirmed = record.floors.iter().map(|floor| floor.at.lsn).max();
            let told = |ack: &&mut Ack| {
                let told = ack.alone || confirmed >= Some(lsn(ack.len));
                ack.by == host && ack.at <= looked && pg.holds(ack.id, ack.len) && told
            };
            self.acks.iter_mut().filter(told).for_each(|ack| (ack.gone, ack.unknown) = (false, false));
        }
    }

    /// Two servers have gone on from a disk that went back, and nobody could know: nothing more is judged.
    pub(crate) const fn diverges(&mut self) {
        self.diverged = true;
    }

    /// True if a server may go on without what nobody can know of: from then on its WAL and that of others are two.
    pub(crate) const fn goes_on_unknowing(&self) -> bool {
        self.any_unknown
    }

    /// Whether in async no more would be lost with what ends there than is allowed, by what is known of the last primary.
    pub(crate) fn is_affordable(&self, end: Lsn) -> bool {
        let lost = self.known.map_or(0, |known| known.bytes_since(end));
        self.durability != Some(Durability::Async) || lost <= self.max_loss
    }

    /// Whether this server has everything that was acknowledged and not given up knowingly.
    pub(crate) fn is_whole(&self, pg: &Pg) -> bool {
        self.acks.iter().all(|ack| ack.lost || pg.holds(ack.id, ack.len))
    }

    // ---- endpoints ----------------------------------------------------------------------------

    pub(crate) fn routed(&mut self, host: usize, stamp: Stamp, target: Option<&NodeId>) {
        if stamp < self.endpoint[host] {
            self.violate(|| format!("the endpoint of host {host} goes back to {stamp}"));
        }
        self.endpoint[host] = stamp;
        if let Some(target) = target {
            let first = self.led[host].entry(term(stamp)).or_insert_with(|| target.clone()).clone();
            if first != *target {
                self.violate(|| {
                    format!("the endpoint of host {host} leads to two nodes in epoch {}", stamp.epoch)
                });
            }
        }
    }

    /// The member was restarted: its endpoint remembers nothing.
    pub(crate) fn endpoint_restarted(&mut self, host: usize) {
        self.endpoint[host] = Stamp::default();
    }

    // ---- the store and the planner ------------------------------------------------------------

    /// What a guard was told last.
    pub(crate) fn guard_knows(&mut self, host: usize, stamp: Stamp) {
        if stamp < self.guard[host] {
            self.violate(|| format!("the guard of host {host} goes back to {stamp}"));
        }
        self.guard[host] = stamp;
    }

    pub(crate) fn store_restored(&mut self) {
        // Members remember that it was renewed since: nothing is forgotten before a person accepts it.
        self.restored = true;
    }

    /// The intent was replaced: by one that was made on `basis`, where `before` stood.
    pub(crate) fn declared(
        &mut self,
        basis: Option<&Intent>,
        before: Option<&Intent>,
        next: &Intent,
        rpo: Option<&LiveRpo>,
        lease: Option<&LeaseRecord>,
    ) {
        if let Some(before) = before
            && next.stamp() <= before.stamp()
            && !self.lenient
        {
            self.violate(|| format!("{} is declared over {}", next.stamp(), before.stamp()));
        }
        if let Some(before) = basis {
            if before.incarnation != next.incarnation {
                // A person accepts a store that was put back, and with it that nothing is known of any disk.
                (self.renewed, self.known) = (Renewed::default(), Some(Lsn(0)));
                self.noted = Renewed::default();
                self.note_unknown();
            }
            if before.primary.is_some() && next.primary.is_none() {
                self.failovers += 1;
                self.known = rpo.filter(|rpo| rpo.bytes.is_some()).map(|rpo| rpo.primary);
            }
            if before.primary.is_some() && next.primary.is_some() && before.epoch != next.epoch {
                self.switchovers += 1;
            }
            if before.primary.is_none() && next.primary.is_some() {
                let of = |record: &&LeaseRecord| before.previous.as_ref() == Some(&record.node);
                let renewed = lease.filter(of).and_then(|record| record.reached);
                let stored = before.reached.max(before.primary_floor.map(|at| at.lsn));
                self.known = self.known.max(renewed).max(stored);
            }
            let chosen = next.primary.as_ref().filter(|_| before.primary.is_none());
            if let Some(chosen) = chosen.filter(|chosen| before.previous.as_ref() != Some(*chosen))
                && !(before.attended && before.promotable.contains(chosen))
                && !self.lenient
            {
                self.violate(|| {
                    format!("{chosen} is declared ({}) unattended or not promotable", next.stamp())
                });
            }
        }
        self.intent = Some(next.clone());
    }

    /// A member that does not lead has replaced the intent.
    pub(crate) fn amended(&mut self, before: Option<&Intent>, next: &Intent) {
        if before.is_none_or(|before| next.stamp() <= before.stamp()) {
            let before = before.map(Intent::stamp);
            self.violate(|| format!("the intent is amended to {} over {before:?}", next.stamp()));
        }
        self.intent = Some(next.clone());
    }

    /// A member is about to do this; it has run without a stall for so long.
    pub(crate) fn planned(&mut self, step: &Step, view: &View, cause: Option<&Cause>, awake: Tick) {
        let intent = view.intent.as_ref();
        let own = match step {
            Step::Amend(_) => true,
            Step::Order { node, command: Command::SetNames(_), .. } => Some(node) == view.node.as_ref(),
            _ => false,
        };
        if !view.leading && !own {
            return self.violate(|| format!("{step} is planned by a member that does not lead"));
        }
        let inferred = cause.is_some_and(|cause| cause.summary.starts_with("nothing is heard"));
        if matches!(step, Step::Declare(next) if next.primary.is_none())
            && inferred
            && awake + 2 < self.detect
        {
            return self.violate(|| format!("{step}, decided on silence {awake} ticks after a stall"));
        }
        let Step::Order { node, command: Command::Serve { .. } | Command::Promote { .. }, stamp } = step
        else {
            return;
        };
        if intent.is_none_or(|intent| intent.primary.as_ref() != Some(node) || intent.stamp() != *stamp) {
            self.violate(|| format!("{step} is planned for a node that is not declared"));
        }
    }

    /// While the store promises something, the primary it is promised of must keep it.
    pub(crate) fn promised_is_in_force(&mut self, host: usize, epoch: Term, pg: &Pg, now: Tick) {
        let Some(intent) = self.intent.as_ref().filter(|_| !self.names_shown && !self.restored) else {
            return;
        };
        let (of, its_epoch) = match (&intent.primary, &intent.previous) {
            (Some(primary), _) => (primary, intent.epoch),
            (None, Some(previous)) => (previous, Epoch(intent.epoch.0 - 1)),
            (None, None) => return,
        };
        let promised = !intent.sync.is_empty() && !intent.sync_next.is_empty();
        if host_of(of) != Some(host)
            || epoch != (intent.incarnation, its_epoch)
            || !promised
            || !pg.commits(now)
        {
            return;
        }
        let listed = |name: &StandbyName| {
            intent.sync.iter().chain(&intent.sync_next).any(|member| member.name == *name)
        };
        if pg.names_in_force.is_empty() || !pg.names_in_force.iter().all(listed) {
            let (names, stamp) = (pg.names_in_force.clone(), intent.stamp());
            self.violate(|| {
                format!("host {host} has {names:?} in force, which is not what {stamp} promises")
            });
        }
    }
}
