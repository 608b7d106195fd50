//! The primary's processes die: which deaths move the service, and that nothing acknowledged goes with them.

use locum::model::{IncidentKind, Snapshot, Verdict};

use crate::pair::{LivePair, Wish, family, finds, primary_of, send, status_of};

const THERE_AND_BACK: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postmaster_is_replaced_and_the_old_one_rejoins() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    for promotions in 1..=THERE_AND_BACK {
        let old = pair.primary().await;
        send(family(&pair.host(old).node.config.data_dir)[0], "KILL");
        pair.shows("another primary", |s| primary_of(s).is_some_and(|name| name != old)).await;
        writer.goes_on().await;
        let incident = pair.whole(promotions).await.last_incident.expect("an incident");
        assert_eq!(incident.kind, IncidentKind::Failover);
        assert_eq!(incident.from.as_ref().map(|node| node.as_str()), Some(old));
        assert!(incident.closed && incident.abandoned.is_none(), "{incident:#?}");
        assert_eq!(incident.verdicts().rpo, Verdict::Met, "{incident:#?}");
        let phases: f64 = incident.phases().iter().map(|phase| phase.ms).sum();
        assert!((phases - incident.rto_ms().expect("an end")).abs() <= 1.0, "{incident:#?}");
        assert!(incident.cause.summary.contains("the postmaster of primary"), "{:?}", incident.cause);
    }
    pair.ends(writer, THERE_AND_BACK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_backend_is_no_failover() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    let primary = &pair.host(pair.primary().await).node;
    let postmaster = family(&primary.config.data_dir)[0];
    let backend = "SELECT pid FROM pg_stat_activity WHERE application_name = 'writer' LIMIT 1";
    send(primary.ask(backend).await.parse().unwrap(), "KILL");
    // PostgreSQL ends every session and recovers behind the same postmaster.
    writer.goes_on().await;
    assert_eq!(family(&primary.config.data_dir)[0], postmaster);
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_policy_a_crash_is_restarted_in_place() {
    let pair = LivePair::wished(&Wish::default().set("policy.on_crash=restart")).await;
    let writer = pair.write().await;
    let primary = pair.primary().await;
    send(family(&pair.host(primary).node.config.data_dir)[0], "KILL");
    let restart = |s: &Snapshot| s.last_incident.as_ref().is_some_and(|i| i.kind == IncidentKind::Restart);
    let incident = pair.shows("a restart's record", restart).await.last_incident.unwrap();
    assert!(incident.rto_ms().is_some() && incident.cause.summary.contains("died"), "{incident:#?}");
    assert_eq!(pair.primary().await, primary);
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_config_of_the_primary_leads_to_failover() {
    let mut pair = LivePair::wished(&Wish::default().set("policy.on_crash=restart")).await;
    let writer = pair.write().await;
    let old = pair.primary().await;
    let data_dir = pair.host(old).node.config.data_dir.clone();
    let file = data_dir.join("postgresql.conf");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}\nno_such_setting_at_all = 1\n")).unwrap();
    send(family(&data_dir)[0], "KILL");
    pair.shows("another primary", |s| primary_of(s).is_some_and(|name| name != old)).await;
    writer.goes_on().await;
    let why = |s: &Snapshot| status_of(s, old).error.clone().unwrap_or_default();
    let shown = |s: &Snapshot| finds(s, "quarantined") && why(s).contains("no_such_setting_at_all");
    pair.shows("a quarantine with its reason", shown).await;

    // A person mends it and starts the member again: what failed before is tried again.
    std::fs::write(&file, good).unwrap();
    pair.host_mut(old).member.terminate().await;
    pair.host_mut(old).member.start();
    pair.ends(writer, 1).await;
}
