//! What is asked of a driver, and what becomes of its answers.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{
    clock::SystemClock,
    config::DrivenBy,
    model::{Epoch, Incarnation, NodeId, Version},
};

/// When a test gives up: longer than the longest wait for another try.
const LONG: Duration = Duration::from_secs(20);

/// A state that can be had, or cannot.
struct State(AtomicBool);

#[async_trait]
impl Driver for State {
    fn shows(&self) -> String {
        "a state".into()
    }

    async fn carry_out(&self, _: &Task) -> Result<(), String> {
        if self.0.load(Ordering::SeqCst) { Ok(()) } else { Err("it cannot be had".into()) }
    }

    fn looks_every(&self) -> Option<Duration> {
        Some(LONG)
    }
}

fn driven(can_be_had: bool, give_up: Duration) -> (Arc<Driven>, Arc<State>) {
    let state = Arc::new(State(AtomicBool::new(can_be_had)));
    let config = config::Driven {
        name: EndpointName::new("dns").unwrap(),
        target: EndpointKind::Primary,
        timeout: LONG,
        give_up,
        by: DrivenBy::Exec("/bin/true".into()),
    };
    (Driven::start(&config, Which::Exec, state.clone(), Arc::new(SystemClock)), state)
}

fn stamp(version: u64) -> Stamp {
    Stamp { incarnation: Incarnation(1), epoch: Epoch(version), version: Version(version) }
}

fn point(name: &str) -> RouteOrder {
    RouteOrder::Point { node: NodeId::new(name).unwrap(), address: format!("{name}:5432") }
}

/// Waits until its last order has come about, or was given up.
async fn repointed(driven: &Driven, wanted: impl Fn(&Repoint) -> bool) {
    let mut changes = driven.changes();
    let seen = async {
        while !driven.facts().repoint.is_some_and(|repoint| wanted(&repoint)) {
            changes.changed().await.unwrap();
        }
    };
    assert!(timeout(LONG, seen).await.is_ok(), "{:?}", driven.facts());
}

#[tokio::test]
async fn a_repeated_order_is_not_carried_out_again_but_ends_a_pause() {
    let (driven, _) = driven(true, LONG);
    let task = || driven.shared.tasks.borrow().clone();
    let changes = driven.changes();
    driven.order(stamp(1), point("busan"));
    assert!(changes.has_changed().unwrap());
    let (given, led) = task();
    driven.order(stamp(1), point("busan"));
    assert_eq!(task().0, given);
    assert_eq!(driven.park(stamp(1), BTreeSet::new()).await, Reply::Done);
    assert_eq!(task().1.wish, Wish::Quiet);
    driven.order(stamp(1), point("busan"));
    assert_eq!(task().1, led);
    repointed(&driven, |repoint| repoint.confirmed.is_some()).await;
}

#[tokio::test]
async fn a_pause_that_does_not_come_about_is_said_to_have_failed() {
    let (driven, _) = driven(false, Duration::from_millis(10));
    assert_eq!(driven.park(stamp(1), BTreeSet::new()).await, Reply::Failed("it cannot be had".into()));
}

#[tokio::test]
async fn what_a_try_came_to_says_nothing_of_a_later_order() {
    let (driven, _) = driven(true, LONG);
    driven.order(stamp(1), point("busan"));
    let (number, task) = driven.shared.tasks.borrow().clone();
    driven.order(stamp(2), point("seoul"));
    assert!(driven.shared.tried(number, &task, SystemClock.now(), Ok(())));
    assert_eq!(driven.facts().repoint.unwrap().confirmed, None);
    driven.shared.tried(number, &task, SystemClock.now(), Err("too late".into()));
    assert_eq!(driven.facts().problem, None);
}

#[tokio::test]
async fn a_state_that_was_given_up_is_confirmed_once_it_can_be_had() {
    let (driven, state) = driven(false, Duration::from_millis(10));
    driven.order(stamp(1), point("busan"));
    repointed(&driven, |repoint| repoint.given_up).await;
    assert!(driven.facts().problem.is_some());
    state.0.store(true, Ordering::SeqCst);
    repointed(&driven, |repoint| repoint.confirmed.is_some() && !repoint.given_up).await;
    assert_eq!(driven.facts().problem, None);
}
