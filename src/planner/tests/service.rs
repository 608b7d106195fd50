//! Which nodes are in service.

use super::*;

pub(super) fn osaka() -> NodeId {
    node("osaka")
}

/// A healthy pair with a second standby, which stands in the sync set too.
pub(super) fn trio() -> View {
    let mut view = healthy();
    let mut third = view.nodes[&tokyo()].clone();
    if let Some(agent) = &mut third.agent {
        agent.standby_name = name_of(&osaka());
        if let Server::Standby(standby) = &mut agent.server.value {
            standby.upstream = Some(upstream(&seoul(), &osaka()));
        }
    }
    view.nodes.insert(osaka(), third);
    view.members.insert(osaka());
    let both = set(&[osaka(), tokyo()]);
    let intent = view.intent_mut();
    (intent.sync, intent.sync_next) = (both.clone(), both);
    intent.promotable = vec![osaka(), tokyo()];
    let primary = view.primary_mut(&seoul());
    let sender = WalSender { name: name_of(&osaka()), ..primary.senders[0].clone() };
    primary.senders.push(sender);
    primary.slots.push(Slot { name: osaka().slot(), active: true, retained: 0 });
    view
}

fn asks_for(view: &mut View, kind: RequestKind) -> Plan {
    view.requests = asks(kind);
    decide(view)
}

fn blockers_of(plan: &Plan) -> Vec<String> {
    let refused = plan.steps.iter().find_map(|step| match step {
        Step::Refuse { blockers, .. } => Some(blockers.clone()),
        _ => None,
    });
    refused.unwrap_or_default()
}

#[test]
fn every_reason_against_a_drain_or_a_removal_is_named() {
    type Spoil = fn(&mut View);
    let drain = |node: NodeId| RequestKind::Drain { node };
    let remove = |node: NodeId| RequestKind::Remove { node };
    let cases: [(RequestKind, Spoil, &str); 7] = [
        (drain(seoul()), |_| (), "seoul is the primary"),
        (drain(node("nobody")), |_| (), "nobody is not known"),
        (drain(osaka()), |view| view.intent_mut().removed = vec![osaka()], "was removed"),
        (
            drain(osaka()),
            |view| {
                let handover = Handover { to: osaka(), operation: "op-0".into(), since: Version(10) };
                view.intent_mut().handover = Some(handover);
            },
            "a switchover to osaka is under way",
        ),
        (
            drain(tokyo()),
            |view| {
                let intent = view.intent_mut();
                intent.durability = Durability::SyncStrict;
                (intent.sync, intent.sync_next) = (set(&[tokyo()]), set(&[tokyo()]));
            },
            "the only standby",
        ),
        (remove(osaka()), |_| (), "is in service"),
        (remove(osaka()), |view| view.intent_mut().drained = vec![osaka()], "still being drained"),
    ];
    for (kind, spoil, reason) in cases {
        let mut view = trio();
        spoil(&mut view);
        let plan = asks_for(&mut view, kind.clone());
        let blockers = blockers_of(&plan);
        assert!(blockers.iter().any(|blocker| blocker.contains(reason)), "{reason}: {blockers:?}");
        assert_eq!(crate::planner::blockers(&view, &Policy::default(), NOW, &kind), blockers);
    }
}

#[test]
fn a_drained_node_leaves_the_set_and_the_list_and_is_left_alone() {
    let mut view = trio();
    let plan = asks_for(&mut view, RequestKind::Drain { node: osaka() });
    *view.intent_mut() = declared(&plan).expect("taken").clone();
    view.requests.clear();
    assert_eq!(view.intent_mut().drained, vec![osaka()]);

    let plan = decide(&view);
    assert!(plan.findings.contains(&Finding::Drained { node: osaka() }));
    let next = declared(&plan).expect("a change of the set or of the list").clone();
    assert!(next.sync_next == set(&[tokyo()]) || next.promotable == vec![tokyo()], "{next:?}");

    let intent = view.intent_mut();
    (intent.sync, intent.sync_next, intent.promotable) = (set(&[tokyo()]), set(&[tokyo()]), vec![tokyo()]);
    assert!(intent.is_free_of(&osaka()));
    view.primary_mut(&seoul()).names = Some(vec![name_of(&tokyo())]);
    view.server(&osaka(), Server::Down(down(false)));
    let touched = |plan: &Plan| orders(plan).iter().any(|(node, _)| *node == osaka());
    assert!(!touched(&decide(&view)), "a person stopped it");
    let plan = asks_for(&mut view, RequestKind::Restore { node: osaka() });
    *view.intent_mut() = declared(&plan).expect("taken").clone();
    view.requests.clear();
    assert!(touched(&decide(&view)), "it is in service again");
}

#[test]
fn a_drained_node_is_not_promoted() {
    for drained in [vec![], vec![osaka()]] {
        let mut view = vacant();
        let third = view.nodes[&tokyo()].clone();
        view.nodes.insert(osaka(), third);
        view.agent_mut(&osaka()).standby_name = name_of(&osaka());
        let both = set(&[osaka(), tokyo()]);
        let intent = view.intent_mut();
        (intent.sync, intent.sync_next) = (both.clone(), both);
        intent.promotable = vec![osaka(), tokyo()];
        intent.drained.clone_from(&drained);
        recruit(&mut view);
        let stamp = view.intent_mut().stamp();
        view.standby_mut(&osaka()).recruited = Some(stamp);
        let chosen = declared(&decide(&view)).and_then(|next| next.primary.clone());
        assert_eq!(chosen, Some(if drained.is_empty() { osaka() } else { tokyo() }));
    }
}

#[test]
fn a_removed_member_does_nothing_more() {
    let mut view = trio();
    view.node = Some(osaka());
    view.intent_mut().removed = vec![osaka()];
    let plan = decide(&view);
    assert_eq!(plan.steps, vec![]);
    assert!(plan.findings.contains(&Finding::Removed { node: osaka() }));
}
