//! The store in this process's memory: for tests and simulations. Nothing outlives it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{POLL, fresh_lease, lease_gone};
use crate::{
    model::Mono,
    ports::{Clock, Entry, Guard, LeaseId, Outcome, Revision, Store, StoreError, Write},
};

/// A store in memory.
pub struct Memory {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// The last revision; wakes those who wait for a change.
    revision: watch::Sender<Revision>,
}

#[derive(Default)]
struct State {
    revision: Revision,
    keys: BTreeMap<String, Key>,
    leases: BTreeMap<LeaseId, Lease>,
}

struct Key {
    entry: Entry,
    lease: Option<LeaseId>,
}

struct Lease {
    ttl: Duration,
    runs_out: Mono,
}

impl Memory {
    /// An empty store whose leases run on `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default(), revision: watch::Sender::new(Revision::default()) }
    }

    /// Does `act` on the state as of now, without the leases that have run out, and wakes whoever waits for it.
    fn with<T>(&self, act: impl FnOnce(&mut State, Mono) -> T) -> T {
        let mut state: MutexGuard<'_, State> = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        state.sweep(now);
        let done = act(&mut state, now);
        self.revision.send_if_modified(|seen| std::mem::replace(seen, state.revision) != state.revision);
        done
    }
}

impl State {
    /// Ends what has run out; all at once, with one revision, as the embedded store does.
    fn sweep(&mut self, now: Mono) {
        let gone: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.runs_out <= now).map(|(id, _)| *id).collect();
        self.end(&gone);
    }

    /// Deletes leases and their keys.
    fn end(&mut self, leases: &[LeaseId]) {
        self.leases.retain(|id, _| !leases.contains(id));
        let before = self.keys.len();
        self.keys.retain(|_, key| key.lease.is_none_or(|lease| !leases.contains(&lease)));
        if self.keys.len() < before {
            self.revision.0 += 1;
        }
    }

    fn holds(&self, guard: &Guard) -> bool {
        let entry = |key: &str| self.keys.get(key).map(|key| &key.entry);
        match guard {
            Guard::Absent(key) => entry(key).is_none(),
            Guard::Created(key, revision) => entry(key).is_some_and(|e| e.created == *revision),
            Guard::Modified(key, revision) => entry(key).is_some_and(|e| e.modified == *revision),
            Guard::Holds(key, value) => entry(key).is_some_and(|e| e.value == *value),
        }
    }

    fn write(&mut self, writes: Vec<Write>) -> Revision {
        let next = Revision(self.revision.0 + 1);
        let mut changed = false;
        for write in writes {
            changed |= match write {
                Write::Delete(key) => self.keys.remove(&key).is_some(),
                Write::Put { key, value, lease } => {
                    let created = self.keys.get(&key).map_or(next, |old| old.entry.created);
                    let entry = Entry { key: key.clone(), value, created, modified: next };
                    self.keys.insert(key, Key { entry, lease });
                    true
                }
            };
        }
        if changed {
            self.revision = next;
        }
        self.revision
    }
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.with(|state, _| state.keys.get(key).map(|key| key.entry.clone())))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        Ok(self.with(|state, _| {
            let from = state.keys.range(prefix.to_owned()..);
            from.take_while(|(key, _)| key.starts_with(prefix)).map(|(_, key)| key.entry.clone()).collect()
        }))
    }

    async fn commit(&self, guards: Vec<Guard>, writes: Vec<Write>) -> Result<Outcome, StoreError> {
        self.with(|state, _| {
            if !guards.iter().all(|guard| state.holds(guard)) {
                return Ok(Outcome::GuardFailed);
            }
            let mut wanted = writes.iter().filter_map(|write| match write {
                Write::Put { lease, .. } => *lease,
                Write::Delete(_) => None,
            });
            match wanted.find(|lease| !state.leases.contains_key(lease)) {
                Some(lease) => Err(lease_gone(lease)),
                None => Ok(Outcome::Committed(state.write(writes))),
            }
        })
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let lease = fresh_lease()?;
        self.with(|state, now| state.leases.insert(lease, Lease { ttl, runs_out: now.plus(ttl) }));
        Ok(lease)
    }

    async fn renew(&self, lease: LeaseId) -> Result<bool, StoreError> {
        Ok(self.with(|state, now| match state.leases.get_mut(&lease) {
            Some(lease) => {
                lease.runs_out = now.plus(lease.ttl);
                true
            }
            None => false,
        }))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.with(|state, _| state.end(&[lease]));
        Ok(())
    }

    async fn changed(&self, _prefix: &str, since: Revision) -> Result<Revision, StoreError> {
        let mut revisions = self.revision.subscribe();
        loop {
            let revision = self.with(|state, _| state.revision);
            if revision > since {
                return Ok(revision);
            }
            // Not the result matters but that it is time to look again: a lease may have run out meanwhile.
            let _ = tokio::time::timeout(POLL, revisions.wait_for(|seen| *seen > since)).await;
        }
    }
}
