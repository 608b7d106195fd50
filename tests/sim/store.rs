//! The store: one intent with its reign, one leader's lease, one primary lease, one growing revision. Its rules are those
//! of `store::Records`.

use std::collections::VecDeque;

use locum::model::{Intent, Known, LeaseRecord, Reign};

use super::{MOST, Tick, bug::Bug};

/// Who leads, as the store has it.
pub(crate) struct Leader {
    pub(crate) host: usize,
    pub(crate) created: i64,
    pub(crate) expires: Tick,
}

/// What keys hold, with the revision that last changed each.
#[derive(Clone, Default)]
struct Copy {
    counter: i64,
    intent: Option<(Intent, i64)>,
    reign: Option<(Reign, i64)>,
    lease: Option<(LeaseRecord, i64)>,
}

pub(crate) struct Store {
    /// Grows with every write.
    counter: i64,
    /// The last write to the records, which is what those who watch them see.
    pub(crate) revision: i64,
    pub(crate) intent: Option<(Intent, i64)>,
    pub(crate) reign: Option<(Reign, i64)>,
    pub(crate) lease: Option<(LeaseRecord, i64)>,
    pub(crate) leader: Option<Leader>,
    /// Down until then.
    pub(crate) down_until: Tick,
    /// Not reachable from a host until then.
    pub(crate) away_until: [Tick; MOST],
    copy: Option<Copy>,
    /// Copies that are taken now and then, oldest first.
    kept: VecDeque<Copy>,
    /// When it was put back, if nobody has accepted it since.
    pub(crate) doubtful_since: Option<Tick>,
    pub(crate) declares: u64,
    /// When primaries lost their epochs, by the wall clock of whoever declared it: the incidents a new leader reads.
    pub(crate) failovers: Vec<i64>,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            counter: 1,
            revision: 1,
            intent: None,
            reign: None,
            lease: None,
            leader: None,
            down_until: 0,
            away_until: [0; MOST],
            copy: None,
            kept: VecDeque::new(),
            doubtful_since: None,
            declares: 0,
            failovers: Vec::new(),
        }
    }

    pub(crate) fn answers(&self, host: usize, now: Tick) -> bool {
        self.down_until <= now && self.away_until[host] <= now
    }

    fn write(&mut self) -> i64 {
        self.counter += 1;
        self.revision = self.counter;
        self.counter
    }

    /// Leases run out by the store's clock; while it is down they do not.
    pub(crate) fn sweep(&mut self, now: Tick) {
        if self.down_until > now {
            if let Some(leader) = &mut self.leader {
                leader.expires += 1;
            }
        } else if self.leader.as_ref().is_some_and(|leader| leader.expires <= now) {
            self.leader = None;
            self.write();
        }
    }

    pub(crate) fn campaign(&mut self, host: usize, ttl: Tick, now: Tick) -> Option<i64> {
        if self.leader.is_some() {
            return None;
        }
        let created = self.write();
        self.leader = Some(Leader { host, created, expires: now + ttl });
        Some(created)
    }

    /// A lease is a member's own. Revisions are used again once a copy was put back, so one alone says little.
    pub(crate) fn renew(&mut self, host: usize, created: i64, ttl: Tick, now: Tick) -> bool {
        let own = |leader: &&mut Leader| leader.host == host && leader.created == created;
        let held = self.leader.as_mut().filter(own);
        held.map(|leader| leader.expires = now + ttl).is_some()
    }

    pub(crate) fn resign(&mut self, created: i64) {
        if self.leader.as_ref().is_some_and(|leader| leader.created == created) {
            self.leader = None;
            self.write();
        }
    }

    /// Replaces the intent that was read with revision `basis`, if whoever asks leads. None: a guard did not hold.
    pub(crate) fn declare(
        &mut self,
        created: i64,
        basis: Option<i64>,
        next: &Intent,
        bug: Option<Bug>,
    ) -> Option<i64> {
        let leads = self.leader.as_ref().is_some_and(|leader| leader.created == created);
        let based = self.intent.as_ref().map(|(_, revision)| *revision) == basis;
        let refused =
            (!leads && bug != Some(Bug::NoLeaderGuard)) || (!based && bug != Some(Bug::NoCompareAndSwap));
        (!refused).then(|| self.replace(next))
    }

    /// The same without leading, and never for another reign.
    pub(crate) fn amend(&mut self, basis: (&Intent, i64), next: &Intent, bug: Option<Bug>) -> Option<i64> {
        let based = self.intent.as_ref().is_some_and(|(standing, revision)| {
            *revision == basis.1 && Reign::of(standing) == Reign::of(basis.0)
        });
        let allowed = based || bug == Some(Bug::AmendBlind);
        (allowed && Reign::of(basis.0) == Reign::of(next)).then(|| self.replace(next))
    }

    fn replace(&mut self, next: &Intent) -> i64 {
        let revision = self.write();
        self.declares += 1;
        let reign = Reign::of(next);
        if self.intent.as_ref().is_none_or(|(before, _)| before.incarnation != next.incarnation) {
            self.doubtful_since = None;
        }
        if self.intent.as_ref().is_none_or(|(before, _)| Reign::of(before) != reign) {
            self.reign = Some((reign, revision));
        }
        self.intent = Some((next.clone(), revision));
        revision
    }

    /// Renews the primary lease under the reign that was read with revision `reign`. None: a guard did not hold.
    pub(crate) fn renew_primary(
        &mut self,
        reign: i64,
        last: Option<i64>,
        record: &LeaseRecord,
        bug: Option<Bug>,
    ) -> Option<i64> {
        let reigns = self.reign.as_ref().is_some_and(|(_, revision)| *revision == reign);
        let own = self.lease.as_ref().map(|(_, revision)| *revision) == last;
        if !own || !(reigns || bug == Some(Bug::RenewalUnguarded)) {
            return None;
        }
        // Outside the records: nobody who watches those is woken.
        self.counter += 1;
        self.lease = Some((record.clone(), self.counter));
        Some(self.counter)
    }

    /// How late a state of it this is.
    pub(crate) fn known(&self) -> Known {
        Known {
            stamp: self.intent.as_ref().map(|(intent, _)| intent.stamp()),
            renewals: self.lease.as_ref().map(|(record, _)| record.renewals()),
        }
    }

    pub(crate) fn make_copy(&mut self) {
        let (intent, reign, lease) = (self.intent.clone(), self.reign.clone(), self.lease.clone());
        self.copy = Some(Copy { counter: self.counter, intent, reign, lease });
    }

    /// Takes a copy that may be put back later; three are kept.
    pub(crate) fn keep_copy(&mut self) {
        let (intent, reign, lease) = (self.intent.clone(), self.reign.clone(), self.lease.clone());
        self.kept.truncate(2);
        self.kept.push_front(Copy { counter: self.counter, intent, reign, lease });
    }

    /// Goes back to one of the copies, if somebody `known` remembers more than that.
    pub(crate) fn goes_back(&mut self, which: usize, known: Known, now: Tick) -> bool {
        let Some(copy) = self.kept.get(which).cloned() else { return false };
        let stamp = copy.intent.as_ref().map(|(intent, _)| intent.stamp());
        let renewals = copy.lease.as_ref().map(|(record, _)| record.renewals());
        if known.stamp <= stamp && known.renewals <= renewals {
            return false;
        }
        self.kept.clear();
        self.copy = Some(copy);
        self.restore(now)
    }

    /// Puts the copy back, if there is one and it is old.
    pub(crate) fn restore(&mut self, now: Tick) -> bool {
        let Some(copy) = self.copy.take() else { return false };
        if copy.intent == self.intent && copy.lease == self.lease {
            return false;
        }
        (self.counter, self.revision, self.intent) = (copy.counter, copy.counter, copy.intent);
        (self.reign, self.lease, self.leader) = (copy.reign, copy.lease, None);
        self.doubtful_since = Some(now);
        true
    }
}
