//! What is done to the server, by both methods.

use std::{fs, time::Duration};

use locum::model::{GuardMethod, GuardState};
use rustix::process::Signal;

use super::{LONG, MOUNTS, Place, becomes, now, send, stamp, until};

const BOTH: [bool; 2] = [false, true];

#[tokio::test]
async fn at_the_deadline_everybody_stands_still_and_a_later_one_lets_them_go_on() {
    for signals in BOTH {
        let place = Place::new();
        let client = place.guard(place.settings(signals)).await;
        place.tree.goes_on().await;
        let deadline = now().plus(Duration::from_millis(300));
        client.arm(deadline, stamp(5)).await.unwrap();
        place.tree.goes_on().await;
        let facts = becomes(&client, GuardState::Frozen).await;
        println!("{:?}: frozen {:?} after the deadline", facts.method, facts.since.since(deadline));
        assert!(facts.since >= deadline && facts.deadline == Some(deadline), "{facts:?}");
        assert!(place.tree.stands_still().await);
        let facts = client.arm(now().plus(LONG), stamp(5)).await.unwrap();
        assert_eq!(facts.state, GuardState::Armed);
        place.tree.goes_on().await;
        if signals {
            assert_eq!(facts.method, GuardMethod::Signals);
        }
    }
}

#[tokio::test]
async fn as_root_with_control_groups_the_server_gets_one_of_its_own() {
    let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - cgroup2 ");
    if !rustix::process::geteuid().is_root() || !mounted {
        println!("skipped: needs root and cgroup v2");
        return;
    }
    let place = Place::new();
    let client = place.guard(place.settings(false)).await;
    assert_eq!(client.facts().unwrap().method, GuardMethod::Cgroup);
    let group = format!("locum-guard-{}", place.tree.postmaster());
    place.tree.goes_on().await;
    let outside = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| !text.contains(&group))
    };
    assert_eq!(place.tree.alive().into_iter().filter(outside).collect::<Vec<_>>(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_server_frozen_for_too_long_is_killed() {
    for signals in BOTH {
        let place = Place::new();
        let mut settings = place.settings(signals);
        settings.freeze_max = Duration::from_millis(200);
        let client = place.guard(settings).await;
        client.arm(now().plus(Duration::from_millis(50)), stamp(5)).await.unwrap();
        becomes(&client, GuardState::Frozen).await;
        becomes(&client, GuardState::Killed).await;
        place.tree.is_gone().await;
        assert!(client.arm(now().plus(LONG), stamp(5)).await.is_err());
    }
}

#[tokio::test]
async fn a_higher_epoch_kills_at_once_what_runs_and_what_stands_still() {
    for (signals, deadline) in [(false, LONG), (false, Duration::ZERO), (true, LONG), (true, Duration::ZERO)]
    {
        let place = Place::new();
        let client = place.guard(place.settings(signals)).await;
        client.arm(now().plus(deadline), stamp(5)).await.unwrap();
        client.kill(stamp(6)).await.unwrap();
        place.tree.is_gone().await;
        assert_eq!(becomes(&client, GuardState::Killed).await.stamp, Some(stamp(6)));
    }
}

#[tokio::test]
async fn a_postmaster_that_somebody_stopped_is_frozen_and_killed_all_the_same() {
    for signals in BOTH {
        let place = Place::new();
        place.tree.goes_on().await;
        send(place.tree.postmaster(), Signal::STOP);
        let client = place.guard(place.settings(signals)).await;
        client.arm(now(), stamp(5)).await.unwrap();
        becomes(&client, GuardState::Frozen).await;
        assert!(place.tree.stands_still().await);
        client.kill(stamp(6)).await.unwrap();
        place.tree.is_gone().await;
    }
}

#[tokio::test]
async fn a_stopped_postmaster_that_somebody_lets_go_on_is_stopped_again() {
    let place = Place::new();
    let client = place.guard(place.settings(true)).await;
    client.arm(now(), stamp(5)).await.unwrap();
    becomes(&client, GuardState::Frozen).await;
    for _ in 0..20 {
        // As the kernel does when the parent of a stopped process dies.
        send(place.tree.postmaster(), Signal::CONT);
        until("it is stopped", || async { (place.tree.state() == 'T').then_some(()) }).await;
    }
    assert!(place.tree.stands_still().await);
}

#[tokio::test]
async fn what_a_dead_postmaster_leaves_standing_still_is_ended() {
    for signals in BOTH {
        let place = Place::new();
        let client = place.guard(place.settings(signals)).await;
        place.tree.goes_on().await;
        client.arm(now(), stamp(5)).await.unwrap();
        becomes(&client, GuardState::Frozen).await;
        send(place.tree.postmaster(), Signal::KILL);
        becomes(&client, GuardState::Off).await;
        place.tree.is_gone().await;
    }
}

#[tokio::test]
async fn a_guard_that_observes_only_reports() {
    let place = Place::new();
    let mut settings = place.settings(false);
    (settings.enforce, settings.freeze_max) = (false, Duration::from_millis(100));
    let client = place.guard(settings).await;
    client.arm(now(), stamp(5)).await.unwrap();
    let facts = becomes(&client, GuardState::Killed).await;
    assert!(!facts.enforce);
    place.tree.goes_on().await;
    let facts = client.arm(now().plus(LONG), stamp(5)).await.unwrap();
    assert_eq!(facts.state, GuardState::Armed);
}

#[tokio::test]
async fn a_server_that_ends_by_itself_is_guarded_no_more_and_its_group_goes() {
    let mut place = Place::new();
    let client = place.guard(place.settings(false)).await;
    client.arm(now().plus(LONG), stamp(5)).await.unwrap();
    let group = fs::read_to_string(format!("/proc/{}/cgroup", place.tree.postmaster())).unwrap();
    place.tree.end();
    let facts = becomes(&client, GuardState::Off).await;
    assert_eq!((facts.postmaster, facts.deadline), (None, None));
    if let Some(path) = group.lines().find_map(|line| line.strip_prefix("0::")).filter(|path| path.len() > 1)
    {
        let left = || MOUNTS.iter().any(|mount| std::path::Path::new(&format!("{mount}{path}")).exists());
        until("its group is removed", || async { (!left()).then_some(()) }).await;
    }
}

#[tokio::test]
async fn the_machines_watchdog_is_told_while_all_is_well_and_let_go_in_the_end() {
    let place = Place::new();
    let device = place.state.path().join("watchdog");
    fs::write(&device, "").unwrap();
    let mut settings = place.settings(false);
    settings.watchdog = Some(device.clone());
    let client = place.guard(settings).await;
    assert_eq!(fs::read(&device).unwrap(), b"");
    client.arm(now().plus(LONG), stamp(5)).await.unwrap();
    until("it is told twice", || async { (fs::read(&device).unwrap() == b"\0\0").then_some(()) }).await;
    client.disarm(stamp(5)).await.unwrap();
    until("it is let go", || async { fs::read(&device).unwrap().ends_with(b"\0V").then_some(()) }).await;
}
