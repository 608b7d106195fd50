//! App servers on hosts of their own: with a host that is lost its database and its app move together.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use locum::model::{IncidentKind, MarkName, Snapshot};

use crate::{
    app,
    lab::{
        Fault, Wish,
        plan::{APP_PORT, WEB_PORT},
        status::{primary_of, status_of},
    },
    trial::Trial,
};

/// On a busy machine a health path may take long to answer, without being down.
const PATIENT: &str = "policy.app_grace=10s";

/// Starts the app server of a host. It ends with the laboratory; a host that is lost takes it along, for nobody reaches
/// it any more. While it is stuck its health path does not answer.
fn start(trial: &Trial, host: &str) -> Arc<AtomicBool> {
    let (stuck, at) = (Arc::<AtomicBool>::default(), (trial.lab.host(host).ip, APP_PORT).into());
    trial.lab.on(host).spawn(app::serve(at, host.to_owned(), Arc::clone(&stuck)));
    stuck
}

fn active(seen: &Snapshot) -> Option<&str> {
    seen.intent.as_ref()?.app.as_ref().map(|node| node.as_str())
}

/// Who answers a client elsewhere at the app endpoint of a host.
async fn answers(trial: &Trial, host: &str) -> String {
    let url = format!("http://{}:{WEB_PORT}/", trial.lab.host(host).ip);
    let ask =
        async move { reqwest::Client::builder().no_proxy().build()?.get(url).send().await?.text().await };
    trial.lab.clients().run(ask).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_host_takes_database_and_app_along_in_one_incident_that_ends_when_the_app_is_ready() {
    let Some(trial) = Trial::new(&Wish::hosts(2).witness().app().set(PATIENT)).await else { return };
    let old = trial.lab.primary().await;
    let new = trial.lab.standbys().await.pop().expect("a standby");
    start(&trial, &old);
    let well = |seen: &Snapshot| {
        let app = &status_of(seen, &old).app;
        active(seen) == Some(old.as_str()) && app.as_ref().is_some_and(|app| app.healthy)
    };
    trial.lab.shows("the app beside the primary", well).await;
    let stuck = start(&trial, &new);
    trial.lab.settled().await;
    assert_eq!(answers(&trial, &new).await, old, "whichever endpoint is asked");

    // The other app is there, but not ready yet when the database is.
    stuck.store(true, Ordering::Relaxed);
    let fault = Fault::HostLost(old.clone());
    trial.begin(&fault);
    assert_eq!(trial.moves_from(&old).await, new);
    let verified = |seen: &Snapshot| {
        seen.incident.as_ref().is_some_and(|incident| incident.at(MarkName::Verified).is_some())
    };
    let seen = trial.lab.shows("a database that serves", verified).await;
    assert_eq!((primary_of(&seen), active(&seen)), (Some(new.as_str()), Some(new.as_str())), "together");
    assert_eq!(seen.incident.expect("an incident").rto_ms(), None, "the outage is over without its app");
    stuck.store(false, Ordering::Relaxed);
    let ready = |seen: &Snapshot| seen.incident.as_ref().is_some_and(|incident| incident.rto_ms().is_some());
    trial.lab.shows("the end of the outage", ready).await;
    assert_eq!(answers(&trial, &new).await, new);

    trial.heal(&fault);
    let seen = trial.whole().await;
    assert_eq!((primary_of(&seen), active(&seen)), (Some(new.as_str()), Some(new.as_str())));
    let (_, listed) = trial.lab.get(&new, "/v1/incidents").await.expect("the incidents");
    let listed = listed["incidents"].as_array().expect("a list").len();
    let incident = seen.last_incident.expect("the incident");
    assert_eq!((listed, incident.kind), (1, IncidentKind::Failover), "one incident");
    assert_eq!(incident.to.as_ref().map(|node| node.as_str()), Some(new.as_str()));
    assert!(incident.at(MarkName::AppReady) > incident.at(MarkName::Verified), "{:#?}", incident.marks);
    trial.ends().await;
}
