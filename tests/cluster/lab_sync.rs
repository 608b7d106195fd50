//! The sync set changes, and in the middle of that the primary dies.

use std::time::Duration;

use crate::{
    lab::{Fault, Part, Wish},
    trial::Trial,
};

/// From before the loss is noticed to after the set has changed, and while the standby is coming back.
const MOMENTS_MS: [u64; 6] = [40, 90, 140, 200, 350, 900];

async fn loses_nothing_whenever_the_primary_dies(wish: &Wish) {
    let Some(trial) = Trial::new(wish).await else { return };
    for ms in MOMENTS_MS {
        trial.whole().await;
        let (primary, standby) = (trial.lab.primary().await, trial.lab.standbys().await.remove(0));
        trial.begin(&Fault::Kill(Part::Postgres, standby.clone()));
        trial.lasts(Duration::from_millis(ms)).await;
        trial.begin(&Fault::Kill(Part::Postgres, primary.clone()));
        trial.whole().await;
        println!("{standby} and {ms} ms later {primary} died; then {} serves", trial.lab.primary().await);
    }
    trial.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pairs_primary_that_dies_while_its_set_changes_loses_nothing() {
    loses_nothing_whenever_the_primary_dies(&Wish::hosts(2).witness()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_of_three_that_dies_while_its_set_changes_loses_nothing() {
    loses_nothing_whenever_the_primary_dies(&Wish::hosts(3)).await;
}
