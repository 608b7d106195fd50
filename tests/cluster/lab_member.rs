//! Members and etcd's members come to harm, and PostgreSQL does not.

use std::time::Duration;

use crate::{
    checker::Outcome,
    lab::{Fault, Part, Store, Wish, etcd, member, place::default_store, status::primary_of},
    trial::Trial,
};

/// Far longer than any detection, and than the lease.
const LONG: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_succeeded_and_nothing_else_happens() {
    let Some(trial) = Trial::new(&Wish::hosts(3)).await else { return };
    let (primary, epoch) = (trial.lab.primary().await, trial.epoch().await);
    let leader = trial.lab.settled().await.node.as_str().to_owned();
    let fault = Fault::Kill(Part::Member, leader.clone());
    trial.begin(&fault);
    trial.lab.shows("another leader", |seen| seen.node.as_str() != leader).await;
    trial.heal(&fault);
    trial.whole().await;
    assert_eq!((trial.lab.primary().await, trial.epoch().await), (primary, epoch), "nothing was moved");
    trial.ends().await;
}

async fn nobody_serves_beside_the_new_primary(durability: &str, fault: impl Fn(String) -> Fault) {
    let Some(trial) = Trial::new(&Wish::hosts(3).durability(durability)).await else { return };
    let old = trial.lab.primary().await;
    let fault = fault(old.clone());
    trial.begin(&fault);
    trial.lasts(LONG).await;
    trial.heal(&fault);
    // Whether it was taken over depends on whether somebody can know that it is fenced. That two never serve does not.
    let ended = if durability == "async" { trial.ends_sound().await } else { trial.ends().await };
    println!("{}", ended.verdict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_beside_the_primary_never_leads_to_two_primaries() {
    nobody_serves_beside_the_new_primary("sync", |host| Fault::Kill(Part::Member, host)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_beside_the_primary_never_leads_to_two_primaries() {
    nobody_serves_beside_the_new_primary("sync", |host| Fault::Freeze(Part::Member, host)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_beside_an_async_primary_never_leads_to_two_primaries() {
    nobody_serves_beside_the_new_primary("async", |host| Fault::Kill(Part::Member, host)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_beside_an_async_primary_never_leads_to_two_primaries() {
    nobody_serves_beside_the_new_primary("async", |host| Fault::Freeze(Part::Member, host)).await;
}

/// The guard too: nothing is left that could stop the primary, and nothing is acknowledged that the next one lacks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_of_locum_killed_beside_the_primary_loses_nothing() {
    nobody_serves_beside_the_new_primary("sync", |host| Fault::Kill(Part::Locum, host)).await;
}

/// A member reads its configuration when it starts, and its start touches neither PostgreSQL nor the guard: so a limit is
/// changed while clients write, and the guard goes by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longer_lease_given_while_clients_write_is_the_guards_deadline() {
    let Some(mut trial) = Trial::new(&Wish::hosts(3).durability("async")).await else { return };
    let (old, epoch) = (trial.lab.primary().await, trial.epoch().await);
    trial.lab.plan.wish.set.push("policy.lease_ttl=8s".into());
    for host in trial.lab.plan.members() {
        member::restart(&trial.lab.plan, host).expect("the member starts again");
    }
    trial.lab.settled().await;
    assert_eq!((trial.lab.primary().await, trial.epoch().await), (old.clone(), epoch), "nothing was moved");
    let fault = Fault::Freeze(Part::Member, old.clone());
    let begun = trial.begin(&fault);
    trial.moves_from(&old).await;
    trial.heal(&fault);
    let ended = trial.ends_sound().await;
    let last = ended.history.attempts.iter().filter(|attempt| {
        attempt.outcome == Outcome::Acknowledged && attempt.node.as_deref() == Some(old.as_str())
    });
    let served = last.map(|attempt| attempt.end_us).max().expect("a commit").saturating_sub(begun) / 1000;
    println!("the old primary acknowledged for {served} ms after its member was frozen");
    // By the lease of three seconds that it began with, it would have ended by then.
    assert!(served > 4_000, "the guard went by the old deadline: {served} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_of_the_primary_and_of_etcds_leader_is_lost() {
    if default_store() == Store::Embedded {
        println!("not tested here: the store is embedded");
        return;
    }
    let Some(trial) = Trial::new(&Wish::hosts(3)).await else { return };
    let old = trial.lab.primary().await;
    etcd::lead_from(&trial.lab.plan, &old).expect("etcd's leader moves");
    let fault = Fault::HostLost(old.clone());
    let begun = trial.begin(&fault);
    trial.moves_from(&old).await;
    let until = trial.heal(&fault);
    let seen = trial.whole().await;
    assert_ne!(primary_of(&seen), Some(old.as_str()));
    let ended = trial.ends().await;
    println!("outage elsewhere: {:.0} ms", ended.outage_elsewhere(begun, until, &old));
}

async fn is_no_reason_to_move(fault: impl Fn(&str, &str) -> Fault) {
    if default_store() == Store::Embedded {
        println!("not tested here: the store is embedded");
        return;
    }
    let Some(trial) = Trial::new(&Wish::hosts(3)).await else { return };
    let (primary, epoch) = (trial.lab.primary().await, trial.epoch().await);
    let standby = trial.lab.standbys().await.remove(0);
    let fault = fault(&primary, &standby);
    let begun = trial.begin(&fault);
    trial.lasts(LONG).await;
    let until = trial.heal(&fault);
    trial.whole().await;
    assert_eq!((trial.lab.primary().await, trial.epoch().await), (primary, epoch), "nothing was moved");
    let ended = trial.ends().await;
    println!("longest time without a commit: {:.0} ms", ended.outage(begun, until));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_loses_the_store_only_keeps_serving() {
    is_no_reason_to_move(|primary, _| Fault::StoreCut(primary.to_owned())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_loses_the_store_only_changes_nothing() {
    is_no_reason_to_move(|_, standby| Fault::StoreCut(standby.to_owned())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_of_etcd_killed_changes_nothing() {
    is_no_reason_to_move(|primary, _| Fault::Kill(Part::Etcd, primary.to_owned())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_answers_slowly_changes_nothing() {
    is_no_reason_to_move(|_, _| Fault::StoreSlow(100, 300)).await;
}
