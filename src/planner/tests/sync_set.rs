//! Whom commits wait for: grown and shrunk in an order in which no commit is promised to the wrong ones.

use super::{rejoin::failed_over, *};

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
fn a_standby_whose_data_directory_was_moved_leaves_the_set_and_is_not_promoted() {
    for durability in [Durability::Sync, Durability::SyncStrict] {
        let mut view = healthy();
        view.intent_mut().durability = durability;
        view.agent_mut(&tokyo()).access.moved = Some("removed".into());
        let policy = Policy { durability, ..Policy::default() };
        let plan = decide_after(&view, &policy, &[], 0);
        assert!(plan.findings.iter().any(|f| matches!(f, Finding::DirectoryMoved { .. })), "{durability:?}");
        let next = declared(&plan).expect("it leaves");
        assert_eq!((next.sync.len(), next.sync_next.len()), (1, 0), "{durability:?}");
        view.server(&seoul(), Server::Down(down(true)));
        let reasons = decide_after(&view, &policy, &[], 0).holds;
        let refused = |hold: &Hold| hold.to_string().contains("its data directory was removed");
        assert!(reasons.iter().any(refused), "{durability:?}: {reasons:?}");
    }
}

#[test]
fn a_primary_whose_data_directory_was_moved_keeps_its_set_for_as_long_as_its_names() {
    let mut view = healthy();
    view.agent_mut(&seoul()).access.moved = Some("moved to /away".into());
    let plan = decide(&view);
    assert_eq!((declared(&plan), orders(&plan)), (None, vec![]));
    view.primary_mut(&seoul()).names = Some(Vec::new());
    let emptied = declared(&decide(&view)).cloned().expect("nothing is promised any more");
    assert_eq!((emptied.sync.len(), emptied.sync_next.len()), (0, 0));
    *view.intent_mut() = emptied;
    let plan = decide(&view);
    assert_eq!((declared(&plan), orders(&plan)), (None, vec![]), "none can be set");
    assert!(plan.findings.contains(&Finding::Exposed));
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

#[test]
fn a_recruit_that_streams_from_where_it_should_is_led_there_again() {
    let mut view = rejoined();
    let stamp = view.intent_mut().stamp();
    view.standby_mut(&seoul()).recruited = Some(stamp);
    let follow = (seoul(), Command::Follow(upstream(&tokyo(), &seoul())));
    assert!(orders(&decide(&view)).contains(&follow));
}
