//! The planner by table: a situation, and the exact steps or the named hold that it must lead to.

mod access;
mod app;
mod copy_source;
mod crash;
mod failover;
mod floors;
mod pen;
mod rejoin;
mod rejoin_asked;
mod rescue;
mod scheduled;
mod service;
mod stray;
mod switchover;
mod sync_set;

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

/// The same with a third node, osaka, that is in the sync set, too: a commit is on one of the two at least.
fn vacant_trio() -> (View, NodeId) {
    let osaka = node("osaka");
    let mut view = vacant();
    let third = view.nodes[&tokyo()].clone();
    view.nodes.insert(osaka.clone(), third);
    view.agent_mut(&osaka).standby_name = name_of(&osaka);
    let both = set(&[osaka.clone(), tokyo()]);
    let intent = view.intent_mut();
    (intent.sync, intent.sync_next) = (both.clone(), both);
    intent.promotable = vec![osaka.clone(), tokyo()];
    (view, osaka)
}

/// Nothing is promised of a standby.
fn without_set(view: &mut View) {
    let intent = view.intent_mut();
    (intent.sync, intent.sync_next) = (vec![], vec![]);
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

fn asks(kind: RequestKind) -> Vec<Request> {
    vec![Request { operation: "op-1".into(), kind }]
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
