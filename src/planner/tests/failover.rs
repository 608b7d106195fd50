//! A primary fails: whoever is seen to be fit takes its place, else it is started where it was.

use super::*;

#[test]
fn a_dead_postmaster_seen_by_its_own_agent_ends_the_epoch_at_once() {
    let mut view = healthy();
    view.server(&seoul(), Server::Down(down(true)));
    let plan = decide(&view);
    let next = declared(&plan).expect("declares");
    assert_eq!((next.epoch, &next.primary, &next.previous), (Epoch(4), &None, &Some(seoul())));
    assert_eq!(plan.findings, vec![Finding::PrimaryCrashed { node: seoul() }]);
    assert!(plan.cause.is_some_and(|cause| cause.summary.contains("postmaster")));
}

#[test]
fn a_probe_that_fails_for_less_than_hang_is_a_suspicion() {
    let mut view = healthy();
    view.primary_mut(&seoul()).probe.failing_since = Some(ago(1_900));
    let plan = decide(&view);
    assert_eq!(plan.steps, vec![]);
    assert!(matches!(plan.holds.as_slice(), [Hold::Grace { .. }]), "{:?}", plan.holds);
}

#[test]
fn a_probe_that_fails_for_hang_ends_the_epoch() {
    let mut view = healthy();
    view.primary_mut(&seoul()).probe.failing_since = Some(ago(2_000));
    assert_eq!(declared(&decide(&view)).map(|next| next.epoch), Some(Epoch(4)));
}

#[test]
fn silence_with_every_sync_standby_cut_off_ends_the_epoch() {
    let mut view = healthy();
    view.nodes.get_mut(&seoul()).expect("seoul").heard = ago(60_000);
    view.standby_mut(&tokyo()).streaming = false;
    assert_eq!(declared(&decide(&view)).map(|next| next.epoch), Some(Epoch(4)));
}

#[test]
fn a_vacancy_cuts_fences_and_recruits_side_by_side() {
    let plan = decide(&vacant());
    assert_eq!(orders(&plan), vec![(seoul(), Command::Fence), (tokyo(), Command::Recruit)]);
    assert_eq!(routes(&plan), vec![&RouteOrder::Cut, &RouteOrder::Cut]);
    assert_eq!(declared(&plan), None);
}

#[test]
fn every_order_carries_the_stamp_of_the_stored_intent() {
    let view = vacant();
    let stamp = view.intent.as_ref().map(Intent::stamp);
    for step in decide(&view).steps {
        match step {
            Step::Order { stamp: carried, .. } | Step::Route { stamp: carried, .. } => {
                assert_eq!(Some(carried), stamp)
            }
            other => panic!("unexpected {other}"),
        }
    }
}

#[test]
fn a_recruited_sync_standby_is_declared_without_waiting_for_the_fence() {
    let mut view = vacant();
    recruit(&mut view);
    let plan = decide(&view);
    let next = declared(&plan).expect("declares");
    assert_eq!((next.epoch, &next.primary), (Epoch(4), &Some(tokyo())));
    assert!(next.sync.is_empty() && next.sync_next.is_empty(), "the set it inherits may name itself");
    assert_eq!(next.app, Some(tokyo()), "the app server goes with the database");
    assert!(orders(&plan).contains(&(seoul(), Command::Fence)), "the fence goes on");
}

#[test]
fn with_no_sync_set_a_recruit_alone_never_takes_the_pen() {
    for durability in [Durability::Sync, Durability::SyncStrict, Durability::Async] {
        let mut view = vacant();
        recruit(&mut view);
        let intent = view.intent_mut();
        (intent.sync, intent.sync_next, intent.durability) = (vec![], vec![], durability);
        let plan = decide(&view);
        assert_eq!(declared(&plan), None, "{durability:?}");
        assert!(
            plan.holds.iter().any(|hold| matches!(hold, Hold::Pen { .. })),
            "{durability:?}: {:?}",
            plan.holds
        );
    }
}

#[test]
fn a_set_that_is_being_left_does_not_promise_either() {
    let mut view = vacant();
    recruit(&mut view);
    view.intent_mut().sync_next = vec![];
    assert_eq!(declared(&decide(&view)), None);
}

#[test]
fn with_no_sync_set_a_fence_lets_the_standby_take_over_only_with_everything() {
    for (wal_end, taken) in [(Some(FLUSHED), true), (Some(Lsn(FLUSHED.0 + 1)), false), (None, false)] {
        let mut view = vacant();
        recruit(&mut view);
        fence(&mut view, wal_end);
        without_set(&mut view);
        let next = declared(&decide(&view)).and_then(|next| next.primary.clone());
        assert_eq!(next == Some(tokyo()), taken, "old primary ends at {wal_end:?}");
    }
}

#[test]
fn in_async_a_fence_is_enough_within_the_accepted_loss() {
    for (bytes, taken) in [(Some(16 << 20), true), (Some((16 << 20) + 1), false), (None, false)] {
        let mut view = vacant();
        recruit(&mut view);
        fence(&mut view, None);
        let intent = view.intent_mut();
        (intent.sync, intent.sync_next, intent.durability) = (vec![], vec![], Durability::Async);
        let rpo = view.rpo.as_mut().expect("an RPO");
        (rpo.bytes, rpo.primary) = (bytes, Lsn(FLUSHED.0 + bytes.unwrap_or(0)));
        let next = declared(&without_rescue(&view)).and_then(|next| next.primary.clone());
        assert_eq!(next == Some(tokyo()), taken, "live RPO {bytes:?}");
    }
}

#[test]
fn what_was_known_to_others_counts_for_whoever_fills_a_vacancy() {
    type Know = fn(&mut View, Lsn);
    let known: [Know; 2] = [
        |view, lsn| view.intent_mut().reached = Some(lsn),
        |view, lsn| {
            view.lease = lease_seen(10_000, view.intent.as_ref().map(Intent::stamp));
            view.lease.last.as_mut().expect("a lease").value.reached = Some(lsn);
        },
    ];
    let cases = [(16 << 20, true), ((16 << 20) + 1, false)];
    for (know, (beyond, taken)) in known.into_iter().flat_map(|know| cases.map(|case| (know, case))) {
        let mut view = vacant();
        recruit(&mut view);
        fence(&mut view, None);
        let intent = view.intent_mut();
        (intent.sync, intent.sync_next, intent.durability) = (vec![], vec![], Durability::Async);
        know(&mut view, Lsn(FLUSHED.0 + beyond));
        // This leader has heard less of the old primary than the one before.
        let rpo = view.rpo.as_mut().expect("an RPO");
        (rpo.bytes, rpo.primary) = (Some(0), FLUSHED);
        let next = declared(&without_rescue(&view)).and_then(|next| next.primary.clone());
        assert_eq!(next == Some(tokyo()), taken, "{beyond} bytes beyond");
    }
}

#[test]
fn nobody_unfit_is_ever_declared() {
    type Spoil = fn(&mut View);
    let unfit: [(&str, Spoil); 10] = [
        ("no promise file", |view| view.agent_mut(&tokyo()).promise = None),
        ("configured never", |view| view.agent_mut(&tokyo()).no_failover = true),
        ("no room for new WAL", |view| view.agent_mut(&tokyo()).disk_free = Some(31 << 20)),
        ("half a rewind", |view| view.agent_mut(&tokyo()).unfinished = Some(Unfinished::Rewind)),
        ("another system", |view| view.agent_mut(&tokyo()).system = Some(SystemId(8))),
        ("paused by a person", |view| view.standby_mut(&tokyo()).replay = ReplayState::PausedByPerson),
        ("not in the set", |view| {
            let other = set(&[node("osaka")]);
            view.intent_mut().sync.clone_from(&other);
            view.intent_mut().sync_next = other;
        }),
        ("not heard", |view| view.nodes.get_mut(&tokyo()).expect("tokyo").heard = ago(501)),
        ("recruited in an older epoch", |view| {
            view.standby_mut(&tokyo()).recruited = Some(intent().stamp());
        }),
        ("cluster paused", |view| view.intent_mut().paused = true),
    ];
    for (why, spoil) in unfit {
        let mut view = vacant();
        recruit(&mut view);
        spoil(&mut view);
        let next = declared(&decide(&view)).and_then(|next| next.primary.clone());
        assert_ne!(next, Some(tokyo()), "{why}");
    }
}

#[test]
fn a_full_disk_and_damaged_pages_are_named_and_move_nothing() {
    let mut view = healthy();
    view.agent_mut(&seoul()).disk_free = Some(0);
    view.agent_mut(&tokyo()).checksum_failures = Some(1);
    let plan = decide(&view);
    let found = [Finding::DiskFull { node: seoul() }, Finding::DataDamaged { node: tokyo() }];
    assert!(found.iter().all(|finding| plan.findings.contains(finding)), "{:?}", plan.findings);
    assert_eq!((declared(&plan), orders(&plan)), (None, vec![]));
}

#[test]
fn a_standby_that_hangs_is_no_candidate_and_keeps_nobody_from_serving() {
    let mut view = healthy();
    view.server(&seoul(), Server::Down(down(true)));
    view.agent_mut(&tokyo()).server.at = ago(2_100);
    let plan = decide(&view);
    assert_eq!((declared(&plan), orders(&plan)), (None, vec![(seoul(), Command::Serve { floor: None })]));

    let mut view = vacant();
    fence(&mut view, Some(FLUSHED));
    view.agent_mut(&tokyo()).server.at = ago(2_100);
    assert_eq!(declared(&decide(&view)).and_then(|next| next.primary.clone()), Some(seoul()));
}

#[test]
fn an_old_primary_not_yet_rewound_is_not_promoted_for_its_higher_position() {
    let mut view = vacant();
    view.intent_mut().switch = Some(Switch { timeline: Timeline(3), at: Lsn(0x900) });
    recruit(&mut view);
    assert_eq!(declared(&decide(&view)), None, "its history lacks the present primary's switch");
}

#[test]
fn a_store_older_than_a_promise_is_not_believed() {
    let mut view = healthy();
    view.server(&seoul(), Server::Down(down(true)));
    view.agent_mut(&tokyo()).promise = Some(intent().vacated(None).stamp());
    let plan = decide(&view);
    assert_eq!((plan.steps, plan.holds), (vec![], vec![Hold::StoreNotBelieved]));
}

#[test]
fn too_many_failovers_need_a_person_and_the_primary_is_started_in_place() {
    let mut view = healthy();
    view.server(&seoul(), Server::Down(down(true)));
    view.failovers = vec![ago(1), ago(2), ago(3)];
    let plan = decide(&view);
    assert_eq!(declared(&plan), None);
    assert_eq!(orders(&plan), vec![(seoul(), Command::Serve { floor: None })]);
    assert!(plan.findings.contains(&Finding::Flapping));
}

#[test]
fn a_primary_started_in_place_takes_clients_only_after_its_names_are_proven() {
    let mut view = healthy();
    view.server(&seoul(), Server::Down(down(true)));
    view.failovers = vec![ago(1), ago(2), ago(3)];
    let stamp = view.intent_mut().stamp();
    assert_eq!(routes(&decide(&view)), vec![&RouteOrder::Hold, &RouteOrder::Hold]);

    view.endpoints_mut(EndpointKind::Primary).for_each(|facts| facts.mode = Mode::Holding);
    view.server(&seoul(), Server::Primary(Primary { names_proven: None, ..primary() }));
    let proving = decide(&view);
    assert_eq!((routes(&proving).len(), orders(&proving)), (0, vec![(tokyo(), Command::PauseReplay)]));
    view.primary_mut(&seoul()).names_proven = Some((stamp.version, FLUSHED));
    assert_eq!(routes(&decide(&view)).len(), 2);
}

#[test]
fn with_nobody_to_take_over_the_primary_is_started_in_place() {
    let mut view = healthy();
    view.server(&seoul(), Server::Down(down(true)));
    view.nodes.remove(&tokyo());
    let plan = decide(&view);
    assert_eq!((declared(&plan), orders(&plan)), (None, vec![(seoul(), Command::Serve { floor: None })]));
}

#[test]
fn by_policy_a_crash_is_restarted_in_place_until_that_fails() {
    let policy = Policy { on_crash: OnCrash::Restart, ..Policy::default() };
    let mut view = healthy();
    view.server(&seoul(), Server::Down(down(true)));
    let first = plan(&view, &Memory::default(), &policy, NOW);
    assert_eq!((declared(&first), orders(&first)), (None, vec![(seoul(), Command::Serve { floor: None })]));
    view.agent_mut(&seoul()).failed = vec![("serve".into(), "it does not start".into())];
    assert_eq!(
        declared(&plan(&view, &Memory::default(), &policy, NOW)).map(|next| next.epoch),
        Some(Epoch(4))
    );
}

#[test]
fn the_old_primary_is_declared_again_when_nobody_else_can_be() {
    let mut view = vacant();
    fence(&mut view, Some(FLUSHED));
    view.nodes.get_mut(&tokyo()).expect("tokyo").heard = ago(60_000);
    let next = declared(&decide(&view)).cloned().expect("declares");
    assert_eq!((next.epoch, next.primary), (Epoch(5), Some(seoul())));
}

#[test]
fn a_declared_standby_is_promoted_and_then_clients_are_led_to_it() {
    let mut view = vacant();
    recruit(&mut view);
    *view.intent_mut() = view.intent_mut().declared(tokyo(), None);
    let slots = vec![seoul().slot()];
    let promote = (tokyo(), Command::Promote { names: vec![], slots, floor: None });
    assert!(orders(&decide(&view)).contains(&promote));
    let mut unheard = view.clone();
    unheard.nodes.remove(&seoul());
    assert!(orders(&decide(&unheard)).contains(&promote), "this leader has never heard the old primary");

    let stamp = view.intent_mut().stamp();
    let promoted = Primary {
        timeline: Timeline(4),
        names: Some(vec![]),
        names_proven: None,
        senders: vec![],
        ..primary()
    };
    view.server(&tokyo(), Server::Primary(promoted));
    view.agent_mut(&tokyo()).primary_since = Some(stamp);
    let plan = decide(&view);
    let point =
        |node: &str, port: &str| RouteOrder::Point { node: tokyo(), address: format!("{node}:{port}") };
    assert_eq!(routes(&plan).into_iter().filter(|order| **order == point("tokyo", "5432")).count(), 2);
    assert!(
        !plan.steps.iter().any(|step| matches!(step, Step::Verify { .. })),
        "not before every endpoint leads there"
    );

    view.endpoints_mut(EndpointKind::Primary).for_each(|facts| {
        (facts.stamp, facts.target) = (stamp, Some(tokyo()));
    });
    assert!(decide(&view).steps.contains(&Step::Verify { stamp }));
}

#[test]
fn an_endpoint_that_cannot_do_it_is_told_and_nothing_else() {
    let well = decide(&healthy());
    let mut view = healthy();
    view.endpoints_mut(EndpointKind::Primary).for_each(|facts| facts.problem = Some("no answer".into()));
    let plan = decide(&view);
    assert_eq!(plan.steps, well.steps);
    let told = |finding: &&Finding| matches!(finding, Finding::EndpointUnconfirmed { .. });
    assert_eq!(
        (plan.findings.iter().filter(told).count(), plan.findings.len()),
        (2, 2),
        "{:?}",
        plan.findings
    );
}

#[test]
fn after_the_declaration_the_old_primary_is_never_started_as_one() {
    let mut view = vacant();
    *view.intent_mut() = view.intent_mut().declared(tokyo(), None);
    view.nodes.remove(&tokyo());
    let plan = decide(&view);
    assert!(
        !orders(&plan).iter().any(|(_, command)| matches!(command, Command::Serve { .. })),
        "{:?}",
        plan.steps
    );
    assert_eq!(declared(&plan), None);
}

#[test]
fn whoever_takes_writes_undeclared_is_fenced() {
    let mut view = healthy();
    view.server(&tokyo(), Server::Primary(primary()));
    let plan = decide(&view);
    assert!(plan.findings.contains(&Finding::SplitBrain { node: tokyo() }));
    assert!(orders(&plan).contains(&(tokyo(), Command::Fence)));
}
