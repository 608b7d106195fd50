//! The store: one intent, one leader's lease, one growing revision. Its rules are those of `store::Records`.

use locum::model::Intent;

use super::{Tick, bug::Bug};

/// Who leads, as the store has it.
pub(crate) struct Leader {
    pub(crate) created: i64,
    pub(crate) expires: Tick,
}

/// A copy made earlier, to be restored later.
type Copy = (i64, Option<(Intent, i64)>);

pub(crate) struct Store {
    pub(crate) revision: i64,
    pub(crate) intent: Option<(Intent, i64)>,
    pub(crate) leader: Option<Leader>,
    /// Down until then.
    pub(crate) down_until: Tick,
    /// Not reachable from a host until then.
    pub(crate) away_until: [Tick; 2],
    pub(crate) copy: Option<Copy>,
    pub(crate) restored: bool,
    pub(crate) declares: u64,
    /// When primaries lost their epochs: the incidents that a new leader reads.
    pub(crate) failovers: Vec<Tick>,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            revision: 1,
            intent: None,
            leader: None,
            down_until: 0,
            away_until: [0; 2],
            copy: None,
            restored: false,
            declares: 0,
            failovers: Vec::new(),
        }
    }

    pub(crate) fn answers(&self, host: usize, now: Tick) -> bool {
        self.down_until <= now && self.away_until[host] <= now
    }

    /// Leases run out by the store's clock; while it is down they do not.
    pub(crate) fn sweep(&mut self, now: Tick) {
        if self.down_until > now {
            if let Some(leader) = &mut self.leader {
                leader.expires += 1;
            }
        } else if self.leader.as_ref().is_some_and(|leader| leader.expires <= now) {
            self.leader = None;
            self.revision += 1;
        }
    }

    pub(crate) fn campaign(&mut self, ttl: Tick, now: Tick) -> Option<i64> {
        if self.leader.is_some() {
            return None;
        }
        self.revision += 1;
        self.leader = Some(Leader { created: self.revision, expires: now + ttl });
        Some(self.revision)
    }

    pub(crate) fn renew(&mut self, created: i64, ttl: Tick, now: Tick) -> bool {
        let held = self.leader.as_mut().filter(|leader| leader.created == created);
        held.map(|leader| leader.expires = now + ttl).is_some()
    }

    pub(crate) fn resign(&mut self, created: i64) {
        if self.leader.as_ref().is_some_and(|leader| leader.created == created) {
            self.leader = None;
            self.revision += 1;
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
        if refused {
            return None;
        }
        self.revision += 1;
        self.declares += 1;
        self.intent = Some((next.clone(), self.revision));
        Some(self.revision)
    }

    pub(crate) fn make_copy(&mut self) {
        self.copy = Some((self.revision, self.intent.clone()));
    }

    /// Puts the copy back, if there is one and it is old.
    pub(crate) fn restore(&mut self) -> bool {
        let Some((revision, intent)) = self.copy.take() else { return false };
        if intent == self.intent {
            return false;
        }
        (self.revision, self.intent, self.leader, self.restored) = (revision, intent, None, true);
        true
    }
}
