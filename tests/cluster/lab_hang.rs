//! The primary does not die, it stops moving.

use std::time::Duration;

use crate::{
    lab::{Fault, Part, Wish},
    trial::Trial,
};

/// How long something stays frozen after another node has taken over.
const LONG: Duration = Duration::from_secs(5);

async fn is_replaced_and_says_nothing_more(fault: impl Fn(String) -> Fault) {
    let Some(trial) = Trial::new(&Wish::hosts(3)).await else { return };
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
    is_replaced_and_says_nothing_more(|host| Fault::Freeze(Part::Postgres, host)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_whose_postmaster_alone_is_stopped_is_replaced() {
    is_replaced_and_says_nothing_more(|host| Fault::Freeze(Part::Postmaster, host)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_on_the_primarys_host_frozen_is_a_host_lost() {
    is_replaced_and_says_nothing_more(|host| Fault::Freeze(Part::Everything, host)).await;
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
