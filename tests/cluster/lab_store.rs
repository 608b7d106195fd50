//! etcd stops answering, and the database goes on.

use std::time::Duration;

use crate::{
    lab::{Fault, Store, Wish, place::default_store},
    trial::Trial,
};

/// Longer than every lease.
const OUTAGE: Duration = Duration::from_secs(10);
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
