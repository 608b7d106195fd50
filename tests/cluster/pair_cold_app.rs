//! A passive app server that does not run until it is wanted: its member starts it, and stops it when another one serves.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use locum::model::{Driver, IncidentKind, Snapshot};

use crate::{
    fixture::{free_ports, until},
    pair::{LivePair, NAMES, Wish, finds, primary_of, send, status_of},
};

/// The demo's app server, as an operator would have it started and stopped.
struct Apps {
    folder: tempfile::TempDir,
    ports: [u16; 2],
}

impl Apps {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("password"), "none").unwrap();
        Self { folder, ports: free_ports() }
    }

    fn path(&self, name: &str, what: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.{what}"))
    }

    fn script(&self, name: &str, what: &str, text: &str) -> PathBuf {
        let path = self.path(name, what);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// More of a node's file, after its `[app]`.
    fn commands(&self, index: usize) -> String {
        let (name, port) = (NAMES[index], self.ports[index]);
        let (pid, told) = (self.path(name, "pid"), self.path(name, "told"));
        let start = format!(
            "test -e /proc/$(cat {pid} 2>/dev/null || echo none)/exe && exit 0\n\
             nohup {locum} demo-app --listen 127.0.0.1:{port} --database \"host=$PGHOST port=$PGPORT user=postgres \
             dbname=postgres\" --password-file {password} >/dev/null 2>&1 &\necho $! >{pid}",
            locum = env!("CARGO_BIN_EXE_locum"),
            password = self.folder.path().join("password").display(),
            pid = pid.display(),
        );
        let stop = format!("test -e {0} || exit 0\nkill $(cat {0}); rm {0}", pid.display());
        let promote = format!("echo $LOCUM_NODE $LOCUM_PRIMARY >>{}", told.display());
        format!(
            "start = {:?}\nstop = {:?}\npromote = {:?}\ndatabase_file = {:?}\n",
            self.script(name, "start", &start),
            self.script(name, "stop", &stop),
            self.script(name, "promote", &promote),
            self.path(name, "env"),
        )
    }

    fn pid(&self, name: &str) -> Option<i32> {
        let pid: i32 = fs::read_to_string(self.path(name, "pid")).ok()?.trim().parse().ok()?;
        Path::new(&format!("/proc/{pid}/exe")).read_link().ok()?;
        Some(pid)
    }

    async fn runs(&self, name: &str, wanted: bool) {
        until(name, async || (self.pid(name).is_some() == wanted).then_some(())).await;
    }
}

impl Drop for Apps {
    fn drop(&mut self) {
        NAMES.iter().filter_map(|name| self.pid(name)).for_each(|pid| send(pid, "KILL"));
    }
}

/// It serves, and the other one rests.
fn serves(snapshot: &Snapshot, name: &str) -> bool {
    let app = |name| status_of(snapshot, name).app.clone().expect("an app");
    let other = NAMES.into_iter().find(|other| *other != name).expect("two");
    let (this, that) = (app(name), app(other));
    this.active && this.healthy && !that.active && !that.healthy && that.startable
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_app_is_started_where_it_is_wanted_and_stopped_where_it_is_not() {
    let apps = Apps::new();
    let health = apps.ports.map(|port| format!("http://127.0.0.1:{port}/healthz"));
    let wish = Wish::default().apps(health).more([apps.commands(0), apps.commands(1)]);
    let mut pair = LivePair::prepared(&wish).await;
    let first = &pair.hosts[0].node;
    first.ask("CREATE TABLE rows (writer int, seq bigint)").await;
    pair.start_all().await;
    let primary = pair.primary().await;
    let other = pair.other(primary).node.name;
    let seen = pair.shows("the app of the primary", |s| serves(s, primary)).await;
    assert!(!finds(&seen, "app_down"), "a cold app is none that is down: {:?}", seen.findings);
    assert_eq!(apps.pid(other), None);
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let rows = async |pair: &LivePair, through: &str| {
        let port = pair.host(through).web;
        let answer = client.get(format!("http://127.0.0.1:{port}/rows/count")).send().await.unwrap();
        answer.text().await.unwrap()
    };
    assert_eq!(rows(&pair, other).await, r#"{"rows":0}"#);

    // Its process dies: the other one is started, and this one is left at rest.
    send(apps.pid(primary).expect("it runs"), "KILL");
    pair.shows("the other app", |s| serves(s, other)).await;
    assert_eq!(rows(&pair, primary).await, r#"{"rows":0}"#);
    assert_eq!(pair.primary().await, primary, "the database moved");
    let incident = pair.whole(0).await.last_incident.expect("an incident");
    assert_eq!(incident.kind, IncidentKind::AppFailover);
    let line =
        incident.repoints.iter().find(|line| line.driver == Driver::App && line.member.as_str() == other);
    assert!(line.is_some_and(|line| line.took_ms.is_some()), "{:#?}", incident.repoints);

    // The database moves to where the app is, and back with it.
    for (promotions, to) in [(1, other), (2, primary)] {
        pair.hand_over(to).await;
        pair.shows("database and app on one node", |s| primary_of(s) == Some(to) && serves(s, to)).await;
        pair.whole(promotions).await;
        apps.runs(pair.other(to).node.name, false).await;
        let told = fs::read_to_string(apps.path(to, "told")).unwrap();
        assert_eq!(told.lines().last(), Some(format!("{to} {to}").as_str()));
        let file = fs::read_to_string(apps.path(to, "env")).unwrap();
        assert!(file.contains(&format!("LOCUM_PRIMARY={to}\n")), "{file}");
        assert!(file.contains(&format!("PGPORT={}\n", pair.host(to).database)), "{file}");
    }

    // It dies where nobody can take over: it is started again.
    pair.host_mut(other).member.kill();
    let died = apps.pid(primary).expect("it runs");
    send(died, "KILL");
    until("another process of it", async || apps.pid(primary).filter(|pid| *pid != died)).await;
    let again =
        |s: &Snapshot| status_of(s, primary).app.as_ref().is_some_and(|app| app.active && app.healthy);
    pair.shows("the same app, well again", again).await;
}
