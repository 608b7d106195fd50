//! Everybody but the primary follows it: streaming, rewound or cloned; and the slots that keep WAL for that.

use super::{service::osaka, *};

/// Tokyo serves epoch 4, seoul is down.
pub(super) fn failed_over(seoul_down: Down) -> View {
    let mut view = vacant();
    let next = intent().vacated(None).declared(tokyo(), None);
    let switch = Some(Switch { timeline: Timeline(3), at: FLUSHED });
    let next = Intent { switch, settled: true, promotable: vec![seoul()], ..next }.raised();
    let stamp = next.stamp();
    let slots = vec![Slot { name: seoul().slot(), active: false, retained: 0 }];
    let serving = Primary {
        timeline: Timeline(4),
        checkpoint_timeline: Timeline(4),
        switch: next.switch,
        names: Some(vec![]),
        names_proven: None,
        senders: vec![],
        slots,
        ..primary()
    };
    *view.intent_mut() = next;
    view.server(&tokyo(), Server::Primary(serving));
    view.agent_mut(&tokyo()).primary_since = Some(stamp);
    view.agent_mut(&tokyo()).promise = Some(stamp);
    view.agent_mut(&tokyo()).admitted = Some(vec![seoul()]);
    view.agent_mut(&tokyo()).guard = Some(armed());
    view.agent_mut(&tokyo()).serves_until = Some(Mono(NOW.0 + 2_000_000));
    view.agent_mut(&seoul()).primary_since = Some(intent().stamp());
    view.server(&seoul(), Server::Down(Down { fenced: Some(stamp), ..seoul_down }));
    view.intent_mut().app = Some(tokyo());
    for kind in [EndpointKind::Primary, EndpointKind::App] {
        view.endpoints_mut(kind).for_each(|facts| (facts.stamp, facts.target) = (stamp, Some(tokyo())));
    }
    view.verified = Some(stamp);
    view
}

#[test]
fn an_old_primary_with_nothing_of_its_own_streams() {
    let plan = decide(&failed_over(down(true)));
    assert_eq!(orders(&plan), vec![(seoul(), Command::Follow(upstream(&tokyo(), &seoul())))]);
}

#[test]
fn nobody_is_brought_back_before_the_switch_is_recorded() {
    let diverged = Down { wal_end: Some(Lsn(FLUSHED.0 + 8)), ..down(true) };
    let mut view = failed_over(diverged);
    view.intent_mut().switch = None;
    let plan = decide(&view);
    assert!(declared(&plan).is_some_and(|next| next.switch.is_some()));
    assert_eq!(orders(&plan), vec![], "it has gone its own way, and nothing shows that yet");

    view.primary_mut(&tokyo()).switch = None;
    assert_eq!(orders(&decide(&view)), vec![], "the new history was not read yet");
}

#[test]
fn a_control_file_that_was_not_read_yet_is_no_reason_to_clone() {
    let unread = Down { since: Some(ago(60_000)), control: None, wal_end: None, ..down(true) };
    let mut view = failed_over(unread);
    let lost = [Finding::StandbyLost { node: seoul() }];
    assert_eq!(orders(&decide_after(&view, &Policy::default(), &lost, 4_900)), vec![]);
    let emptied = orders(&decide_after(&view, &Policy::default(), &lost, 5_000));
    assert!(matches!(emptied.as_slice(), [(_, Command::Clone(..))]), "{emptied:?}");
    view.agent_mut(&seoul()).system = None;
    assert!(matches!(orders(&decide(&view)).as_slice(), [(_, Command::Clone(..))]), "there was never one");
}

#[test]
fn the_slot_of_a_member_that_was_not_heard_yet_is_kept() {
    let mut view = healthy();
    view.nodes.remove(&tokyo());
    let primary = view.primary_mut(&seoul());
    primary.senders.clear();
    primary.slots[0].active = false;
    let slots =
        |plan: &Plan| orders(plan).iter().any(|(_, command)| matches!(command, Command::KeepSlots(_)));
    assert!(!slots(&decide(&view)));
    view.members.remove(&tokyo());
    assert!(slots(&decide(&view)), "no member any more");
}

/// Scenario 40's other half: a standby that stays away does not fill the primary's disk.
#[test]
fn the_slot_of_an_absent_standby_is_given_up_before_the_disk_is_full() {
    let given_up = Finding::SlotGivenUp { node: tokyo() };
    let absent = |retained: u64, free: Option<u64>| {
        let mut view = healthy();
        let intent = view.intent_mut();
        (intent.sync, intent.sync_next) = (Vec::new(), Vec::new());
        view.nodes.get_mut(&tokyo()).expect("a member").heard = ago(5000);
        view.agent_mut(&seoul()).disk_free = free;
        let slot = &mut view.primary_mut(&seoul()).slots[0];
        (slot.active, slot.retained) = (false, retained);
        view
    };
    let drops = |view: &View| {
        let policy = Policy { max_slot_wal: 1 << 30, ..Policy::default() };
        let plan = decide_after(view, &policy, &[], 0);
        let drops = orders(&plan).contains(&(seoul(), Command::KeepSlots(Vec::new())));
        assert_eq!(drops, plan.findings.contains(&given_up), "announced: {plan:?}");
        drops
    };
    assert!(!drops(&absent(1 << 30, None)));
    assert!(drops(&absent((1 << 30) + 1, None)), "more than the limit");
    assert!(!drops(&absent(100 << 20, Some(100 << 20))));
    assert!(drops(&absent(101 << 20, Some(100 << 20))), "as much again does not fit");
    assert!(!drops(&absent(33 << 20, Some(1 << 20))), "it would make no room");
    let mut view = absent(2 << 30, None);
    view.primary_mut(&seoul()).slots[0].active = true;
    assert!(!drops(&view), "somebody reads from it");
    let mut view = absent(2 << 30, None);
    view.intent_mut().sync = set(&[tokyo()]);
    assert!(!drops(&view), "commits wait for it");

    let mut view = absent(0, None);
    view.primary_mut(&seoul()).slots.clear();
    let made = |plan: &Plan| orders(plan).contains(&(seoul(), Command::KeepSlots(vec![tokyo().slot()])));
    assert!(made(&decide(&view)), "of a node that was not given up");
    assert!(!made(&decide_after(&view, &Policy::default(), std::slice::from_ref(&given_up), 50)));
    view.nodes.get_mut(&tokyo()).expect("a member").heard = NOW;
    assert!(made(&decide_after(&view, &Policy::default(), &[given_up], 50)), "it is back");
}

#[test]
fn an_old_primary_with_more_is_rewound_else_cloned_else_quarantined() {
    let switch = Some(Switch { timeline: Timeline(3), at: FLUSHED });
    let diverged = Down { wal_end: Some(Lsn(FLUSHED.0 + 8)), ..down(true) };
    let mut view = failed_over(diverged);
    let (rewind, clone) = (
        Command::Rewind(upstream(&tokyo(), &seoul()), switch),
        Command::Clone(upstream(&tokyo(), &seoul()), switch, None),
    );
    assert_eq!(orders(&decide(&view)), vec![(seoul(), rewind)]);
    view.agent_mut(&seoul()).failed = vec![("rewind".into(), "no".into())];
    assert_eq!(orders(&decide(&view)), vec![(seoul(), clone)]);
    view.agent_mut(&seoul()).failed.push(("clone".into(), "no".into()));
    let plan = decide(&view);
    assert_eq!(orders(&plan), vec![]);
    assert!(plan.findings.contains(&Finding::Quarantined { node: seoul() }));
}

#[test]
fn the_timeline_of_the_last_checkpoint_tells_whose_the_rest_of_the_wal_is() {
    let brings_back = |timeline: u32, end: u64| {
        let mut left = Down { wal_end: Some(Lsn(end)), ..down(true) };
        left.control.as_mut().expect("a control file").timeline = Timeline(timeline);
        let orders = orders(&decide(&failed_over(left)));
        orders.into_iter().map(|(_, command)| command.name()).collect::<Vec<_>>()
    };
    assert_eq!(brings_back(4, FLUSHED.0 + 8), ["follow"], "it has followed since the switch");
    assert_eq!(brings_back(2, FLUSHED.0 - 8), ["rewind"], "it missed the switch before that one too");
}

#[test]
fn an_old_primary_whose_wal_is_gone_or_cannot_be_read_is_not_waited_for_without_end() {
    let lost = [Finding::StandbyLost { node: seoul() }];
    let gone = failed_over(Down { wal_end: None, wal_gone: true, ..down(true) });
    assert!(matches!(orders(&decide(&gone)).as_slice(), [(_, Command::Rewind(..))]));
    let unread = failed_over(Down { since: Some(ago(60_000)), wal_end: None, ..down(true) });
    let at = |ms| orders(&decide_after(&unread, &Policy::default(), &lost, ms));
    assert_eq!(at(29_900), vec![]);
    assert!(matches!(at(30_000).as_slice(), [(_, Command::Rewind(..))]));
}

#[test]
fn nothing_is_brought_back_before_the_new_switch_is_stored() {
    let mut view = failed_over(Down { wal_end: Some(Lsn(FLUSHED.0 + 8)), ..down(true) });
    view.intent_mut().switch = None;
    let plan = decide(&view);
    assert_eq!(
        orders(&plan),
        vec![],
        "with no switch to compare with, it would seem to have nothing of its own"
    );
    assert_eq!(
        declared(&plan).and_then(|next| next.switch),
        Some(Switch { timeline: Timeline(3), at: FLUSHED })
    );
}

#[test]
fn a_member_of_the_set_is_neither_rewound_nor_cloned() {
    let mut view = healthy();
    view.server(&tokyo(), Server::Down(down(true)));
    assert_eq!(
        orders(&decide(&view)),
        vec![(tokyo(), Command::Follow(upstream(&seoul(), &tokyo())))],
        "it streamed from this primary: it has nothing of its own"
    );
    view.agent_mut(&tokyo()).failed = vec![("follow".into(), "no".into())];
    assert_eq!(orders(&decide(&view)), vec![], "it leaves the set first");
    view.agent_mut(&tokyo()).unfinished = Some(Unfinished::Clone);
    assert_eq!(orders(&decide(&view)), vec![]);
}

#[test]
fn a_quarantine_is_tried_again_after_a_while() {
    let mut view = failed_over(Down { wal_end: Some(Lsn(FLUSHED.0 + 8)), ..down(true) });
    view.agent_mut(&seoul()).failed = vec![("rewind".into(), "no".into()), ("clone".into(), "no".into())];
    let finding = Finding::Quarantined { node: seoul() };
    let policy = Policy::default();
    assert_eq!(orders(&decide_after(&view, &policy, std::slice::from_ref(&finding), 14_000)), vec![]);
    let again = decide_after(&view, &policy, &[finding], 15_000);
    assert!(matches!(orders(&again).as_slice(), [(_, Command::Clone(..))]), "{:?}", again.steps);
    assert_eq!(orders(&plan(&view, &again.memory, &policy, NOW)), vec![], "and then rests again");
}

#[test]
fn a_rewind_waits_for_the_new_timelines_checkpoint() {
    let mut view = failed_over(Down { wal_end: Some(Lsn(FLUSHED.0 + 8)), ..down(true) });
    view.primary_mut(&tokyo()).checkpoint_timeline = Timeline(3);
    assert_eq!(orders(&decide(&view)), vec![]);
}

#[test]
fn a_half_rewound_directory_is_cloned_never_started() {
    let mut view = failed_over(down(true));
    view.agent_mut(&seoul()).unfinished = Some(Unfinished::Rewind);
    assert!(matches!(orders(&decide(&view)).as_slice(), [(_, Command::Clone(..))]));
}

#[test]
fn a_directory_of_another_system_is_not_touched() {
    let mut view = failed_over(down(true));
    view.agent_mut(&seoul()).system = Some(SystemId(8));
    let plan = decide(&view);
    assert_eq!(orders(&plan), vec![]);
    assert!(plan.findings.contains(&Finding::ForeignData { node: seoul() }));
}

#[test]
fn a_new_node_is_declared_around_and_cloned_but_one_that_lost_its_data_is_not() {
    let mut view = healthy();
    view.intent = None;
    for node in [seoul(), tokyo()] {
        view.agent_mut(&node).promise = None;
    }
    view.server(&tokyo(), Server::Down(Down { control: None, wal_end: None, ..down(false) }));
    view.agent_mut(&tokyo()).system = None;
    let lost = decide(&view);
    assert_eq!(declared(&lost), None, "nobody has said that it is new");
    assert!(lost.findings.contains(&Finding::ForeignData { node: tokyo() }));

    view.agent_mut(&tokyo()).unfinished = Some(Unfinished::Clone);
    let first = declared(&decide(&view)).cloned().expect("a first cluster");
    assert_eq!(first.primary, Some(seoul()));

    let mut view = healthy();
    (view.intent_mut().sync, view.intent_mut().sync_next) = (Vec::new(), Vec::new());
    view.server(&tokyo(), Server::Down(Down { control: None, wal_end: None, ..down(false) }));
    view.agent_mut(&tokyo()).system = None;
    view.agent_mut(&tokyo()).unfinished = Some(Unfinished::Clone);
    let primary = view.primary_mut(&seoul());
    (primary.names, primary.senders) = (Some(Vec::new()), Vec::new());
    let clone = Command::Clone(upstream(&seoul(), &tokyo()), None, None);
    assert!(orders(&decide(&view)).contains(&(tokyo(), clone)), "{:?}", decide(&view).steps);
}

#[test]
fn a_standby_that_starts_is_watched_over_by_an_order_to_follow() {
    let mut view = healthy();
    view.server(&tokyo(), Server::Starting);
    let follow = (tokyo(), Command::Follow(upstream(&seoul(), &tokyo())));
    view.agent_mut(&tokyo()).told = Some(upstream(&osaka(), &tokyo()));
    assert!(orders(&decide(&view)).contains(&follow), "it leads elsewhere");
    view.agent_mut(&tokyo()).told = Some(upstream(&seoul(), &tokyo()));
    assert!(!orders(&decide(&view)).contains(&follow), "its member was told a moment ago");
    let lost = [Finding::StandbyLost { node: tokyo() }];
    let after = |ms| orders(&decide_after(&view, &Policy::default(), &lost, ms)).contains(&follow);
    assert!(!after(4_000) && after(6_000), "its member may have been restarted");
}

#[test]
fn a_standby_that_was_further_than_the_new_primary_is_ended_and_rewound() {
    let switch = Some(Switch { timeline: Timeline(3), at: FLUSHED });
    let beyond = Lsn(FLUSHED.0 + 8);
    let mut view = failed_over(Down { wal_end: Some(beyond), ..down(true) });
    view.agent_mut(&seoul()).primary_since = None;
    let rewind = vec![(seoul(), Command::Rewind(upstream(&tokyo(), &seoul()), switch))];
    assert_eq!(orders(&decide(&view)), rewind, "it received what nobody else has");

    let follow = vec![(seoul(), Command::Follow(upstream(&tokyo(), &seoul())))];
    let mut of = |down: Down| {
        view.server(&seoul(), Server::Down(down));
        orders(&decide(&view))
    };
    let past = Down { wal_end: Some(beyond), wal_timeline: Some(Timeline(4)), ..down(true) };
    assert_eq!(of(past), follow, "it followed the new primary past the switch");
    assert_eq!(of(Down { wal_end: Some(FLUSHED), ..down(true) }), follow);
    assert_eq!(of(Down { wal_end: None, ..down(true) }), vec![], "where its WAL ends is being determined");
    assert_eq!(of(Down { wal_end: None, wal_gone: true, ..down(true) }), follow, "it may still stream");

    let running = Standby {
        streaming: false,
        upstream: Some(upstream(&tokyo(), &seoul())),
        timeline: Timeline(3),
        history: vec![SWITCH],
        flushed: beyond,
        replayed: beyond,
        ..standby()
    };
    view.server(&seoul(), Server::Standby(running.clone()));
    assert_eq!(orders(&decide(&view)), vec![(seoul(), Command::Fence)], "it is not waited for");
    for close in [Standby { replayed: FLUSHED, ..running.clone() }, Standby { streaming: true, ..running }] {
        view.server(&seoul(), Server::Standby(close));
        assert_eq!(orders(&decide(&view)), vec![], "it may only not have come so far");
    }
}

#[test]
fn one_that_was_lost_for_long_and_has_just_been_stopped_is_read_before_it_is_brought_back() {
    let lost = [Finding::StandbyLost { node: seoul() }];
    let unread = Down { control: None, wal_end: None, wal_timeline: None, ..down(true) };
    let mut view = failed_over(unread.clone());
    view.agent_mut(&seoul()).primary_since = None;
    let plan = decide_after(&view, &Policy::default(), &lost, 60_000);
    assert_eq!(
        orders(&plan),
        vec![],
        "it may have parted from the primary, and be started in vain again and again"
    );
    let for_long = Down { since: Some(ago(60_000)), fenced: Some(view.intent_mut().stamp()), ..unread };
    view.server(&seoul(), Server::Down(for_long));
    assert_ne!(orders(&decide_after(&view, &Policy::default(), &lost, 60_000)), vec![]);
}
