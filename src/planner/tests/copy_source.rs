//! Whether a clone is copied from a standby or from the primary.

use super::{
    service::{osaka, trio},
    *,
};

/// Tokyo is to be cloned; osaka streams from seoul, and commits wait for it.
fn to_be_cloned() -> View {
    let mut view = trio();
    let osaka_only = set(&[osaka()]);
    let intent = view.intent_mut();
    (intent.sync, intent.sync_next) = (osaka_only.clone(), osaka_only);
    (view.agent_mut(&tokyo()).unfinished, view.agent_mut(&tokyo()).system) = (Some(Unfinished::Clone), None);
    view.server(&tokyo(), Server::Down(Down { control: None, wal_end: None, ..down(false) }));
    let slot = view.primary_mut(&seoul()).slots.iter_mut().find(|slot| slot.name == tokyo().slot());
    let slot = slot.expect("the slot of the one to be cloned");
    (slot.active, slot.retained) = (false, 256);
    view
}

/// From where the clone is copied that is ordered. None: the primary.
fn copied_from(view: &View) -> Option<NodeId> {
    let plan = decide(view);
    let cloned = orders(&plan).into_iter().find_map(|(node, command)| match command {
        Command::Clone(upstream, _, source) if node == tokyo() => Some((upstream, source)),
        _ => None,
    });
    let (to_follow, source) = cloned.unwrap_or_else(|| panic!("no clone: {plan:#?}"));
    assert_eq!(to_follow, upstream(&seoul(), &tokyo()), "it follows the primary all the same");
    source.map(|source| source.node)
}

#[test]
fn a_standby_that_is_up_to_date_is_copied_and_not_the_primary() {
    assert_eq!(copied_from(&to_be_cloned()), Some(osaka()));
}

#[test]
fn in_a_pair_the_primary_is_copied() {
    let mut view = to_be_cloned();
    view.nodes.remove(&osaka());
    view.members.remove(&osaka());
    without_set(&mut view);
    view.primary_mut(&seoul()).names = Some(vec![]);
    assert_eq!(copied_from(&view), None);
}

#[test]
fn a_standby_that_is_unfit_is_not_copied() {
    let far = Lsn(FLUSHED.0 + (1 << 30));
    type Spoil = fn(&mut View);
    let spoilt: [(&str, Spoil); 8] = [
        ("it must not be copied", |view| view.agent_mut(&osaka()).no_clone = true),
        ("it does not stream", |view| view.standby_mut(&osaka()).streaming = false),
        ("it streams from elsewhere", |view| {
            view.standby_mut(&osaka()).upstream = Some(upstream(&tokyo(), &osaka()));
        }),
        ("it has not come to the timeline", |view| view.standby_mut(&osaka()).timeline = Timeline(2)),
        ("replay is paused", |view| view.standby_mut(&osaka()).replay = ReplayState::PausedByPerson),
        ("something is done to it", |view| view.agent_mut(&osaka()).job = Some("rewinding".into())),
        ("a person works on it", |view| view.intent_mut().drained.push(osaka())),
        ("what it lacks is not kept", |view| view.standby_mut(&osaka()).replayed = Lsn(FLUSHED.0 - 257)),
    ];
    for (why, spoil) in spoilt {
        let mut view = to_be_cloned();
        spoil(&mut view);
        assert_eq!(copied_from(&view), None, "{why}");
    }
    let mut view = to_be_cloned();
    view.primary_mut(&seoul()).flushed = far;
    view.primary_mut(&seoul()).slots.iter_mut().for_each(|slot| slot.retained = 2 << 30);
    assert_eq!(copied_from(&view), None, "it is far behind");
}
