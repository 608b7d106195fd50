//! A standby that left recovery without an order, and one whose settings would end or delay it.

use super::{rejoin::failed_over, *};

fn strayed() -> Option<Stray> {
    Some(Stray { under: intent().stamp(), at: jiff::Timestamp::UNIX_EPOCH })
}

/// Tokyo serves epoch 4 on timeline 4; seoul, which never was primary since it followed, left recovery and was ended.
fn stopped(own: Option<Timeline>) -> View {
    let mut view = failed_over(Down { wal_timeline: own, ..down(true) });
    let agent = view.agent_mut(&seoul());
    (agent.primary_since, agent.strayed) = (None, strayed());
    view
}

fn ordered(view: &View) -> Vec<&'static str> {
    orders(&decide(view)).iter().map(|(_, command)| command.name()).collect()
}

#[test]
fn one_that_left_recovery_is_told_and_rewound_and_never_just_followed() {
    let view = stopped(Some(Timeline(5)));
    let plan = decide(&view);
    assert!(plan.findings.contains(&Finding::LeftRecovery { node: seoul() }), "{:?}", plan.findings);
    assert_eq!(ordered(&view), ["rewind"]);
    let mut followed = stopped(Some(Timeline(5)));
    followed.agent_mut(&seoul()).strayed = None;
    assert_eq!(ordered(&followed), ["follow"], "else it would be taken for whole");
}

#[test]
fn one_whose_own_timeline_has_the_number_of_the_primarys_is_cloned() {
    // `pg_rewind` would see no difference.
    assert_eq!(ordered(&stopped(Some(Timeline(4)))), ["clone"]);
}

#[test]
fn what_it_wrote_on_is_read_before_anything_is_chosen() {
    assert_eq!(ordered(&stopped(None)), [""; 0]);
}

#[test]
fn a_member_of_the_sync_set_that_left_recovery_is_not_led_back_as_it_is() {
    let mut view = healthy();
    view.server(&tokyo(), Server::Down(down(true)));
    view.agent_mut(&tokyo()).strayed = strayed();
    let names = ordered(&view);
    assert!(!names.contains(&"follow") && !names.contains(&"rewind"), "{names:?}");
    view.agent_mut(&tokyo()).strayed = None;
    assert!(ordered(&view).contains(&"follow"));
}

fn delay(in_force: bool) -> Hindrance {
    let (setting, value) = ("recovery_min_apply_delay".to_owned(), "90s".to_owned());
    Hindrance { setting, value, file: Some("postgresql.auto.conf".into()), in_force }
}

#[test]
fn a_standby_that_replays_late_on_purpose_is_named_and_not_promoted() {
    let why = |view: &View| {
        let (memory, policy) = (Memory::default(), Policy::default());
        let case = Case::new(view, &memory, &policy, NOW);
        super::super::candidate::why_not(&case, &intent(), &tokyo()).err()
    };
    let mut view = healthy();
    assert_eq!(why(&view), None);
    view.agent_mut(&tokyo()).hindrances = vec![delay(false)];
    assert_eq!(why(&view), None, "a file that the server has not read yet delays nothing");
    view.agent_mut(&tokyo()).hindrances = vec![delay(true)];
    assert_eq!(why(&view).as_deref(), Some("its replay is delayed by recovery_min_apply_delay = 90s"));
    let found = Finding::RecoveryHindered { node: tokyo(), hindrance: delay(true) };
    assert!(decide(&view).findings.contains(&found));
}
