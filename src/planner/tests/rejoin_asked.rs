//! A person asks a node back.

use super::*;

fn asks_back(node: NodeId, from_scratch: bool) -> Vec<Request> {
    asks(RequestKind::Rejoin { node, from_scratch })
}

/// Tokyo was asked back, and that was taken.
fn asked(from_scratch: bool) -> View {
    let mut view = healthy();
    let rejoin = Rejoin { node: tokyo(), from_scratch, operation: "op-1".into(), name: name_of(&tokyo()) };
    *view.intent_mut() = Intent { rejoin: Some(rejoin), ..intent() }.raised();
    view
}

fn refused(plan: &Plan) -> Option<&Vec<String>> {
    plan.steps.iter().find_map(|step| match step {
        Step::Refuse { blockers, .. } => Some(blockers),
        _ => None,
    })
}

/// Tokyo does not stand in the sync set, and is down.
fn out_of_the_set(view: &mut View) {
    without_set(view);
    view.primary_mut(&seoul()).names = Some(vec![]);
    view.server(&tokyo(), Server::Down(down(false)));
}

/// What had failed before was forgotten.
fn begun() -> Memory {
    Memory { rejoin: Some("op-1".into()), ..Memory::default() }
}

fn told(view: &View, memory: &Memory) -> Plan {
    plan(view, memory, &Policy::default(), NOW)
}

#[test]
fn every_reason_against_a_rejoin_is_named() {
    type Spoil = fn(&mut View);
    let cases: [(NodeId, bool, Spoil, &str); 9] = [
        (seoul(), true, |_| (), "seoul is the primary"),
        (node("nobody"), false, |_| (), "nobody is not known"),
        (tokyo(), false, |_| (), "streams already"),
        (
            tokyo(),
            true,
            |v| v.nodes.get_mut(&tokyo()).expect("tokyo").heard = ago(60_000),
            "nothing is heard",
        ),
        (tokyo(), true, |v| v.agent_mut(&tokyo()).system = Some(SystemId(8)), "belongs to another system"),
        (tokyo(), true, |v| v.intent_mut().durability = Durability::SyncStrict, "the only standby"),
        (tokyo(), true, |v| v.primary_mut(&seoul()).probe.failing_since = Some(ago(1_000)), "is not well"),
        (
            tokyo(),
            true,
            |v| {
                let handover = Handover { to: tokyo(), operation: "op-0".into(), since: Version(10) };
                v.intent_mut().handover = Some(handover);
            },
            "a switchover to tokyo is under way",
        ),
        (
            tokyo(),
            true,
            |v| v.intent_mut().rejoin = asked(true).intent_mut().rejoin.clone(),
            "being brought back",
        ),
    ];
    for (node, from_scratch, spoil, reason) in cases {
        let mut view = healthy();
        spoil(&mut view);
        if let Some(asked) = &mut view.intent_mut().rejoin {
            asked.operation = "op-0".into();
        }
        view.requests = asks_back(node, from_scratch);
        let plan = decide(&view);
        let blockers = refused(&plan).unwrap_or_else(|| panic!("{reason}: {:?}", plan.steps));
        assert!(blockers.iter().any(|blocker| blocker.contains(reason)), "{reason}: {blockers:?}");
        let kind = &view.requests[0].kind;
        assert_eq!(crate::planner::blockers(&view, &Policy::default(), NOW, kind), *blockers);
        assert!(
            declared(&plan)
                .is_none_or(|next| next.rejoin == view.intent.as_ref().and_then(|i| i.rejoin.clone()))
        );
    }
}

#[test]
fn a_rejoin_is_taken_into_the_intent_once() {
    let mut view = healthy();
    view.requests = asks_back(tokyo(), true);
    let taken = declared(&decide(&view)).and_then(|next| next.rejoin.clone()).expect("taken");
    assert_eq!((taken.node, taken.name, taken.from_scratch), (tokyo(), name_of(&tokyo()), true));
    let mut view = asked(true);
    view.requests = asks_back(tokyo(), true);
    view.requests[0].operation = "op-1".into();
    assert_eq!(refused(&decide(&view)), None, "not refused because of itself");
}

#[test]
fn a_member_of_the_set_leaves_it_before_it_is_fenced_and_cloned() {
    let mut view = asked(true);
    let plan = decide(&view);
    assert_eq!(orders(&plan), vec![], "nothing destructive is done to a member");
    assert_eq!(declared(&plan).map(|next| next.sync_next.clone()), Some(vec![]));
    // It streams, and is not taken in again.
    without_set(&mut view);
    view.primary_mut(&seoul()).names = Some(vec![]);
    let plan = decide(&view);
    assert_eq!((orders(&plan), declared(&plan)), (vec![(tokyo(), Command::Fence)], None));
    view.server(&tokyo(), Server::Down(down(false)));
    // A standby has nothing of its own, so nothing of it is called lost.
    let clone = Command::Clone(upstream(&seoul(), &tokyo()), None, None);
    assert_eq!(orders(&decide(&view)), vec![(tokyo(), clone)]);
    view.agent_mut(&tokyo()).primary_since = Some(Stamp::default());
    let clone = Command::Clone(upstream(&seoul(), &tokyo()), Some(SWITCH), None);
    assert_eq!(orders(&decide(&view)), vec![(tokyo(), clone)], "what it gives up is saved");
}

#[test]
fn it_has_ended_when_the_clone_streams_and_not_before() {
    let mut view = asked(true);
    out_of_the_set(&mut view);
    view.agent_mut(&tokyo()).standby_name = StandbyName("locum_tokyo_ffff".into());
    let follow = Command::Follow(upstream(&seoul(), &tokyo()));
    assert_eq!(orders(&decide(&view)), vec![(tokyo(), follow)], "it has another name: it was cloned");
    view.server(&tokyo(), Server::Standby(Standby { streaming: false, ..standby() }));
    assert_eq!(declared(&decide(&view)), None);
    view.server(&tokyo(), Server::Standby(standby()));
    assert_eq!(declared(&decide(&view)).map(|next| next.rejoin.clone()), Some(None));
}

#[test]
fn what_failed_before_is_forgotten_once_and_everything_is_tried_anew() {
    let mut view = asked(false);
    out_of_the_set(&mut view);
    let failed = ["follow", "rewind", "clone"].map(|what| (what.to_owned(), "no".to_owned()));
    view.agent_mut(&tokyo()).failed = failed.to_vec();
    assert_eq!(orders(&decide(&view)), vec![(tokyo(), Command::Forget)]);
    view.agent_mut(&tokyo()).failed.clear();
    let plan = decide(&view);
    assert_eq!(orders(&plan), vec![(tokyo(), Command::Follow(upstream(&seoul(), &tokyo())))]);
    assert_eq!(plan.memory.rejoin.as_deref(), Some("op-1"));
    // Everything failed again: whoever asked is told, and the node rests as before.
    view.agent_mut(&tokyo()).failed = failed.to_vec();
    let plan = told(&view, &begun());
    assert_eq!(refused(&plan).map(Vec::len), Some(3));
    assert_eq!(declared(&plan).map(|next| next.rejoin.clone()), Some(None));
    assert!(plan.findings.contains(&Finding::Quarantined { node: tokyo() }), "{:?}", plan.findings);
}

#[test]
fn a_clone_that_fails_is_no_rejoin_from_scratch_though_the_node_could_stream() {
    let mut view = asked(true);
    out_of_the_set(&mut view);
    view.agent_mut(&tokyo()).failed = vec![("clone".into(), "No space left on device".into())];
    view.agent_mut(&tokyo()).standby_name = StandbyName("locum_tokyo_ffff".into());
    // Also to a leader that knows nothing of the beginning.
    for memory in [Memory::default(), begun()] {
        let plan = told(&view, &memory);
        assert!(refused(&plan).is_some_and(|why| why[0].contains("No space left")), "{:?}", plan.steps);
        assert_eq!(declared(&plan).map(|next| next.rejoin.clone()), Some(None));
        assert_eq!(orders(&plan), vec![]);
    }
}

#[test]
fn a_node_that_stays_away_is_not_waited_for() {
    let mut view = asked(true);
    view.nodes.get_mut(&tokyo()).expect("tokyo").heard = ago(60_000);
    let silent = [Finding::StandbyUnreachable { node: tokyo() }];
    assert_eq!(refused(&decide_after(&view, &Policy::default(), &silent, 59_900)), None);
    let plan = decide_after(&view, &Policy::default(), &silent, 60_000);
    assert!(refused(&plan).is_some_and(|why| why[0].contains("nothing was heard")), "{:?}", plan.steps);
}

#[test]
fn a_server_that_never_becomes_a_standby_is_ended_and_brought_back_otherwise() {
    let mut view = asked(false);
    view.intent_mut().rejoin = None;
    without_set(&mut view);
    view.primary_mut(&seoul()).names = Some(vec![]);
    view.server(&tokyo(), Server::Starting);
    view.agent_mut(&tokyo()).told = Some(upstream(&seoul(), &tokyo()));
    view.agent_mut(&tokyo()).job = Some("starting PostgreSQL".into());
    let lost = [Finding::StandbyLost { node: tokyo() }];
    let starting = decide_after(&view, &Policy::default(), &lost, 90_000);
    assert_eq!(orders(&starting), vec![], "its own agent waits for it, up to a limit");
    // It has given it up.
    view.agent_mut(&tokyo()).job = None;
    view.agent_mut(&tokyo()).failed =
        vec![("follow".into(), "PostgreSQL does not accept connections".into())];
    let fence = vec![(tokyo(), Command::Fence)];
    assert_eq!(orders(&decide_after(&view, &Policy::default(), &lost, 90_000)), fence);
    view.server(&tokyo(), Server::Down(down(true)));
    view.agent_mut(&tokyo()).primary_since = Some(Stamp::default());
    assert!(
        matches!(orders(&decide(&view)).as_slice(), [(_, Command::Rewind(..))]),
        "{:?}",
        decide(&view).steps
    );
}

#[test]
fn another_epoch_ends_it_and_a_switchover_does_not_go_there() {
    assert_eq!(asked(true).intent_mut().vacated(None).rejoin, None);
    let mut view = asked(true);
    view.requests = asks(RequestKind::Switchover { to: Some(tokyo()) });
    view.requests[0].operation = "op-2".into();
    let plan = decide(&view);
    assert!(
        refused(&plan).is_some_and(|why| why.iter().any(|why| why.contains("about to be cloned"))),
        "{:?}",
        plan.steps
    );
}
