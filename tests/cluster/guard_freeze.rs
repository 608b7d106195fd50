//! The guard beside a real server with writers: nothing is acknowledged once it stands still.

use std::time::Duration;

use locum::model::{GuardMethod, GuardState, Mono};
use rustix::process::Signal;

use crate::{
    fixture::{missing, until},
    guard_fixture::{Guarded, LONG, Sessions, becomes, now, send, settings, stamp},
};

const BOTH: [bool; 2] = [false, true];
const WRITERS: i64 = 8;

/// From an instant to a later or an earlier one, in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "printed")]
fn ms(from: Mono, to: Mono) -> f64 {
    (to.0.cast_signed() - from.0.cast_signed()) as f64 / 1e3
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_once_it_stands_still_is_acknowledged_only_after_it_goes_on() {
    for signals in BOTH {
        let guarded = Guarded::new().await;
        // With as many processes that come and go as there usually are while it is put under guard.
        let busy = Sessions::start(&guarded.node, WRITERS).await;
        let client = guarded.guard(settings(&guarded.node, signals)).await;
        busy.finish().await;
        guarded.node.ask("TRUNCATE t").await;
        let sessions = Sessions::start(&guarded.node, WRITERS).await;
        let deadline = now().plus(Duration::from_millis(500));
        client.arm(deadline, stamp(5)).await.unwrap();
        let facts = becomes(&client, GuardState::Frozen).await;
        let last = sessions.last().await;
        println!(
            "{:?}: frozen {:.1} ms after the deadline, last acknowledgement {:.1} ms",
            facts.method,
            ms(deadline, facts.since),
            ms(deadline, last.got)
        );
        assert!(facts.since >= deadline);
        assert!(sessions.acks().iter().all(|ack| ack.sent <= facts.since), "{last:?}, {facts:?}");
        assert!(!signals || facts.method == GuardMethod::Signals);

        client.arm(now().plus(LONG), stamp(5)).await.unwrap();
        sessions.go_on().await;
        assert_eq!(missing(&guarded.node, &sessions.finish().await).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_for_too_long_it_is_killed_and_no_process_is_left() {
    for signals in BOTH {
        let guarded = Guarded::new().await;
        let mut settings = settings(&guarded.node, signals);
        settings.freeze_max = Duration::from_millis(300);
        let client = guarded.guard(settings).await;
        let sessions = Sessions::start(&guarded.node, WRITERS).await;
        client.arm(now().plus(Duration::from_millis(100)), stamp(5)).await.unwrap();
        let frozen = becomes(&client, GuardState::Frozen).await;
        let killed = becomes(&client, GuardState::Killed).await;
        until("no process is left", || async { guarded.processes().is_empty().then_some(()) }).await;
        println!("{:?}: killed {:.1} ms after it was frozen", frozen.method, ms(frozen.since, killed.since));
        let all = sessions.finish().await;
        guarded.node.start().await;
        assert_eq!(missing(&guarded.node, &all).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_postmaster_was_stopped_goes_on_committing_until_it_is_frozen() {
    for signals in BOTH {
        let guarded = Guarded::new().await;
        let client = guarded.guard(settings(&guarded.node, signals)).await;
        let sessions = Sessions::start(&guarded.node, WRITERS).await;
        send(guarded.postmaster, Signal::STOP);
        sessions.go_on().await;
        client.arm(now().plus(Duration::from_millis(200)), stamp(5)).await.unwrap();
        let facts = becomes(&client, GuardState::Frozen).await;
        sessions.last().await;
        assert!(sessions.acks().iter().all(|ack| ack.sent <= facts.since), "{facts:?}");
        client.kill(stamp(6)).await.unwrap();
        sessions.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_begin_after_it_was_put_under_guard_are_frozen_too() {
    let guarded = Guarded::new().await;
    let client = guarded.guard(settings(&guarded.node, false)).await;
    let sessions = Sessions::start(&guarded.node, 2).await;
    let deadline = now().plus(Duration::from_secs(1));
    client.arm(deadline, stamp(5)).await.unwrap();
    // New ones all the time, also in the very moment of the deadline.
    let mut begun = Vec::new();
    while now() < deadline.plus(Duration::from_millis(500)) {
        let connect = tokio::time::timeout(Duration::from_millis(300), guarded.node.try_connect());
        begun.extend(connect.await.ok().flatten());
    }
    let facts = becomes(&client, GuardState::Frozen).await;
    assert!(begun.len() > 5, "{} sessions", begun.len());
    let ask =
        tokio::time::timeout(Duration::from_millis(300), begun.last().unwrap().batch_execute("SELECT 1"));
    assert!(ask.await.is_err(), "the last session is answered");
    sessions.last().await;
    assert!(sessions.acks().iter().all(|ack| ack.sent <= facts.since), "{facts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_from_the_deadline_to_the_last_acknowledgement() {
    for signals in BOTH {
        let guarded = Guarded::new().await;
        let client = guarded.guard(settings(&guarded.node, signals)).await;
        let sessions = Sessions::start(&guarded.node, WRITERS).await;
        let (mut last, mut frozen) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            client.disarm(stamp(5)).await.unwrap();
            let deadline = now().plus(Duration::from_millis(200));
            client.arm(deadline, stamp(5)).await.unwrap();
            let facts = becomes(&client, GuardState::Frozen).await;
            last.push(ms(deadline, sessions.last().await.got));
            frozen.push(ms(deadline, facts.since));
            client.arm(now().plus(LONG), stamp(5)).await.unwrap();
            sessions.go_on().await;
        }
        println!("{:?}: ms after the deadline, min/median/max of 20", client.facts().unwrap().method);
        for (name, mut values) in [("last acknowledgement received", last), ("frozen", frozen)] {
            values.sort_by(f64::total_cmp);
            println!("  {name}: {:.1}/{:.1}/{:.1}", values[0], values[10], values[19]);
        }
        sessions.finish().await;
    }
}
