//! Nodes come home whatever is done to them on the way, and when a person asks for it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use locum::model::{Incident, IncidentKind, OperationState, Role, Snapshot};
use serde_json::json;

use crate::{
    fixture::{bin_dir, missing, until},
    pair::{LivePair, Wish, family, finds, of_folder, primary_of, send, status_of},
    plain::locum,
};

/// So slow that a clone of an empty cluster (some 25 MB) takes seconds: there is time to break it.
const SLOW_CLONE: &str = "postgres.clone_max_rate=6MiB";

/// Runs `locum rejoin` as a person would.
fn rejoin(config: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
    command.arg("rejoin").args(more).arg("-c").arg(config);
    command.output().expect("locum rejoin")
}

/// The name that a node streams under, as its primary shows it: every clone has another.
async fn streams_as(pair: &LivePair, primary: &str) -> String {
    pair.host(primary).node.ask("SELECT application_name FROM pg_stat_replication").await
}

/// A program that works on a folder, by its name: found in `/proc`, so that the moment is not missed.
fn program_on(folder: &Path, name: &str) -> Option<i32> {
    of_folder(folder).into_iter().find(|pid| {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
        exe.is_ok_and(|exe| exe.file_name().is_some_and(|file| file == name))
    })
}

async fn runs(folder: &Path, name: &str) {
    until(name, || async { program_on(folder, name) }).await;
}

fn job_of(snapshot: &Snapshot, name: &str) -> String {
    status_of(snapshot, name).job.clone().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_cloned_from_scratch_when_a_person_asks_for_it() {
    let pair = LivePair::wished(&Wish::default().set(SLOW_CLONE)).await;
    let primary = pair.primary().await;
    let standby = pair.other(primary).node.name;
    let writer = pair.write().await;
    let before = streams_as(&pair, primary).await;
    let config = pair.config_file(primary);

    let dry = rejoin(&config, &[standby, "--from-scratch", "--dry-run"]);
    assert!(dry.status.success(), "{dry:?}");
    for (arguments, reason) in [
        (&[primary, "--from-scratch", "--yes"][..], "is the primary"),
        (&[standby, "--yes"], "streams already"),
        (&["nobody", "--yes"], "there is no node nobody"),
    ] {
        let refused = rejoin(&config, arguments);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && said.contains(reason), "{arguments:?}: {said}");
    }
    assert_eq!(streams_as(&pair, primary).await, before, "nothing was changed");

    let asked = config.clone();
    let cloning = tokio::task::spawn_blocking(move || rejoin(&asked, &[standby, "--from-scratch", "--yes"]));
    // How far it is, at what rate, and how long it will take.
    pair.shows("a clone that tells how far it is", |s| {
        let job = job_of(s, standby);
        job.contains(" % of ") && job.contains("MB/s") && job.ends_with(" left")
    })
    .await;
    let done = cloning.await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && out == "Done.\n", "{out}{err}");
    assert!(err.contains("MB/s") && err.contains("was cloned anew and streams"), "{err}");
    pair.whole(0).await;
    assert_ne!(streams_as(&pair, primary).await, before, "a clone has another name");
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarantined_node_comes_back_when_a_person_has_mended_it() {
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    let old = pair.primary().await;
    let data_dir = pair.host(old).node.config.data_dir.clone();
    let file = data_dir.join("postgresql.conf");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}\nno_such_setting_at_all = 1\n")).unwrap();
    send(family(&data_dir)[0], "KILL");
    pair.shows("a quarantine", |s| finds(s, "quarantined")).await;
    // Asked too early: everything is tried, fails again, and says why.
    let in_vain = pair.over(&pair.ask("/v1/rejoin", json!({ "node": old })).await).await;
    assert_eq!(in_vain.state, OperationState::Failed, "{in_vain:?}");
    assert!(in_vain.messages.iter().any(|why| why.contains("no_such_setting_at_all")), "{in_vain:?}");
    let over = |s: &Snapshot| s.intent.as_ref().is_some_and(|intent| intent.rejoin.is_none());
    pair.shows("a quarantine again", |s| finds(s, "quarantined") && over(s)).await;
    std::fs::write(&file, good).unwrap();
    let operation = pair.ask("/v1/rejoin", json!({ "node": old })).await;
    let ended = pair.over(&operation).await;
    // The pause between two clones is 15 s: by itself it would have come later, and by a clone.
    assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    assert!(ended.messages[0].contains("streams again"), "{ended:?}");
    pair.ends(writer, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_killed_in_mid_clone_brings_its_node_home() {
    let mut pair = LivePair::wished(&Wish::default().set(SLOW_CLONE)).await;
    let primary = pair.primary().await;
    let standby = pair.other(primary).node.name;
    let writer = pair.write().await;
    let before = streams_as(&pair, primary).await;
    let folder = pair.host(standby).node.folder().to_owned();
    pair.ask("/v1/rejoin", json!({ "node": standby, "from_scratch": true })).await;
    let half_made = pair.host(standby).node.config.data_dir.with_extension("locum-new");
    // At its beginning, with some of it there, and with most of it there.
    for (moment, percent) in [("the first", 0), ("some", 20), ("most", 60)] {
        runs(&folder, "pg_basebackup").await;
        pair.shows(moment, |s| {
            let job = job_of(s, standby);
            let done =
                job.strip_prefix("cloning: ").and_then(|job| job.split(' ').next()?.parse::<u64>().ok());
            percent == 0 || done.is_some_and(|done| done >= percent)
        })
        .await;
        pair.host_mut(standby).member.kill();
        // The program goes on, until it has something to say to the member that is gone.
        let halfway = program_on(&folder, "pg_basebackup").is_some() || half_made.is_dir();
        assert!(halfway, "{moment}: the clone was over already");
        assert!(program_on(&folder, "postgres").is_none(), "{moment}: a half-made directory was started");
        pair.host_mut(standby).member.start();
    }
    pair.whole(0).await;
    assert_ne!(streams_as(&pair, primary).await, before);
    pair.ends(writer, 0).await;
}

/// When the member of the old primary is killed on its way home.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The single-user server replays what the crash left.
    Recovering,
    /// `pg_rewind` has begun.
    Rewinding,
    /// It has been at work for so many milliseconds.
    Rewritten(u64),
}

const MOMENTS: [Moment; 4] =
    [Moment::Recovering, Moment::Rewinding, Moment::Rewritten(30), Moment::Rewritten(120)];

/// Loses the primary's host with rows that nobody else has; the other one serves when this returns.
async fn lose_with_rows(pair: &mut LivePair) -> &'static str {
    let old = pair.primary().await;
    let standby = pair.other(old).node.name;
    let data_dir = pair.host(old).node.config.data_dir.clone();
    pair.falls_behind(old, 20_000).await;
    pair.host_mut(old).member.kill();
    family(&data_dir).into_iter().for_each(|pid| send(pid, "KILL"));
    pair.shows("another primary", |s| primary_of(s) == Some(standby)).await;
    let serves = |s: &Snapshot| status_of(s, standby).serving && status_of(s, standby).role == Role::Primary;
    pair.shows("service", serves).await;
    old
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_killed_in_mid_rewind_brings_its_node_home() {
    let wish = Wish::durability("async").set("policy.lease_ttl=2s").set("policy.leader_ttl=1s");
    let mut pair = LivePair::wished(&wish).await;
    let mut promotions = 0;
    for moment in MOMENTS {
        let writer = pair.write().await;
        let old = lose_with_rows(&mut pair).await;
        promotions += 1;
        let folder = pair.host(old).node.folder().to_owned();
        pair.host_mut(old).member.start();
        match moment {
            Moment::Recovering => runs(&folder, "postgres").await,
            Moment::Rewinding => runs(&folder, "pg_rewind").await,
            Moment::Rewritten(ms) => {
                runs(&folder, "pg_rewind").await;
                // What is tested is a kill at this moment, not a condition that is waited for.
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
        }
        pair.host_mut(old).member.kill();
        let log = pair.host(old).member.log();
        pair.host_mut(old).member.start();
        pair.whole(promotions).await;
        eprintln!(
            "{moment:?}: killed, and home again; rewinds begun before: {}",
            log.matches("rewind").count()
        );
        writer.finish().await;
    }
    let writer = pair.write().await;
    pair.ends(writer, promotions).await;
}

/// Neither checksums nor `wal_log_hints`: what was changed without WAL cannot be found.
async fn without_checksums(pair: &mut LivePair) {
    let primary = pair.primary().await;
    let standby = pair.other(primary).node.name;
    for name in [standby, primary] {
        pair.host_mut(name).member.terminate().await;
    }
    for name in [standby, primary] {
        let node = &pair.host(name).node;
        let postmaster = node.instance.find().await.unwrap().unwrap();
        node.instance.stop_fast(&postmaster, Duration::from_secs(30)).await.unwrap();
        let mut command = node.instance.command("pg_checksums");
        let done = command.arg("--disable").arg("-D").arg(&node.config.data_dir).output().await.unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    pair.start_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_rewind_is_impossible_the_node_is_cloned() {
    let wish = Wish::durability("async").set("policy.lease_ttl=2s").set("policy.leader_ttl=1s");
    let mut pair = LivePair::wished(&wish.set(SLOW_CLONE).server("wal_log_hints = off")).await;
    without_checksums(&mut pair).await;
    let writer = pair.write().await;
    let old = lose_with_rows(&mut pair).await;
    pair.host_mut(old).member.start();
    pair.shows("a clone that tells how far it is", |s| job_of(s, old).contains(" % of ")).await;
    let ended = pair.ends_with_loss(writer, 1).await;
    let rpo = ended.snapshot.last_incident.unwrap().rpo;
    assert!(rpo.lost_transactions > Some(0) && rpo.salvage.is_some(), "it was saved before that: {rpo:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_standby_is_being_cloned_a_dead_primary_is_started_in_its_place() {
    let mut pair = LivePair::wished(&Wish::default().set(SLOW_CLONE)).await;
    let primary = pair.primary().await;
    let standby = pair.other(primary).node.name;
    let writer = pair.write().await;
    // A node that is new: it has nothing.
    let data_dir = pair.host(standby).node.config.data_dir.clone();
    pair.host_mut(standby).member.kill();
    family(&data_dir).into_iter().for_each(|pid| send(pid, "KILL"));
    std::fs::remove_dir_all(&data_dir).unwrap();
    pair.host_mut(standby).member.start();
    pair.shows("its first clone", |s| job_of(s, standby).contains(" % of ")).await;
    send(family(&pair.host(primary).node.config.data_dir)[0], "KILL");
    let seen = pair
        .shows("a start in place", |s| {
            s.last_incident.as_ref().is_some_and(|i| i.kind == IncidentKind::Restart)
        })
        .await;
    let evidence = seen.last_incident.unwrap().cause.evidence.join("; ");
    eprintln!("{evidence}");
    assert!(evidence.contains(standby), "why the standby is not promoted: {evidence}");
    pair.ends(writer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_failovers_there_and_back_leave_slots_and_data_right() {
    const SLOTS: &str = "SELECT string_agg(slot_name || ' ' || active, ',' ORDER BY slot_name) \
                         FROM pg_replication_slots WHERE slot_name LIKE 'locum%'";
    let pair = LivePair::new().await;
    let writer = pair.write().await;
    for promotions in 1..=3 {
        let old = pair.primary().await;
        send(family(&pair.host(old).node.config.data_dir)[0], "KILL");
        let new = pair.other(old).node.name;
        pair.shows("another primary", |s| primary_of(s) == Some(new)).await;
        pair.whole(promotions).await;
        writer.goes_on().await;
        let slots = |name| pair.host(name).node.ask(SLOTS);
        until("the slots", async || {
            let right = slots(new).await == format!("locum_{old} true") && slots(old).await.is_empty();
            right.then_some(())
        })
        .await;
    }
    pair.ends(writer, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_primary_may_die_while_the_old_one_rewinds() {
    let wish = Wish::durability("async").set("policy.lease_ttl=2s").set("policy.leader_ttl=1s");
    let mut pair = LivePair::wished(&wish).await;
    let writer = pair.write().await;
    let old = lose_with_rows(&mut pair).await;
    let new = pair.other(old).node.name;
    let folder = pair.host(old).node.folder().to_owned();
    pair.host_mut(old).member.start();
    runs(&folder, "pg_rewind").await;
    send(family(&pair.host(new).node.config.data_dir)[0], "KILL");
    // Nobody else can be promoted with a directory that is half rewound: the new one is started in its place.
    let snapshot = pair.ends_with_loss(writer, 1).await.snapshot;
    assert_eq!(primary_of(&snapshot), Some(new));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_is_recorded_although_the_new_primary_crashed_before_it_was_read() {
    let wish = Wish::durability("async").set("policy.lease_ttl=2s").set("policy.leader_ttl=1s");
    let mut pair = LivePair::wished(&wish).await;
    let writer = pair.write().await;
    let old = lose_with_rows(&mut pair).await;
    let new = pair.other(old).node.name;
    let ended = |s: &Snapshot, kind: IncidentKind| {
        s.incident.as_ref().is_some_and(|incident| incident.kind == kind && incident.rto_ms().is_some())
    };
    pair.shows("the end of the outage", |s| ended(s, IncidentKind::Failover)).await;
    send(family(&pair.host(new).node.config.data_dir)[0], "KILL");
    pair.shows("a start in place", |s| ended(s, IncidentKind::Restart)).await;
    pair.host_mut(old).member.start();
    pair.whole(1).await;
    let api = &pair.host(new).api;
    let recorded = until("a record of what was lost", || async {
        let (_, told) = api.get("/v1/incidents").await?;
        let all: Vec<Incident> = serde_json::from_value(told["incidents"].clone()).ok()?;
        let kinds: Vec<_> = all.iter().map(|incident| incident.kind).collect();
        assert_eq!(kinds, [IncidentKind::Failover, IncidentKind::Restart]);
        all.into_iter().next().filter(|incident| incident.rpo.lost_bytes.is_some())
    })
    .await;
    assert!(recorded.rpo.lost_transactions > Some(20) && recorded.rpo.salvage.is_some(), "{recorded:#?}");
    locum(&["report", "--lost", &recorded.id.0], &pair.config_file(new)).expect(0, &["public.t in postgres"]);
    let ended = pair.ends_with_loss(writer, 1).await;
    assert!(Some(ended.missing as u64) <= recorded.rpo.lost_transactions, "{recorded:#?}");
    assert_eq!(ended.snapshot.last_incident.map(|last| last.kind), Some(IncidentKind::Restart));
}

/// The calls of `pg_waldump` that a salvage makes.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// Which transactions ended in the lost part.
    Ended,
    /// Everything: the list.
    Listing,
}

/// PostgreSQL's programs in a folder of their own, of which `pg_waldump` can be held in the middle of what it prints.
struct Programs(tempfile::TempDir);

impl Programs {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("locum-test-").tempdir_in("/tmp").expect("a folder");
        for program in fs::read_dir(bin_dir()).expect("programs").flatten() {
            if program.file_name() != "pg_waldump" {
                symlink(program.path(), dir.path().join(program.file_name())).expect("a link");
            }
        }
        let (here, real) = (dir.path().display(), bin_dir().join("pg_waldump").display().to_string());
        let script = format!(
            r#"#!/bin/sh
case "$*" in
*--rmgr=Transaction*) kind=Ended ;;
*--rmgr=* | *--quiet* | *--limit=*) kind=None ;;
*) kind=Listing ;;
esac
mv {here}/hold-$kind {here}/held 2>/dev/null || exec {real} "$@"
half=$(($({real} "$@" 2>/dev/null | wc -l) / 2))
{real} "$@" 2>/dev/null | head -n $half
: > {here}/half
while [ -e {here}/held ]; do sleep 0.01; done
{real} "$@" | tail -n +$((half + 1))
"#
        );
        let path = dir.path().join("pg_waldump");
        fs::write(&path, script).expect("a script");
        // PostgreSQL's user runs it.
        for path in [dir.path(), &path] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("permissions");
        }
        Self(dir)
    }

    /// The next call of that kind stops when half of it is printed.
    fn hold(&self, reading: Reading) {
        fs::write(self.0.path().join(format!("hold-{reading:?}")), "").expect("a file");
    }

    async fn is_held(&self, folder: &Path) {
        let half = self.0.path().join("half");
        until("a salvage that is held", || async { half.exists().then_some(()) }).await;
        fs::remove_file(half).expect("a file");
        assert!(!readers(folder).is_empty(), "it is not held");
    }

    fn go_on(&self) {
        fs::remove_file(self.0.path().join("held")).expect("a file");
    }
}

/// Whoever reads the WAL of a node's folder.
fn readers(folder: &Path) -> Vec<i32> {
    let reads = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("pg_waldump")
    };
    of_folder(folder).into_iter().filter(reads).collect()
}

/// How many salvages a node has. Each is whole: what its manifest names is there, and nothing of the work is left.
fn whole_salvages(state_dir: &Path) -> usize {
    let all = fs::read_dir(state_dir.join("salvage")).expect("a folder").flatten();
    let each = all.map(|salvage| {
        let dir = salvage.path();
        let manifest = fs::read_to_string(dir.join("MANIFEST")).unwrap_or_else(|e| panic!("{dir:?}: {e}"));
        let named: Vec<_> = manifest.lines().filter(|line| !line.starts_with('#')).collect();
        for line in &named {
            let [name, bytes, _] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let there = fs::metadata(dir.join(name)).expect("a file of the manifest").len();
            assert_eq!(there.to_string(), bytes, "{dir:?}: {line}");
        }
        let files = fs::read_dir(&dir).expect("a folder").flatten().filter(|file| file.path().is_file());
        assert_eq!(files.count(), named.len() + 1, "{dir:?}: {manifest}");
        assert!(
            named.len() > 3 && dir.extension().is_none() && dir.join("data").is_dir(),
            "{dir:?}: {manifest}"
        );
    });
    each.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_ends_while_what_was_lost_is_listed_lists_it_whole() {
    let programs = Programs::new();
    let wish = Wish::durability("async").set("policy.lease_ttl=2s").set("policy.leader_ttl=1s");
    let wish = wish.set(&format!("postgres.bin_dir={}", programs.0.path().display()));
    let mut pair = LivePair::wished(&wish).await;
    let rounds = [(Reading::Ended, true), (Reading::Listing, true), (Reading::Listing, false)];
    for (promotions, (reading, killed)) in (1..).zip(rounds) {
        let writer = pair.write().await;
        let old = lose_with_rows(&mut pair).await;
        let (folder, state) = {
            let node = &pair.host(old).node;
            (node.folder().to_owned(), node.state_dir.clone())
        };
        programs.hold(reading);
        pair.host_mut(old).member.start();
        programs.is_held(&folder).await;
        let half_made = fs::read_dir(state.join("salvage")).unwrap().flatten().map(|entry| entry.path());
        assert_eq!(half_made.filter(|path| path.extension().is_some()).count(), 1, "{reading:?}");
        match killed {
            true => pair.host_mut(old).member.kill(),
            false => pair.host_mut(old).member.terminate().await,
        }
        // Killed, it leaves the program behind, which ends when it has nobody to write to.
        assert_eq!(!readers(&folder).is_empty(), killed, "{reading:?}");
        pair.host_mut(old).member.start();
        programs.go_on();
        let incident = pair.whole(promotions).await.last_incident.expect("an incident");
        let acknowledged = writer.finish().await;
        let lost = missing(&pair.other(old).node, &acknowledged).await as u64;

        let asked = ["report", "--lost", incident.id.0.as_str(), "--json"];
        let told = locum(&asked, &pair.config_file(old)).expect(0, &[]).json();
        let (list, tables) = (&told["list"], &told["list"]["tables"]);
        let inserted = tables[0]["inserted"].as_u64().unwrap();
        // Each of the two clients may have had one on its way that it was not told of.
        assert!(lost > 20 && (lost..=lost + 2).contains(&inserted), "{lost} lost, and listed: {list:#}");
        assert_eq!((tables.as_array().unwrap().len(), &told["complete"]), (1, &true.into()), "{tables}");
        assert_eq!(list["committed"], inserted, "each was a transaction of its own");
        assert_eq!(incident.rpo.lost_transactions, Some(inserted));
        assert!(list["unknown"].is_null(), "{list:#}");
        whole_salvages(&state);
        until("the end of every reader", || async { readers(&folder).is_empty().then_some(()) }).await;
        eprintln!("{reading:?}, killed {killed}: {lost} acknowledged rows lost, {inserted} listed");
    }
    let salvages = pair.hosts.each_ref().map(|host| whole_salvages(&host.node.state_dir));
    assert_eq!(salvages.into_iter().sum::<usize>(), rounds.len(), "one for each loss");
    let writer = pair.write().await;
    pair.ends(writer, 3).await;
}
