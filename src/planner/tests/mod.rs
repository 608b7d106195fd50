//! The planner by table: a situation, and the exact steps or the named hold that it must lead to.

mod app;
mod crash;
mod pen;
mod rejoin_asked;
mod rescue;
mod scheduled;
mod service;

use super::{Memory, Plan, case::Case, fixture::*, plan, vacancy};
use crate::model::*;

fn decide(view: &View) -> Plan {
    let policy = Policy::default();
    let first = plan(view, &Memory::default(), &policy, NOW);
    assert_eq!(first, plan(view, &Memory::default(), &policy, NOW), "plan is deterministic");
    first
}

/// Decides where nothing that a standby lacks can be brought to it any more.
fn without_rescue(view: &View) -> Plan {
    let policy = Policy { rescue_max: std::time::Duration::ZERO, ..Policy::default() };
    plan(view, &Memory::default(), &policy, NOW)
}

/// Decides with findings that have stood for a while already.
fn decide_after(view: &View, policy: &Policy, findings: &[Finding], ms: u64) -> Plan {
    let since = findings.iter().map(|finding| (finding.clone(), ago(ms))).collect();
    plan(view, &Memory { since, ..Memory::default() }, policy, NOW)
}

fn orders(plan: &Plan) -> Vec<(NodeId, Command)> {
    let order = |step: &Step| match step {
        Step::Order { node, command, .. } => Some((node.clone(), command.clone())),
        _ => None,
    };
    plan.steps.iter().filter_map(order).collect()
}

fn declared(plan: &Plan) -> Option<&Intent> {
    plan.steps.iter().find_map(|step| match step {
        Step::Declare(intent) => Some(intent),
        _ => None,
    })
}

fn routes(plan: &Plan) -> Vec<&RouteOrder> {
    let mut routes = Vec::new();
    for step in &plan.steps {
        if let Step::Route { order, .. } = step {
            routes.push(order);
        }
    }
    routes
}

/// Seoul's epoch has ended and nobody is declared yet.
fn vacant() -> View {
    let mut view = healthy();
    view.server(&seoul(), Server::Down(down(true)));
    *view.intent_mut() = intent().vacated(None);
    view.lease.read_under = view.intent.as_ref().map(Intent::stamp);
    view
}

fn recruit(view: &mut View) {
    let stamp = view.intent_mut().stamp();
    view.agent_mut(&tokyo()).promise = Some(stamp);
    let standby = view.standby_mut(&tokyo());
    standby.recruited = Some(stamp);
    standby.streaming = false;
    standby.upstream = None;
}

fn fence(view: &mut View, wal_end: Option<Lsn>) {
    let stamp = view.intent_mut().stamp();
    view.server(&seoul(), Server::Down(Down { fenced: Some(stamp), wal_end, ..down(true) }));
}

#[test]
fn a_healthy_pair_is_left_alone() {
    let plan = decide(&healthy());
    assert_eq!((plan.steps, plan.findings, plan.holds), (vec![], vec![], vec![Hold::AllWell]));
}

#[test]
fn a_member_that_does_not_lead_does_nothing_whatever_it_sees() {
    let mut view = vacant();
    view.leading = false;
    assert_eq!(decide(&view).steps, vec![]);
}

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
        let intent = view.intent_mut();
        (intent.sync, intent.sync_next) = (vec![], vec![]);
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
    assert_eq!((declared(&plan), orders(&plan)), (None, vec![(seoul(), Command::Serve)]));

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
fn a_standby_whose_position_went_back_is_not_promoted() {
    let mut view = vacant();
    recruit(&mut view);
    let memory = Memory { greatest: [(tokyo(), (Epoch(4), Lsn(FLUSHED.0 + 8)))].into(), ..Memory::default() };
    assert_eq!(declared(&plan(&view, &memory, &Policy::default(), NOW)), None);
}

#[test]
fn what_a_standby_had_reported_counts_in_the_vacancy_too() {
    let mut view = vacant();
    recruit(&mut view);
    let memory = Memory { greatest: [(tokyo(), (Epoch(3), Lsn(FLUSHED.0 + 8)))].into(), ..Memory::default() };
    assert_eq!(declared(&plan(&view, &memory, &Policy::default(), NOW)), None);
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
    assert_eq!(orders(&plan), vec![(seoul(), Command::Serve)]);
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
    assert_eq!((declared(&plan), orders(&plan)), (None, vec![(seoul(), Command::Serve)]));
}

#[test]
fn by_policy_a_crash_is_restarted_in_place_until_that_fails() {
    let policy = Policy { on_crash: OnCrash::Restart, ..Policy::default() };
    let mut view = healthy();
    view.server(&seoul(), Server::Down(down(true)));
    let first = plan(&view, &Memory::default(), &policy, NOW);
    assert_eq!((declared(&first), orders(&first)), (None, vec![(seoul(), Command::Serve)]));
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
    *view.intent_mut() = view.intent_mut().declared(tokyo());
    let slots = vec![seoul().slot()];
    let promote = (tokyo(), Command::Promote { names: vec![], slots });
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
    *view.intent_mut() = view.intent_mut().declared(tokyo());
    view.nodes.remove(&tokyo());
    let plan = decide(&view);
    assert!(!orders(&plan).iter().any(|(_, command)| *command == Command::Serve), "{:?}", plan.steps);
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

/// Tokyo serves epoch 4, seoul is down.
fn failed_over(seoul_down: Down) -> View {
    let mut view = vacant();
    let next = intent().vacated(None).declared(tokyo());
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
    let unread = Down { control: None, wal_end: None, ..down(true) };
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
        Command::Clone(upstream(&tokyo(), &seoul()), switch),
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
    let unread = failed_over(Down { wal_end: None, ..down(true) });
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
fn a_recruit_that_streams_from_where_it_should_is_led_there_again() {
    let mut view = rejoined();
    let stamp = view.intent_mut().stamp();
    view.standby_mut(&seoul()).recruited = Some(stamp);
    let follow = (seoul(), Command::Follow(upstream(&tokyo(), &seoul())));
    assert!(orders(&decide(&view)).contains(&follow));
}

/// Seoul streams from tokyo again; the set is empty.
fn rejoined() -> View {
    let mut view = failed_over(down(true));
    let switch = view.intent_mut().switch;
    let standby = Standby {
        timeline: Timeline(4),
        history: vec![SWITCH, switch.expect("a switch")],
        upstream: Some(upstream(&tokyo(), &seoul())),
        ..standby()
    };
    view.server(&seoul(), Server::Standby(standby));
    let primary = view.primary_mut(&tokyo());
    primary.senders =
        vec![WalSender { name: name_of(&seoul()), streaming: true, flushed: FLUSHED, sync: false }];
    view
}

#[test]
fn the_sync_set_grows_store_first_then_names_then_proof_then_store() {
    let mut view = rejoined();
    let plan = decide(&view);
    assert!(plan.findings.contains(&Finding::Exposed));
    let moving = declared(&plan).cloned().expect("store first");
    assert_eq!((&moving.sync, &moving.sync_next), (&vec![], &set(&[seoul()])));

    *view.intent_mut() = moving;
    assert_eq!(orders(&decide(&view)), vec![(tokyo(), Command::SetNames(vec![name_of(&seoul())]))]);

    view.primary_mut(&tokyo()).names = Some(vec![name_of(&seoul())]);
    assert_eq!(orders(&decide(&view)), vec![(seoul(), Command::PauseReplay)]);

    let stamp = view.intent_mut().stamp();
    view.standby_mut(&seoul()).replay = ReplayState::PausedForProof(stamp);
    assert_eq!(orders(&decide(&view)), vec![(tokyo(), Command::ProveNames)]);

    view.primary_mut(&tokyo()).names_proven = Some((stamp.version, Lsn(FLUSHED.0 + 1)));
    let plan = decide(&view);
    assert_eq!(
        (declared(&plan), orders(&plan)),
        (None, vec![(seoul(), Command::ResumeReplay)]),
        "not flushed that far yet"
    );

    view.primary_mut(&tokyo()).senders[0].flushed = Lsn(FLUSHED.0 + 1);
    assert_eq!(declared(&decide(&view)).map(|next| next.sync.clone()), Some(set(&[seoul()])));
}

#[test]
fn a_proof_of_an_earlier_version_is_none() {
    let mut view = rejoined();
    *view.intent_mut() = declared(&decide(&view)).cloned().expect("store first");
    view.primary_mut(&tokyo()).names = Some(vec![name_of(&seoul())]);
    let earlier = Version(view.intent_mut().version.0 - 1);
    view.primary_mut(&tokyo()).names_proven = Some((earlier, Lsn(1)));
    assert_eq!(declared(&decide(&view)), None);
}

#[test]
fn a_lost_standby_leaves_the_set_after_write_wait_and_never_in_strict() {
    let lost = [Finding::StandbyLost { node: tokyo() }];
    let mut view = healthy();
    view.standby_mut(&tokyo()).streaming = false;
    view.primary_mut(&seoul()).senders.clear();
    let policy = Policy::default();
    assert_eq!(declared(&decide_after(&view, &policy, &lost, 499)), None);
    let next = declared(&decide_after(&view, &policy, &lost, 500)).cloned().expect("leaves");
    assert_eq!((next.sync.is_empty(), next.sync_next.is_empty()), (false, true), "the store says so first");

    view.intent_mut().durability = Durability::SyncStrict;
    let strict = Policy { durability: Durability::SyncStrict, ..policy };
    assert_eq!(declared(&decide_after(&view, &strict, &lost, 29_000)), None);
    let silent = [Finding::StandbyUnreachable { node: tokyo() }];
    view.nodes.get_mut(&tokyo()).expect("tokyo").heard = ago(3_600_000);
    assert_eq!(declared(&decide_after(&view, &strict, &silent, 3_600_000)), None);
}

#[test]
fn a_standby_that_froze_leaves_the_set_and_does_not_come_back_before_it_flushes() {
    let mut view = healthy();
    view.primary_mut(&seoul()).flushed = Lsn(FLUSHED.0 + 0x100);
    let first = decide(&view);
    assert_eq!(declared(&first), None);
    let later = Mono(NOW.0 + 2_000_000);
    view.nodes.values_mut().for_each(|node| {
        node.heard = later;
        node.agent.as_mut().expect("an agent").server.at = later;
    });
    let policy = Policy::default();
    let second = plan(&view, &first.memory, &policy, later);
    assert!(second.findings.contains(&Finding::ReplicationStalled { node: tokyo() }));
    let next = declared(&second).cloned().expect("leaves");
    assert!(!next.sync.is_empty() && next.sync_next.is_empty());

    *view.intent_mut() = Intent { sync: vec![], sync_next: vec![], ..intent() }.raised();
    view.primary_mut(&seoul()).names = Some(vec![]);
    assert_eq!(declared(&plan(&view, &second.memory, &policy, later)), None);
    view.primary_mut(&seoul()).senders[0].flushed = Lsn(FLUSHED.0 + 0x80);
    let back = plan(&view, &second.memory, &policy, later);
    assert_eq!(declared(&back).map(|next| next.sync_next.clone()), Some(set(&[tokyo()])));
}

#[test]
fn a_standby_that_only_believes_that_it_streams_leaves_the_set() {
    let lost = [Finding::StandbyLost { node: tokyo() }];
    let mut view = healthy();
    view.primary_mut(&seoul()).senders.clear();
    assert_eq!(declared(&decide(&view)), None);
    let next = declared(&decide_after(&view, &Policy::default(), &lost, 500)).cloned().expect("leaves");
    assert!(next.sync_next.is_empty());
}

#[test]
fn a_new_leader_mends_the_set_before_a_commit_can_prove_service() {
    // The standby's host is lost, and the leader was on it: every commit waits, also the one that verifies.
    let lost = [Finding::StandbyUnreachable { node: tokyo() }];
    let mut view = healthy();
    view.verified = None;
    view.nodes.get_mut(&tokyo()).expect("tokyo").heard = ago(60_000);
    view.primary_mut(&seoul()).senders.clear();
    let next = declared(&decide_after(&view, &Policy::default(), &lost, 500)).cloned().expect("leaves");
    assert_eq!((next.sync.is_empty(), next.sync_next.is_empty()), (false, true));

    *view.intent_mut() = Intent { sync: vec![], sync_next: vec![], ..intent() }.raised();
    let plan = decide_after(&view, &Policy::default(), &lost, 500);
    assert_eq!(orders(&plan), vec![(seoul(), Command::SetNames(vec![]))], "the names outlive the set");
}

#[test]
fn a_standby_that_was_never_heard_leaves_the_set_like_one_that_fell_silent() {
    let mut view = healthy();
    view.nodes.remove(&tokyo());
    let primary = view.primary_mut(&seoul());
    (primary.senders, primary.names_proven) = (vec![], None);
    let first = decide(&view);
    assert!(first.findings.contains(&Finding::StandbyUnreachable { node: tokyo() }));
    let later = Mono(NOW.0 + 500_000);
    view.nodes.get_mut(&seoul()).expect("seoul").heard = later;
    let next = declared(&plan(&view, &first.memory, &Policy::default(), later)).cloned().expect("leaves");
    assert!(next.sync_next.is_empty());
}

#[test]
fn in_strict_mode_a_standby_that_has_to_be_cloned_leaves_the_set_first() {
    let mut view = healthy();
    view.intent_mut().durability = Durability::SyncStrict;
    view.primary_mut(&seoul()).senders.clear();
    view.server(&tokyo(), Server::Down(down(true)));
    let strict = Policy { durability: Durability::SyncStrict, ..Policy::default() };
    let follow = plan(&view, &Memory::default(), &strict, NOW);
    assert_eq!(orders(&follow), vec![(tokyo(), Command::Follow(upstream(&seoul(), &tokyo())))]);

    view.agent_mut(&tokyo()).failed = vec![("follow".into(), "requested WAL has been removed".into())];
    let leaves = plan(&view, &Memory::default(), &strict, NOW);
    assert_eq!(orders(&leaves), vec![], "nothing destructive happens to a member of the set");
    let next = declared(&leaves).cloned().expect("leaves");
    assert!(next.sync_next.is_empty());

    *view.intent_mut() = next;
    let emptied =
        declared(&plan(&view, &Memory::default(), &strict, NOW)).cloned().expect("names still wait");
    assert!(emptied.sync.is_empty());
    *view.intent_mut() = emptied;
    let plan = plan(&view, &Memory::default(), &strict, NOW);
    assert!(matches!(orders(&plan).as_slice(), [(_, Command::Rewind(..))]), "{:?}", plan.steps);
}

#[test]
fn names_changed_by_somebody_else_are_set_right_and_said() {
    let mut view = healthy();
    view.primary_mut(&seoul()).names = None;
    let plan = decide(&view);
    assert_eq!(orders(&plan), vec![(seoul(), Command::SetNames(vec![name_of(&tokyo())]))]);
    assert!(plan.findings.contains(&Finding::NamesChanged { node: seoul() }));
}

fn asks(kind: RequestKind) -> Vec<Request> {
    vec![Request { operation: "op-1".into(), kind }]
}

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
    assert!(orders(&decide(&view)).contains(&(seoul(), Command::Serve)), "the old primary resumes");
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
    assert!(orders(&decide(&view)).contains(&(seoul(), Command::Serve)));
}

#[test]
fn a_crash_in_mid_switchover_is_a_failover() {
    let mut view = handing_over();
    view.server(&seoul(), Server::Down(down(true)));
    let next = declared(&decide(&view)).cloned().expect("declares");
    assert_eq!((next.epoch, next.primary, next.handover), (Epoch(4), None, None));
}

#[test]
fn while_paused_a_dead_primary_is_a_finding_and_nothing_more() {
    let mut view = healthy();
    view.intent_mut().paused = true;
    view.server(&seoul(), Server::Down(down(true)));
    let plan = decide(&view);
    assert_eq!((plan.steps, plan.holds), (vec![], vec![Hold::Paused]));
    assert!(plan.findings.contains(&Finding::PrimaryCrashed { node: seoul() }));

    view.requests = asks(RequestKind::Resume);
    assert!(declared(&decide(&view)).is_some_and(|next| !next.paused));
}

#[test]
fn a_first_cluster_needs_every_member_and_exactly_one_primary() {
    let mut view = healthy();
    view.intent = None;
    for node in [seoul(), tokyo()] {
        view.agent_mut(&node).promise = Some(Stamp::default());
    }
    let next = declared(&decide(&view)).cloned().expect("declares");
    assert_eq!((next.epoch, next.primary.clone(), next.sync.len()), (Epoch(1), Some(seoul()), 0));

    let mut two = view.clone();
    two.server(&tokyo(), Server::Primary(primary()));
    assert_eq!(declared(&decide(&two)), None);

    let mut unseen = view.clone();
    unseen.server(&tokyo(), Server::Starting);
    assert_eq!(declared(&decide(&unseen)), None, "a standby that was just attached to would be fenced");

    let mut alone = view.clone();
    alone.nodes.remove(&tokyo());
    assert_eq!(declared(&decide(&alone)), None);

    view.agent_mut(&tokyo()).promise = Some(intent().stamp());
    assert_eq!(
        decide(&view).holds,
        vec![Hold::StoreNotBelieved],
        "an agent remembers an epoch: the store was wiped"
    );
}

#[test]
fn what_is_under_way_is_not_begun_again_and_what_failed_waits() {
    let mut view = vacant();
    let begun: Vec<Step> = decide(&view).steps;
    view.underway = begun.iter().map(Step::key).collect();
    assert_eq!(decide(&view).steps, vec![]);

    view.underway.clear();
    let attempt = Attempt { failures: 1, at: ago(10), error: "no answer".into() };
    view.attempts = begun.iter().map(|step| (step.key(), attempt.clone())).collect();
    assert_eq!(decide(&view).steps, vec![]);
    view.attempts.values_mut().for_each(|attempt| attempt.at = ago(60));
    assert_eq!(decide(&view).steps, begun);
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
    let clone = Command::Clone(upstream(&seoul(), &tokyo()), None);
    assert!(orders(&decide(&view)).contains(&(tokyo(), clone)), "{:?}", decide(&view).steps);
}
