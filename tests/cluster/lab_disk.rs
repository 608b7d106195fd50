//! Disks that hang, that are full, and that give back something else than was written.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use crate::{
    lab::{Fault, Store, Wish, etcd, place::default_store, postgres, status::finds},
    trial::Trial,
};

/// Room for a data directory, what is kept for standbys, and a clone beside it.
const DISK_MB: u32 = 800;
/// How long a fault lasts after what it leads to, or instead of it.
const LONG: Duration = Duration::from_secs(5);

fn wish() -> Wish {
    Wish::hosts(3).disks(DISK_MB)
}

async fn hangs_and_is_replaced(wish: &Wish, before: impl FnOnce(&Trial, &str)) {
    let Some(trial) = Trial::new(wish).await else { return };
    let old = trial.lab.primary().await;
    before(&trial, &old);
    let fault = Fault::DiskHangs(old.clone());
    let begun = trial.begin(&fault);
    trial.moves_from(&old).await;
    trial.lasts(LONG).await;
    let until = trial.heal(&fault);
    let ended = trial.ends().await;
    println!("outage elsewhere: {:.0} ms", ended.outage_elsewhere(begun, until, &old));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_commits_leads_to_failover() {
    hangs_and_is_replaced(&wish(), |_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_with_etcds_leader_on_it_leads_to_failover() {
    if default_store() == Store::Embedded {
        println!("not tested here: the store is embedded");
        return;
    }
    let lead = |trial: &Trial, old: &str| etcd::lead_from(&trial.lab.plan, old).expect("etcd's leader moves");
    hangs_and_is_replaced(&wish().etcd_on_disk(), lead).await;
}

/// A fault that is to be named, and to lead to nothing.
async fn is_found_and_moves_nothing(
    of: impl AsyncFnOnce(&Trial) -> Fault,
    finding: &str,
    meanwhile: impl AsyncFnOnce(&Trial),
) -> Option<crate::trial::Ended> {
    let trial = Trial::new(&wish()).await?;
    let (primary, epoch) = (trial.lab.primary().await, trial.epoch().await);
    let fault = of(&trial).await;
    trial.begin(&fault);
    trial.lab.shows(finding, |seen| finds(seen, finding)).await;
    trial.lasts(LONG).await;
    meanwhile(&trial).await;
    trial.heal(&fault);
    trial.lab.shows("nothing of it any more", |seen| !finds(seen, finding)).await;
    trial.whole().await;
    assert_eq!((trial.lab.primary().await, trial.epoch().await), (primary, epoch), "nothing was moved");
    Some(trial.ends().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_a_standby_does_no_harm_to_the_primary() {
    let standby = async |trial: &Trial| Fault::DiskFull(trial.lab.standbys().await.remove(0));
    is_found_and_moves_nothing(standby, "disk_full", async |trial| trial.clients.goes_on().await).await;
}

/// What needs no new file goes on, and what does gets an error: no commit is lost, and a standby's disk may be as full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_the_primary_is_found_and_moves_nothing_while_it_lives() {
    let primary = async |trial: &Trial| Fault::DiskFull(trial.lab.primary().await);
    let Some(ended) = is_found_and_moves_nothing(primary, "disk_full", async |_| {}).await else { return };
    let errors = ended.history.errors();
    let full = errors.iter().any(|(error, _)| error.contains("No space left on device"));
    assert!(full, "the disk was not full, and nothing is tested: {errors:?}");
}

/// Without room for a new segment PostgreSQL ends itself, and so it would again: it is replaced once, and does not come back
/// before there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_without_room_for_wal_is_replaced_once() {
    let Some(trial) = Trial::new(&wish()).await else { return };
    let (old, epoch) = (trial.lab.primary().await, trial.epoch().await);
    let fault = Fault::DiskFull(old.clone());
    let begun = trial.begin(&fault);
    uses_up_its_segments(&trial, &old);
    let new = trial.moves_from(&old).await;
    trial.lasts(LONG).await;
    trial.lab.shows("the full disk", |seen| finds(seen, "disk_full")).await;
    assert_eq!((trial.lab.primary().await, trial.epoch().await), (new, epoch + 1), "one failover");
    let until = trial.heal(&fault);
    let ended = trial.ends().await;
    println!("outage elsewhere: {:.0} ms", ended.outage_elsewhere(begun, until, &old));
}

/// Begins one segment after the other, until none can be made.
fn uses_up_its_segments(trial: &Trial, primary: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while postgres::ask(&trial.lab.plan, primary, "SELECT pg_switch_wal()").is_ok() {
        assert!(Instant::now() < deadline, "{primary} still makes new segments");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_relation_is_found_and_moves_nothing() {
    let Some(trial) = Trial::new(&Wish::hosts(3)).await else { return };
    let (primary, epoch) = (trial.lab.primary().await, trial.epoch().await);
    let ask = |sql: &str| postgres::ask(&trial.lab.plan, &primary, sql);
    // Larger than the ring of buffers it is written through, so that its first page is no longer in memory.
    ask("CREATE TABLE victim AS SELECT n, repeat('x', 200) FROM generate_series(1, 150000) n")
        .expect("a table");
    ask("CHECKPOINT").expect("a checkpoint");
    let path = ask("SELECT pg_relation_filepath('victim')").expect("its file");
    let file =
        File::options().write(true).open(trial.lab.plan.data_of(&primary).join(path)).expect("its file");
    file.write_all_at(&[0xAA; 64], 4096).expect("damage");
    let error = ask("SELECT count(*) FROM victim").expect_err("a damaged page is noticed");
    assert!(error.to_string().contains("invalid page"), "{error:#}");
    trial.lab.shows("the damage", |seen| finds(seen, "data_damaged")).await;
    trial.lasts(LONG).await;
    trial.whole().await;
    assert_eq!((trial.lab.primary().await, trial.epoch().await), (primary, epoch), "nothing was moved");
    trial.ends().await;
}
