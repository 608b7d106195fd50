//! The store: the contract that every back end keeps, and what is particular to each.

mod contract;
mod embedded;
mod etcd;
mod processes;
mod records;
mod rpo_history;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use locum::{
    model::Mono,
    ports::{Clock, Guard, LeaseId, Outcome, Revision, Store, Write},
};

/// A clock that stands still until told otherwise.
#[derive(Default)]
struct Stopped(AtomicU64);

impl Stopped {
    fn at(start: Duration) -> Arc<Self> {
        let clock = Arc::new(Self::default());
        clock.advance(start);
        clock
    }

    fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_micros()).expect("short"), Ordering::SeqCst);
    }
}

impl Clock for Stopped {
    fn now(&self) -> Mono {
        Mono(self.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

fn put(key: &str, value: &str) -> Write {
    Write::Put { key: key.to_owned(), value: value.to_owned(), lease: None }
}

fn put_under(key: &str, value: &str, lease: LeaseId) -> Write {
    Write::Put { key: key.to_owned(), value: value.to_owned(), lease: Some(lease) }
}

fn absent(key: &str) -> Guard {
    Guard::Absent(key.to_owned())
}

async fn committed(store: &dyn Store, guards: Vec<Guard>, writes: Vec<Write>) -> Revision {
    match store.commit(guards, writes).await.expect("commit") {
        Outcome::Committed(revision) => revision,
        Outcome::GuardFailed => panic!("a guard failed"),
    }
}

async fn value(store: &dyn Store, key: &str) -> Option<String> {
    store.get(key).await.expect("get").map(|entry| entry.value)
}
