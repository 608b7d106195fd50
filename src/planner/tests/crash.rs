//! The primary's postmaster died: in its place or a promotion, and what becomes of one that dies again and again.

use std::time::Duration;

use super::*;
use crate::planner::Crashes;

const MIB: u64 = 1 << 20;
/// Where the primary's WAL ends, in MiB.
const END: u64 = 1 << 20;

fn policy(on_crash: OnCrash) -> Policy {
    Policy { on_crash, ..Policy::default() }
}

/// Seoul died with so much WAL since its last checkpoint's redo point, and tokyo has so much to replay.
fn died(redo_distance: u64, backlog: u64) -> View {
    let mut view = healthy();
    let end = Lsn(END * MIB);
    let standby = view.standby_mut(&tokyo());
    (standby.flushed, standby.replayed) = (end, Lsn(end.0 - backlog * MIB));
    view.rpo.as_mut().expect("an RPO").primary = end;
    let mut left = down(true);
    left.control.as_mut().expect("a control file").redo = Lsn(end.0 - redo_distance * MIB);
    left.wal_end = None;
    view.server(&seoul(), Server::Down(left));
    view
}

/// So many crashes in this epoch, the last one so long ago; it was seen to be up since.
fn crashed(times: usize, last_ms: u64) -> Memory {
    let crashes = Crashes { at: vec![(Epoch(3), ago(last_ms)); times], down: None };
    Memory { crashes, ..Memory::default() }
}

#[test]
fn the_fastest_way_is_taken_and_both_are_told() {
    let fastest = policy(OnCrash::Fastest);
    for (redo_distance, backlog, serves) in
        [(0, 256, true), (1024, 0, false), (16, 16, false), (1024, 2048, true)]
    {
        let view = died(redo_distance, backlog);
        let plan = plan(&view, &Memory::default(), &fastest, NOW);
        assert_eq!(declared(&plan).is_none(), serves, "{redo_distance} and {backlog}: {:?}", plan.cause);
        assert_eq!(
            orders(&plan).contains(&(seoul(), Command::Serve { floor: None })),
            serves,
            "{redo_distance} and {backlog}"
        );
        let evidence = plan.cause.expect("a cause").evidence.join("; ");
        assert!(evidence.contains(&format!("({redo_distance}.0 MiB of WAL to replay")), "{evidence}");
        assert!(evidence.contains(&format!("({backlog}.0 MiB of WAL to replay")), "{evidence}");
    }
}

/// Somebody replayed so many MiB up to some position, each in so many milliseconds.
fn replayed(to: u64, mib: u64, each_ms: u64) -> ReplayEffort {
    let mut effort = ReplayEffort::default();
    effort.found_at(Lsn((to - mib) * MIB));
    for at in to - mib + 1..=to {
        effort.came_to(Lsn(at * MIB), Duration::from_millis(each_ms));
    }
    effort
}

#[test]
fn what_a_standby_took_for_the_same_wal_counts_first() {
    let fastest = policy(OnCrash::Fastest);
    // The redo distance and the backlog, what tokyo replayed and how fast, and what counts for seoul and for tokyo.
    for (redo_distance, backlog, mib, each_ms, serves, said) in [
        (256, 64, 0, 0, false, ["64.0 MiB/s, as is assumed", "64.0 MiB/s, as is assumed"]),
        // Cheap: a fifth of a second for what is left of the backlog, three for the start.
        (
            3072,
            64,
            3072,
            1,
            false,
            ["1000.0 MiB/s, as a standby replayed it", "1000.0 MiB/s, as it replayed what was before"],
        ),
        // Dear: what was before the backlog is dear, so that the backlog will be.
        (
            256,
            200,
            256,
            40,
            true,
            ["64.0 MiB/s, as is assumed", "25.0 MiB/s, as it replayed what was before"],
        ),
        // Dear, and known to the start as well.
        (
            256,
            100,
            512,
            40,
            false,
            ["25.0 MiB/s, as a standby replayed it", "25.0 MiB/s, as it replayed what was before"],
        ),
    ] {
        let mut view = died(redo_distance, backlog);
        if mib > 0 {
            view.standby_mut(&tokyo()).effort = replayed(END - backlog, mib, each_ms);
        }
        let plan = plan(&view, &Memory::default(), &fastest, NOW);
        let evidence = plan.cause.as_ref().expect("a cause").evidence.join("; ");
        for said in said {
            assert!(evidence.contains(said), "{redo_distance}, {backlog}, {mib}: {evidence}");
        }
        assert_eq!(declared(&plan).is_none(), serves, "{redo_distance}, {backlog}, {mib}: {evidence}");
    }
}

#[test]
fn what_was_measured_counts_and_a_standby_that_is_unfit_leaves_only_the_start() {
    let fastest = policy(OnCrash::Fastest);
    let mut view = died(256, 64);
    assert!(declared(&plan(&view, &Memory::default(), &fastest, NOW)).is_some());
    view.agent_mut(&seoul()).recovery_rate = Some(1024 * MIB);
    assert_eq!(declared(&plan(&view, &Memory::default(), &fastest, NOW)), None, "it replays fast");
    let mut view = died(100_000, 0);
    view.standby_mut(&tokyo()).replay = ReplayState::PausedByPerson;
    let decided = plan(&view, &Memory::default(), &fastest, NOW);
    assert_eq!(
        (declared(&decided), orders(&decided)),
        (None, vec![(seoul(), Command::Serve { floor: None })])
    );
}

#[test]
fn the_control_file_is_waited_for_but_not_for_long_and_nothing_is_turned_round() {
    let fastest = policy(OnCrash::Fastest);
    let mut view = died(1024, 0);
    view.server(
        &seoul(),
        Server::Down(Down { control: None, wal_end: None, since: Some(ago(900)), ..down(true) }),
    );
    let waits = plan(&view, &Memory::default(), &fastest, NOW);
    assert!(waits.steps.is_empty() && !waits.holds.is_empty(), "{waits:?}");
    view.server(
        &seoul(),
        Server::Down(Down { control: None, wal_end: None, since: Some(ago(1_000)), ..down(true) }),
    );
    assert!(declared(&plan(&view, &Memory::default(), &fastest, NOW)).is_some());
    // It was begun on a smaller estimate: a start under way is not overtaken by a promotion.
    let mut view = died(1024, 0);
    let stamp = view.intent_mut().stamp();
    view.underway.insert(Step::Order { node: seoul(), command: Command::Serve { floor: None }, stamp }.key());
    assert_eq!(declared(&plan(&view, &Memory::default(), &fastest, NOW)), None);
    // One that failed is not tried in vain again.
    let mut view = died(0, 1024);
    view.agent_mut(&seoul()).failed = vec![("serve".into(), "it does not start".into())];
    assert!(declared(&plan(&view, &Memory::default(), &fastest, NOW)).is_some());
}

#[test]
fn what_would_be_done_is_told_before_it_happens() {
    let mut view = healthy();
    view.primary_mut(&seoul()).flushed = Lsn(4096 * MIB);
    view.primary_mut(&seoul()).redo = Some(Lsn(1024 * MIB));
    for (on_crash, told) in [
        (OnCrash::Failover, "a standby would be promoted"),
        (OnCrash::Restart, "started in its place"),
        (OnCrash::Fastest, "a standby would be promoted"),
    ] {
        let said = crate::planner::if_it_crashed(&view, &policy(on_crash), NOW);
        assert!(said[0].contains("3072.0 MiB") && said[2].contains(told), "{said:?}");
    }
    view.server(&seoul(), Server::Starting);
    assert!(crate::planner::if_it_crashed(&view, &policy(OnCrash::Fastest), NOW).is_empty());
}

#[test]
fn a_crash_is_counted_once_and_forgotten_after_the_flap_window() {
    let view = died(0, 0);
    let restart = policy(OnCrash::Restart);
    let first = plan(&view, &Memory::default(), &restart, NOW);
    assert_eq!(first.memory.crashes.at, vec![(Epoch(3), NOW)]);
    let again = plan(&view, &first.memory, &restart, NOW);
    assert_eq!(again.memory.crashes.at.len(), 1, "it is still the same");
    let up = plan(&healthy(), &again.memory, &restart, NOW);
    let second = plan(&view, &up.memory, &restart, NOW);
    assert_eq!(second.memory.crashes.at.len(), 2);
    let later = Mono(NOW.0 + 601_000_000);
    assert_eq!(plan(&healthy(), &second.memory, &restart, later).memory.crashes.at, vec![]);
}

#[test]
fn a_crash_loop_fails_over_once_and_then_holds_with_growing_pauses() {
    for on_crash in [OnCrash::Restart, OnCrash::Fastest] {
        let policy = policy(on_crash);
        let view = died(0, 1024);
        // Three starts in its place are had for nothing.
        let third = plan(&view, &crashed(2, 100), &policy, NOW);
        assert_eq!(
            (declared(&third), third.findings.contains(&Finding::CrashLoop { node: seoul() })),
            (None, false)
        );
        let fourth = plan(&view, &crashed(3, 100), &policy, NOW);
        assert!(declared(&fourth).is_some_and(|next| next.primary.is_none()), "{:?}", fourth.steps);
        let evidence = fourth.cause.expect("a cause").evidence;
        assert!(evidence.iter().any(|said| said.contains("crashed 4 times")), "{evidence:?}");
        // Where a failover did not help, another one will not.
        let mut view = view;
        view.failovers = vec![ago(60_000)];
        let mut seen = crashed(3, 100);
        for (pause, more) in [(5, 0), (10, 1), (20, 2), (40, 3), (60, 4), (60, 50)] {
            seen.crashes.at = vec![(Epoch(3), NOW); 4 + more];
            seen.crashes.down = Some(seoul());
            let at = |ms: u64| Mono(NOW.0 + ms * 1000);
            let mut view = view.clone();
            let holds = |now: Mono, view: &mut View| {
                for node in view.nodes.values_mut() {
                    node.heard = now;
                    node.agent.iter_mut().for_each(|agent| agent.server.at = now);
                }
                plan(view, &seen, &policy, now)
            };
            let early = holds(at(pause * 1000 - 1), &mut view);
            assert_eq!((declared(&early), orders(&early)), (None, vec![]), "{pause} s");
            let left = Duration::from_millis(1);
            assert!(early.holds.contains(&Hold::CrashLoop { node: seoul(), left }), "{:?}", early.holds);
            assert!(early.findings.contains(&Finding::CrashLoop { node: seoul() }));
            let due = holds(at(pause * 1000), &mut view);
            assert_eq!(
                (declared(&due), orders(&due)),
                (None, vec![(seoul(), Command::Serve { floor: None })]),
                "{pause} s"
            );
        }
    }
}

#[test]
fn a_crash_loop_with_nobody_to_take_over_pauses_too() {
    let mut view = died(0, 0);
    view.intent_mut().promotable.clear();
    for on_crash in [OnCrash::Failover, OnCrash::Restart, OnCrash::Fastest] {
        let plan = plan(&view, &crashed(3, 100), &policy(on_crash), NOW);
        assert_eq!((declared(&plan), orders(&plan)), (None, vec![]), "{on_crash:?}");
        assert!(plan.holds.iter().any(|hold| matches!(hold, Hold::CrashLoop { .. })), "{:?}", plan.holds);
    }
}

#[test]
fn a_primary_that_hangs_after_its_crashes_is_held_with_a_reason_or_replaced() {
    let mut view = healthy();
    view.server(&seoul(), Server::Starting);
    let hangs = Finding::PrimarySuspected { node: seoul() };
    for (failovers, replaced) in [(vec![], true), (vec![ago(60_000)], true), (vec![ago(60_000); 3], false)] {
        view.failovers = failovers;
        let memory = Memory { since: [(hangs.clone(), ago(60_000))].into(), ..crashed(9, 100) };
        let plan = plan(&view, &memory, &policy(OnCrash::Restart), NOW);
        assert_eq!(declared(&plan).is_some(), replaced, "{:?}", plan.holds);
        assert!(replaced || plan.holds == vec![Hold::Flapping], "{:?}", plan.holds);
    }
}

#[test]
fn another_epoch_begins_the_count_anew() {
    let mut memory = crashed(9, 100);
    memory.crashes.at.iter_mut().for_each(|(epoch, _)| *epoch = Epoch(2));
    let plan = plan(&died(0, 1024), &memory, &policy(OnCrash::Restart), NOW);
    assert_eq!((declared(&plan), orders(&plan)), (None, vec![(seoul(), Command::Serve { floor: None })]));
}

#[test]
fn a_declared_primary_that_is_unfinished_is_replaced_where_its_end_need_not_be_known() {
    let unfinished = |durability: Durability, members: &[NodeId]| {
        let mut view = healthy();
        let intent = view.intent_mut();
        (intent.durability, intent.sync, intent.sync_next) = (durability, set(members), set(members));
        view.server(&seoul(), Server::Down(down(true)));
        let agent = view.agent_mut(&seoul());
        (agent.primary_since, agent.unfinished) = (None, Some(Unfinished::Rewind));
        view
    };
    for (durability, members) in [(Durability::SyncStrict, vec![tokyo()]), (Durability::Async, vec![])] {
        let view = unfinished(durability, &members);
        assert_eq!(declared(&decide(&view)).map(|next| next.primary.clone()), Some(None), "{durability:?}");
    }
    let view = unfinished(Durability::Sync, &[]);
    let plan = decide(&view);
    assert_eq!(declared(&plan), None, "whether tokyo has every commit cannot be told");
    assert!(plan.holds.iter().any(|hold| matches!(hold, Hold::NoCandidate { .. })), "{:?}", plan.holds);
}

#[test]
fn the_end_of_the_wal_of_a_directory_that_is_unfinished_is_no_end() {
    let mut view = vacant();
    without_set(&mut view);
    recruit(&mut view);
    let stamp = view.intent_mut().stamp();
    view.server(&seoul(), Server::Down(Down { fenced: Some(stamp), ..down(true) }));
    assert_eq!(declared(&decide(&view)).and_then(|next| next.primary.clone()), Some(tokyo()));
    view.agent_mut(&seoul()).unfinished = Some(Unfinished::Rewind);
    assert_eq!(declared(&decide(&view)), None);
}
