//! App servers: which one is active, who takes over, and which need not run.

use super::{
    service::{osaka, trio},
    *,
};

#[test]
fn an_app_that_stays_down_is_replaced_without_moving_the_database() {
    let finding = [Finding::AppDown { node: seoul() }];
    let mut view = healthy();
    let app = view.agent_mut(&seoul()).app.as_mut().expect("an app");
    (app.healthy, app.failing_since, app.error) = (false, Some(ago(900)), Some("connection refused".into()));
    let policy = Policy::default();
    assert_eq!(declared(&decide_after(&view, &policy, &finding, 100)), None, "grace");
    let next = declared(&decide_after(&view, &policy, &finding, 900)).cloned().expect("flips");
    assert_eq!((next.app, next.primary, next.epoch), (Some(tokyo()), Some(seoul()), Epoch(3)));
}

#[test]
fn an_app_whose_process_has_ended_is_replaced_sooner_than_one_that_hangs() {
    let moves = |failure, finding, ms| {
        let mut view = healthy();
        let app = view.agent_mut(&seoul()).app.as_mut().expect("an app");
        (app.healthy, app.failure) = (false, Some(failure));
        declared(&decide_after(&view, &Policy::default(), &[finding], ms)).is_some()
    };
    let (down, hung) = (Finding::AppDown { node: seoul() }, Finding::AppHung { node: seoul() });
    assert!(!moves(AppFailure::Refuses, down.clone(), 90) && moves(AppFailure::Refuses, down.clone(), 100));
    assert!(!moves(AppFailure::Unwell, down.clone(), 490) && moves(AppFailure::Unwell, down, 500));
    assert!(!moves(AppFailure::Hangs, hung.clone(), 490) && moves(AppFailure::Hangs, hung, 500));
}

#[test]
fn a_free_app_stays_where_it_is_as_long_as_it_is_well() {
    let place = |tie, healthy_there| {
        let mut view = healthy();
        view.intent_mut().app = Some(seoul());
        view.agent_mut(&seoul()).app.as_mut().expect("an app").healthy = healthy_there;
        let policy = Policy { app: tie, ..Policy::default() };
        let intent = view.intent_mut().clone();
        vacancy::with_app_of(&Case::new(&view, &Memory::default(), &policy, NOW), intent, &tokyo()).app
    };
    assert_eq!(place(AppTie::Tied, true), Some(tokyo()));
    assert_eq!(place(AppTie::Free, true), Some(seoul()));
    assert_eq!(place(AppTie::Free, false), Some(tokyo()));
}

#[test]
fn an_app_whose_host_is_lost_is_replaced_and_one_whose_member_restarts_is_not() {
    let finding = [Finding::AppDown { node: tokyo() }];
    let policy = Policy::default();
    let mut view = healthy();
    view.intent_mut().app = Some(tokyo());
    view.nodes.get_mut(&tokyo()).expect("tokyo").heard = ago(9_900);
    let flips = |plan: &Plan| declared(plan).is_some_and(|next| next.app == Some(seoul()));
    assert!(!flips(&decide_after(&view, &policy, &finding, 900)));
    view.nodes.get_mut(&tokyo()).expect("tokyo").heard = ago(10_600);
    assert!(flips(&decide_after(&view, &policy, &finding, 600)));
}

#[test]
fn apps_that_fail_with_the_database_do_not_flip() {
    let finding = [Finding::AppDown { node: seoul() }];
    let mut view = healthy();
    view.agent_mut(&seoul()).app.as_mut().expect("an app").healthy = false;
    view.primary_mut(&seoul()).probe.failing_since = Some(ago(500));
    assert_eq!(declared(&decide_after(&view, &Policy::default(), &finding, 60_000)), None);
}

/// Tokyo's app does not run, and can be started.
fn with_a_cold_one() -> View {
    let mut view = healthy();
    let app = view.agent_mut(&tokyo()).app.as_mut().expect("an app");
    (app.healthy, app.startable, app.failing_since) = (false, true, Some(ago(60_000)));
    view
}

#[test]
fn an_app_that_can_be_started_need_not_run_and_takes_over_where_none_is_well() {
    let mut view = with_a_cold_one();
    let plan = decide(&view);
    assert_eq!((declared(&plan), plan.findings.as_slice()), (None, &[] as &[Finding]));

    let app = view.agent_mut(&seoul()).app.as_mut().expect("an app");
    (app.healthy, app.failure) = (false, Some(AppFailure::Refuses));
    let finding = [Finding::AppDown { node: seoul() }];
    let plan = decide_after(&view, &Policy::default(), &finding, 100);
    assert_eq!(declared(&plan).and_then(|next| next.app.clone()), Some(tokyo()));
    let evidence = plan.cause.expect("a cause").evidence;
    assert!(evidence.iter().any(|line| line.contains("can be started")), "{evidence:?}");
}

#[test]
fn one_that_is_well_comes_before_one_that_would_have_to_be_started() {
    let mut view = trio();
    let cold = view.agent_mut(&osaka()).app.as_mut().expect("an app");
    (cold.healthy, cold.startable) = (false, true);
    let down = view.agent_mut(&seoul()).app.as_mut().expect("an app");
    (down.healthy, down.failure) = (false, Some(AppFailure::Refuses));
    let finding = [Finding::AppDown { node: seoul() }];
    let plan = decide_after(&view, &Policy::default(), &finding, 100);
    assert_eq!(declared(&plan).and_then(|next| next.app.clone()), Some(tokyo()));
}

#[test]
fn an_app_that_is_being_started_has_its_time() {
    let mut view = with_a_cold_one();
    view.intent_mut().app = Some(tokyo());
    let finding = [Finding::AppDown { node: tokyo() }];
    let moves = |view: &View| declared(&decide_after(view, &Policy::default(), &finding, 20_000)).is_some();
    view.agent_mut(&tokyo()).app.as_mut().expect("an app").starting = true;
    assert!(!moves(&view));
    view.agent_mut(&tokyo()).app.as_mut().expect("an app").starting = false;
    assert!(moves(&view));
}
