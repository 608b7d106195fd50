//! In async mode a crash may cost rows: never more than what was said, and never beyond what was allowed.

use locum::{
    model::{IncidentKind, Snapshot},
    postgres::Psql,
};

use crate::{
    fixture::missing,
    pair::{LivePair, Wish, family, primary_of, send, status_of},
    plain::locum,
};

/// Rows that only the primary has when it dies.
const BEHIND: u64 = 20_000;

fn lag(snapshot: &Snapshot, standby: &str) -> u64 {
    status_of(snapshot, standby).lag_bytes.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_async_failover_loses_is_within_what_the_record_says() {
    // Without a rescue, as when the host is gone with its disk.
    let mut pair = LivePair::wished(&Wish::durability("async").set("policy.rescue_max=0s")).await;
    let old = pair.primary().await;
    let standby = pair.other(old).node.name;
    let writer = pair.write().await;
    pair.falls_behind(old, BEHIND).await;
    send(family(&pair.host(old).node.config.data_dir)[0], "KILL");
    pair.shows("another primary", |s| primary_of(s) == Some(standby)).await;
    pair.whole(1).await;
    let incident = pair.shows("the incident", |s| s.last_incident.is_some()).await.last_incident.unwrap();
    // Asked at the other node: the list comes from the one that keeps it.
    let (id, config) = (incident.id.0.as_str(), pair.config_file(standby));
    let parts = [id, "Forecast", "Fact", "public.t in postgres: ", "lost.json"];
    locum(&["report", "--lost", id], &config).expect(0, &parts);
    let list = locum(&["report", "--lost", id, "--json"], &config).expect(0, &[]).json();
    assert_eq!(
        (&list["complete"], &list["list"]["committed"]),
        (&true.into(), &incident.rpo.lost_transactions.into())
    );
    let inserted = list["list"]["tables"][0]["inserted"].as_u64().unwrap();
    let listed = locum(&["salvage", "list", "--json"], &pair.config_file(old)).expect(0, &[]).json();
    assert_eq!(listed["salvages"][0]["committed"], list["list"]["committed"]);
    locum(&["salvage", "list"], &config).expect(0, &["Nothing is salvaged on this host."]);
    // What was lost can be read, and copied from there; nothing can be written to it.
    let id_of_salvage = listed["salvages"][0]["id"].as_str().unwrap().to_owned();
    let kept = pair.config_file(old);
    locum(&["salvage", "open", "nothing"], &kept).expect(1, &["there is no salvage nothing", &id_of_salvage]);
    let opened = locum(&["salvage", "open", &id_of_salvage, "--json"], &kept).expect(0, &[]).json();
    let at = ["host", "port", "user"].map(|key| format!("{key}={}", opened[key].as_str().unwrap())).join(" ");
    let (at, psql) = (format!("{at} dbname=postgres"), Psql::of(&pair.host(old).node.instance));
    let rows = psql.ask(&at, "SELECT id FROM public.t;").await.unwrap();
    let rows: Vec<i64> = rows.lines().map(|row| row.parse().unwrap()).collect();
    let lost = missing(&pair.host(standby).node, &rows).await;
    assert_eq!(lost as u64, inserted, "what the list says is what only the old state has");
    // As a person does: sessions of Locum's own do not rest on the server's defaults.
    let mut by_hand = pair.host(old).node.instance.command("psql");
    let written = by_hand.args(["-X", "-d", &at, "-c", "INSERT INTO t VALUES (-1)"]).output().await.unwrap();
    let said = String::from_utf8_lossy(&written.stderr);
    assert!(!written.status.success() && said.contains("read-only"), "{said}");
    assert_eq!(psql.ask(&at, "SELECT pg_is_in_recovery();").await.unwrap().trim(), "f");
    locum(&["salvage", "open", &id_of_salvage], &kept).expect(0, &["is open", "pg_dump", "--stop"]);
    locum(&["salvage", "open", &id_of_salvage, "--stop"], &kept).expect(0, &["The salvage stays"]);
    locum(&["salvage", "open", &id_of_salvage, "--stop"], &kept).expect(1, &["is not open"]);
    // Without the member that keeps it: what the incident itself carries.
    pair.host_mut(old).member.terminate().await;
    locum(&["report", "--lost", id], &config)
        .expect(0, &["public.t in postgres: ", "which keeps the list, does not answer"]);
    pair.host_mut(old).member.start();
    let ended = pair.ends_with_loss(writer, 1).await;
    assert_eq!(ended.snapshot.last_incident.as_ref(), Some(&incident));
    let rpo = &incident.rpo;
    assert!(ended.missing as u64 <= inserted, "{} lost, and {inserted} are listed", ended.missing);
    let said = rpo.live_bytes.unwrap() + rpo.written_after_bytes.unwrap();
    assert!(rpo.lost_bytes.unwrap() <= said, "{rpo:?}");
    assert!(ended.missing as u64 <= rpo.lost_transactions.unwrap(), "{} lost, and {rpo:?}", ended.missing);
    assert!(ended.missing > 0, "nothing was lost, and nothing is tested");
    assert!(rpo.salvage.is_some(), "what is lost is kept: {rpo:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_max_data_loss_the_standby_is_not_promoted() {
    let wish = Wish::durability("async").set("policy.max_data_loss=64KiB").set("policy.rescue_max=0s");
    let pair = LivePair::wished(&wish).await;
    let old = pair.primary().await;
    let standby = pair.other(old).node.name;
    let writer = pair.write().await;
    pair.falls_behind(old, BEHIND).await;
    let session = pair.host(old).node.connect().await;
    session.batch_execute("INSERT INTO t SELECT -n FROM generate_series(1, 5000) n").await.unwrap();
    pair.shows("a lag that is too much", |s| {
        lag(s, standby) > 100_000 && s.rpo.as_ref().is_some_and(|rpo| rpo.bytes > Some(100_000))
    })
    .await;
    send(family(&pair.host(old).node.config.data_dir)[0], "KILL");
    let restart = |s: &Snapshot| {
        let now = s.incident.as_ref().or(s.last_incident.as_ref());
        now.is_some_and(|incident| incident.kind == IncidentKind::Restart)
    };
    pair.shows("a start in place", restart).await;
    writer.goes_on().await;
    let seen = pair.ends(writer, 0).await;
    assert_eq!(primary_of(&seen), Some(old));
    let incident = seen.last_incident.unwrap();
    assert!(incident.rto_ms().is_some());
    assert!(
        incident.cause.evidence.iter().any(|said| said.contains("max_data_loss")),
        "{:?}",
        incident.cause
    );
}

/// Failovers of one try: there and back by default.
fn runs() -> u64 {
    std::env::var("TEST_RESCUE_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// Kills the postmaster again and again while its standby lacks WAL. The RTO of each run, and how many bytes were rescued.
async fn killed_while_behind(rescue_max: &str, lost: bool) -> Vec<(f64, Option<u64>)> {
    let wish = Wish::durability("async").set(&format!("policy.rescue_max={rescue_max}"));
    let pair = LivePair::wished(&wish.set("policy.max_failovers=1000")).await;
    let writer = pair.write().await;
    let mut seen = Vec::new();
    for promotions in 1..=runs() {
        let old = pair.primary().await;
        let standby = pair.other(old).node.name;
        pair.falls_behind(old, BEHIND).await;
        let known = |s: &Snapshot| s.rpo.as_ref().is_some_and(|rpo| rpo.bytes > Some(BEHIND));
        pair.shows("a lag", |s| lag(s, standby) > BEHIND && known(s)).await;
        send(family(&pair.host(old).node.config.data_dir)[0], "KILL");
        pair.shows("another primary", |s| primary_of(s) == Some(standby)).await;
        writer.goes_on().await;
        let incident = pair.whole(promotions).await.last_incident.expect("an incident");
        seen.push((incident.rto_ms().expect("an end"), incident.rpo.rescued_bytes));
        if !lost {
            assert_eq!(incident.rpo.lost_bytes, Some(0), "{incident:#?}");
            assert!(incident.rpo.rescued_bytes >= Some(BEHIND), "{incident:#?}");
            let phases: f64 = incident.phases().iter().map(|phase| phase.ms).sum();
            assert!((phases - incident.rto_ms().expect("an end")).abs() <= 1.0, "{incident:#?}");
        }
    }
    let ended = pair.ends_with_loss(writer, runs()).await;
    assert_eq!(ended.missing > 0, lost, "{} acknowledged rows are missing", ended.missing);
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postmaster_in_async_loses_nothing() {
    let rescued = killed_while_behind("2s", false).await;
    let without = killed_while_behind("0s", true).await;
    let median = |runs: &[(f64, Option<u64>)]| {
        let mut all: Vec<f64> = runs.iter().map(|(rto, _)| *rto).collect();
        all.sort_by(f64::total_cmp);
        (all[0], all[all.len() / 2], all[all.len() - 1])
    };
    println!("RTO in ms (least, median, most), {} runs each", runs());
    println!("with a rescue: {:.1?}: {rescued:.1?}", median(&rescued));
    println!("without: {:.1?}: {without:.1?}", median(&without));
}
