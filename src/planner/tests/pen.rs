//! Taking the pen across hosts: silence, leases, who may be promoted, a store that is not believed.

use super::{service::osaka, *};

fn silent(view: &mut View, ms: u64) {
    view.nodes.get_mut(&seoul()).expect("seoul").heard = ago(ms);
}

/// A member without PostgreSQL.
fn witness() -> NodeView {
    let (hears, endpoints) = Default::default();
    NodeView { heard: NOW, remembered: None, renewals: None, noted: None, hears, agent: None, endpoints }
}

fn asynchronous(view: &mut View) {
    let intent = view.intent_mut();
    (intent.sync, intent.sync_next, intent.durability) = (vec![], vec![], Durability::Async);
}

/// Without a rescue: `rescue.rs` has those.
fn in_async() -> Policy {
    Policy { durability: Durability::Async, rescue_max: std::time::Duration::ZERO, ..Policy::default() }
}

#[test]
fn a_silent_primary_whose_lease_is_renewed_is_left_alone() {
    let mut view = healthy();
    silent(&mut view, 60_000);
    view.lease = lease_seen(300, None);
    let plan = decide(&view);
    assert_eq!((declared(&plan), &plan.holds), (None, &vec![Hold::LeaseIsRenewed { node: seoul() }]));
    view.lease = lease_seen(501, None);
    assert!(declared(&decide(&view)).is_some(), "its last sign of life is older than `detect`");
}

#[test]
fn a_primary_that_another_member_hears_is_left_alone_while_its_lease_may_last() {
    let mut view = healthy();
    silent(&mut view, 501);
    let heard_by_osaka = |view: &mut View, ms: u64| {
        view.nodes.insert(osaka(), NodeView { hears: [(seoul(), ago(ms))].into(), ..witness() });
    };
    let lasting = lease_seen(501, None);
    view.lease = lasting.clone();
    heard_by_osaka(&mut view, 300);
    let plan = decide(&view);
    let held = Hold::OthersHearIt { node: seoul(), by: osaka() };
    assert_eq!((declared(&plan), &plan.holds), (None, &vec![held]));

    heard_by_osaka(&mut view, 301);
    assert!(
        declared(&decide(&view)).is_some(),
        "so long ago it may have been the last word of a host that is lost"
    );
    heard_by_osaka(&mut view, 100);
    view.lease = LeaseSeen::default();
    assert!(declared(&decide(&view)).is_some(), "it has no right to serve");
    view.lease = lease_seen(10_000, None);
    assert!(declared(&decide(&view)).is_some(), "its right has run out");
    view.lease = LeaseSeen {
        last: Some(Seen { at: NOW, ..lasting.last.unwrap() }),
        read_under: None,
        known: None,
        renewed: true,
    };
    assert!(declared(&decide(&view)).is_none(), "its right is as good as new");
}

#[test]
fn another_epochs_lease_is_no_sign_of_life() {
    let mut view = healthy();
    silent(&mut view, 60_000);
    view.lease = lease_seen(100, None);
    view.lease.last.as_mut().expect("a lease").value.epoch = Epoch(2);
    assert!(declared(&decide(&view)).is_some());
}

#[test]
fn a_standby_that_still_receives_new_wal_vetoes_what_is_only_inferred() {
    let mut view = healthy();
    silent(&mut view, 60_000);
    let advanced = |ms| Memory { advanced: [(tokyo(), (FLUSHED, ago(ms)))].into(), ..Memory::default() };
    let held = plan(&view, &advanced(400), &Policy::default(), NOW);
    assert_eq!((declared(&held), &held.holds), (None, &vec![Hold::WalStillComes { node: tokyo() }]));
    let acts = plan(&view, &advanced(600), &Policy::default(), NOW);
    assert!(declared(&acts).is_some(), "a receiver that is connected and gets nothing proves nothing");
    silent(&mut view, 600);
    let on_its_way = plan(&view, &advanced(400), &Policy::default(), NOW);
    assert!(declared(&on_its_way).is_some(), "it was on its way when the host was lost");
    // It is first-hand evidence's turn: no veto.
    silent(&mut view, 0);
    view.server(&seoul(), Server::Down(down(true)));
    assert!(declared(&plan(&view, &advanced(0), &Policy::default(), NOW)).is_some());
}

#[test]
fn a_veto_that_lasts_asks_for_a_person() {
    let mut view = healthy();
    silent(&mut view, 60_000);
    let since = [(Finding::PrimaryUnreachable { node: seoul() }, ago(31_000))].into();
    let memory = Memory { since, advanced: [(tokyo(), (FLUSHED, ago(10)))].into(), ..Memory::default() };
    let plan = plan(&view, &memory, &Policy::default(), NOW);
    assert!(plan.findings.contains(&Finding::VetoLasts { node: tokyo() }));
}

#[test]
fn what_a_stalled_leader_did_not_hear_is_no_silence() {
    let mut view = healthy();
    silent(&mut view, 60_000);
    view.awake_since = ago(100);
    let plan = decide(&view);
    assert_eq!(declared(&plan), None);
    assert!(matches!(plan.holds.as_slice(), [Hold::Grace { .. }]), "{:?}", plan.holds);
}

#[test]
fn silence_in_async_ends_the_epoch_but_not_the_wait() {
    let mut view = healthy();
    silent(&mut view, 600);
    asynchronous(&mut view);
    view.lease = lease_seen(600, None);
    let next = declared(&plan(&view, &Memory::default(), &in_async(), NOW)).cloned().expect("declares");
    assert_eq!((next.epoch, &next.primary), (Epoch(4), &None));

    *view.intent_mut() = next;
    recruit(&mut view);
    let stamp = view.intent_mut().stamp();
    let decide = |view: &View| plan(view, &Memory::default(), &in_async(), NOW);
    let held = decide(&view);
    assert_eq!(declared(&held), None);
    assert!(matches!(held.holds[0], Hold::Pen { .. }), "the lease was not read since: {:?}", held.holds);

    view.lease = lease_seen(3_000, Some(stamp));
    let held = decide(&view);
    assert_eq!(declared(&held), None, "clocks drift: one part in a hundred is added");
    assert!(matches!(held.holds[0], Hold::LeaseRuns { .. }), "{:?}", held.holds);

    view.lease = LeaseSeen { last: None, read_under: Some(stamp), known: None, renewed: true };
    assert_eq!(declared(&decide(&view)), None, "one that never took a lease has nothing that would stop it");

    view.lease = lease_seen(3_030, Some(stamp));
    assert_eq!(declared(&decide(&view)).and_then(|next| next.primary.clone()), Some(tokyo()));
    view.standby_mut(&tokyo()).recruited = None;
    assert_eq!(declared(&decide(&view)), None, "who is not recruited may still vouch for the old primary");
}

#[test]
fn an_expired_lease_is_not_enough_in_a_sync_mode() {
    let mut view = vacant();
    silent(&mut view, 60_000);
    recruit(&mut view);
    let stamp = view.intent_mut().stamp();
    without_set(&mut view);
    view.lease = lease_seen(60_000, Some(stamp));
    let plan = decide(&view);
    assert_eq!(declared(&plan), None, "it may have acknowledged what no standby has");
    assert!(matches!(plan.holds[0], Hold::Pen { .. }));
}

#[test]
fn the_fence_command_spares_the_wait_for_the_lease() {
    let mut view = vacant();
    silent(&mut view, 60_000);
    asynchronous(&mut view);
    recruit(&mut view);
    let stamp = view.intent_mut().stamp();
    view.lease = lease_seen(700, Some(stamp));
    let policy = Policy { has_fence_command: true, ..in_async() };
    let decide = |view: &View| plan(view, &Memory::default(), &policy, NOW);
    assert!(decide(&view).steps.contains(&Step::FenceCommand { node: seoul(), stamp }));
    view.fenced_by_command = Some((seoul(), stamp));
    assert_eq!(declared(&decide(&view)).and_then(|next| next.primary.clone()), Some(tokyo()));
    let earlier = Stamp { epoch: Epoch(3), ..stamp };
    view.fenced_by_command = Some((seoul(), earlier));
    assert_eq!(declared(&decide(&view)), None, "of an earlier epoch: it may have been started since");
}

#[test]
fn nobody_is_promoted_before_the_primary_has_confirmed_it_or_while_it_is_unattended() {
    for spoil in
        [|intent: &mut Intent| intent.promotable.clear(), |intent: &mut Intent| intent.attended = false]
    {
        let mut view = healthy();
        view.server(&seoul(), Server::Down(down(true)));
        spoil(view.intent_mut());
        let plan = decide(&view);
        assert_eq!(declared(&plan), None);
        assert!(plan.holds.iter().any(|hold| matches!(hold, Hold::NoCandidate { .. })), "{:?}", plan.holds);
    }
}

#[test]
fn the_primary_notes_who_may_be_promoted_before_the_store_lists_it() {
    let mut view = healthy();
    view.intent_mut().promotable.clear();
    view.agent_mut(&seoul()).admitted = None;
    let plan = decide(&view);
    assert_eq!((declared(&plan), orders(&plan)), (None, vec![(seoul(), Command::Admit(vec![tokyo()]))]));
    view.agent_mut(&seoul()).admitted = Some(vec![tokyo()]);
    assert_eq!(declared(&decide(&view)).map(|next| next.promotable.clone()), Some(vec![tokyo()]));
}

#[test]
fn a_witness_that_is_heard_does_not_hold_up_the_first_declaration() {
    let osaka = node("osaka");
    let mut view = healthy();
    view.intent = None;
    view.members.insert(osaka.clone());
    for node in [seoul(), tokyo()] {
        view.agent_mut(&node).promise = None;
    }
    assert_eq!(declared(&decide(&view)), None, "it may have a server that nobody has seen");
    view.nodes.insert(osaka, witness());
    assert_eq!(declared(&decide(&view)).and_then(|next| next.primary.clone()), Some(seoul()));
}

#[test]
fn a_member_that_is_back_attends_again() {
    let mut view = healthy();
    view.intent_mut().attended = false;
    view.node = Some(tokyo());
    let plan = decide(&view);
    assert!(plan.findings.contains(&Finding::Unattended { node: seoul() }));
    assert_eq!(plan.steps, vec![], "to a leader elsewhere it may seem to be back while it is just leaving");
    view.node = Some(seoul());
    view.leading = false;
    view.agent_mut(&seoul()).guard = None;
    assert_eq!(decide(&view).steps, vec![], "its guard does not count yet");
    view.agent_mut(&seoul()).guard = Some(armed());
    let expected = Intent { attended: true, ..view.intent_mut().clone() }.raised();
    assert_eq!(decide(&view).steps, vec![Step::Amend(expected)]);
}

#[test]
fn nobody_is_promoted_who_has_not_come_to_where_the_last_primary_began() {
    let (mut view, _) = two_recruits();
    for name in ["tokyo", "osaka"] {
        let before = Lsn(SWITCH.at.0 - 8);
        let standby = view.standby_mut(&node(name));
        (standby.flushed, standby.replayed) = (before, before);
    }
    view.rpo.as_mut().expect("an RPO").primary = SWITCH.at;
    let next =
        declared(&plan(&view, &Memory::default(), &in_async(), NOW)).and_then(|next| next.primary.clone());
    assert_ne!(next, Some(tokyo()));
    assert_ne!(next, Some(node("osaka")));
}

#[test]
fn a_member_that_has_just_started_does_not_declare_the_old_primary_again() {
    let mut view = vacant();
    fence(&mut view, Some(FLUSHED));
    view.nodes.remove(&tokyo());
    view.awake_since = ago(499);
    assert_eq!(declared(&decide(&view)), None, "tokyo may have been declared since, and say so in a moment");
    view.awake_since = ago(501);
    assert_eq!(declared(&decide(&view)).and_then(|next| next.primary.clone()), Some(seoul()));
}

#[test]
fn a_former_primary_that_never_answers_is_ended_although_it_gave_its_word() {
    let mut view = healthy();
    view.server(&tokyo(), Server::Starting);
    let lost = |ms| Memory {
        since: [(Finding::StandbyLost { node: tokyo() }, ago(ms))].into(),
        ..Memory::default()
    };
    let fenced = |view: &View, ms| {
        orders(&plan(view, &lost(ms), &Policy::default(), NOW)).contains(&(tokyo(), Command::Fence))
    };
    assert!(!fenced(&view, 29_000), "it may be starting as a standby");
    assert!(fenced(&view, 31_000));
    view.agent_mut(&tokyo()).job = Some("starting PostgreSQL".into());
    assert!(!fenced(&view, 31_000), "a long recovery is somebody's doing");
}

/// Seoul down and fenced, in async; tokyo and osaka recruited, osaka 64 bytes further.
fn two_recruits() -> (View, NodeId) {
    let osaka = node("osaka");
    let mut view = vacant();
    let third = view.nodes[&tokyo()].clone();
    view.nodes.insert(osaka.clone(), third);
    asynchronous(&mut view);
    view.intent_mut().promotable = vec![osaka.clone(), tokyo()];
    recruit(&mut view);
    fence(&mut view, None);
    let stamp = view.intent_mut().stamp();
    let further = Lsn(FLUSHED.0 + 64);
    let standby = view.standby_mut(&osaka);
    (standby.recruited, standby.streaming) = (Some(stamp), false);
    (standby.flushed, standby.replayed) = (further, further);
    view.rpo.as_mut().expect("an RPO").primary = further;
    (view, osaka)
}

#[test]
fn in_async_each_candidate_is_judged_by_what_it_lacks_itself() {
    let (mut view, osaka) = two_recruits();
    let policy = Policy { max_data_loss: 63, ..in_async() };
    let chosen = |view: &View| {
        declared(&plan(view, &Memory::default(), &policy, NOW)).and_then(|next| next.primary.clone())
    };
    assert_eq!(chosen(&view), Some(osaka.clone()));
    view.nodes.get_mut(&osaka).expect("osaka").heard = ago(5_000);
    assert_ne!(chosen(&view), Some(tokyo()), "the best one's position is not what tokyo holds");
}

#[test]
fn in_async_the_old_primarys_last_word_is_read_before_a_loss_is_judged() {
    let (mut view, _) = two_recruits();
    let policy = in_async();
    let decide = |view: &View| plan(view, &Memory::default(), &policy, NOW);
    assert!(declared(&decide(&view)).is_some());
    view.lease.read_under = None;
    assert_eq!(declared(&decide(&view)), None);
    assert!(matches!(decide(&view).holds[..], [Hold::Pen { .. }]), "{:?}", decide(&view).holds);
}

#[test]
fn nobody_is_declared_while_somebody_further_is_being_recruited() {
    let (mut view, osaka) = two_recruits();
    let decide = |view: &View| plan(view, &Memory::default(), &in_async(), NOW);
    view.standby_mut(&osaka).recruited = None;
    assert_eq!(declared(&decide(&view)), None);
    let order = Step::Order { node: osaka, command: Command::Recruit, stamp: view.intent_mut().stamp() };
    let failed = Attempt { failures: 1, at: NOW, error: "no".into() };
    view.attempts.insert(order.key(), failed);
    assert_eq!(declared(&decide(&view)).and_then(|next| next.primary.clone()), Some(tokyo()));
}

#[test]
fn a_standby_outside_the_set_is_recruited_as_well() {
    let (mut view, osaka) = two_recruits();
    let both = set(&[tokyo()]);
    let intent = view.intent_mut();
    (intent.sync, intent.sync_next, intent.durability) = (both.clone(), both, Durability::Sync);
    view.standby_mut(&osaka).recruited = None;
    assert!(orders(&decide(&view)).contains(&(osaka, Command::Recruit)), "it may be all that is left");
}

#[test]
fn in_async_the_furthest_is_declared_whatever_the_priorities() {
    let (mut view, osaka) = two_recruits();
    view.agent_mut(&tokyo()).priority = 9;
    let next = plan(&view, &Memory::default(), &in_async(), NOW);
    assert_eq!(declared(&next).and_then(|next| next.primary.clone()), Some(osaka));
}

/// Seoul's own member, which does not lead and does not hear the leader; tokyo takes nothing more.
fn left_alone() -> (View, Memory) {
    let mut view = healthy();
    (view.leading, view.node, view.leader) = (false, Some(seoul()), Some(tokyo()));
    view.nodes.get_mut(&tokyo()).expect("tokyo").heard = ago(5_000);
    view.primary_mut(&seoul()).senders[0].flushed = Lsn(FLUSHED.0 - 8);
    let stalled = [(tokyo(), (Lsn(FLUSHED.0 - 8), ago(500)))].into();
    let since = [(Finding::StandbyUnreachable { node: tokyo() }, ago(10))].into();
    (view, Memory { since, stalled, ..Memory::default() })
}

#[test]
fn without_a_leader_the_primarys_own_member_empties_the_set_store_first() {
    let (mut view, memory) = left_alone();
    let decide = |view: &View| plan(view, &memory, &Policy::default(), NOW);
    let expected = intent().unpromised();
    assert_eq!(decide(&view).steps, vec![Step::Amend(expected.clone())]);
    *view.intent_mut() = expected;
    assert_eq!(orders(&decide(&view)), vec![(seoul(), Command::SetNames(vec![]))]);
}

#[test]
fn it_leaves_the_set_alone_where_a_leader_is_heard_or_writes_do_not_wait() {
    let (view, memory) = left_alone();
    let acts =
        |view: &View, memory: &Memory, policy: &Policy| !plan(view, memory, policy, NOW).steps.is_empty();
    let policy = Policy::default();
    let mut led = view.clone();
    led.nodes.get_mut(&tokyo()).expect("tokyo").heard = ago(100);
    assert!(!acts(&led, &memory, &policy));
    let mut strict = view.clone();
    strict.intent_mut().durability = Durability::SyncStrict;
    assert!(!acts(&strict, &memory, &policy));
    let young = Memory { stalled: [(tokyo(), (Lsn(FLUSHED.0 - 8), ago(400)))].into(), ..memory.clone() };
    assert!(!acts(&view, &young, &policy), "not for `write_wait` yet");
    let mut elsewhere = view;
    elsewhere.node = Some(tokyo());
    assert!(!acts(&elsewhere, &memory, &policy), "only the member beside the primary may");
}

#[test]
fn of_several_recruits_only_one_that_holds_all_is_declared() {
    let (mut view, osaka) = vacant_trio();
    recruit(&mut view);
    assert_eq!(declared(&decide(&view)), None, "one of two recruited: the other may still acknowledge");

    let stamp = view.intent_mut().stamp();
    let further = Lsn(FLUSHED.0 + 64);
    let standby = view.standby_mut(&osaka);
    (standby.recruited, standby.streaming) = (Some(stamp), false);
    (standby.flushed, standby.replayed) = (further, further);
    assert_eq!(declared(&decide(&view)).and_then(|next| next.primary.clone()), Some(osaka.clone()));
    view.agent_mut(&osaka).no_failover = true;
    let chosen = declared(&decide(&view)).and_then(|next| next.primary.clone());
    assert_eq!(chosen, None, "tokyo lacks what osaka may have acknowledged");
}

#[test]
fn between_equals_the_higher_priority_is_declared_and_never_before_a_further_position() {
    let (mut view, osaka) = vacant_trio();
    recruit(&mut view);
    let stamp = view.intent_mut().stamp();
    view.standby_mut(&osaka).recruited = Some(stamp);
    let mut chosen = |priority: usize, beyond: u64| {
        view.agent_mut(&tokyo()).priority = priority;
        let position = Lsn(FLUSHED.0 + beyond);
        let standby = view.standby_mut(&osaka);
        (standby.flushed, standby.replayed) = (position, position);
        declared(&decide(&view)).and_then(|next| next.primary.clone())
    };
    assert_eq!(chosen(0, 0), Some(osaka.clone()), "the first name");
    assert_eq!(chosen(1, 0), Some(tokyo()));
    assert_eq!(chosen(1, 8), Some(osaka.clone()), "tokyo lacks what osaka may have acknowledged");
}

#[test]
fn a_node_that_no_commit_is_to_wait_for_leaves_the_set() {
    let mut view = healthy();
    assert_eq!(declared(&decide(&view)), None);
    view.agent_mut(&tokyo()).no_sync = true;
    let next = declared(&decide(&view)).cloned().expect("a change of the set");
    assert_eq!((next.sync.len(), next.sync_next.len()), (1, 0));
}

#[test]
fn a_vacancy_still_knows_whose_history_counts() {
    let mut view = vacant();
    fence(&mut view, Some(FLUSHED));
    recruit(&mut view);
    let (keeps, lacks) = (vec![SWITCH], vec![]);
    for (history, chosen) in [(keeps, Some(tokyo())), (lacks, Some(seoul()))] {
        view.standby_mut(&tokyo()).history = history;
        assert_eq!(declared(&decide(&view)).and_then(|next| next.primary.clone()), chosen);
    }
}

#[test]
fn nobody_else_is_promoted_before_the_last_switch_is_recorded() {
    let mut view = vacant();
    view.intent_mut().settled = false;
    fence(&mut view, Some(FLUSHED));
    recruit(&mut view);
    let next = declared(&decide(&view)).cloned();
    assert_eq!(
        next.and_then(|next| next.primary),
        Some(seoul()),
        "only the old one has its own history for sure"
    );
}

#[test]
fn a_mode_that_became_async_does_not_undo_what_the_set_promised() {
    let osaka = node("osaka");
    let mut view = vacant();
    let both = set(&[osaka, tokyo()]);
    let intent = view.intent_mut();
    (intent.sync, intent.sync_next, intent.durability) = (both.clone(), both, Durability::Async);
    recruit(&mut view);
    fence(&mut view, Some(Lsn(FLUSHED.0 + 64)));
    assert_ne!(
        declared(&decide(&view)).and_then(|next| next.primary.clone()),
        Some(tokyo()),
        "osaka may hold more"
    );
}

#[test]
fn a_wiped_or_older_store_is_accepted_only_on_a_persons_word() {
    let promised = Stamp { incarnation: Incarnation(1), epoch: Epoch(5), version: Version(20) };
    for wiped in [true, false] {
        let mut view = healthy();
        if wiped {
            view.intent = None;
        }
        view.agent_mut(&tokyo()).promise = Some(promised);
        let plan = decide(&view);
        assert_eq!(plan.steps, vec![]);
        assert_eq!(plan.holds, vec![Hold::StoreNotBelieved]);
        view.requests = vec![Request { operation: "op".into(), kind: RequestKind::AcceptStore }];
        let asked = vec![(seoul(), Command::Promise), (tokyo(), Command::Promise)];
        assert_eq!(
            orders(&decide(&view)),
            asked,
            "late orders of the earlier life must not be obeyed any more"
        );
        let life = Stamp { incarnation: Incarnation(2), epoch: Epoch(5), version: Version(0) };
        for node in [seoul(), tokyo()] {
            view.agent_mut(&node).promise = Some(life);
        }
        let next = declared(&decide(&view)).cloned().expect("accepts");
        assert_eq!((next.incarnation, next.epoch, next.primary), (Incarnation(2), Epoch(5), Some(seoul())));
        assert!(
            next.sync.is_empty() && next.promotable.is_empty(),
            "nothing is promised until it is proven anew"
        );
        let mut later = view.clone();
        later.agent_mut(&tokyo()).primary_since = Some(promised);
        assert!(matches!(decide(&later).steps.as_slice(), [Step::Refuse { .. }]), "seoul is an old primary");
        view.nodes.get_mut(&tokyo()).expect("tokyo").heard = ago(5_000);
        assert!(matches!(decide(&view).steps.as_slice(), [Step::Refuse { .. }]), "it may remember more");
    }
}

#[test]
fn what_this_member_read_before_is_remembered_too() {
    let mut view = healthy();
    view.remembered = Some(Stamp { version: Version(11), ..intent().stamp() });
    assert_eq!(decide(&view).holds, vec![Hold::StoreNotBelieved]);
}

#[test]
fn what_one_member_alone_has_read_keeps_all_from_believing() {
    let mut view = healthy();
    view.nodes.get_mut(&tokyo()).expect("tokyo").remembered =
        Some(Stamp { version: Version(11), ..intent().stamp() });
    assert_eq!(decide(&view).holds, vec![Hold::StoreNotBelieved]);
}

#[test]
fn exposure_is_shown_of_a_primary_that_is_not_heard_too() {
    let mut view = healthy();
    silent(&mut view, 60_000);
    view.lease = lease_seen(100, None);
    without_set(&mut view);
    let plan = decide(&view);
    assert!(plan.findings.contains(&Finding::Exposed));
    assert_eq!((declared(&plan), &plan.holds), (None, &vec![Hold::LeaseIsRenewed { node: seoul() }]));
}

#[test]
fn a_primary_that_nothing_would_stop_is_a_finding() {
    let mut view = healthy();
    view.agent_mut(&seoul()).guard = Some(GuardFacts { state: GuardState::Off, ..armed() });
    assert!(decide(&view).findings.contains(&Finding::Unguarded { node: seoul() }));
    view.agent_mut(&seoul()).serves_until = None;
    assert!(decide(&view).findings.contains(&Finding::NoRightToServe { node: seoul() }));
}

#[test]
fn a_store_that_does_not_answer_is_a_finding() {
    let mut view = healthy();
    view.store_error = Some("no answer".into());
    assert!(decide(&view).findings.contains(&Finding::StoreLost));
}

#[test]
fn a_store_that_was_never_read_is_lost_and_not_older_than_what_is_remembered() {
    let mut view = healthy();
    view.store_error = Some("no answer".into());
    view.intent = None;
    let plan = decide(&view);
    assert_eq!((plan.steps, plan.holds), (vec![], vec![Hold::StoreLost]));
    assert_eq!(plan.findings, vec![Finding::StoreLost]);
    // It answers, and knows nothing: that is another matter.
    view.store_error = None;
    assert_eq!(decide(&view).holds, vec![Hold::StoreNotBelieved]);
}
