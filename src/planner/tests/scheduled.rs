//! Switchovers at a later time.

use jiff::{SignedDuration, Timestamp};

use super::*;

/// So many seconds from now; before, where it is less than 0.
fn at(seconds: i64) -> Timestamp {
    healthy().wall + SignedDuration::from_secs(seconds)
}

fn schedule(seconds: i64) -> RequestKind {
    RequestKind::Schedule { to: Some(tokyo()), at: at(seconds) }
}

/// One that is to begin in so many seconds, asked for a while ago.
fn scheduled(seconds: i64) -> View {
    let mut view = healthy();
    let asked = Scheduled { to: Some(tokyo()), at: at(seconds), operation: "op-0".into() };
    view.intent_mut().scheduled = Some(asked);
    view
}

fn refused(plan: &Plan) -> Vec<(String, String)> {
    let refused = |step: &Step| match step {
        Step::Refuse { operation, blockers } => Some((operation.clone(), blockers.join("; "))),
        _ => None,
    };
    plan.steps.iter().filter_map(refused).collect()
}

#[test]
fn it_is_taken_into_the_intent_and_nothing_else_happens_until_its_time() {
    let mut view = healthy();
    view.requests = asks(schedule(3600));
    let next = declared(&decide(&view)).cloned().expect("it is taken");
    assert_eq!(next.scheduled, Some(Scheduled { to: Some(tokyo()), at: at(3600), operation: "op-1".into() }));
    assert_eq!((next.handover, next.epoch), (None, Epoch(3)));

    let plan = decide(&scheduled(1));
    let waits = [Hold::Scheduled { to: Some(tokyo()), at: at(1) }];
    assert_eq!((plan.steps.as_slice(), plan.holds.as_slice()), (&[] as &[Step], &waits as &[Hold]));
}

#[test]
fn it_begins_when_its_time_has_come_like_any_other() {
    for late in [0, -59] {
        let next = declared(&decide(&scheduled(late))).cloned().expect("it begins");
        let handover = next.handover.expect("a hand-over");
        assert_eq!((handover.to, handover.operation, next.scheduled), (tokyo(), "op-0".to_owned(), None));
    }
}

#[test]
fn what_stands_in_its_way_has_a_minute_to_pass_and_is_told_then() {
    let mut view = scheduled(-30);
    view.intent_mut().paused = true;
    let plan = decide(&view);
    assert!(declared(&plan).is_none() && refused(&plan).is_empty(), "{:?}", plan.steps);

    view.intent_mut().scheduled.as_mut().expect("one").at = at(-61);
    let plan = decide(&view);
    let next = declared(&plan).expect("it is dropped");
    assert_eq!((next.scheduled.as_ref(), next.handover.as_ref()), (None, None));
    let [(operation, why)] = refused(&plan).try_into().expect("one");
    assert!(operation == "op-0" && why.contains("was dropped") && why.contains("paused"), "{why}");
    assert!(plan.cause.expect("a record").summary.contains("paused"));
}

#[test]
fn a_stale_one_is_dropped_and_not_begun_late() {
    let plan = decide(&scheduled(-61));
    assert!(declared(&plan).is_some_and(|next| next.scheduled.is_none() && next.handover.is_none()));
    assert!(refused(&plan)[0].1.contains("nobody could begin it in time"), "{:?}", plan.steps);
}

#[test]
fn one_that_is_cancelled_is_gone_and_without_one_that_is_said() {
    let mut view = scheduled(10);
    view.requests = asks(RequestKind::Cancel);
    let plan = decide(&view);
    assert!(declared(&plan).is_some_and(|next| next.scheduled.is_none()) && plan.cause.is_none());
    view.intent_mut().scheduled = None;
    assert_eq!(refused(&decide(&view)), [("op-1".to_owned(), "no switchover is scheduled".to_owned())]);
}

#[test]
fn what_was_declared_for_a_request_is_not_held_against_it_before_its_answer_has_come() {
    let mut view = scheduled(10);
    view.requests = asks(RequestKind::Cancel);
    let next = declared(&decide(&view)).cloned().expect("it is cancelled");
    // The store tells of it to everybody, the leader among them, before it answers the leader.
    view.underway.insert(Step::Declare(next.clone()).key());
    view.intent = Some(next);
    assert_eq!(refused(&decide(&view)), []);
}

#[test]
fn every_reason_against_scheduling_is_told() {
    let why = |view: &mut View, kind: RequestKind| {
        view.requests = asks(kind);
        let plan = decide(view);
        assert_eq!(declared(&plan), None);
        refused(&plan).pop().expect("a refusal").1
    };
    let mut view = healthy();
    assert!(why(&mut view, schedule(0)).contains("has passed"));
    assert!(why(&mut view, schedule(400 * 86_400)).contains("more than a year ahead"));
    let to = |name: &str| RequestKind::Schedule { to: NodeId::new(name).ok(), at: at(60) };
    assert!(why(&mut view, to("seoul")).contains("seoul is the primary already"));
    assert!(why(&mut view, to("lima")).contains("there is no node lima"));
    assert!(why(&mut scheduled(60), schedule(120)).contains("`locum switchover --cancel`"));
}

#[test]
fn another_epoch_ends_it() {
    let intent = scheduled(60).intent.expect("an intent");
    assert_eq!(intent.vacated(None).scheduled, None);
    assert_eq!(intent.handed_over(tokyo(), None).scheduled, None);
}
