//! What is kept of an incident by whoever leads.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use super::*;
use crate::planner::fixture::{healthy, seoul};

#[test]
fn what_was_reached_while_the_store_was_away_is_known_to_a_leader_that_leads_again() {
    let (view, objectives) = (healthy(), Objectives { rto_ms: 1.0, rpo_ms: 0.0 });
    let mut tracker = Tracker::new(seoul(), objectives, Duration::from_millis(500));
    let before = view.intent.clone().unwrap();
    let next = before.vacated(None);
    let at = |ms: u64| Mono(view.awake_since.0 + ms * 1000);
    assert!(tracker.declared(Some(&before), &next, None, &view, None, at(1), at(2)));
    let record = tracker.changed().remove(0);
    tracker.verified(next.stamp(), at(3));
    let reached = tracker.open().cloned();
    assert!(reached.as_ref().unwrap().at(MarkName::Verified).is_some());

    // Leadership was lost, and won again.
    tracker.forget();
    assert_eq!(tracker.open(), None);
    tracker.forget();
    tracker.take_up(std::slice::from_ref(&record));
    assert_eq!(tracker.open(), reached.as_ref());
    assert_eq!(tracker.changed(), Vec::from_iter(reached), "it is to be recorded");

    tracker.forget();
    let later = Incident { id: IncidentId("20261128-000000-e9v9".into()), ..record };
    tracker.take_up(std::slice::from_ref(&later));
    assert_eq!(tracker.open(), Some(&later), "another one");
}

#[test]
fn connections_are_counted_from_the_beginning_by_whoever_leads() {
    let mut before = Some([5, 0, 1]);
    assert_eq!(counted(&mut before, [0; 3], [7, 0, 1]), [2, 0, 0]);
    let mut taken_up = None;
    assert_eq!(counted(&mut taken_up, [2, 0, 0], [7, 40, 1]), [2, 0, 0], "what was before is not known");
    assert_eq!(counted(&mut taken_up, [2, 0, 0], [7, 1_040, 2]), [2, 1_000, 1]);
    assert_eq!(counted(&mut taken_up, [2, 1_000, 1], [0, 3, 0]), [2, 1_000, 1], "a member was started again");
}
