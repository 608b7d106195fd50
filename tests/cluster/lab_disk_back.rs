//! Disks go back in time, and hosts come back one by one: nothing acknowledged is lost, and nobody waits for what has come.

use std::time::Duration;

use locum::model::{Finding, Role, Snapshot};

use crate::{
    lab::{Fault, Part, Wish, copies, status::primary_of},
    trial::Trial,
};

/// Some hundred commits.
const WRITTEN: Duration = Duration::from_secs(3);
/// Longer than any detection, and a failover after it.
const LONG: Duration = Duration::from_secs(6);

fn finds_a_disk_that_went_back(seen: &Snapshot) -> bool {
    seen.findings.iter().any(|finding| matches!(finding.finding, Finding::DiskWentBack { .. }))
}

async fn the_other(trial: &Trial, primary: &str) -> String {
    let other = trial.lab.plan.servers().find(|host| host.name != primary);
    other.expect("a standby").name.clone()
}

/// Copies the primary's disk. It stands still meanwhile, which on a busy machine may look like a lost host: then the next one
/// is copied.
async fn copied_primary(trial: &Trial) -> String {
    for _ in 0..5 {
        let seen = trial.lab.settled().await;
        let primary = primary_of(&seen).expect("a primary").to_owned();
        copies::take(&trial.lab.plan, &primary).expect("copied");
        if primary_of(&trial.lab.settled().await) == Some(primary.as_str())
            && trial.epoch().await == seen.intent.expect("an intent").epoch.0
        {
            return primary;
        }
    }
    panic!("each copy led to a failover");
}

/// A pair and a witness.
async fn pair(durability: &str) -> Option<Trial> {
    Trial::new(&Wish::hosts(2).witness().durability(durability)).await
}

async fn a_standby_that_went_back_is_not_promoted(durability: &str) {
    let Some(trial) = pair(durability).await else { return };
    let primary = trial.lab.primary().await;
    let standby = the_other(&trial, &primary).await;
    copies::take(&trial.lab.plan, &standby).expect("copied");
    trial.lasts(WRITTEN).await;
    let standby_lost = Fault::HostLost(standby.clone());
    trial.begin(&standby_lost);
    copies::put_back(&trial.lab.plan, &standby).expect("put back");
    let cut = Fault::LinkCut(primary.clone(), standby.clone());
    trial.begin(&cut);
    trial.heal(&standby_lost);
    // Who leads by then has never heard how far the standby had come.
    for host in trial.lab.plan.members().map(|host| host.name.clone()).collect::<Vec<_>>() {
        if host != standby {
            let killed = Fault::Kill(Part::Member, host.clone());
            if host != primary {
                trial.begin(&killed);
                trial.heal(&killed);
            }
        }
    }
    let primary_lost = Fault::HostLost(primary.clone());
    trial.begin(&primary_lost);
    trial.lab.shows("a disk that went back", finds_a_disk_that_went_back).await;
    trial.lasts(LONG).await;
    let seen = trial.lab.shows("an intent", |seen| seen.intent.is_some()).await;
    assert_ne!(primary_of(&seen), Some(standby.as_str()), "it lacks what was acknowledged");
    trial.heal(&primary_lost);
    trial.heal(&cut);
    trial.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_whose_disk_went_back_is_not_promoted_in_sync_strict_whoever_leads() {
    a_standby_that_went_back_is_not_promoted("sync-strict").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_whose_disk_went_back_is_not_started_and_its_standby_takes_over() {
    let Some(trial) = pair("sync").await else { return };
    let primary = copied_primary(&trial).await;
    let standby = the_other(&trial, &primary).await;
    trial.lasts(WRITTEN).await;
    let (primary_lost, standby_lost) = (Fault::HostLost(primary.clone()), Fault::HostLost(standby.clone()));
    trial.begin(&standby_lost);
    trial.begin(&primary_lost);
    copies::put_back(&trial.lab.plan, &primary).expect("put back");
    trial.heal(&primary_lost);
    trial.lab.shows("a disk that went back", finds_a_disk_that_went_back).await;
    trial.heal(&standby_lost);
    trial.moves_from(&primary).await;
    trial.ends().await;
}

/// Both hosts lose power, and only that of the standby comes back; later the other one.
async fn only_the_standby_comes_back(durability: &str) {
    let Some(trial) = pair(durability).await else { return };
    let primary = trial.lab.primary().await;
    let standby = the_other(&trial, &primary).await;
    let lost = [&standby, &primary].map(|host| Fault::HostLost(host.clone()));
    lost.iter().for_each(|fault| _ = trial.begin(fault));
    trial.lasts(Duration::from_secs(1)).await;
    trial.heal(&lost[0]);
    if durability == "sync-strict" {
        // Its commits wait for a standby, so nobody is served before the other host is back.
        let promoted = |seen: &Snapshot| {
            let of = |status: &locum::model::NodeStatus| status.node.as_str() == standby;
            primary_of(seen) == Some(standby.as_str())
                && seen.nodes.iter().any(|status| of(status) && status.role == Role::Primary)
        };
        trial.lab.shows("the standby as primary", promoted).await;
    } else {
        trial.moves_from(&primary).await;
    }
    trial.heal(&lost[1]);
    if durability == "async" {
        trial.ends_sound().await
    } else {
        trial.ends().await
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standby_alone_comes_back_after_a_power_cut_and_serves() {
    only_the_standby_comes_back("sync").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standby_alone_comes_back_after_a_power_cut_and_serves_in_sync_strict() {
    only_the_standby_comes_back("sync-strict").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standby_alone_comes_back_after_a_power_cut_and_serves_in_async() {
    only_the_standby_comes_back("async").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_come_back_after_a_power_cut_and_the_primary_goes_on() {
    let Some(trial) = pair("sync").await else { return };
    let primary = trial.lab.primary().await;
    let standby = the_other(&trial, &primary).await;
    let lost = [&standby, &primary].map(|host| Fault::HostLost(host.clone()));
    lost.iter().for_each(|fault| _ = trial.begin(fault));
    lost.iter().for_each(|fault| _ = trial.heal(fault));
    trial.ends().await;
}
