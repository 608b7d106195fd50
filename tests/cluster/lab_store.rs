//! etcd stops answering, and the database goes on.

use std::time::Duration;

use crate::{
    lab::{Fault, Part, Store, Wish, place::default_store, status::finds},
    trial::Trial,
};

/// Longer than every lease.
const OUTAGE: Duration = Duration::from_secs(10);
/// Far longer than any detection.
const LONG: Duration = Duration::from_secs(5);
/// No write waits longer for anything but the store.
const UNNOTICED_MS: f64 = 1_500.0;

/// These need etcd.
fn has_etcd() -> bool {
    let has = default_store() != Store::Embedded;
    if !has {
        println!("not tested here: the store is embedded");
    }
    has
}

async fn writes_go_on_without_the_store(durability: &str, fault: Fault) {
    if !has_etcd() {
        return;
    }
    let Some(trial) = Trial::new(&Wish::hosts(3).durability(durability)).await else { return };
    let (primary, epoch) = (trial.lab.primary().await, trial.epoch().await);
    let begun = trial.begin(&fault);
    trial.lasts(OUTAGE).await;
    let until = trial.heal(&fault);
    trial.whole().await;
    assert_eq!((trial.lab.primary().await, trial.epoch().await), (primary, epoch), "nothing was moved");
    let ended = trial.ends().await;
    let outage = ended.outage(begun, until);
    println!("longest time without a commit: {outage:.0} ms");
    assert!(outage < UNNOTICED_MS, "writes stood still for {outage:.0} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_store_costs_no_write() {
    writes_go_on_without_the_store("sync", Fault::StoreStopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_store_costs_no_write_in_async() {
    writes_go_on_without_the_store("async", Fault::StoreKilled).await;
}

/// Nobody may be removed from the sync set without the store, so writes wait; whoever looks is told why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_dies_without_the_store_lets_writes_wait_until_the_store_is_back() {
    if !has_etcd() {
        return;
    }
    let Some(trial) = Trial::new(&Wish::hosts(2).witness()).await else { return };
    let (primary, epoch) = (trial.lab.primary().await, trial.epoch().await);
    let standby = trial.lab.standbys().await.remove(0);
    trial.begin(&Fault::StoreStopped);
    let lost = Fault::Kill(Part::Everything, standby.clone());
    trial.begin(&lost);
    // What was under way at the kill has had its answer by then.
    trial.lasts(Duration::from_secs(1)).await;
    let before = trial.clients.acknowledged();
    trial.lasts(LONG).await;
    crate::fixture::until("the member beside the primary says why", async || {
        trial.lab.status(&primary).await.filter(|seen| finds(seen, "store_lost"))
    })
    .await;
    assert_eq!(trial.clients.acknowledged(), before, "acknowledged without a standby and without the store");
    trial.heal(&Fault::StoreStopped);
    trial.clients.goes_on_at(&[&primary]).await;
    trial.heal(&lost);
    trial.whole().await;
    assert_eq!((trial.lab.primary().await, trial.epoch().await), (primary, epoch), "nothing was moved");
    trial.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_without_the_store_is_replaced_once_the_store_is_back() {
    if !has_etcd() {
        return;
    }
    let Some(trial) = Trial::new(&Wish::hosts(3)).await else { return };
    let old = trial.lab.primary().await;
    trial.begin(&Fault::StoreStopped);
    // Longer than the leader's lease: nobody leads any more.
    trial.lasts(LONG).await;
    trial.begin(&Fault::Kill(Part::Postgres, old.clone()));
    trial.lasts(LONG).await;
    let all = trial.lab.all().await;
    assert!(
        all.iter().all(|seen| seen.nodes.iter().all(|node| !node.serving)),
        "nobody may be promoted: {all:#?}"
    );
    let begun = trial.heal(&Fault::StoreStopped);
    trial.moves_from(&old).await;
    println!("served {} ms after the store was back", (trial.clients.now_us() - begun) / 1000);
    trial.ends().await;
}
