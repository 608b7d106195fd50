//! The planned hand-over, from its blockers to its end or its way back.

use super::*;

#[test]
fn a_lag_is_judged_by_the_later_look_of_the_two() {
    let mut view = healthy();
    view.requests = asks(RequestKind::Switchover { to: Some(tokyo()) });
    let limit = Policy::default().max_switchover_lag;
    view.standby_mut(&tokyo()).flushed = Lsn(FLUSHED.0 + limit + 1);
    let plan = decide(&view);
    let Some(Step::Refuse { blockers, .. }) = plan.steps.first() else { panic!("{:?}", plan.steps) };
    assert!(blockers.iter().any(|blocker| blocker.contains("it lags")), "{blockers:?}");
}

#[test]
fn every_blocker_of_a_switchover_is_named() {
    let mut view = healthy();
    view.requests = asks(RequestKind::Switchover { to: Some(tokyo()) });
    assert!(declared(&decide(&view)).is_some_and(|next| next.handover.is_some()));

    view.intent_mut().paused = true;
    // Such a node is never among those that may be promoted; the reason is what a person has configured.
    view.agent_mut(&tokyo()).no_failover = true;
    view.intent_mut().promotable.retain(|node| *node != tokyo());
    let plan = decide(&view);
    let Some(Step::Refuse { blockers, .. }) = plan.steps.first() else { panic!("{:?}", plan.steps) };
    assert!(
        blockers.iter().any(|b| b.contains("paused")) && blockers.iter().any(|b| b.contains("never")),
        "{blockers:?}"
    );
}

#[test]
fn a_logical_slot_that_is_not_in_step_is_named_and_refuses_a_switchover() {
    let mut view = healthy();
    view.requests = asks(RequestKind::Switchover { to: None });
    view.primary_mut(&seoul()).logical_slots = vec!["reader".into()];
    let plan = decide(&view);
    let Some(Step::Refuse { blockers, .. }) = plan.steps.first() else { panic!("{:?}", plan.steps) };
    assert!(blockers.iter().any(|why| why.contains("logical slots reader")), "{blockers:?}");
    let found = Finding::LogicalSlotAlone { node: seoul(), slot: "reader".into() };
    assert!(plan.findings.contains(&found), "{:?}", plan.findings);

    view.standby_mut(&tokyo()).logical_slots = vec!["reader".into()];
    let plan = decide(&view);
    assert!(declared(&plan).is_some_and(|next| next.handover.is_some()) && !plan.findings.contains(&found));
}

#[test]
fn a_switchover_that_was_taken_is_not_refused_because_of_itself() {
    let mut view = handing_over();
    view.requests = asks(RequestKind::Switchover { to: None });
    let refused = |plan: &Plan| plan.steps.iter().any(|step| matches!(step, Step::Refuse { .. }));
    assert!(!refused(&decide(&view)));

    view.requests[0].operation = "op-2".into();
    assert!(refused(&decide(&view)), "another one's");
}

/// A switchover to tokyo is accepted.
fn handing_over() -> View {
    let mut view = healthy();
    view.requests = asks(RequestKind::Switchover { to: None });
    *view.intent_mut() = declared(&decide(&view)).cloned().expect("accepted");
    view.requests.clear();
    view
}

#[test]
fn a_switchover_goes_checkpoint_hold_drain_stop_declare() {
    let mut view = handing_over();
    let stamp = view.intent_mut().stamp();
    assert_eq!(orders(&decide(&view)), vec![(seoul(), Command::Checkpoint)]);

    view.primary_mut(&seoul()).checkpointed = Some(stamp.version);
    assert_eq!(routes(&decide(&view)), vec![&RouteOrder::Hold, &RouteOrder::Hold]);

    view.endpoints_mut(EndpointKind::Primary)
        .for_each(|facts| (facts.stamp, facts.mode) = (stamp, Mode::Holding));
    assert_eq!(decide(&view).steps, vec![Step::Drain { node: seoul(), stamp }]);

    view.drained = Some(stamp);
    assert_eq!(orders(&decide(&view)), vec![(seoul(), Command::Stop)]);

    let stopped = Down { fenced: Some(stamp), ..down(false) };
    let checkpoint = stopped.control.expect("control").checkpoint;
    view.server(&seoul(), Server::Down(stopped));
    view.standby_mut(&tokyo()).replayed = checkpoint;
    assert_eq!(orders(&decide(&view)), vec![(tokyo(), Command::Recruit)], "it applies all it has");

    view.standby_mut(&tokyo()).recruited = Some(stamp);
    let back = declared(&decide(&view)).cloned().expect("it lacks the shutdown checkpoint");
    assert_eq!((back.epoch, back.primary, back.handover), (Epoch(3), Some(seoul()), None));

    view.standby_mut(&tokyo()).replayed = Lsn(checkpoint.0 + 0x78);
    let next = declared(&decide(&view)).cloned().expect("declares");
    assert_eq!(
        (next.epoch, next.primary, next.previous, next.handover),
        (Epoch(4), Some(tokyo()), Some(seoul()), None)
    );
}

#[test]
fn a_switchover_ends_the_pause_of_a_proof_first() {
    let mut view = handing_over();
    let stamp = view.intent_mut().stamp();
    view.standby_mut(&tokyo()).replay = ReplayState::PausedForProof(stamp);
    assert_eq!(orders(&decide(&view)), vec![(tokyo(), Command::ResumeReplay)]);
}

#[test]
fn no_pause_begins_in_the_middle_of_a_switchover() {
    let mut view = handing_over();
    view.requests = asks(RequestKind::Pause);
    let plan = decide(&view);
    assert_eq!(declared(&plan), None);
    assert!(matches!(plan.steps.first(), Some(Step::Refuse { .. })), "{:?}", plan.steps);
    assert!(plan.steps.len() > 1, "the switchover goes on");
}

#[test]
fn a_stop_seen_before_its_attest_is_no_failure() {
    let mut view = handing_over();
    view.server(&seoul(), Server::Down(Down { control: None, wal_end: None, ..down(false) }));
    let stop = decide(&view);
    assert_eq!((declared(&stop), orders(&stop)), (None, vec![(seoul(), Command::Stop)]));
}

#[test]
fn a_stop_that_takes_its_time_is_no_failure_until_the_hand_over_is_taken_back() {
    let mut view = handing_over();
    let stamp = view.intent_mut().stamp();
    view.drained = Some(stamp);
    let hung = [Finding::PrimarySuspected { node: seoul() }];
    view.server(&seoul(), Server::Starting);
    assert_eq!(declared(&decide_after(&view, &Policy::default(), &hung, 5_000)), None);

    let stopping = Primary {
        probe: Probe { failing_since: Some(ago(5_000)), ..primary().probe },
        checkpointed: Some(stamp.version),
        ..primary()
    };
    view.server(&seoul(), Server::Primary(stopping));
    assert_eq!(declared(&decide(&view)), None);

    view.intent_mut().handover = None;
    assert_eq!(declared(&decide(&view)).map(|next| next.epoch), Some(Epoch(4)));
}

#[test]
fn a_switchover_is_rolled_back_when_the_standby_fails_on_the_way() {
    let mut view = handing_over();
    let stamp = view.intent_mut().stamp();
    view.server(&seoul(), Server::Down(Down { fenced: Some(stamp), ..down(false) }));
    view.server(&tokyo(), Server::Down(down(true)));
    let next = declared(&decide(&view)).cloned().expect("rolls back");
    assert_eq!((next.handover.is_none(), next.epoch, &next.primary), (true, Epoch(3), &Some(seoul())));

    *view.intent_mut() = next;
    assert!(
        orders(&decide(&view)).contains(&(seoul(), Command::Serve { floor: None })),
        "the old primary resumes"
    );
}

#[test]
fn a_switchover_that_takes_too_long_is_rolled_back() {
    let view = handing_over();
    let operation = view
        .intent
        .as_ref()
        .and_then(|i| i.handover.as_ref())
        .map(|h| h.operation.clone())
        .expect("handover");
    let memory = Memory { handover: Some((operation, ago(15_001))), ..Memory::default() };
    let next = plan(&view, &memory, &Policy::default(), NOW);
    assert!(declared(&next).is_some_and(|next| next.handover.is_none()));
}

#[test]
fn a_stop_that_outlasts_its_hand_over_is_no_failure() {
    let mut view = handing_over();
    let next = Intent { handover: None, ..view.intent_mut().clone() }.raised();
    *view.intent_mut() = next;
    let stamp = view.intent_mut().stamp();
    let stop = Step::Order { node: seoul(), command: Command::Stop, stamp };
    view.underway.insert(stop.key());
    view.primary_mut(&seoul()).probe.failing_since = Some(ago(9_000));
    assert_eq!(declared(&decide(&view)), None, "it does not hang, it stops");

    view.server(&seoul(), Server::Down(Down { control: None, wal_end: None, ..down(false) }));
    assert_eq!(declared(&decide(&view)), None, "it was no stranger who stopped it");

    view.underway.clear();
    view.server(&seoul(), Server::Down(Down { fenced: Some(stamp), ..down(false) }));
    assert!(orders(&decide(&view)).contains(&(seoul(), Command::Serve { floor: None })));
}

#[test]
fn a_crash_in_mid_switchover_is_a_failover() {
    let mut view = handing_over();
    view.server(&seoul(), Server::Down(down(true)));
    let next = declared(&decide(&view)).cloned().expect("declares");
    assert_eq!((next.epoch, next.primary, next.handover), (Epoch(4), None, None));
}
