//! Three hosts on a network that is cut in places, silently.

use std::time::Duration;

use crate::{
    checker::Load,
    lab::{
        Fault, Wish,
        status::{finds, primary_of},
    },
    trial::Trial,
};

/// Far longer than any detection.
const LONG: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_primary_with_local_writers_acknowledges_nothing_that_is_lost() {
    let load = Load { at_nodes: 2, ..Load::default() };
    let Some(trial) = Trial::with_load(&Wish::hosts(3), &load).await else { return };
    let old = trial.lab.primary().await;
    let fault = Fault::Isolated(old.clone());
    let begun = trial.begin(&fault);
    trial.moves_from(&old).await;
    trial.lasts(LONG).await;
    let until = trial.heal(&fault);
    let ended = trial.ends().await;
    println!("outage elsewhere: {:.0} ms", ended.outage_elsewhere(begun, until, &old));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_an_isolated_primarys_client_cancels_is_told_with_a_warning() {
    let load = Load { impatient: Some(Duration::from_millis(300)), ..Load::default() };
    let Some(trial) = Trial::with_load(&Wish::hosts(3), &load).await else { return };
    let old = trial.lab.primary().await;
    let fault = Fault::Isolated(old.clone());
    trial.begin(&fault);
    trial.moves_from(&old).await;
    trial.heal(&fault);
    let ended = trial.ends().await;
    assert!(ended.verdict.warned > 0, "nobody cancelled a wait, and nothing is tested: {}", ended.verdict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_between_primary_and_standby_blocks_writes_for_a_moment_and_moves_nothing() {
    a_cut_moves_nothing_led_from(Seat::Witness).await;
}

/// This leader hears nothing of the primary; the witness does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_between_primary_and_a_leader_beside_the_standby_moves_nothing() {
    a_cut_moves_nothing_led_from(Seat::Standby).await;
}

/// On which of the hosts that do not have the primary.
enum Seat {
    Standby,
    Witness,
}

async fn a_cut_moves_nothing_led_from(seat: Seat) {
    let Some(trial) = Trial::new(&Wish::hosts(2).witness()).await else { return };
    let primary = trial.lab.primary().await;
    let standby = trial.lab.standbys().await.remove(0);
    let witness = trial.lab.plan.members().find(|host| !host.postgres).expect("a witness");
    trial
        .led_from(match seat {
            Seat::Standby => &standby,
            Seat::Witness => &witness.name,
        })
        .await;
    let epoch = trial.epoch().await;
    let fault = Fault::LinkCut(primary.clone(), standby.clone());
    let begun = trial.begin(&fault);
    trial.lab.shows("exposure", |seen| finds(seen, "exposed")).await;
    trial.clients.goes_on_at(&[&primary]).await;
    trial.lasts(LONG).await;
    let until = trial.heal(&fault);
    trial.whole().await;
    assert_eq!(
        (trial.lab.primary().await, trial.epoch().await),
        (primary.clone(), epoch),
        "nothing was moved"
    );
    let ended = trial.ends().await;
    println!("writes stalled: {:.0} ms", ended.outage(begun, until));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursts_of_loss_that_are_shorter_than_the_limits_move_nothing() {
    let Some(trial) = Trial::new(&Wish::hosts(3)).await else { return };
    let primary = trial.lab.primary().await;
    let epoch = trial.epoch().await;
    let fault = Fault::Bursts(primary.clone(), 200, 1200);
    trial.begin(&fault);
    trial.lasts(LONG).await;
    trial.heal(&fault);
    trial.whole().await;
    assert_eq!((trial.lab.primary().await, trial.epoch().await), (primary, epoch), "nothing was moved");
    trial.ends().await;
}

/// Back before anybody misses it, while it is being replaced, and after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_returns_at_any_moment_of_its_failover_does_no_harm() {
    let Some(trial) = Trial::new(&Wish::hosts(3)).await else { return };
    for ms in [200, 450, 550, 650, 800, 1200] {
        let old = trial.lab.settled().await.intent.and_then(|intent| intent.primary).expect("a primary");
        let fault = Fault::Isolated(old.as_str().to_owned());
        trial.begin(&fault);
        trial.lasts(Duration::from_millis(ms)).await;
        trial.heal(&fault);
        let seen = trial.whole().await;
        println!("{old} was cut off for {ms} ms; then {:?} serves", primary_of(&seen));
    }
    trial.ends().await;
}
