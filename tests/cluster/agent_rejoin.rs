//! The old primary comes back, and what it gave up is counted and kept.

use locum::model::{AgentFacts, Command, Lsn, Reply, Server, Switch, Timeline};

use super::agent_fixture::{Pair, is_down, pair, primary, promote, signal, stamp, standby};
use crate::fixture::{Small, free_ports, until};

/// The standby has the table: what is counted as lost later is later.
async fn has_rows(pair: &Pair) {
    until("the table on the standby", || async {
        (pair.b.ask("SELECT to_regclass('rows') IS NOT NULL").await == "t").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_is_rewound_and_its_lost_tail_is_told() {
    let pair = pair().await;
    pair.a.ask("CREATE TABLE rows (n int)").await;
    has_rows(&pair).await;
    // b is cut; what a writes from now on is lost.
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    for n in 0..5 {
        pair.a.ask(&format!("INSERT INTO rows VALUES ({n})")).await;
    }
    pair.a.done(stamp(2, 6), Command::Fence).await;
    pair.b.done(stamp(2, 7), promote()).await;
    let on_new = |f: &AgentFacts| primary(f).is_some_and(|p| p.checkpoint_timeline == p.timeline);
    pair.b.until("a checkpoint on the new timeline", on_new).await;
    let switch = pair.b.primary().switch;
    pair.b.done(stamp(2, 8), Command::KeepSlots(vec![pair.a.id.slot()])).await;
    pair.a.done(stamp(2, 8), Command::Rewind(pair.b.upstream_for(&pair.a), switch)).await;
    let facts = pair.a.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
    let lost = facts.lost.expect("a lost tail");
    assert_eq!((lost.under, lost.transactions, Some(lost.from)), (stamp(2, 8), 5, switch.map(|s| s.at)));
    let rows: Vec<_> = lost.tables.iter().map(|table| (table.table.as_str(), table.inserted)).collect();
    assert_eq!((rows, lost.first.len(), lost.unknown), (vec![("public.rows", 5)], 5, None));
    assert!(lost.bytes > 0 && std::path::Path::new(&lost.salvage.unwrap()).is_dir());
    assert_eq!((facts.unfinished, facts.failed.len(), facts.job), (None, 0, None));
    pair.b.ask("INSERT INTO rows VALUES (100)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_is_said_to_be_unknown_where_the_wal_is_gone_and_the_node_comes_home() {
    let pair = pair().await;
    pair.a.ask("CREATE TABLE rows (n int)").await;
    has_rows(&pair).await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    pair.a.ask("INSERT INTO rows VALUES (1)").await;
    for entry in std::fs::read_dir(pair.a.cfg.data_dir.join("pg_wal")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    signal(pair.a.postmaster(), "KILL");
    let gone = |f: &AgentFacts| matches!(&f.server.value, Server::Down(down) if down.wal_gone && down.wal_end.is_none());
    pair.a.until("the end of its WAL that cannot be told", gone).await;
    pair.a.done(stamp(2, 6), Command::Fence).await;
    let switch = promoted(&pair).await;
    let reply = pair.a.agent.order(stamp(2, 8), Command::Rewind(pair.b.upstream_for(&pair.a), switch)).await;
    assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
    pair.a.done(stamp(2, 9), Command::Clone(pair.b.upstream_for(&pair.a), switch, None)).await;
    let facts = pair.a.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
    let unknown = facts.lost.and_then(|lost| lost.unknown);
    assert!(unknown.as_ref().is_some_and(|why| why.contains("there is no WAL")), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rewound_while_it_cannot_be_salvaged() {
    let mut pair = pair().await;
    let switch = lost_a_row(&pair).await;
    // All of PostgreSQL's programs but one.
    let (programs, all) = (pair._dir.path().join("bin"), pair.a.cfg.bin_dir.clone());
    std::fs::create_dir(&programs).unwrap();
    for entry in std::fs::read_dir(&all).unwrap() {
        let name = entry.unwrap().file_name();
        if name != "pg_waldump" {
            std::os::unix::fs::symlink(all.join(&name), programs.join(&name)).unwrap();
        }
    }
    pair.a.cfg.bin_dir.clone_from(&programs);
    pair.a.restart_agent().await;
    pair.a.until("its end", is_down).await;
    refuses_both(&pair, switch, "pg_waldump").await;
    std::os::unix::fs::symlink(all.join("pg_waldump"), programs.join("pg_waldump")).unwrap();
    comes_home(&pair, switch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rewound_while_there_is_no_room_for_the_salvage() {
    let pair = pair().await;
    let switch = lost_a_row(&pair).await;
    let salvages = pair.a.state_dir.join("salvage");
    std::fs::create_dir_all(&salvages).unwrap();
    // One segment of WAL takes 16 MiB.
    let Some(small) = Small::mount(&salvages, 6) else { return };
    refuses_both(&pair, switch, "No space left").await;
    small.grow(100);
    comes_home(&pair, switch).await;
}

/// The old primary has one row that the new one has not. Returns the switch.
async fn lost_a_row(pair: &Pair) -> Option<Switch> {
    pair.a.ask("CREATE TABLE rows (n int)").await;
    has_rows(pair).await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    pair.a.ask("INSERT INTO rows VALUES (1)").await;
    pair.a.done(stamp(2, 6), Command::Fence).await;
    promoted(pair).await
}

/// Neither a rewind nor a clone is begun, for this reason.
async fn refuses_both(pair: &Pair, switch: Option<Switch>, reason: &str) {
    let upstream = || pair.b.upstream_for(&pair.a);
    for command in [Command::Rewind(upstream(), switch), Command::Clone(upstream(), switch, None)] {
        let reply = pair.a.agent.order(stamp(2, 9), command).await;
        assert!(matches!(&reply, Reply::Failed(why) if why.contains(reason)), "{reply:?}");
    }
    let facts = pair.a.agent.facts();
    assert_eq!((facts.unfinished, facts.lost, facts.failed.len()), (None, None, 2));
}

async fn comes_home(pair: &Pair, switch: Option<Switch>) {
    pair.a.done(stamp(2, 10), Command::Rewind(pair.b.upstream_for(&pair.a), switch)).await;
    let facts = pair.a.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
    assert_eq!(facts.lost.map(|lost| lost.transactions), Some(1));
}

/// Makes the other one the primary, with its slot for the old one. Returns the switch.
async fn promoted(pair: &Pair) -> Option<Switch> {
    pair.b.done(stamp(2, 7), promote()).await;
    let on_new = |f: &AgentFacts| primary(f).is_some_and(|p| p.checkpoint_timeline == p.timeline);
    pair.b.until("a checkpoint on the new timeline", on_new).await;
    pair.b.done(stamp(2, 8), Command::KeepSlots(vec![pair.a.id.slot()])).await;
    pair.b.primary().switch
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_gets_a_name_of_its_own() {
    let pair = pair().await;
    let before = pair.b.agent.facts().standby_name;
    pair.b.done(stamp(1, 5), Command::Fence).await;
    pair.b.done(stamp(1, 6), Command::Clone(pair.a.upstream_for(&pair.b), None, None)).await;
    let facts = pair.b.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
    assert_ne!(facts.standby_name, before);
    pair.a
        .until("its name", |f| {
            primary(f).is_some_and(|p| p.senders.iter().any(|s| s.name == facts.standby_name))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_that_did_not_end_is_never_started() {
    let pair = pair().await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    signal(pair.a.postmaster(), "KILL");
    pair.a.until("its end", is_down).await;
    // Nobody listens there: the rewind fails.
    let mut nowhere = pair.b.upstream_for(&pair.a);
    let [port] = free_ports();
    nowhere.address = format!("127.0.0.1:{port}");
    let reply = pair.a.agent.order(stamp(2, 7), Command::Rewind(nowhere, None)).await;
    assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
    let facts = pair.a.agent.facts();
    assert_eq!(facts.unfinished, Some(locum::model::Unfinished::Rewind));
    assert_eq!(facts.failed.len(), 1);
    for command in [Command::Serve { floor: None }, Command::Follow(pair.b.upstream_for(&pair.a))] {
        let reply = pair.a.agent.order(stamp(2, 8), command).await;
        assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
    }
    assert!(is_down(&pair.a.agent.facts()));
}

/// What was saved before the first try is not replaced by what a directory looks like that is half of another history.
#[tokio::test(flavor = "multi_thread")]
async fn a_tail_is_saved_once_however_often_a_rewind_is_tried() {
    use std::os::unix::fs::MetadataExt;
    let pair = pair().await;
    let switch = lost_a_row(&pair).await;
    let mut nowhere = pair.b.upstream_for(&pair.a);
    let [port] = free_ports();
    nowhere.address = format!("127.0.0.1:{port}");
    let mut saved = Vec::new();
    for version in [9, 10] {
        let reply = pair.a.agent.order(stamp(2, version), Command::Rewind(nowhere.clone(), switch)).await;
        assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
        let lost = pair.a.agent.facts().lost.expect("a lost tail");
        assert_eq!((lost.transactions, lost.under), (1, stamp(2, 9)));
        saved.push(std::fs::metadata(lost.salvage.expect("a salvage")).expect("a folder").ino());
    }
    assert_eq!(saved[0], saved[1]);
    pair.a.done(stamp(2, 11), Command::Rewind(pair.b.upstream_for(&pair.a), switch)).await;
    let facts = pair.a.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
    assert_eq!(facts.lost.map(|lost| lost.transactions), Some(1));
}

/// Starts a fenced server as a standby and promotes it, as somebody might by hand.
async fn promoted_by_hand(node: &super::agent_fixture::Node) -> Switch {
    node.agent.stop().await;
    std::fs::write(node.cfg.data_dir.join("standby.signal"), "").unwrap();
    let ctl = |more: &[&str]| {
        let dir = node.cfg.data_dir.to_str().unwrap();
        let mut ctl = super::agent_fixture::program("pg_ctl");
        let options = node.cfg.options.join(" ");
        let done = ctl.args(["-D", dir, "-w", "-l", "/dev/null", "-o", &options]).args(more).status();
        assert!(done.unwrap().success(), "{more:?}");
    };
    ctl(&["start"]);
    ctl(&["promote"]);
    node.ask("CHECKPOINT").await;
    let timeline = node.ask("SELECT timeline_id FROM pg_control_checkpoint()").await;
    let file = node.cfg.data_dir.join(format!("pg_wal/{:08X}.history", timeline.parse::<u32>().unwrap()));
    let history = std::fs::read_to_string(file).unwrap();
    let last: Vec<_> = history.lines().last().unwrap().split_whitespace().collect();
    Switch { timeline: Timeline(last[0].parse().unwrap()), at: last[1].parse().unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_begins_where_its_own_timeline_was_left_however_many_followed() {
    let pair = pair().await;
    let first = lost_a_row(&pair).await.expect("a switch");
    pair.b.done(stamp(3, 9), Command::Fence).await;
    let second = promoted_by_hand(&pair.b).await;
    assert_eq!((first.timeline, second.timeline), (Timeline(1), Timeline(2)));
    pair.a.done(stamp(3, 10), Command::Rewind(pair.b.upstream_for(&pair.a), Some(second))).await;
    let facts = pair.a.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
    let lost = facts.lost.expect("a lost tail");
    assert_eq!((lost.from, lost.transactions, lost.unknown), (first.at, 1, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_of_the_same_number_is_not_taken_for_the_new_primarys() {
    let mut pair = pair().await;
    let switch = lost_a_row(&pair).await;
    let own = promoted_by_hand(&pair.a).await;
    assert!(switch.is_some_and(|switch| switch.timeline == own.timeline && switch.at < own.at));
    pair.a.ask("INSERT INTO rows VALUES (2)").await;
    pair.a.restart_agent().await;
    pair.a.until("a primary", |f| primary(f).is_some()).await;
    pair.a.done(stamp(2, 9), Command::Fence).await;
    pair.a.done(stamp(2, 10), Command::Clone(pair.b.upstream_for(&pair.a), switch, None)).await;
    let facts = pair.a.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
    let lost = facts.lost.expect("a lost tail");
    let rows = lost.tables.iter().find(|table| table.table == "public.rows").map(|table| table.inserted);
    assert!(rows >= Some(1), "{lost:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_does_not_wait_for_a_clone() {
    let pair = pair().await;
    pair.b.done(stamp(1, 5), Command::Fence).await;
    // An address that swallows everything: the clone waits.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut upstream = pair.a.upstream_for(&pair.b);
    upstream.address = silent.local_addr().unwrap().to_string();
    let agent = std::sync::Arc::clone(&pair.b.agent);
    let clone =
        tokio::spawn(async move { agent.order(stamp(1, 6), Command::Clone(upstream, None, None)).await });
    pair.b.until("a job", |f| f.job.is_some()).await;
    let begun = std::time::Instant::now();
    pair.b.done(stamp(1, 7), Command::Fence).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
    let reply = clone.await.unwrap();
    assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
}

/// The control file names the timeline of the last checkpoint, and a standby that has just come to another one has made none.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_without_a_receiver_says_the_timeline_that_its_wal_is_on() {
    let mut pair = pair().await;
    pair.b.done(stamp(2, 6), Command::Recruit).await;
    pair.a.done(stamp(2, 6), Command::Fence).await;
    pair.b.done(stamp(2, 7), promote()).await;
    pair.b.done(stamp(2, 8), Command::KeepSlots(vec![pair.a.id.slot()])).await;
    pair.a.done(stamp(2, 8), Command::Follow(pair.b.upstream_for(&pair.a))).await;
    pair.a.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
    let end = pair.b.ask("CREATE TABLE t (i int); SELECT pg_current_wal_insert_lsn()").await;
    let end: Lsn = end.parse().expect("a position");
    pair.a.until("all of it", |f| standby(f).is_some_and(|s| s.replayed >= end)).await;
    let switch = pair.b.primary().switch.expect("a switch");
    pair.a.done(stamp(3, 9), Command::Recruit).await;
    let knows = |f: &AgentFacts| standby(f).is_some_and(|s| s.timeline.0 == 2 && s.history.contains(&switch));
    assert!(knows(&pair.a.agent.facts()));
    pair.a.restart_agent().await;
    pair.a.until("its timeline, found running", knows).await;
    // The same after a power cut, started without an upstream.
    pair.a.agent.stop().await;
    signal(pair.a.postmaster(), "KILL");
    pair.a.restart_agent().await;
    pair.a.until("its end", |f| matches!(f.server.value, Server::Down(_))).await;
    pair.a.done(stamp(3, 10), Command::StartAlone).await;
    pair.a.until("all of it", |f| standby(f).is_some_and(|s| s.replayed >= end)).await;
    pair.a.until("its timeline, started alone", knows).await;
}
