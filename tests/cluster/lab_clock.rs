//! Hosts whose wall clock is set, as by somebody's hand or by a time server that was wrong. In every laboratory no two hosts count
//! their boot time from the same moment.

use std::time::Duration;

use crate::{
    lab::{Fault, Wish, postgres},
    trial::Trial,
};

/// Far longer than any detection, and than the lease.
const LONG: Duration = Duration::from_secs(8);
/// What a clock is off in its worst hours.
const AHEAD: i64 = 3_600;

/// Ahead, and back to before it was right; PostgreSQL itself shows that its clock was set.
async fn moves_nothing(durability: &str, is_primarys: bool) {
    let Some(trial) = Trial::new(&Wish::hosts(3).durability(durability).clocks()).await else { return };
    let (primary, epoch) = (trial.lab.primary().await, trial.epoch().await);
    let standby = trial.lab.standbys().await.remove(0);
    let host = if is_primarys { primary.clone() } else { standby };
    let clock = || {
        let said =
            postgres::ask(&trial.lab.plan, &host, "SELECT extract(epoch FROM clock_timestamp())::bigint");
        said.expect("an answer").parse::<i64>().expect("a number")
    };
    let mut times = Vec::new();
    for ahead in [AHEAD, -AHEAD] {
        let fault = Fault::ClockSet(host.clone(), ahead);
        let before = clock();
        let begun = trial.begin(&fault);
        let moved = clock() - before - ahead;
        assert!(
            moved.abs() < AHEAD / 2,
            "the clock of {host} was not set: {moved} s from where it should be"
        );
        trial.lasts(LONG).await;
        let until = trial.heal(&fault);
        trial.whole().await;
        assert_eq!((trial.lab.primary().await, trial.epoch().await), (primary.clone(), epoch), "{ahead:+} s");
        times.push((ahead, begun, until));
    }
    let ended = trial.ends().await;
    for (ahead, begun, until) in times {
        println!("{host} {ahead:+} s: longest time without a commit {:.0} ms", ended.outage(begun, until));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_whose_wall_clock_is_set_goes_on() {
    moves_nothing("sync", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_async_primary_whose_wall_clock_is_set_goes_on() {
    moves_nothing("async", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_whose_wall_clock_is_set_stays_what_it_is() {
    moves_nothing("sync", false).await;
}

/// The lease, the guard's deadline and every time limit go by the boot time, which nobody sets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_between_hosts_that_do_not_agree_on_the_time_loses_nothing() {
    let Some(trial) = Trial::new(&Wish::hosts(3).clocks()).await else { return };
    let old = trial.lab.primary().await;
    let standbys = trial.lab.standbys().await;
    for (host, ahead) in standbys.iter().zip([AHEAD, -AHEAD]) {
        trial.begin(&Fault::ClockSet(host.clone(), ahead));
    }
    trial.survives_the_loss_of(&old).await;
}
