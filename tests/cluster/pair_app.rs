//! App servers: one dies without the database; and they follow the database when it moves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use locum::model::{IncidentKind, Mode, NodeId, Snapshot, Stamp};
use tokio::task::JoinHandle;

use crate::{
    app::App,
    fixture::{free_ports, until},
    pair::{LivePair, NAMES, Wish, family, primary_of, send},
};

/// On a busy machine a health path may take long to answer, without being down. One that takes no connection is another matter.
const PATIENT: &str = "policy.app_grace=3s";
/// Between two looks at who is active.
const LOOK: Duration = Duration::from_millis(20);

fn apps() -> [App; 2] {
    let [alpha, beta] = free_ports();
    [App::start(alpha, NAMES[0]), App::start(beta, NAMES[1])]
}

fn active(snapshot: &Snapshot) -> Option<&str> {
    snapshot.intent.as_ref()?.app.as_ref().map(|node| node.as_str())
}

/// All app proxies lead to one node.
fn led_to(snapshot: &Snapshot, name: &str) -> bool {
    let mut web = snapshot.endpoints.iter().filter(|endpoint| endpoint.name.as_str() == "web");
    web.all(|e| e.target.as_ref().is_some_and(|node| node.as_str() == name) && e.mode == Mode::Open)
}

/// Looks all the time who is said to be active, and where the app proxies lead, under which stamp.
struct Watch {
    seen: Arc<Mutex<BTreeMap<Stamp, BTreeSet<NodeId>>>>,
    task: JoinHandle<()>,
}

impl Watch {
    fn over(pair: &LivePair) -> Self {
        let seen: Arc<Mutex<BTreeMap<Stamp, BTreeSet<NodeId>>>> = Arc::default();
        let (apis, into) = (pair.hosts.each_ref().map(|host| host.api.clone()), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            loop {
                for api in &apis {
                    let Some(shown) = api.status().await else { continue };
                    let mut into = into.lock().unwrap();
                    if let Some((stamp, node)) =
                        shown.intent.as_ref().and_then(|i| Some((i.stamp(), i.app.clone()?)))
                    {
                        into.entry(stamp).or_default().insert(node);
                    }
                    let web =
                        shown.endpoints.iter().filter(|e| e.name.as_str() == "web" && e.mode == Mode::Open);
                    for (stamp, node) in web.filter_map(|e| Some((e.stamp, e.target.clone()?))) {
                        into.entry(stamp).or_default().insert(node);
                    }
                }
                // The members have other things to do, too.
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { seen, task }
    }

    /// Exactly one app server was active at a time, and it was another one so many times.
    fn saw_one_at_a_time(&self, flips: usize) {
        self.task.abort();
        let seen = self.seen.lock().unwrap();
        assert!(seen.values().all(|nodes| nodes.len() == 1), "two at a time: {seen:#?}");
        let mut nodes: Vec<_> = seen.values().flatten().collect();
        nodes.dedup();
        assert_eq!(nodes.len(), 1 + flips, "{seen:#?}");
    }
}

/// A driver that writes down whom it is told of, one file for each member's.
fn told(folder: &Path) -> [String; 2] {
    let program = folder.join("told");
    let text = format!(
        "#!/bin/sh\ncd {} || exit 1\necho \"$LOCUM_TARGET $LOCUM_NODE $LOCUM_ADDRESS\" >\"$LOCUM_MEMBER\"\n",
        folder.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let endpoint = format!(
        "[[endpoint]]\nname = \"told\"\ntarget = \"app\"\ndriver = \"exec\"\ncommand = \"{}\"\n",
        program.display()
    );
    [endpoint.clone(), endpoint]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_dies_is_replaced_without_moving_the_database_and_follows_it_when_it_moves() {
    let mut apps = apps();
    let apps_at = apps.each_ref().map(App::at);
    let folder = tempfile::tempdir().unwrap();
    let wish = Wish::default().apps(apps.each_ref().map(App::health)).more(told(folder.path())).set(PATIENT);
    let pair = LivePair::wished(&wish).await;
    let (writer, watch) = (pair.write().await, Watch::over(&pair));
    // Each member's driver has been told of the active one, and of nobody else since.
    let are_told = async |name: &str| {
        let at = apps_at[NAMES.iter().position(|each| *each == name).unwrap()];
        let expected = format!("app {name} {at}\n");
        until("both drivers told of the active app", || async {
            let told = |member: &str| fs::read_to_string(folder.path().join(member)).unwrap_or_default();
            NAMES.iter().all(|member| told(member) == expected).then_some(())
        })
        .await;
    };
    let seen = pair.shows("an active app", |s| active(s).is_some_and(|name| led_to(s, name))).await;
    let (primary, first) = (pair.primary().await, active(&seen).unwrap().to_owned());
    let other = pair.other(&first).node.name;
    let index = NAMES.iter().position(|name| *name == first).unwrap();
    are_told(&first).await;

    apps[index].kill().await;
    pair.shows("the other app", |s| active(s) == Some(other) && led_to(s, other)).await;
    are_told(other).await;
    // Through an endpoint, like any client; connections of the dead one are of no use.
    let answers = async |name: &str| {
        let web = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        let port = pair.host(name).web;
        web.get(format!("http://127.0.0.1:{port}/")).send().await.unwrap().text().await.unwrap()
    };
    for name in NAMES {
        assert_eq!(answers(name).await, other);
    }
    apps[index].start_again();
    let incident = pair.whole(0).await.last_incident.unwrap();
    assert_eq!(incident.kind, IncidentKind::AppFailover);
    assert!(incident.rto_ms().is_some(), "{incident:#?}");
    assert_eq!(pair.primary().await, primary, "the database moved");

    send(family(&pair.host(primary).node.config.data_dir)[0], "KILL");
    let moved = |s: &Snapshot| primary_of(s).is_some_and(|name| name != primary);
    pair.shows("another primary with its app", |s| moved(s) && active(s) == primary_of(s)).await;
    let seen = pair.whole(1).await;
    let new = primary_of(&seen).unwrap();
    assert!(led_to(&seen, new));
    are_told(new).await;
    watch.saw_one_at_a_time(1 + usize::from(new != other));
    pair.ends(writer, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_app_is_replaced_and_a_free_one_stays_where_it_is_when_the_database_moves() {
    let apps = apps();
    let wish = Wish::default().apps(apps.each_ref().map(App::health)).set("policy.app=free").set(PATIENT);
    let pair = LivePair::wished(&wish).await;
    let (writer, watch) = (pair.write().await, Watch::over(&pair));
    let seen = pair.shows("an active app", |s| active(s).is_some_and(|name| led_to(s, name))).await;
    let (primary, first) = (pair.primary().await, active(&seen).unwrap().to_owned());
    let other = pair.other(&first).node.name;
    let index = NAMES.iter().position(|name| *name == first).unwrap();

    apps[index].set_stuck(true);
    pair.shows("the other app", |s| active(s) == Some(other) && led_to(s, other)).await;
    // It is open for as long as there is no other app server that is well.
    let incident = pair.shows("the incident", |s| s.incident.is_some()).await.incident.unwrap();
    assert_eq!(incident.kind, IncidentKind::AppFailover);
    assert!(incident.cause.summary.contains("does not answer"), "{:?}", incident.cause);
    apps[index].set_stuck(false);
    pair.whole(0).await;

    // It stays, whichever side the database is on.
    pair.hand_over(pair.other(primary).node.name).await;
    let seen = pair.whole(1).await;
    assert_eq!((primary_of(&seen), active(&seen)), (Some(pair.other(primary).node.name), Some(other)));
    assert!(led_to(&seen, other));
    watch.saw_one_at_a_time(1);
    pair.ends(writer, 1).await;
}
