//! Who would serve clients, who lets its own agent in, and what clients may see after a start in place.

use std::time::Duration;

use super::*;

fn osaka() -> NodeId {
    NodeId::new("osaka").expect("good name")
}

fn read_only() -> ClientLook {
    ClientLook::ReadOnly { setting: "default_transaction_read_only".into(), source: "ALTER SYSTEM".into() }
}

fn meets(view: &mut View, node: &NodeId, look: ClientLook) {
    view.agent_mut(node).access.client = Some(Seen { value: look, at: ago(100) });
}

fn refuses(view: &mut View, node: &NodeId, ms: u64) {
    let refused = Seen { value: "pg_hba.conf rejects connection (28000)".to_owned(), at: ago(ms) };
    view.agent_mut(node).access.refused = Some(refused);
}

/// Tokyo and osaka are both recruited after seoul's end.
fn both_recruited(durability: Durability) -> View {
    let mut view = vacant();
    view.nodes.insert(osaka(), view.nodes[&tokyo()].clone());
    let name = name_of(&osaka());
    view.agent_mut(&osaka()).standby_name = name;
    view.members.insert(osaka());
    let both = set(&[osaka(), tokyo()]);
    let intent = view.intent_mut();
    intent.promotable = vec![osaka(), tokyo()];
    intent.durability = durability;
    (intent.sync, intent.sync_next) = match durability {
        Durability::Async => (Vec::new(), Vec::new()),
        _ => (both.clone(), both),
    };
    let stamp = intent.stamp();
    for node in [osaka(), tokyo()] {
        view.agent_mut(&node).promise = Some(stamp);
        let standby = view.standby_mut(&node);
        (standby.recruited, standby.streaming, standby.upstream) = (Some(stamp), false, None);
    }
    fence(&mut view, Some(FLUSHED));
    view
}

fn chosen(view: &View) -> Option<NodeId> {
    let policy = Policy { rescue_max: Duration::ZERO, max_data_loss: 1 << 20, ..Policy::default() };
    declared(&plan(view, &Memory::default(), &policy, NOW)).and_then(|next| next.primary.clone())
}

#[test]
fn a_standby_on_which_clients_cannot_write_is_not_promoted_while_another_is_there() {
    for look in [read_only(), ClientLook::Refused { said: "role is not permitted to log in (28000)".into() }]
    {
        for durability in [Durability::Sync, Durability::Async] {
            let mut view = both_recruited(durability);
            let first = chosen(&view).expect("a candidate");
            let other = if first == osaka() { tokyo() } else { osaka() };
            meets(&mut view, &first, look.clone());
            assert_eq!(chosen(&view), Some(other.clone()), "{look} {durability:?}");
            meets(&mut view, &other, look.clone());
            assert_eq!(chosen(&view), Some(first), "both alike: as if it were not so");
        }
    }
}

#[test]
fn what_was_acknowledged_counts_more_than_that_clients_can_write() {
    let mut view = both_recruited(Durability::Sync);
    view.standby_mut(&osaka()).replayed = Lsn(FLUSHED.0 - 8);
    view.standby_mut(&osaka()).flushed = Lsn(FLUSHED.0 - 8);
    meets(&mut view, &tokyo(), read_only());
    assert_eq!(chosen(&view), Some(tokyo()), "osaka lacks what tokyo has confirmed");
}

#[test]
fn what_a_client_met_long_ago_says_nothing() {
    let mut view = both_recruited(Durability::Sync);
    let first = chosen(&view).expect("a candidate");
    view.agent_mut(&first).access.client = Some(Seen { value: read_only(), at: ago(60_000) });
    assert_eq!(chosen(&view), Some(first));
}

#[test]
fn a_read_only_standby_is_named_in_peace_and_refused_by_a_switchover() {
    let mut view = healthy();
    meets(&mut view, &tokyo(), read_only());
    let plan = decide(&view);
    let named = |finding: &&Finding| matches!(finding, Finding::ReadOnly { node, .. } if *node == tokyo());
    let found = plan.findings.iter().find(named).expect("a finding").to_string();
    assert!(found.contains("default_transaction_read_only") && found.contains("ALTER SYSTEM"), "{found}");
    assert_eq!(plan.steps, vec![]);
    let kind = RequestKind::Switchover { to: None };
    let said = crate::planner::blockers(&view, &Policy::default(), NOW, &kind).join("; ");
    assert!(said.contains("default_transaction_read_only"), "{said}");
}

#[test]
fn a_crashed_primary_is_started_in_its_place_where_no_standby_would_serve() {
    let mut view = healthy();
    view.server(&seoul(), Server::Down(down(true)));
    assert!(declared(&decide(&view)).is_some(), "a failover");
    meets(&mut view, &tokyo(), read_only());
    let plan = decide(&view);
    assert_eq!(
        (declared(&plan), orders(&plan).contains(&(seoul(), Command::Serve { floor: None }))),
        (None, true)
    );
    assert!(plan.cause.expect("a cause").evidence.join(" ").contains("would give no service"));
    view.agent_mut(&seoul()).failed.push(("serve".into(), "no".into()));
    assert!(declared(&decide(&view)).is_some(), "it cannot be started: the standby at least shows the data");
}

#[test]
fn a_primary_that_refuses_its_agents_login_is_no_hang_however_long() {
    let mut view = healthy();
    view.server(&seoul(), Server::Starting);
    refuses(&mut view, &seoul(), 100);
    let suspected = [Finding::PrimarySuspected { node: seoul() }];
    let plan = decide_after(&view, &Policy::default(), &suspected, 3_600_000);
    assert_eq!(declared(&plan), None);
    assert!(matches!(plan.holds.as_slice(), [Hold::LoginRefused { said, .. }] if said.contains("28000")));
    assert!(plan.findings.iter().any(|f| matches!(f, Finding::LoginRefused { .. })), "{:?}", plan.findings);
    // An endpoint that was restarted meanwhile leads there like the others.
    view.endpoints_mut(EndpointKind::Primary).next().expect("an endpoint").mode = Mode::Holding;
    assert!(lets_in(&decide(&view)));
    // Its postmaster stopped answering: from then on it counts as one that does not answer.
    refuses(&mut view, &seoul(), 60_000);
    let plan = decide_after(&view, &Policy::default(), &suspected, 3_600_000);
    assert!(declared(&plan).is_some(), "{:?}", plan.holds);
}

#[test]
fn a_standby_that_refuses_its_agents_login_is_left_alone_while_the_primary_sees_it_stream() {
    let mut view = healthy();
    view.server(&tokyo(), Server::Starting);
    let lost = [Finding::StandbyLost { node: tokyo() }];
    let fenced = |view: &View| {
        orders(&decide_after(view, &Policy::default(), &lost, 3_600_000)).contains(&(tokyo(), Command::Fence))
    };
    assert!(fenced(&view), "nobody knows what it is");
    refuses(&mut view, &tokyo(), 100);
    assert!(!fenced(&view));
    view.primary_mut(&seoul()).senders.clear();
    assert!(fenced(&view), "nobody sees it stream");
}

#[test]
fn a_primary_that_answers_its_probe_with_an_error_is_replaced_with_the_code_as_the_cause() {
    let mut view = healthy();
    let probe = &mut view.primary_mut(&seoul()).probe;
    probe.failing_since = Some(ago(60_000));
    (probe.error, probe.code) = (Some("could not extend file (53100)".into()), Some("53100".into()));
    let plan = decide(&view);
    let cause = plan.cause.clone().expect("a cause").summary;
    assert!(
        declared(&plan).is_some() && cause.contains("cannot take writes") && cause.contains("53100"),
        "{cause}"
    );
    view.agent_mut(&tokyo()).disk_free = Some(1 << 20);
    let plan = decide(&view);
    assert_eq!(declared(&plan), None, "the standby has the same fault");
    assert!(
        matches!(plan.holds.as_slice(), [Hold::NoCandidate { reasons }] if reasons[0].1.contains("disk is full"))
    );
}

#[test]
fn a_server_that_is_not_its_own_is_named_before_there_is_a_cluster() {
    let mut view = healthy();
    view.intent = None;
    for node in [seoul(), tokyo()] {
        view.agent_mut(&node).promise = Some(Stamp::default());
    }
    view.server(&tokyo(), Server::Starting);
    view.agent_mut(&tokyo()).access.elsewhere = Some("its backend is no child of postmaster 7".into());
    let plan = decide(&view);
    assert_eq!(declared(&plan), None);
    assert!(plan.findings.iter().any(|f| matches!(f, Finding::OtherServer { node, .. } if *node == tokyo())));
}

#[test]
fn what_a_guard_could_not_have_is_a_finding() {
    let mut view = healthy();
    view.agent_mut(&seoul()).guard = Some(GuardFacts { realtime: false, ..armed() });
    let found = decide(&view).findings;
    let [Finding::GuardLacks { node, lacks }] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((node, lacks.as_slice()), (&seoul(), [GuardLack::Realtime].as_slice()));
    assert!(found[0].to_string().contains("LimitRTPRIO"), "{}", found[0]);
}

/// Seoul was started again in its place, its names are proven in force again, and its endpoints hold clients.
fn started_in_place(durability: Durability) -> View {
    let mut view = healthy();
    view.intent_mut().durability = durability;
    view.verified = None;
    for facts in view.endpoints_mut(EndpointKind::Primary) {
        facts.mode = Mode::Holding;
    }
    let version = view.intent_mut().version;
    view.primary_mut(&seoul()).names_proven = Some((version, FLUSHED));
    view
}

fn lets_in(plan: &Plan) -> bool {
    routes(plan).iter().any(|order| matches!(order, RouteOrder::Point { .. }))
}

#[test]
fn after_a_start_in_place_clients_see_nothing_that_no_standby_has() {
    for durability in [Durability::Sync, Durability::SyncStrict] {
        let policy = Policy { durability, ..Policy::default() };
        let mut view = started_in_place(durability);
        let decided = |view: &View, memory: &Memory| plan(view, memory, &policy, NOW);
        view.primary_mut(&seoul()).senders[0].flushed = Lsn(FLUSHED.0 - 1);
        let waits = decided(&view, &Memory::default());
        assert!(!lets_in(&waits), "a byte is missing: {:?}", waits.steps);
        let said = waits.holds.iter().map(ToString::to_string).collect::<String>();
        assert!(said.contains("a failover would take back"), "{said}");

        view.primary_mut(&seoul()).senders[0].flushed = FLUSHED;
        let opens = decided(&view, &Memory::default());
        assert!(lets_in(&opens));

        // What was confirmed once stays so, when the standby is lost right after.
        view.primary_mut(&seoul()).senders.clear();
        assert!(!lets_in(&decided(&view, &Memory::default())), "its last word is not remembered by anybody");
        assert!(lets_in(&decided(&view, &opens.memory)));
    }
}

#[test]
fn in_sync_the_wait_for_a_standby_after_a_start_in_place_ends_with_write_wait_and_in_strict_it_does_not() {
    for (durability, ends) in [(Durability::Sync, true), (Durability::SyncStrict, false)] {
        let mut view = started_in_place(durability);
        view.primary_mut(&seoul()).senders.clear();
        view.standby_mut(&tokyo()).streaming = false;
        let policy = Policy { durability, ..Policy::default() };
        let lost = [Finding::StandbyLost { node: tokyo() }];
        let waited = policy.write_wait + Duration::from_millis(1);
        assert!(waited < crate::planner::rejoin::PATIENCE);
        let plan = decide_after(&view, &policy, &lost, waited.as_millis() as u64);
        assert!(!lets_in(&plan));
        assert_eq!(declared(&plan).is_some_and(|next| next.sync_next.is_empty()), ends, "{durability:?}");
    }
}

#[test]
fn with_an_empty_set_clients_come_in_because_a_failover_needs_the_end_of_the_old_primarys_wal() {
    let mut view = started_in_place(Durability::SyncStrict);
    view.primary_mut(&seoul()).senders.clear();
    view.intent_mut().sync.clear();
    view.intent_mut().sync_next.clear();
    let policy = Policy { durability: Durability::SyncStrict, ..Policy::default() };
    assert!(lets_in(&plan(&view, &Memory::default(), &policy, NOW)));
}

#[test]
fn a_new_leader_takes_back_nothing_that_is_open() {
    let mut view = started_in_place(Durability::Sync);
    view.primary_mut(&seoul()).senders.clear();
    view.endpoints_mut(EndpointKind::Primary).next().expect("an endpoint").mode = Mode::Open;
    assert!(lets_in(&decide(&view)), "the other endpoint follows");
}

#[test]
fn while_postgresql_restarts_behind_its_postmaster_clients_are_held() {
    let mut view = healthy();
    view.server(&seoul(), Server::Starting);
    assert_eq!(
        routes(&decide(&view)),
        Vec::<&RouteOrder>::new(),
        "its member was restarted, and has not looked yet"
    );
    view.agent_mut(&seoul()).access.recovering = true;
    assert_eq!(routes(&decide(&view)), [&RouteOrder::Hold, &RouteOrder::Hold]);
    view.intent_mut().sync.clear();
    view.intent_mut().sync_next.clear();
    assert_eq!(routes(&decide(&view)), Vec::<&RouteOrder>::new(), "nothing is promised");
}
