//! Those who wait at an endpoint, in the order in which they came. One more than may wait sends the oldest away: it has
//! waited longest in vain, and its client gives up soonest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// The queue. What one who waits has said is limited too (see `wait`), so the count limits the memory.
pub(super) struct Queue {
    most: usize,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, Arc<Notify>>,
}

/// A place in the queue; dropping it gives it back.
pub(super) struct Place {
    queue: Arc<Queue>,
    number: u64,
    sent_away: Arc<Notify>,
}

impl Queue {
    pub(super) fn new(most: usize) -> Self {
        Self { most, places: Mutex::default() }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.places().taken.len()
    }

    /// Takes a place at the end.
    pub(super) fn join(self: &Arc<Self>) -> Place {
        let sent_away = Arc::new(Notify::new());
        let mut places = self.places();
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, Arc::clone(&sent_away));
        while places.taken.len() > self.most {
            let Some((_, oldest)) = places.taken.pop_first() else { break };
            oldest.notify_one();
        }
        drop(places);
        Place { queue: Arc::clone(self), number, sent_away }
    }
}

impl Place {
    /// Waits until younger ones need the place.
    pub(super) async fn sent_away(&self) {
        self.sent_away.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.places().taken.remove(&self.number);
    }
}
