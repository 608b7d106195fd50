//! The typed layer, on every back end.

use jiff::Timestamp;
use locum::{
    model::{
        Cause, ClusterName, Durability, Epoch, Floors, Incarnation, Incident, IncidentId, IncidentKind,
        Intent, LeaseRecord, Mark, MarkName, Mono, NodeId, Objectives, Reign, RpoAtOnset,
    },
    ports::{Outcome, StoreError},
    store::{Declared, INCIDENTS_KEPT, Leadership, Records, Registration},
};

use super::{
    committed,
    contract::{Bench, embedded, etcd, memory},
    put,
};

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("good name")
}

fn intent() -> Intent {
    Intent::first(Incarnation(1), Epoch(1), node("a"), Durability::Sync)
}

fn incident(id: &str) -> Incident {
    Incident {
        id: IncidentId(id.to_owned()),
        kind: IncidentKind::Failover,
        cause: Cause { summary: "the postmaster exited".into(), evidence: vec!["signal 9".into()] },
        epoch: Epoch(2),
        from: Some(node("a")),
        to: Some(node("b")),
        started_at: Timestamp::UNIX_EPOCH,
        leader: node("b"),
        marks: vec![Mark { name: MarkName::Onset, at: Mono(5) }],
        rpo: RpoAtOnset { live_bytes: Some(8), live_ms: Some(0.5), ..RpoAtOnset::default() },
        live: None,
        objectives: Objectives { rto_ms: 5000.0, rpo_ms: 0.0 },
        connections_cut: 1,
        connections_held: 2,
        repoints: Vec::new(),
        connections_refused: 0,
        from_name: None,
        longest_gap_ms: None,
        deviations: Vec::new(),
        abandoned: None,
        closed: true,
        operation: None,
    }
}

/// Two members' records of one store.
struct Two {
    one: Records,
    two: Records,
    bench: Bench,
}

fn two(bench: Bench) -> Two {
    let records = |store| Records::new(store, ClusterName::new("shop").expect("good name"));
    Two { one: records(bench.one.clone()), two: records(bench.two.clone()), bench }
}

/// Lets the first or the second member lead.
async fn lead(t: &Two, records: &Records, name: &str) -> Leadership {
    records.campaign(&node(name), t.bench.ttl()).await.expect("campaign").expect("nobody leads")
}

macro_rules! facts {
    ($($fact:ident)*) => {
        mod on_memory {
            $(#[tokio::test]
            async fn $fact() { super::$fact(super::two(super::memory())).await; })*
        }
        mod on_embedded {
            $(#[tokio::test]
            async fn $fact() { super::$fact(super::two(super::embedded())).await; })*
        }
        mod on_etcd {
            $(#[tokio::test]
            async fn $fact() { super::$fact(super::two(super::etcd().await)).await; })*
        }
    };
}

facts! {
    one_leads_at_a_time
    who_resigns_is_followed_at_once
    an_intent_is_read_as_it_was_declared
    of_two_who_declare_on_one_basis_one_is_refused
    an_expired_leader_declares_nothing_more
    a_leader_elected_again_is_not_its_former_self
    the_primary_lease_is_renewed_by_one_holder_under_one_reign
    who_does_not_lead_amends_but_declares_nobody
    a_registration_stays_and_is_written_once
    an_incident_is_kept_and_brought_up_to_date
    only_the_leader_writes_incidents
    clusters_do_not_see_each_other
    what_cannot_be_read_is_named
}

async fn one_leads_at_a_time(t: Two) {
    let leadership = lead(&t, &t.one, "a").await;
    assert_eq!(t.two.campaign(&node("b"), t.bench.ttl()).await.expect("campaign"), None);
    assert_eq!(
        t.one.campaign(&node("a"), t.bench.ttl()).await.expect("campaign"),
        None,
        "not even its own next life"
    );
    assert_eq!(t.two.leader().await.expect("leader"), Some(node("a")));
    t.bench.half().await;
    assert!(t.one.renew(&leadership).await.expect("renew"));
    t.bench.half().await;
    assert_eq!(t.two.campaign(&node("b"), t.bench.ttl()).await.expect("campaign"), None);
    t.bench.other_half().await;
    let next = lead(&t, &t.two, "b").await;
    assert!(next.created > leadership.created);
    assert!(!t.one.renew(&leadership).await.expect("renew"));
    assert_eq!(t.one.leader().await.expect("leader"), Some(node("b")));
}

async fn who_resigns_is_followed_at_once(t: Two) {
    let leadership = lead(&t, &t.one, "a").await;
    t.one.resign(leadership).await.expect("resign");
    assert_eq!(t.two.leader().await.expect("leader"), None);
    lead(&t, &t.two, "b").await;
}

async fn an_intent_is_read_as_it_was_declared(t: Two) {
    let leadership = lead(&t, &t.one, "a").await;
    assert_eq!(t.two.intent().await.expect("intent"), None);
    let Declared::Stored(first) = t.one.declare(&leadership, None, &intent()).await.expect("declare") else {
        panic!("conflict")
    };
    assert_eq!(t.two.intent().await.expect("intent"), Some((intent(), first)));
    let next = intent().vacated(None);
    let Declared::Stored(second) =
        t.one.declare(&leadership, Some((&intent(), first)), &next).await.expect("declare")
    else {
        panic!("conflict")
    };
    assert_eq!(t.two.intent().await.expect("intent"), Some((next, second)));
    assert_eq!(t.two.changed(first).await.expect("changed"), second);
}

async fn of_two_who_declare_on_one_basis_one_is_refused(t: Two) {
    let leadership = lead(&t, &t.one, "a").await;
    let (ours, theirs) = (intent(), intent().vacated(None));
    for basis in [None, Some(())] {
        let basis = match basis {
            None => None,
            Some(()) => t.one.intent().await.expect("intent"),
        };
        let basis = basis.as_ref().map(|(intent, revision)| (intent, *revision));
        let (one, two) = tokio::join!(
            t.one.declare(&leadership, basis, &ours),
            t.two.declare(&leadership, basis, &theirs)
        );
        let both = [one.expect("declare"), two.expect("declare")];
        assert_eq!(both.iter().filter(|d| **d == Declared::Conflict).count(), 1, "{both:?}");
    }
}

async fn an_expired_leader_declares_nothing_more(t: Two) {
    let old = lead(&t, &t.one, "a").await;
    let Declared::Stored(basis) = t.one.declare(&old, None, &intent()).await.expect("declare") else {
        panic!("conflict")
    };
    t.bench.runs_out().await;
    let late = t.one.declare(&old, Some((&intent(), basis)), &intent().vacated(None)).await.expect("declare");
    assert_eq!(late, Declared::Conflict, "though nobody else leads yet");
    let new = lead(&t, &t.two, "b").await;
    let late = t.one.declare(&old, Some((&intent(), basis)), &intent().vacated(None)).await.expect("declare");
    assert_eq!(late, Declared::Conflict);
    let next = t.two.declare(&new, Some((&intent(), basis)), &intent().vacated(None)).await.expect("declare");
    assert!(matches!(next, Declared::Stored(_)));
}

async fn a_leader_elected_again_is_not_its_former_self(t: Two) {
    let former = lead(&t, &t.one, "a").await;
    t.bench.runs_out().await;
    let now = lead(&t, &t.one, "a").await;
    let late = t.one.declare(&former, None, &intent()).await.expect("declare");
    assert_eq!(late, Declared::Conflict);
    t.one.resign(former).await.expect("resign");
    assert_eq!(t.two.leader().await.expect("leader"), Some(node("a")), "the former self ends nothing");
    assert!(t.one.renew(&now).await.expect("renew"));
}

fn lease(epoch: u64, count: u64) -> LeaseRecord {
    LeaseRecord {
        node: node("a"),
        incarnation: Incarnation(1),
        epoch: Epoch(epoch),
        ttl_ms: 3_000,
        count,
        reached: None,
        timeline: None,
        floors: Floors::default(),
    }
}

async fn the_primary_lease_is_renewed_by_one_holder_under_one_reign(t: Two) {
    let leadership = lead(&t, &t.one, "a").await;
    assert_eq!(t.one.reign().await.expect("reign"), None);
    let Declared::Stored(basis) = t.one.declare(&leadership, None, &intent()).await.expect("declare") else {
        panic!("conflict")
    };
    let (reign, at) = t.two.reign().await.expect("reign").expect("a reign");
    assert_eq!(reign, Reign::of(&intent()));
    let Outcome::Committed(first) = t.two.renew_primary(at, None, &lease(1, 0)).await.expect("renew") else {
        panic!("refused")
    };
    assert_eq!(t.one.lease().await.expect("lease"), Some((lease(1, 0), first)));
    let again = t.one.renew_primary(at, None, &lease(1, 1)).await.expect("renew");
    assert_eq!(again, Outcome::GuardFailed, "somebody renewed meanwhile");
    // Another version of the same reign leaves the lease alone.
    let next = intent().raised();
    let declared = t.one.declare(&leadership, Some((&intent(), basis)), &next).await.expect("declare");
    let Declared::Stored(basis) = declared else { panic!("conflict") };
    let renewed = t.two.renew_primary(at, Some(first), &lease(1, 1)).await.expect("renew");
    let Outcome::Committed(second) = renewed else { panic!("refused") };
    // A vacancy ends it.
    let vacant = next.vacated(None);
    let declared = t.one.declare(&leadership, Some((&next, basis)), &vacant).await.expect("declare");
    assert!(matches!(declared, Declared::Stored(_)));
    let late = t.two.renew_primary(at, Some(second), &lease(1, 2)).await.expect("renew");
    assert_eq!(late, Outcome::GuardFailed);
    assert_eq!(t.one.lease().await.expect("lease"), Some((lease(1, 1), second)));
}

async fn who_does_not_lead_amends_but_declares_nobody(t: Two) {
    let leadership = lead(&t, &t.one, "a").await;
    let Declared::Stored(basis) = t.one.declare(&leadership, None, &intent()).await.expect("declare") else {
        panic!("conflict")
    };
    let refused = t.two.amend((&intent(), basis), &intent().vacated(None)).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    let next = intent().raised();
    assert!(matches!(t.two.amend((&intent(), basis), &next).await.expect("amend"), Declared::Stored(_)));
    let late = t.two.amend((&intent(), basis), &next).await.expect("amend");
    assert_eq!(late, Declared::Conflict, "it was based on what is no more");
}

async fn a_registration_stays_and_is_written_once(t: Two) {
    let registration = |name: &str, port: u16| Registration {
        node: node(name),
        api_address: format!("127.0.0.1:{port}"),
        peer_address: format!("127.0.0.1:{}", port + 1),
        version: "0.1.0".into(),
    };
    t.one.register(&registration("b", 1)).await.expect("register");
    t.two.register(&registration("a", 3)).await.expect("register");
    t.one.register(&registration("b", 5)).await.expect("register");
    let before = committed(&*t.bench.one, vec![], vec![]).await;
    t.one.register(&registration("b", 5)).await.expect("register");
    assert_eq!(committed(&*t.bench.one, vec![], vec![]).await, before, "known already: wakes nobody");
    t.bench.ages().await;
    let members = t.two.members().await.expect("members");
    assert_eq!(members, [registration("a", 3), registration("b", 5)]);
}

async fn an_incident_is_kept_and_brought_up_to_date(t: Two) {
    let leadership = lead(&t, &t.one, "a").await;
    let first = "20261122-084030-e2";
    for id in [first, "20261122-084031-e10", "20261122-084031-e9"] {
        let saved = t.one.save_incident(&leadership, &incident(id)).await.expect("save");
        assert!(matches!(saved, Outcome::Committed(_)));
    }
    let mut more = incident(first);
    more.mark(MarkName::AppReady, Mono(90_005));
    t.one.save_incident(&leadership, &more).await.expect("save");
    let ids = |incidents: Vec<Incident>| incidents.into_iter().map(|i| i.id.0).collect::<Vec<_>>();
    let all = t.two.incidents(10).await.expect("incidents");
    assert_eq!(all.first(), Some(&more));
    assert_eq!(ids(all), [first, "20261122-084031-e10", "20261122-084031-e9"], "as they happened");
    assert_eq!(ids(t.two.incidents(1).await.expect("incidents")), ["20261122-084031-e9"]);
    assert!(t.two.incidents(0).await.expect("incidents").is_empty());
    let last = t.two.last_incident().await.expect("the last one");
    assert_eq!(
        ids(last.into_iter().collect()),
        ["20261122-084031-e9"],
        "one brought up to date is no later one"
    );
}

async fn only_the_leader_writes_incidents(t: Two) {
    let leadership = lead(&t, &t.one, "a").await;
    t.bench.runs_out().await;
    let late = t.one.save_incident(&leadership, &incident("20261122-084030-e2")).await.expect("save");
    assert_eq!(late, Outcome::GuardFailed);
    assert!(t.two.incidents(10).await.expect("incidents").is_empty());
}

async fn clusters_do_not_see_each_other(t: Two) {
    let other = Records::new(t.bench.one.clone(), ClusterName::new("shop-2").expect("good name"));
    let leadership = lead(&t, &t.one, "a").await;
    t.one.declare(&leadership, None, &intent()).await.expect("declare");
    assert_eq!(other.intent().await.expect("intent"), None);
    let theirs = lead(&t, &other, "b").await;
    t.one.resign(leadership).await.expect("resign");
    assert!(other.renew(&theirs).await.expect("renew"));
}

async fn what_cannot_be_read_is_named(t: Two) {
    let leadership = lead(&t, &t.one, "a").await;
    committed(
        &*t.bench.one,
        vec![],
        vec![put("/locum/shop/intent", "{}"), put("/locum/shop/incident/0", "?")],
    )
    .await;
    let error = t.one.intent().await.expect_err("unreadable");
    assert!(matches!(&error, StoreError::Refused(why) if why.contains("/locum/shop/intent")), "{error}");
    t.one.save_incident(&leadership, &incident("20261122-084030-e2")).await.expect("save");
    assert_eq!(t.one.incidents(10).await.expect("incidents").len(), 1, "one does not hide the others");
}

#[tokio::test]
async fn the_oldest_incidents_go_when_there_are_too_many() {
    let t = two(memory());
    let leadership = lead(&t, &t.one, "a").await;
    for n in 0..INCIDENTS_KEPT + 3 {
        t.one.save_incident(&leadership, &incident(&format!("{n}-e1"))).await.expect("save");
    }
    // Brought up to date, not one more.
    t.one.save_incident(&leadership, &incident("3-e1")).await.expect("save");
    let kept = t.two.incidents(usize::MAX).await.expect("incidents");
    assert_eq!(kept.len(), INCIDENTS_KEPT);
    assert_eq!(kept.first().map(|i| i.id.0.as_str()), Some("3-e1"));
}
