//! A third node joins a running pair, is drained, removed, and comes back; a failover with two followers.

use locum::model::{NodeId, Snapshot};

use crate::{
    fixture::{Node, until},
    pair::{THIRD, Wish, family, finds, joined, primary_of, send, status_of, well},
    plain::locum,
};

fn knows(snapshot: &Snapshot, name: &str) -> bool {
    snapshot.nodes.iter().any(|status| status.node.as_str() == name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_node_joins_and_two_followers_go_with_a_failover() {
    let (mut pair, mut third) = joined(&Wish::default()).await;
    let file = pair.config_file(THIRD);
    locum(&["node", "add", "--dry-run"], &file).expect(0, &["would do", "Nothing was changed"]);
    locum(&["node", "add"], &file).expect(1, &["--yes", "Nothing was changed"]);
    locum(&["node", "add", "--yes"], &file).expect(0, &["can be cloned from here", "Next: `locum run"]);
    let writer = pair.write().await;
    third.0.member.start();
    pair.shows("three nodes, well", |seen| well(seen, 2)).await;

    let old = pair.primary().await;
    let host = pair.host_mut(old);
    let server = family(&host.node.config.data_dir);
    host.member.kill();
    server.into_iter().for_each(|pid| send(pid, "KILL"));
    let after = pair
        .shows("a new primary with its follower", |seen| primary_of(seen) != Some(old) && well(seen, 1))
        .await;
    let new = primary_of(&after).expect("a primary").to_owned();
    let other = if new == THIRD { pair.other(old).node.name } else { THIRD };
    assert!(status_of(&after, other).streaming, "{after:#?}");
    pair.host_mut(old).member.start();
    pair.shows("three nodes again", |seen| well(seen, 2)).await;
    if new == THIRD {
        // What every test ends with is for the two.
        let asked = pair.ask("/v1/switchover", serde_json::json!({ "to": old })).await;
        pair.over(&asked).await;
    }
    writer.goes_on().await;
    let acknowledged = writer.finish().await;
    let name = pair.primary().await;
    assert_eq!(
        crate::fixture::missing(&pair.host(name).node, &acknowledged).await,
        0,
        "acknowledged rows are missing"
    );
}

/// The host of a follower that had more than the other one is away when that one is promoted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_further_than_the_new_primary_is_rewound_and_what_it_had_is_kept() {
    let (mut pair, mut third) = joined(&Wish::durability("async")).await;
    locum(&["node", "add", "--yes"], &pair.config_file(THIRD)).expect(0, &["Next: `locum run"]);
    third.0.member.start();
    pair.shows("two followers", |seen| followers(seen) == 2).await;
    let old = pair.primary().await;
    let (lacks, primary) = (pair.other(old).node.name, &pair.host(old).node);
    primary.ask("CREATE TABLE IF NOT EXISTS t (id bigint PRIMARY KEY)").await;
    let sender = format!("SELECT pid FROM pg_stat_replication WHERE application_name LIKE 'locum_{lacks}%'");
    send(primary.ask(&sender).await.parse().expect("a walsender"), "STOP");
    primary.ask("INSERT INTO t SELECT n FROM generate_series(1, 500) n").await;
    until("the rows on the third node", || async {
        (third.0.node.ask("SELECT count(*) FROM t").await == "500").then_some(())
    })
    .await;
    let name = streams_as(&third.0.node).await;
    for host in [&mut third.0, pair.host_mut(old)] {
        let server = family(&host.node.config.data_dir);
        host.member.kill();
        server.into_iter().for_each(|pid| send(pid, "KILL"));
    }
    pair.shows("a new primary", |seen| primary_of(seen) == Some(lacks)).await;
    assert_eq!(pair.host(lacks).node.ask("SELECT count(*) FROM t").await, "0", "it has nothing of that");

    third.0.member.start();
    pair.shows("the third node at home", |seen| followers(seen) == 1).await;
    assert_eq!(streams_as(&third.0.node).await, name, "rewound: a clone would have another name");
    let kept = locum(&["salvage", "list", "--json"], &pair.config_file(THIRD)).expect(0, &[]).json();
    assert_eq!(kept["salvages"][0]["committed"], 1, "what it had is kept, and listed: {kept}");
    pair.host_mut(old).member.start();
    pair.shows("both at home", |seen| followers(seen) == 2).await;
}

fn followers(snapshot: &Snapshot) -> usize {
    snapshot.nodes.iter().filter(|status| status.streaming).count()
}

/// The name that a node streams under.
async fn streams_as(node: &Node) -> String {
    let setting = node.ask("SHOW primary_conninfo").await;
    let name = setting.split_whitespace().find_map(|word| word.strip_prefix("application_name="));
    name.unwrap_or_else(|| panic!("{setting}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_drained_removed_and_comes_back() {
    let (pair, mut third) = joined(&Wish::default()).await;
    let file = pair.config_file(THIRD);
    locum(&["node", "add", "--yes"], &file).expect(0, &["Next: `locum run"]);
    third.0.member.start();
    pair.shows("three nodes, well", |seen| well(seen, 2)).await;
    let primary = pair.primary().await;
    let writer = pair.write().await;
    let of_pair = pair.config_file(primary);

    // Refusals, each with its reason.
    locum(&["node", "drain", primary, "--yes"], &of_pair).expect(1, &["is the primary", "locum switchover"]);
    locum(&["node", "drain", "nobody", "--yes"], &of_pair).expect(1, &["nobody is not known"]);
    locum(&["node", "remove", THIRD, "--yes"], &of_pair)
        .expect(1, &["is in service", "locum node drain gamma"]);
    locum(&["node", "drain", THIRD], &of_pair).expect(1, &["--yes", "Nothing was changed"]);
    locum(&["node", "drain", THIRD, "--dry-run"], &of_pair).expect(0, &["Nothing was changed"]);

    locum(&["node", "drain", THIRD, "--yes"], &of_pair).expect(0, &["is out of service"]);
    let drained = pair.shows("one standby counts", |seen| well(seen, 1) && finds(seen, "drained")).await;
    assert!(
        drained.intent.is_some_and(|intent| intent.is_free_of(&NodeId::new(THIRD).expect("a name"))),
        "nothing rests on it"
    );
    // A person works on it: what they stop stays stopped.
    let server = &third.0.node;
    let postmaster = server.instance.find().await.expect("a look").expect("it runs");
    server.instance.stop_fast(&postmaster, std::time::Duration::from_secs(30)).await.expect("a stop");
    let down = |seen: &Snapshot| status_of(seen, THIRD).role == locum::model::Role::Down;
    pair.shows("it is down", down).await;
    writer.goes_on().await;
    assert!(server.instance.find().await.expect("a look").is_none(), "nobody starts it");
    locum(&["node", "drain", THIRD, "--undo"], &of_pair).expect(0, &["in service again"]);
    pair.shows("it is back", |seen| well(seen, 2)).await;

    locum(&["node", "drain", THIRD, "--yes"], &of_pair).expect(0, &[]);
    locum(&["node", "remove", THIRD, "--yes"], &of_pair).expect(0, &["no part of the cluster"]);
    assert_eq!(third.0.member.ends().await.0, Some(4), "its member ends");
    pair.shows("two nodes", |seen| well(seen, 1) && !knows(seen, THIRD)).await;
    assert!(third.0.node.instance.find().await.expect("a look").is_some(), "its PostgreSQL goes on");
    send(family(&third.0.node.config.data_dir)[0], "TERM");
    third.0.member.start();
    assert_eq!(third.0.member.ends().await.0, Some(4), "and does not come back by itself");
    let slot = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'locum_{THIRD}'");
    until("its slot is gone", || async {
        let postmaster = third.0.node.instance.find().await.ok().flatten();
        if let Some(postmaster) = postmaster {
            _ = third.0.node.instance.stop_fast(&postmaster, std::time::Duration::from_secs(30)).await;
        }
        (pair.host(primary).node.ask(&slot).await == "0").then_some(())
    })
    .await;

    locum(&["node", "add", "--yes"], &file).expect(0, &["a part of the cluster again", "Next: `locum run"]);
    third.0.member.start();
    pair.shows("three nodes again", |seen| well(seen, 2)).await;
    writer.goes_on().await;
    let acknowledged = writer.finish().await;
    assert_eq!(crate::fixture::missing(&pair.host(primary).node, &acknowledged).await, 0);
}
