//! The primary does not die, it stops moving, or its disk does.

use std::time::Duration;

use crate::{
    lab::{Fault, Part, Wish},
    trial::Trial,
};

/// Room for a data directory, what is kept for standbys, and a clone beside it.
const DISK_MB: u32 = 800;
/// How long something stays frozen after another node has taken over.
const LONG: Duration = Duration::from_secs(5);

async fn is_replaced_and_says_nothing_more(wish: &Wish, fault: impl Fn(String) -> Fault) {
    let Some(trial) = Trial::new(wish).await else { return };
    let old = trial.lab.primary().await;
    let fault = fault(old.clone());
    let begun = trial.begin(&fault);
    trial.moves_from(&old).await;
    trial.lasts(LONG).await;
    let until = trial.heal(&fault);
    let ended = trial.ends().await;
    println!("outage elsewhere: {:.0} ms", ended.outage_elsewhere(begun, until, &old));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_postgres_is_replaced_and_acknowledges_nothing_when_it_goes_on() {
    is_replaced_and_says_nothing_more(&Wish::hosts(3), |host| Fault::Freeze(Part::Postgres, host)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_whose_postmaster_alone_is_stopped_is_replaced() {
    is_replaced_and_says_nothing_more(&Wish::hosts(3), |host| Fault::Freeze(Part::Postmaster, host)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_commits_leads_to_failover() {
    is_replaced_and_says_nothing_more(&Wish::hosts(3).disks(DISK_MB), Fault::DiskHangs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_on_the_primarys_host_frozen_is_a_host_lost() {
    is_replaced_and_says_nothing_more(&Wish::hosts(3), |host| Fault::Freeze(Part::Everything, host)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_a_standby_does_no_harm_to_the_primary() {
    let Some(trial) = Trial::new(&Wish::hosts(3).disks(DISK_MB)).await else { return };
    let (primary, epoch) = (trial.lab.primary().await, trial.epoch().await);
    let fault = Fault::DiskFull(trial.lab.standbys().await.remove(0));
    trial.begin(&fault);
    trial.lasts(LONG).await;
    trial.clients.goes_on().await;
    trial.heal(&fault);
    trial.whole().await;
    assert_eq!((trial.lab.primary().await, trial.epoch().await), (primary, epoch), "nothing was moved");
    trial.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starved_hosts_lead_to_no_failover_or_to_a_correct_one() {
    let Some(trial) = Trial::new(&Wish::hosts(3)).await else { return };
    let fault = Fault::Starved(12);
    trial.begin(&fault);
    trial.lasts(2 * LONG).await;
    trial.heal(&fault);
    trial.ends().await;
}
