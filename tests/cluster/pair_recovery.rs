//! Nobody leaves recovery by himself: what would end it is left out and named, and who is promoted by hand is stopped, told
//! and brought back with what he wrote listed.

use std::{fs, time::Duration};

use locum::model::{Incident, IncidentKind, Snapshot};

use crate::{
    fixture::{missing, until},
    guard_fixture::now,
    guard_standby::Eager,
    pair::{LivePair, Wish, child, finds, is_whole, primary_of, send, status_of},
    plain::locum,
};

/// Puts a setting into the primary's files as `ALTER SYSTEM` does, over what was put there before.
async fn leave_behind(pair: &LivePair, node: &str, settings: &[(&str, &str)]) {
    let client = pair.host(node).node.connect().await;
    for (name, value) in settings {
        client.batch_execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).await.expect("a setting");
    }
}

async fn take_away(pair: &LivePair, node: &str, settings: &[(&str, &str)]) {
    let client = pair.host(node).node.connect().await;
    for (name, _) in settings {
        client.batch_execute(&format!("ALTER SYSTEM RESET {name}")).await.expect("a setting");
    }
}

/// The former primary streams and has replayed what was written since.
async fn replays(pair: &LivePair, primary: &str, standby: &str, id: i64) {
    pair.host(primary).node.ask(&format!("INSERT INTO t VALUES ({id}) RETURNING 1")).await;
    let sql = format!("SELECT pg_is_in_recovery() AND EXISTS (SELECT FROM t WHERE id = {id})");
    pair.host(standby).node.becomes(&sql, "t").await;
}

fn never_strayed(snapshot: &Snapshot) -> bool {
    let strayed = |incident: &Incident| incident.kind == IncidentKind::LeftRecovery;
    !finds(snapshot, "left_recovery") && !snapshot.last_incident.as_ref().is_some_and(strayed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leftover_recovery_settings_are_named_and_the_former_primary_stays_a_standby() {
    let mut pair = LivePair::prepared(&Wish::durability("async")).await;
    let promotes = [("recovery_target_time", "2020-01-01"), ("recovery_target_action", "promote")];
    leave_behind(&pair, "alpha", &promotes).await;
    let config = pair.config_file("alpha");
    locum(&["check"], &config)
        .expect(0, &["recovery_target_time", "postgresql.auto.conf", "ALTER SYSTEM RESET"]);
    locum(&["adopt", "--dry-run"], &config).expect(0, &["recovery_target_time", "recovery_target_action"]);
    for host in &mut pair.hosts {
        host.member.start();
    }
    pair.whole(0).await;
    let said = |s: &Snapshot| status_of(s, "alpha").hindrances.iter().any(|one| one.contains("2020-01-01"));
    pair.shows("what would end recovery", said).await;
    locum(&["switchover", "--dry-run"], &config)
        .expect(0, &["Nothing stands in the way", "alpha: recovery_target_time = '2020-01-01"]);

    pair.hand_over("beta").await;
    let seen = pair.whole(1).await;
    assert!(never_strayed(&seen), "{:?}", seen.last_incident);
    replays(&pair, "beta", "alpha", -1).await;
    // Both ways, each time with something else left behind by whoever is the primary.
    let lsn = pair.host("beta").node.ask("SELECT pg_current_wal_lsn()").await;
    let trigger = pair.host("beta").node.folder().join("run").join("promote-now");
    fs::write(&trigger, "").expect("a file");
    let trigger = trigger.display().to_string();
    take_away(&pair, "beta", &promotes).await;
    let mut rounds: Vec<Vec<(&str, &str)>> = vec![
        vec![("recovery_target", "immediate"), ("recovery_target_action", "promote")],
        vec![("recovery_target_lsn", &lsn), ("recovery_target_action", "promote")],
        vec![("recovery_target_xid", "3"), ("recovery_target_action", "shutdown")],
        vec![("recovery_target_name", "nothing"), ("recovery_target_timeline", "1")],
        vec![("recovery_target_time", "2020-01-01")],
    ];
    if pair.host("beta").node.ask("SELECT current_setting('server_version_num')::int < 160000").await == "t" {
        rounds.push(vec![("promote_trigger_file", &trigger)]);
    }
    let (mut primary, mut standby) = ("beta", "alpha");
    for (round, settings) in rounds.iter().enumerate() {
        leave_behind(&pair, primary, settings).await;
        let data = pair.host(primary).node.config.data_dir.clone();
        // As a restore leaves it.
        fs::write(data.join("recovery.signal"), "").expect("a file");
        pair.hand_over(standby).await;
        (primary, standby) = (standby, primary);
        let seen = pair.whole(2 + round as u64).await;
        assert!(never_strayed(&seen), "{settings:?}: {:?}", seen.last_incident);
        replays(&pair, primary, standby, -10 - round as i64).await;
        assert!(!data.join("recovery.signal").exists(), "{settings:?}");
        // They are in the standby's own file still, and take no effect: nobody else is to be started with them.
        pair.host(standby).node.ask("SELECT pg_reload_conf()").await;
        replays(&pair, primary, standby, -100 - round as i64).await;
        let own: Vec<&str> = settings
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| *name != "recovery_target_timeline")
            .collect();
        pair.host(standby).node.instance.unset(&own).await.expect("taken out");
        println!("{settings:?}: it stays a standby, and replays");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_standby_is_named_and_not_eligible_until_the_delay_is_taken_away() {
    let pair = LivePair::wished(&Wish::default()).await;
    let beta = &pair.host("beta").node;
    beta.ask("ALTER SYSTEM SET recovery_min_apply_delay = '90s'").await;
    beta.ask("SELECT pg_reload_conf()").await;
    pair.shows("the delay", |s| finds(s, "recovery_hindered")).await;
    let blockers = pair.blockers("beta").await;
    assert!(blockers.iter().any(|why| why.contains("recovery_min_apply_delay = 90s")), "{blockers:?}");
    locum(&["check"], &pair.config_file("beta"))
        .expect(0, &["recovery_min_apply_delay", "90s", "not promoted"]);
    beta.ask("ALTER SYSTEM RESET recovery_min_apply_delay").await;
    beta.ask("SELECT pg_reload_conf()").await;
    pair.shows("no delay any more", |s| !finds(s, "recovery_hindered")).await;
    pair.hand_over("beta").await;
    pair.whole(1).await;
}

/// A standby that is promoted by hand while clients write to it directly.
async fn promoted_by_hand(wish: &Wish, guard: bool, sql: bool) {
    let pair = LivePair::wished(wish).await;
    let writer = pair.write().await;
    let host = pair.host("beta");
    if !guard {
        send(guard_of(&pair, "beta"), "STOP");
    }
    let eager = Eager::start(&host.node, 3, 900_000_000_000).await;
    let began = now();
    if sql {
        // It may be frozen before it can answer.
        let client = host.node.connect().await;
        let asked = client.batch_execute("SELECT pg_promote(false)");
        let _maybe_cut = tokio::time::timeout(Duration::from_secs(1), asked).await;
    } else {
        let mut command = host.node.instance.command("pg_ctl");
        command.args(["promote", "--no-wait", "-D"]).arg(&host.node.config.data_dir);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        assert!(command.status().await.expect("pg_ctl").success());
    }
    pair.shows("the finding", |s| finds(s, "left_recovery")).await;
    let told = now().since(began);
    let recorded = pair.shows("the incident", |s| stray(s).is_some()).await;
    let incident = stray(&recorded).expect("an incident");
    assert_eq!(incident.from.as_ref().map(|node| node.as_str()), Some("beta"));
    let acked = eager.ids();
    if !guard {
        send(guard_of(&pair, "beta"), "CONT");
    }
    drop(eager);
    // It follows again, and what it acknowledged is listed.
    let seen = pair
        .shows("all is well again", |s| {
            is_whole(s)
                && primary_of(s) == Some("alpha")
                && stray(s).is_some_and(|i| i.rpo.lost_transactions.is_some())
        })
        .await;
    let incident = stray(&seen).expect("an incident");
    let lost = incident.rpo.lost_transactions.expect("counted");
    println!(
        "guard {guard}: told after {told:?}, {} acknowledged there, {lost} listed in {:?}",
        acked.len(),
        incident.rpo.salvage
    );
    assert!(lost >= acked.len() as u64, "{} acknowledged, and {incident:#?}", acked.len());
    assert_eq!(missing(&pair.host("alpha").node, &acked).await, acked.len(), "nobody else has them");
    locum(&["report", "--last", "1"], &pair.config_file("alpha"))
        .expect(0, &["Standby beta left recovery without an order", "Service went on."]);
    assert!(!finds(&seen, "left_recovery"));
    pair.ends(writer, 0).await;
}

fn stray(snapshot: &Snapshot) -> Option<&Incident> {
    snapshot.last_incident.as_ref().filter(|incident| incident.kind == IncidentKind::LeftRecovery)
}

fn guard_of(pair: &LivePair, name: &str) -> i32 {
    let socket = pair.host(name).node.state_dir.join("guard.sock");
    let stream = std::os::unix::net::UnixStream::connect(socket).expect("a guard");
    rustix::net::sockopt::socket_peercred(&stream).expect("a peer").pid.as_raw_pid()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_promoted_by_hand_is_stopped_told_and_follows_again() {
    promoted_by_hand(&Wish::durability("async"), true, true).await;
    promoted_by_hand(&Wish::default(), true, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_guard_the_agent_stops_a_standby_promoted_by_hand_and_what_it_wrote_is_listed() {
    promoted_by_hand(&Wish::durability("async"), false, false).await;
    promoted_by_hand(&Wish::default(), false, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_promoted_while_its_member_is_dead_is_frozen_by_its_guard_and_told_by_the_next_member() {
    let mut pair = LivePair::wished(&Wish::durability("async")).await;
    let writer = pair.write().await;
    pair.host_mut("beta").member.kill();
    // Longer than a guard that nobody needs would stay.
    let startup = child(&pair.host("beta").node.config.data_dir, "startup");
    assert!(startup > 0);
    let host = pair.host("beta");
    let eager = Eager::start(&host.node, 3, 900_000_000_000).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut command = host.node.instance.command("pg_ctl");
    command.args(["promote", "--no-wait", "-D"]).arg(&host.node.config.data_dir);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    assert!(command.status().await.expect("pg_ctl").success());
    // Nobody but its guard ends it.
    let node = &pair.host("beta").node;
    until("its end", || async { node.instance.find().await.expect("a look").is_none().then_some(()) }).await;
    let acked = eager.ids();
    drop(eager);
    pair.host_mut("beta").member.start();
    let seen = pair
        .shows("all is well again", |s| {
            is_whole(s) && stray(s).is_some_and(|i| i.rpo.lost_transactions.is_some())
        })
        .await;
    let lost = stray(&seen).expect("an incident").rpo.lost_transactions.expect("counted");
    println!("{} acknowledged there, {lost} listed", acked.len());
    assert!(lost >= acked.len() as u64);
    pair.ends(writer, 0).await;
}
