//! The primary's processes die: which deaths move the service, and that nothing acknowledged goes with them.

use locum::model::{IncidentKind, Verdict};

use crate::pair::{LivePair, family, primary_of, send};

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
