//! The right to serve, as `agent::right` has it: rounds of calls to the store, and the others' word when it is silent.

use std::time::Duration;

use locum::model::{Epoch, Floors, LeaseRecord, Mono, NodeId, Note, Reign, Renewals, Stamp, lease};

use super::{
    Tick,
    agent::{Agent, Reach},
    bug::Bug,
    host_of,
    network::Looked,
    node,
    postgres::Pg,
};

/// How long the store may take over one call, and others over their word.
pub(crate) const CALL: Tick = 80;
const ASK: Tick = 50;
const TRIES: u32 = 3;
/// So many renewals of an earlier life may not have been written down by who remembers them.
const UNWRITTEN: u64 = 20;

/// What is asked of the store.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Reign,
    Last,
    /// `looked`: when the server was looked at whose WAL the record is about.
    Renew {
        reign: i64,
        last: Option<i64>,
        record: LeaseRecord,
        looked: Option<Tick>,
    },
}

/// What came back, from the store or from another member.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Reign(Option<(Reign, i64)>),
    Last(Option<(LeaseRecord, i64)>),
    Renewed(Option<i64>),
    Error,
    Word(bool),
}

/// What an agent sends during a tick.
pub(crate) enum Out {
    Store { id: u64, ask: Ask },
    Vouch { to: usize, id: u64, stamp: Stamp, ttl: Duration, note: Option<Box<Note>> },
    Note(Box<Note>, Looked),
}

/// What was last read of the store, so that a renewal is one call.
#[derive(Default)]
pub(crate) struct Known {
    reign: Option<(Reign, i64)>,
    last: Option<Option<(LeaseRecord, i64)>>,
    /// The latest renewal of its own.
    renewed: Option<(Epoch, Renewals)>,
}

/// How a round ended.
pub(crate) enum Verdict {
    Serves,
    Deposed(Reign),
    NotYet,
    Silent,
}

enum Phase {
    Next,
    Store {
        id: u64,
        began: Tick,
        asked: Mono,
        record: Option<LeaseRecord>,
    },
    Words {
        asked: Mono,
        began: Tick,
        waiting: Vec<u64>,
        refused: bool,
    },
    /// The store has granted it until then; does anybody know better?
    Contradicted {
        until: Mono,
        began: Tick,
        waiting: Vec<u64>,
    },
}

/// One attempt to confirm the right to serve under a stamp.
pub(crate) struct Round {
    stamp: Stamp,
    phase: Phase,
    tries: u32,
    /// The reign was read anew because what was remembered did not fit.
    read_anew: bool,
    /// The last renewal was read anew because a later one is known of.
    last_anew: bool,
    /// A claim asks for the others' word whatever is left.
    claim: bool,
    /// The right had run out when this began.
    lapsed: bool,
}

impl Round {
    pub(crate) fn new(stamp: Stamp, claim: bool, lapsed: bool) -> Self {
        Self { stamp, phase: Phase::Next, tries: TRIES, read_anew: false, last_anew: false, claim, lapsed }
    }

    /// Goes on as far as it can now. Some: it has ended.
    pub(crate) fn step(&mut self, agent: &mut Agent, r: &mut Reach<'_>) -> Option<Verdict> {
        loop {
            match &mut self.phase {
                Phase::Next => match self.next(agent, r) {
                    Some(Verdict::Silent) => return self.silent(agent, r),
                    Some(verdict) => return Some(verdict),
                    None => return None,
                },
                Phase::Store { id, began, asked, record } => {
                    let (id, asked, record) = (*id, *asked, record.clone());
                    let told = agent.told(id);
                    if told.is_none() && r.now - *began <= CALL {
                        return None;
                    }
                    self.phase = Phase::Next;
                    match self.answered(agent, r, told.unwrap_or(Told::Error), asked, record) {
                        Some(Verdict::Silent) => return self.silent(agent, r),
                        Some(verdict) => return Some(verdict),
                        None => {}
                    }
                }
                Phase::Words { asked, began, waiting, refused } => {
                    waiting.retain(|id| match agent.told(*id) {
                        None => true,
                        Some(told) => {
                            *refused |= !matches!(told, Told::Word(true));
                            false
                        }
                    });
                    if waiting.is_empty() && !*refused {
                        let until = lease::holder_until(*asked, r.mix.policy.lease_ttl);
                        r.log.say(|| format!("agent {}: serves by the others' word", agent.host));
                        agent.failsafe = true;
                        if let Some(note) = agent.note(self.stamp, r.pg, r.renewals) {
                            agent.tell(Box::new(note), r.pg.generation);
                        }
                        agent.grant(self.stamp, until, self.claim, r);
                        return Some(Verdict::Serves);
                    }
                    return (waiting.is_empty() || r.now - *began > ASK).then_some(Verdict::Silent);
                }
                Phase::Contradicted { until, began, waiting } => {
                    let mut known_better = false;
                    waiting.retain(|id| match agent.told(*id) {
                        None => true,
                        Some(told) => {
                            known_better |= matches!(told, Told::Word(false));
                            false
                        }
                    });
                    if known_better {
                        return Some(Verdict::Silent);
                    }
                    if !waiting.is_empty() && r.now - *began <= ASK {
                        return None;
                    }
                    agent.grant(self.stamp, *until, self.claim, r);
                    return Some(Verdict::Serves);
                }
            }
        }
    }

    fn call(&mut self, agent: &mut Agent, r: &mut Reach<'_>, ask: Ask, record: Option<LeaseRecord>) {
        let id = agent.next_id();
        self.phase = Phase::Store { id, began: r.now, asked: r.clock, record };
        agent.out.push(Out::Store { id, ask });
    }

    fn next(&mut self, agent: &mut Agent, r: &mut Reach<'_>) -> Option<Verdict> {
        if self.tries == 0 {
            return Some(Verdict::Silent);
        }
        let me = node(agent.host);
        let Some((reign, reign_revision)) = agent.known.reign.clone() else {
            self.call(agent, r, Ask::Reign, None);
            return None;
        };
        if !(reign.is_of(self.stamp) && reign.primary.as_ref() == Some(&me)) {
            // What was remembered may be old: only what was just read ends a reign.
            if self.read_anew {
                return Some(self.judge(&reign, &me));
            }
            (self.read_anew, agent.known.reign) = (true, None);
            self.call(agent, r, Ask::Reign, None);
            return None;
        }
        let Some(last) = agent.known.last.clone() else {
            self.call(agent, r, Ask::Last, None);
            return None;
        };
        let latest = r.renewals.max(agent.known.renewed.map(|(_, renewed)| renewed));
        let latest = latest.filter(|known| known.incarnation >= self.stamp.incarnation);
        if latest > last.as_ref().map(|(record, _)| record.renewals())
            && r.bug != Some(Bug::RenewalsUncounted)
        {
            // A store that has forgotten renewals was put back.
            if std::mem::replace(&mut self.last_anew, true) {
                return Some(Verdict::Silent);
            }
            agent.known.last = None;
            self.call(agent, r, Ask::Last, None);
            return None;
        }
        let mut known = agent.reached(r.pg);
        if let (Some(known), Some(own)) = (&mut known, &r.noted)
            && own.note.node == me
            && own.note.stamp.same_epoch(self.stamp)
        {
            let mut floors = own.note.floors.clone();
            floors.cap(known.at);
            known.floors.merge(&floors);
        }
        let looked = known.as_ref().map(|_| agent.confirmed.looked_at);
        let before = last.as_ref().map(|(record, _)| record);
        if let Some(own) = before.filter(|own| own.node == me && own.epoch == self.stamp.epoch) {
            agent.known.renewed = Some((own.epoch, own.renewals()));
        }
        let record = LeaseRecord::next(before, me, self.stamp, r.mix.policy.lease_ttl, known.as_ref());
        let ask = Ask::Renew {
            reign: reign_revision,
            last: last.map(|(_, revision)| revision),
            record: record.clone(),
            looked,
        };
        self.call(agent, r, ask, Some(record));
        None
    }

    fn answered(
        &mut self,
        agent: &mut Agent,
        r: &mut Reach<'_>,
        told: Told,
        asked: Mono,
        record: Option<LeaseRecord>,
    ) -> Option<Verdict> {
        match told {
            Told::Reign(Some(reign)) => agent.known.reign = Some(reign),
            Told::Last(last) => agent.known.last = Some(last),
            Told::Renewed(Some(revision)) => {
                agent.known.renewed = record.as_ref().map(|record| (record.epoch, record.renewals()));
                agent.known.last = record.map(|record| Some((record, revision)));
                agent.stops_telling(self.stamp, r.pg.generation);
                let from = if r.bug == Some(Bug::LeaseFromReply) { r.clock } else { asked };
                let until = lease::holder_until(from, r.mix.policy.lease_ttl);
                if self.lapsed && !self.claim && r.bug != Some(Bug::LapsedUnasked) {
                    let waiting = self.ask(agent, Duration::ZERO, None, r.bug).unwrap_or_default();
                    self.phase = Phase::Contradicted { until, began: r.now, waiting };
                    return None;
                }
                agent.grant(self.stamp, until, self.claim, r);
                return Some(Verdict::Serves);
            }
            Told::Renewed(None) => {
                (agent.known.reign, agent.known.last, self.read_anew) = (None, None, false);
                self.tries -= 1;
            }
            Told::Error | Told::Reign(None) | Told::Word(_) => {
                // It may have been renewed all the same.
                agent.known.last = None;
                return Some(Verdict::Silent);
            }
        }
        None
    }

    fn judge(&self, reign: &Reign, me: &NodeId) -> Verdict {
        let newer = (reign.incarnation, reign.epoch) > (self.stamp.incarnation, self.stamp.epoch);
        match (newer, reign.primary.as_ref() == Some(me)) {
            (_, true) => Verdict::NotYet,
            (true, false) => Verdict::Deposed(reign.clone()),
            (false, false) => Verdict::Silent,
        }
    }

    /// The store is silent: asks everybody who could be promoted, where that is due.
    fn silent(&mut self, agent: &mut Agent, r: &mut Reach<'_>) -> Option<Verdict> {
        let left = agent.serves_until.map_or(Duration::ZERO, |until| until.since(r.clock));
        let due = self.claim || left < r.mix.policy.lease_ttl / 2;
        let ttl = r.mix.policy.lease_ttl;
        let note = agent.note(self.stamp, r.pg, r.renewals).map(Box::new);
        if let Some(note) = note.clone().filter(|_| agent.failsafe) {
            agent.tell(note, r.pg.generation);
        }
        let Some(waiting) = due.then(|| self.ask(agent, ttl, note, r.bug)).flatten() else {
            return Some(Verdict::Silent);
        };
        self.phase = Phase::Words { asked: r.clock, began: r.now, waiting, refused: false };
        self.step(agent, r)
    }

    /// Asks everybody who could be promoted for their word. None: nobody was noted in this epoch.
    fn ask(
        &self,
        agent: &mut Agent,
        ttl: Duration,
        note: Option<Box<Note>>,
        bug: Option<Bug>,
    ) -> Option<Vec<u64>> {
        let confirmed = agent.list_confirmed || bug == Some(Bug::ListBelieved);
        let noted = agent.disk.admitted.clone().filter(|_| confirmed);
        let (_, nodes) = noted.filter(|(since, _)| since.same_epoch(self.stamp))?;
        let mut waiting = Vec::new();
        for to in nodes.iter().filter_map(host_of) {
            let id = agent.next_id();
            waiting.push(id);
            agent.out.push(Out::Vouch { to, id, stamp: self.stamp, ttl, note: note.clone() });
        }
        Some(waiting)
    }
}

impl Agent {
    /// What the others are told while the store is silent. None: the server has not been looked at yet.
    pub(crate) fn note(&self, stamp: Stamp, pg: &Pg, remembered: Option<Renewals>) -> Option<Note> {
        let renewed = self.known.renewed.filter(|(epoch, _)| *epoch == stamp.epoch);
        // One renewal more may have been taken, whose answer was lost; of those of an earlier life some may not be written down.
        let own = renewed.map(|(_, last)| Renewals { count: last.count + 1, ..last });
        let earlier = remembered
            .filter(|last| last.incarnation == stamp.incarnation)
            .map(|last| Renewals { count: last.count + UNWRITTEN, ..last });
        let reached = self.reached(pg)?;
        Some(Note {
            node: node(self.host),
            stamp,
            renewals: own.or(earlier),
            reached: Some(reached.at),
            floors: reached.floors,
        })
    }

    /// The last renewal has carried everything: what was told before counts no more.
    fn stops_telling(&mut self, stamp: Stamp, generation: u64) {
        if std::mem::take(&mut self.failsafe) {
            let renewals = self.known.renewed.map(|(_, renewed)| renewed);
            let (reached, floors) = (None, Floors::default());
            let note = Note { node: node(self.host), stamp, renewals, reached, floors };
            self.tell(Box::new(note), generation);
        }
    }

    fn tell(&mut self, note: Box<Note>, generation: u64) {
        let looked = Looked { host: self.host, generation, at: self.confirmed.looked_at };
        self.out.push(Out::Note(note, looked));
    }

    /// Gives the word, unless a higher epoch was promised; written down as a length first.
    pub(crate) fn vouch(&mut self, stamp: Stamp, ttl: Duration, now: Mono, bug: Option<Bug>) -> bool {
        let length = ttl + ttl / 100;
        if self.unproven && bug != Some(Bug::MemoryBelieved) {
            return false;
        }
        if self.disk.promise.is_some_and(|promise| promise > stamp && !promise.same_epoch(stamp)) {
            return false;
        }
        if ttl.is_zero() {
            return true;
        }
        self.disk.promise = self.disk.promise.max(Some(stamp));
        self.disk.vouched = Some((stamp, length));
        self.vouched_until = self.vouched_until.max(Some(now.plus(length)));
        self.changed = true;
        true
    }

    /// True once a word given to a lower epoch has run out.
    pub(crate) fn word_is_kept(&mut self, stamp: Stamp, r: &mut Reach<'_>) -> bool {
        if r.bug != Some(Bug::RecruitedAtBoot) && self.waits_until.is_some_and(|until| until > r.clock) {
            return false;
        }
        if self.disk.vouched.is_none_or(|(to, _)| to.same_epoch(stamp)) {
            return true;
        }
        if r.bug != Some(Bug::WordNotKept) && self.vouched_until.is_some_and(|until| until > r.clock) {
            return false;
        }
        (self.disk.vouched, self.vouched_until) = (None, None);
        true
    }
}
