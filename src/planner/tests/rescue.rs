//! WAL that only the fenced old primary has: when it is waited for, and when no more.

use std::time::Duration;

use super::*;

/// Async, tokyo lacks 0x800 bytes of what seoul had, and seoul is fenced.
fn behind(wal_end: Option<Lsn>) -> View {
    let mut view = vacant();
    let intent = view.intent_mut();
    (intent.sync, intent.sync_next, intent.durability) = (vec![], vec![], Durability::Async);
    recruit(&mut view);
    let standby = view.standby_mut(&tokyo());
    (standby.flushed, standby.replayed) = (Lsn(0x800), Lsn(0x800));
    fence(&mut view, wal_end);
    view
}

fn policy() -> Policy {
    Policy { durability: Durability::Async, ..Policy::default() }
}

fn decide(view: &View) -> Plan {
    plan(view, &Memory::default(), &policy(), NOW)
}

fn command() -> Command {
    Command::Rescue { from: seoul(), within: policy().rescue_max }
}

fn rescues(plan: &Plan) -> bool {
    orders(plan).contains(&(tokyo(), command()))
}

fn chosen(plan: &Plan) -> Option<NodeId> {
    declared(plan).and_then(|next| next.primary.clone())
}

fn key(view: &mut View) -> StepKey {
    let stamp = view.intent_mut().stamp();
    Step::Order { node: tokyo(), command: command(), stamp }.key()
}

fn fail(view: &mut View, failures: u32) {
    let key = key(view);
    view.attempts.insert(key, Attempt { failures, at: ago(60_000), error: "no answer".into() });
}

#[test]
fn nobody_is_declared_before_the_rescue_has_ended() {
    let mut view = behind(None);
    let first = decide(&view);
    assert!(rescues(&first) && chosen(&first).is_none(), "{first:?}");
    assert_eq!(first.memory.rescue, Some((Epoch(4), NOW)));
    // Under way, its attest taken back: neither recruited again nor is the old one declared.
    let under_way = key(&mut view);
    view.underway.insert(under_way.clone());
    view.standby_mut(&tokyo()).recruited = None;
    let waits = decide(&view);
    assert_eq!((orders(&waits), declared(&waits)), (vec![], None));
    view.underway.remove(&under_way);
    recruit(&mut view);
    let under = view.intent_mut().stamp();
    view.agent_mut(&tokyo()).rescued = Some(Rescued { under, from: seoul(), bytes: 0x800 });
    assert_eq!(chosen(&decide(&view)), Some(tokyo()));
    let earlier = Stamp { epoch: Epoch(3), ..under };
    view.agent_mut(&tokyo()).rescued = Some(Rescued { under: earlier, from: seoul(), bytes: 0x800 });
    assert!(rescues(&decide(&view)), "of an earlier epoch: says nothing");
}

#[test]
fn there_is_no_rescue_where_it_could_bring_nothing() {
    let whole = behind(Some(Lsn(0x800)));
    assert_eq!(chosen(&decide(&whole)), Some(tokyo()), "it has everything");
    let view = behind(None);
    let off = Policy { rescue_max: Duration::ZERO, ..policy() };
    assert_eq!(chosen(&plan(&view, &Memory::default(), &off, NOW)), Some(tokyo()));
    let mut unfenced = behind(None);
    unfenced.server(&seoul(), Server::Down(down(true)));
    assert!(!rescues(&decide(&unfenced)), "its orphans may still be writing");
    let mut half = behind(None);
    half.agent_mut(&seoul()).unfinished = Some(Unfinished::Rewind);
    assert!(!rescues(&decide(&half)), "what is half rewound is of two histories");
    let mut proven = vacant();
    recruit(&mut proven);
    fence(&mut proven, None);
    assert_eq!(chosen(&decide(&proven)), Some(tokyo()), "a set holds everything that was acknowledged");
}

#[test]
fn what_does_not_come_is_not_waited_for() {
    let mut view = behind(None);
    fail(&mut view, 2);
    assert!(rescues(&decide(&view)), "tried again");
    fail(&mut view, 3);
    assert_eq!(chosen(&decide(&view)), Some(tokyo()), "in vain");
    let view = behind(None);
    let began = |ms| Memory { rescue: Some((Epoch(4), ago(ms))), ..Memory::default() };
    assert!(rescues(&plan(&view, &began(1_900), &policy(), NOW)));
    assert_eq!(chosen(&plan(&view, &began(2_000), &policy(), NOW)), Some(tokyo()), "too late");
    let mut silent = behind(None);
    silent.nodes.get_mut(&seoul()).expect("seoul").heard = ago(60_000);
    assert!(!rescues(&decide(&silent)));
}

#[test]
fn in_sync_without_a_set_a_rescue_makes_the_standby_whole() {
    let mut view = behind(Some(FLUSHED));
    view.intent_mut().durability = Durability::Sync;
    let decide = |view: &View| plan(view, &Memory::default(), &Policy::default(), NOW);
    assert!(rescues(&decide(&view)));
    fail(&mut view, 3);
    assert_ne!(chosen(&decide(&view)), Some(tokyo()), "it lacks what was acknowledged");
    view.standby_mut(&tokyo()).replayed = FLUSHED;
    assert_eq!(chosen(&decide(&view)), Some(tokyo()));
}

#[test]
fn a_loss_that_is_too_much_is_allowed_only_as_long_as_a_rescue_may_undo_it() {
    let strict = Policy { max_data_loss: 64, ..policy() };
    let decide = |view: &View| crate::planner::plan(view, &Memory::default(), &strict, NOW);
    let mut alive = behind(None);
    *alive.intent_mut() = Intent { primary: Some(seoul()), previous: None, ..alive.intent_mut().clone() };
    alive.standby_mut(&tokyo()).recruited = None;
    alive.server(&seoul(), Server::Down(down(true)));
    let served = alive.intent_mut().stamp();
    alive.agent_mut(&seoul()).primary_since = Some(served);
    let plan = decide(&alive);
    assert!(declared(&plan).is_some_and(|next| next.primary.is_none()), "the epoch ends: {plan:?}");
    alive.nodes.get_mut(&seoul()).expect("seoul").heard = ago(600);
    assert_eq!(declared(&decide(&alive)), None, "nobody is there who could hand anything over");

    let mut view = behind(Some(FLUSHED));
    assert!(rescues(&decide(&view)));
    fail(&mut view, 3);
    assert_eq!(chosen(&decide(&view)), Some(seoul()), "in vain: the old one is started again");

    let mut view = behind(None);
    let under = view.intent_mut().stamp();
    view.agent_mut(&tokyo()).rescued = Some(Rescued { under, from: seoul(), bytes: 0 });
    assert_eq!(chosen(&decide(&view)), Some(tokyo()), "everything there was, whatever the reading said");
}

#[test]
fn a_lease_that_ran_out_does_not_lift_the_limit() {
    let strict = Policy { max_data_loss: 64, ..policy() };
    let mut view = behind(None);
    view.server(&seoul(), Server::Down(down(true)));
    let stamp = view.intent_mut().stamp();
    view.lease = lease_seen(60_000, Some(stamp));
    assert_eq!(declared(&plan(&view, &Memory::default(), &strict, NOW)), None);
}

#[test]
fn the_most_advanced_is_rescued() {
    let mut view = behind(None);
    let busan = node("busan");
    let mut third = view.nodes[&tokyo()].clone();
    if let Some(Server::Standby(standby)) = third.agent.as_mut().map(|agent| &mut agent.server.value) {
        (standby.flushed, standby.replayed) = (Lsn(0x900), Lsn(0x900));
    }
    view.nodes.insert(busan.clone(), third);
    view.intent_mut().promotable.push(busan.clone());
    let plan = decide(&view);
    assert_eq!(orders(&plan), vec![(busan, command())]);
    assert_eq!(declared(&plan), None);
}

#[test]
fn nobody_else_is_declared_while_one_is_being_rescued_however_the_pen_was_taken() {
    let (mut view, osaka) = vacant_trio();
    recruit(&mut view);
    let stamp = view.intent_mut().stamp();
    view.standby_mut(&osaka).recruited = Some(stamp);
    assert_eq!(chosen(&decide(&view)), Some(osaka.clone()), "every member is recruited, and none has more");
    // Its attest is being taken back, which is not seen yet.
    let under_way = key(&mut view);
    view.underway.insert(under_way);
    assert_eq!(chosen(&decide(&view)), None);
    let too_long = Memory { rescue: Some((Epoch(4), ago(2_000))), ..Memory::default() };
    assert_eq!(chosen(&plan(&view, &too_long, &policy(), NOW)), Some(osaka));
}
