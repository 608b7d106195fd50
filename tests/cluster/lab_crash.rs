//! Three hosts on a network: processes die, and hosts with them.

use crate::{
    lab::{Fault, Part, Wish},
    trial::Trial,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postmaster_of_three_hosts_is_replaced() {
    let Some(trial) = Trial::new(&Wish::hosts(3)).await else { return };
    let old = trial.lab.primary().await;
    let begun = trial.begin(&Fault::Kill(Part::Postmaster, old.clone()));
    trial.moves_from(&old).await;
    let seen = trial.whole().await;
    assert_eq!(seen.intent.expect("an intent").epoch.0, 2, "one promotion for one failure");
    let until = trial.clients.now_us();
    let ended = trial.ends().await;
    println!("outage: {:.0} ms", ended.outage(begun, until));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_lost_without_a_reset_is_replaced_and_loses_nothing() {
    let Some(trial) = Trial::new(&Wish::hosts(3)).await else { return };
    let old = trial.lab.primary().await;
    trial.survives_the_loss_of(&old).await;
}
