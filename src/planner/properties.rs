//! What holds of every plan, whatever the facts: a healthy pair, spoiled at random in several ways at once.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{Memory, Plan, fixture::*, plan};
use crate::model::*;

/// One way in which the world can be otherwise. Each alone is plausible; together they need not be.
#[derive(Clone, Debug)]
enum Change {
    Server(NodeId, Box<Server>),
    Silent(NodeId),
    Promise(NodeId, Option<Stamp>),
    PrimarySince(NodeId, Option<Stamp>),
    Unfinished(NodeId),
    Failed(NodeId, &'static str),
    AppDown(NodeId),
    Intent(Box<Intent>),
    NotLeading,
    Paused,
    Rpo(Option<u64>),
    Route(RouteOrder, Stamp),
    Verified(Option<Stamp>),
    Drained(Stamp),
    Request(RequestKind),
    Failovers(usize),
    /// A node was asked back, from scratch or not.
    AskedBack(NodeId, bool),
    /// The last renewal was so many milliseconds ago, and was read under this stamp.
    Lease(u64, Option<Stamp>),
    NotPromotable,
    Unattended,
    At(NodeId),
    LedBy(Option<NodeId>),
}

fn a_node() -> impl Strategy<Value = NodeId> {
    select(vec![seoul(), tokyo()])
}

/// Stamps around the one of the healthy intent, epoch 3 and version 10.
fn a_stamp() -> impl Strategy<Value = Stamp> {
    (2u64..=4, 8u64..=13).prop_map(|(e, v)| Stamp {
        incarnation: Incarnation(1),
        epoch: Epoch(e),
        version: Version(v),
    })
}

fn an_lsn() -> impl Strategy<Value = Lsn> {
    select(vec![Lsn(0x400), Lsn(0xF00), FLUSHED, Lsn(FLUSHED.0 + 8)])
}

fn a_server() -> impl Strategy<Value = Server> {
    let downs = (any::<bool>(), proptest::option::of(a_stamp()), proptest::option::of(an_lsn()))
        .prop_map(|(crashed, fenced, wal_end)| Server::Down(Down { fenced, wal_end, ..down(crashed) }));
    let standbys = (any::<bool>(), proptest::option::of(a_stamp()), an_lsn(), a_stamp(), 0..3u8).prop_map(
        |(streaming, recruited, lsn, stamp, replay)| {
            let replays =
                [ReplayState::Running, ReplayState::PausedForProof(stamp), ReplayState::PausedByPerson];
            let replay = replays[usize::from(replay)];
            Server::Standby(Standby {
                streaming,
                recruited,
                flushed: lsn,
                replayed: lsn,
                replay,
                ..standby()
            })
        },
    );
    let primaries =
        (any::<bool>(), any::<bool>(), proptest::option::of(8u64..=13)).prop_map(|(hangs, alone, proven)| {
            let mut primary = primary();
            primary.probe.failing_since = hangs.then(|| ago(5_000));
            primary.names_proven = proven.map(|version| (Version(version), Lsn(0x600)));
            if alone {
                primary.senders.clear();
            }
            Server::Primary(primary)
        });
    prop_oneof![downs, standbys, primaries, Just(Server::Starting), Just(Server::Unknown)]
}

fn an_intent() -> impl Strategy<Value = Intent> {
    let sets = || select(vec![vec![], set(&[tokyo()]), set(&[seoul()])]);
    let durability = select(vec![Durability::Sync, Durability::SyncStrict, Durability::Async]);
    (0..5u8, sets(), sets(), durability).prop_map(|(shape, sync, sync_next, durability)| {
        let base = intent();
        let handover = Handover { to: tokyo(), operation: "op-1".into(), since: base.version.next() };
        let shaped = match shape {
            0 => base,
            1 => base.vacated(None),
            2 => base.vacated(None).declared(tokyo(), None),
            3 => Intent { handover: Some(handover), ..base }.raised(),
            _ => base.vacated(None).reinstated(None).unwrap_or_else(intent),
        };
        Intent { sync, sync_next, durability, ..shaped }
    })
}

fn a_change() -> impl Strategy<Value = Change> {
    let order = prop_oneof![
        Just(RouteOrder::Hold),
        Just(RouteOrder::Cut),
        a_node().prop_map(|node| RouteOrder::Point { address: format!("{node}:5432"), node }),
    ];
    let request = prop_oneof![
        Just(RequestKind::Pause),
        Just(RequestKind::Resume),
        proptest::option::of(a_node()).prop_map(|to| RequestKind::Switchover { to }),
        Just(RequestKind::Cancel),
        (proptest::option::of(a_node()), -100i64..100).prop_map(|(to, seconds)| {
            let at = healthy().wall + jiff::SignedDuration::from_secs(seconds);
            RequestKind::Schedule { to, at }
        }),
        (a_node(), any::<bool>()).prop_map(|(node, from_scratch)| RequestKind::Rejoin { node, from_scratch }),
    ];
    prop_oneof![
        4 => (a_node(), a_server()).prop_map(|(node, server)| Change::Server(node, Box::new(server))),
        3 => an_intent().prop_map(|intent| Change::Intent(Box::new(intent))),
        1 => a_node().prop_map(Change::Silent),
        1 => (a_node(), proptest::option::of(a_stamp())).prop_map(|(node, stamp)| Change::Promise(node, stamp)),
        2 => (a_node(), proptest::option::of(a_stamp())).prop_map(|(node, stamp)| Change::PrimarySince(node, stamp)),
        1 => a_node().prop_map(Change::Unfinished),
        1 => (a_node(), select(vec!["rewind", "clone", "follow", "serve"])).prop_map(|(n, what)| Change::Failed(n, what)),
        1 => a_node().prop_map(Change::AppDown),
        1 => Just(Change::NotLeading),
        1 => Just(Change::Paused),
        1 => proptest::option::of(0u64..1 << 30).prop_map(Change::Rpo),
        2 => (order, a_stamp()).prop_map(|(order, stamp)| Change::Route(order, stamp)),
        1 => proptest::option::of(a_stamp()).prop_map(Change::Verified),
        1 => a_stamp().prop_map(Change::Drained),
        1 => request.prop_map(Change::Request),
        1 => (0usize..6).prop_map(Change::Failovers),
        2 => (a_node(), any::<bool>()).prop_map(|(node, from_scratch)| Change::AskedBack(node, from_scratch)),
        3 => (select(vec![100u64, 2_000, 4_000]), proptest::option::of(a_stamp())).prop_map(|(ms, under)| Change::Lease(ms, under)),
        1 => Just(Change::NotPromotable),
        1 => Just(Change::Unattended),
        1 => a_node().prop_map(Change::At),
        1 => proptest::option::of(a_node()).prop_map(Change::LedBy),
    ]
}

fn apply(view: &mut View, change: Change) {
    match change {
        Change::Server(node, server) => view.server(&node, *server),
        Change::Silent(node) => view.nodes.get_mut(&node).expect("a node").heard = ago(60_000),
        Change::Promise(node, stamp) => view.agent_mut(&node).promise = stamp,
        Change::PrimarySince(node, stamp) => view.agent_mut(&node).primary_since = stamp,
        Change::Unfinished(node) => view.agent_mut(&node).unfinished = Some(Unfinished::Clone),
        Change::Failed(node, what) => view.agent_mut(&node).failed.push((what.into(), "no".into())),
        Change::AppDown(node) => view.agent_mut(&node).app.as_mut().expect("an app").healthy = false,
        Change::Intent(intent) => *view.intent_mut() = *intent,
        Change::NotLeading => view.leading = false,
        Change::Paused => view.intent_mut().paused = true,
        Change::Rpo(bytes) => view.rpo.as_mut().expect("an RPO").bytes = bytes,
        Change::Route(order, stamp) => view.endpoints_mut(EndpointKind::Primary).for_each(|facts| {
            facts.stamp = stamp;
            match &order {
                RouteOrder::Point { node, .. } => {
                    (facts.mode, facts.target) = (Mode::Open, Some(node.clone()))
                }
                RouteOrder::Hold => facts.mode = Mode::Holding,
                RouteOrder::Cut => facts.mode = Mode::Cut,
            }
        }),
        Change::Verified(stamp) => view.verified = stamp,
        Change::Drained(stamp) => view.drained = Some(stamp),
        Change::Request(kind) => view.requests.push(Request { operation: "op-2".into(), kind }),
        Change::AskedBack(node, from_scratch) => {
            let name = view.agent_mut(&node).standby_name.clone();
            view.intent_mut().rejoin = Some(Rejoin { node, from_scratch, operation: "op-3".into(), name });
        }
        Change::Failovers(count) => view.failovers = vec![ago(1_000); count],
        Change::Lease(ms, under) => view.lease = lease_seen(ms, under),
        Change::NotPromotable => view.intent_mut().promotable.clear(),
        Change::Unattended => view.intent_mut().attended = false,
        Change::At(node) => view.node = Some(node),
        Change::LedBy(node) => view.leader = node,
    }
}

fn a_view() -> impl Strategy<Value = View> {
    vec(a_change(), 0..7).prop_map(|changes| {
        let mut view = healthy();
        changes.into_iter().for_each(|change| apply(&mut view, change));
        view
    })
}

/// What no plan may ever contain.
fn check(view: &View, plan: &Plan) -> Result<(), TestCaseError> {
    let intent = view.intent.as_ref().expect("an intent");
    let stamp = intent.stamp();
    let declares = plan.steps.iter().filter(|step| matches!(step, Step::Declare(_))).count();
    prop_assert!(declares <= 1, "two declarations");
    prop_assert!(
        view.leading || plan.steps.iter().all(|step| is_its_own(view, intent, step)),
        "acts without leading"
    );
    prop_assert!(!plan.steps.is_empty() || !plan.holds.is_empty(), "does nothing and does not say why");
    for step in &plan.steps {
        match step {
            Step::Declare(next) => check_declaration(view, intent, next)?,
            Step::Amend(next) => {
                let attends = Intent { attended: true, ..intent.clone() }.raised();
                prop_assert!(*next == intent.unpromised() || (*next == attends && !intent.attended));
                prop_assert!(view.node.is_some() && view.node == intent.primary, "somebody else's primary");
            }
            Step::FenceCommand { node, stamp: carried } => {
                prop_assert_eq!(*carried, stamp);
                prop_assert!(intent.primary.is_none() && intent.previous.as_ref() == Some(node));
            }
            Step::Order { node, command, stamp: carried } => {
                prop_assert_eq!(*carried, stamp, "an order of another intent");
                check_order(view, intent, node, command)?;
            }
            Step::Route { order, stamp: carried, .. } => {
                prop_assert_eq!(*carried, stamp);
                if let RouteOrder::Point { node, .. } = order {
                    let served = [intent.primary.as_ref(), intent.app.as_ref()];
                    prop_assert!(served.contains(&Some(node)), "leads clients to {}", node);
                }
            }
            Step::Drain { stamp: carried, .. } | Step::Verify { stamp: carried } => {
                prop_assert_eq!(*carried, stamp)
            }
            Step::Refuse { blockers, .. } => prop_assert!(!blockers.is_empty(), "refuses without a reason"),
        }
    }
    Ok(())
}

/// What the member beside the primary may do without leading: promise less, and have its own server agree.
fn is_its_own(view: &View, intent: &Intent, step: &Step) -> bool {
    let beside = view.node.is_some() && view.node == intent.primary;
    beside
        && match step {
            Step::Amend(_) => true,
            Step::Order { node, command: Command::SetNames(names), .. } => {
                Some(node) == view.node.as_ref() && names.is_empty() && intent.sync.is_empty()
            }
            _ => false,
        }
}

/// One of the ways in which the pen may have been taken from the old primary.
fn pen_is_taken(view: &View, intent: &Intent) -> bool {
    let recruited = |node: &NodeId| match view.agent(node).map(|agent| &agent.server.value) {
        Some(Server::Standby(standby)) => standby.recruited.is_some_and(|by| by.same_epoch(intent.stamp())),
        _ => false,
    };
    let mut members = intent.sync.iter().chain(&intent.sync_next);
    let promised = !intent.sync.is_empty() && !intent.sync_next.is_empty();
    let fenced =
        intent.previous.as_ref().is_none_or(|old| match view.agent(old).map(|agent| &agent.server.value) {
            Some(Server::Down(down)) => down.fenced.is_some_and(|by| by.same_epoch(intent.stamp())),
            _ => false,
        });
    let final_read = view.lease.read_under.is_some_and(|under| under.same_epoch(intent.stamp()));
    let out = view.lease.last.as_ref().is_some_and(|last| {
        Some(&last.value.node) == intent.previous.as_ref() && NOW.since(last.at) > last.value.ttl()
    });
    let taken = (promised && members.all(|member| recruited(&member.node)))
        || fenced
        || (intent.durability == Durability::Async && !promised && out);
    taken && final_read
}

fn check_order(view: &View, intent: &Intent, node: &NodeId, command: &Command) -> Result<(), TestCaseError> {
    let declared = intent.primary.as_ref() == Some(node);
    let standby = matches!(view.agent(node).map(|agent| &agent.server.value), Some(Server::Standby(_)));
    prop_assert!(!intent.paused, "{} while paused", command.name());
    match command {
        Command::Promote { .. }
        | Command::Serve { .. }
        | Command::Checkpoint
        | Command::SetNames(_)
        | Command::ProveNames => {
            prop_assert!(declared, "{} on {}, which is not declared", command.name(), node);
        }
        Command::Stop => prop_assert!(declared && intent.handover.is_some(), "a stop without a hand-over"),
        Command::Rewind(..) | Command::Clone(..) => {
            prop_assert!(
                !declared && !intent.in_sync(node) && intent.primary.is_some(),
                "{} on {}",
                command.name(),
                node
            );
        }
        // Of what takes writes undeclared, or starts; never of a standby that commits are promised to be on.
        Command::Fence if intent.in_sync(node) && standby => {
            prop_assert!(intent.primary.is_none() && !declared, "fences {}, a member of the set", node);
        }
        Command::Fence | Command::Follow(_) => {
            prop_assert!(!declared, "{} on the declared primary", command.name())
        }
        Command::Recruit => {
            let heir = intent.handover.as_ref().is_some_and(|handover| handover.to == *node);
            prop_assert!(intent.primary.is_none() || heir, "a recruit under a primary that serves");
        }
        Command::Forget => {
            let asked = intent.rejoin.as_ref().is_some_and(|asked| asked.node == *node);
            prop_assert!(asked && !declared, "forgets what failed on {}, which nobody asked for", node);
        }
        Command::Rescue { from, .. } => {
            let fenced = view.agent(from).is_some_and(|agent| match &agent.server.value {
                Server::Down(down) => down.fenced.is_some_and(|by| by.same_epoch(intent.stamp())),
                _ => false,
            });
            prop_assert!(intent.primary.is_none() && intent.previous.as_ref() == Some(from) && fenced);
            let standing = view.agent(node).is_some_and(|agent| match &agent.server.value {
                Server::Standby(standby) => standby.recruited.is_some_and(|by| by.same_epoch(intent.stamp())),
                _ => false,
            });
            prop_assert!(standing, "a rescue into what is not cut");
        }
        Command::Promise => prop_assert!(false, "a new life without a person's word"),
        Command::Admit(nodes) => {
            prop_assert!(declared && !nodes.contains(node));
            prop_assert!(
                intent.promotable.iter().all(|other| other == node || nodes.contains(other)),
                "forgets one"
            );
        }
        Command::StartAlone => {
            let stopped = matches!(view.agent(node).map(|agent| &agent.server.value), Some(Server::Down(_)));
            prop_assert!(!declared && stopped, "starts {}, which is no stopped standby", node);
        }
        Command::PauseReplay | Command::ResumeReplay | Command::KeepSlots(_) => {}
    }
    Ok(())
}

fn check_declaration(view: &View, intent: &Intent, next: &Intent) -> Result<(), TestCaseError> {
    prop_assert!(
        next.version > intent.version && next.epoch >= intent.epoch && next.epoch.0 <= intent.epoch.0 + 1
    );
    prop_assert!(
        view.requests.iter().any(|_| true) || !intent.paused || *next == *intent,
        "acts while paused"
    );
    if next.primary != intent.primary
        && let Some(chosen) = &next.primary
    {
        let again = intent.previous.as_ref() == Some(chosen) && intent.primary.is_none();
        let recruited = match view.agent(chosen).map(|agent| &agent.server.value) {
            Some(Server::Standby(standby)) => {
                standby.recruited.is_some_and(|by| by.same_epoch(intent.stamp()))
            }
            _ => false,
        };
        prop_assert!(again || recruited, "declares {}, which was not recruited in this epoch", chosen);
        prop_assert!(
            again || intent.handover.is_some() || pen_is_taken(view, intent),
            "the old primary holds the pen"
        );
        prop_assert!(
            again || intent.handover.is_some() || (intent.attended && intent.promotable.contains(chosen))
        );
        prop_assert!(next.sync.is_empty() && next.sync_next.is_empty(), "the set outlives its primary");
    }
    let removal = !intent.sync.is_empty() && intent.sync_next.is_empty() && next.epoch == intent.epoch;
    prop_assert!(!removal || next.sync_next.is_empty(), "a removal is taken back in one write");
    let grows = next.epoch == intent.epoch && next.sync.iter().any(|member| !intent.sync.contains(member));
    prop_assert!(!grows || next.sync == intent.sync_next, "a member that was not announced");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_plan_breaks_the_rules(view in a_view()) {
        let policy = Policy { durability: view.intent.as_ref().map_or(Durability::Sync, |i| i.durability), ..Policy::default() };
        let first = plan(&view, &Memory::default(), &policy, NOW);
        prop_assert_eq!(&first, &plan(&view, &Memory::default(), &policy, NOW), "not deterministic");
        check(&view, &first)?;
        // The same moment again, with everything begun: nothing is begun twice.
        let begun = View { underway: first.steps.iter().map(Step::key).collect(), ..view.clone() };
        let again = plan(&begun, &first.memory, &policy, NOW);
        for step in &again.steps {
            prop_assert!(!first.steps.contains(step), "{} is begun twice", step);
        }
    }
}
