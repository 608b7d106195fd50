//! The list of lost transactions is what the writers know, row for row.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use locum::{
    model::{LossList, LostState, LostTable, LostTransaction, Lsn, NodeId, Stamp, Switch, Timeline},
    postgres::{Salvaged, Tail, promote},
};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::fixture::{Node, Pair, SOON, until};

/// How many lossy failovers one run takes; more for a person.
const ROUNDS: &str = "TEST_LOSS_ROUNDS";

/// At how many moments a salvage is given up.
const MOMENTS: u32 = 40;

/// Rows inserted, updated, deleted by table.
type Rows = BTreeMap<String, (u64, u64, u64)>;

/// What writers know: what was acknowledged, and what was on its way.
#[derive(Default)]
struct Truth {
    acknowledged: BTreeMap<u32, Rows>,
    pending: BTreeMap<u32, Rows>,
}

fn rows(tables: &[(&str, u64, u64, u64)]) -> Rows {
    tables.iter().map(|(name, i, u, d)| ((*name).to_owned(), (*i, *u, *d))).collect()
}

fn cell(messages: &[SimpleQueryMessage]) -> Option<String> {
    messages.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// Runs statements in one transaction; its number, and nothing if the server has gone.
async fn transaction(client: &Client, body: &str, truth: &Mutex<Truth>, did: &Rows) -> Option<u32> {
    let sql = format!("BEGIN; {body}; SELECT pg_current_xact_id()::xid::text");
    let said = client.simple_query(&sql).await.map_err(|error| println!("{body:.60}: {error:?}"));
    let xid = cell(&said.ok()?)?.parse().ok()?;
    truth.lock().unwrap().pending.insert(xid, did.clone());
    client.batch_execute("COMMIT").await.ok()?;
    let mut truth = truth.lock().unwrap();
    let known = truth.pending.remove(&xid)?;
    truth.acknowledged.insert(xid, known);
    Some(xid)
}

/// The same where it must work.
async fn done(client: &Client, body: &str, truth: &Mutex<Truth>, did: &[(&str, u64, u64, u64)]) -> u32 {
    transaction(client, body, truth, &rows(did)).await.unwrap_or_else(|| panic!("not done: {body}"))
}

/// Writers of every kind until the server goes.
async fn write(node: &Node, truth: &Arc<Mutex<Truth>>, number: i64, stop: Arc<AtomicBool>) {
    let client = node.connect().await;
    let mut at = number * 1_000_000;
    while !stop.load(Ordering::Relaxed) {
        let (many, few) = (at % 7 + 2, at % 2 + 1);
        let last = at + many - 1;
        let body = format!(
            "INSERT INTO t SELECT generate_series({at}, {last}); \
             SAVEPOINT a; INSERT INTO wide SELECT g, 'x' FROM generate_series({at}, {last}) g; RELEASE a; \
             SAVEPOINT b; DELETE FROM t WHERE id = {at}; ROLLBACK TO b; \
             UPDATE wide SET v = 'y' WHERE id >= {at} AND id < {at} + {few}; \
             DELETE FROM t WHERE id = {last}"
        );
        let (many, few) = (many.unsigned_abs(), few.unsigned_abs());
        let did = rows(&[("public.t", many, 0, 1), ("public.wide", many, few, 0)]);
        if transaction(&client, &body, truth, &did).await.is_none() {
            return;
        }
        at += 10;
    }
}

async fn promote_cut(pair: &Pair) -> Switch {
    pair.standby.instance.set(&[("primary_conninfo", "")]).await.unwrap();
    let standby = pair.standby.instance.find().await.unwrap().unwrap();
    standby.reload().unwrap();
    pair.primary.becomes("SELECT count(*) FROM pg_stat_replication", "0").await;
    let write = until("a write", || async {
        pair.standby.try_connect().await?.batch_execute("CREATE TABLE IF NOT EXISTS mark ()").await.ok()
    });
    promote(&pair.standby.instance, &standby, write, SOON).await.unwrap();
    pair.standby.ask("CHECKPOINT").await;
    let timeline: u32 =
        pair.standby.ask("SELECT timeline_id FROM pg_control_checkpoint()").await.parse().unwrap();
    *pair.standby.instance.history(Timeline(timeline)).await.unwrap().last().unwrap()
}

async fn salvage(pair: &Pair, id: &str, switch: Switch) -> (Salvaged, LossList) {
    let source = pair.standby.source();
    let tail = Tail {
        id,
        node: NodeId::new(pair.primary.name).unwrap(),
        under: Stamp::default(),
        timeline: switch.timeline,
        from: switch.at,
        made_at: "2026-11-26T12:00:00Z".parse().unwrap(),
        names: Some(&source),
    };
    let salvaged = pair.primary.instance.salvage(&tail).await.unwrap();
    let text = fs::read_to_string(salvaged.dir.join("lost.json")).unwrap();
    (salvaged, serde_json::from_str(&text).unwrap())
}

fn listed(transaction: &LostTransaction) -> Rows {
    let table = |table: &LostTable| (table.table.clone(), (table.inserted, table.updated, table.deleted));
    transaction.tables.iter().filter(|t| t.inserted + t.updated + t.deleted > 0).map(table).collect()
}

async fn back(pair: Pair) -> Pair {
    pair.standby.slot(pair.primary.name).await;
    pair.primary.instance.rewind(&pair.standby.source(), |_| ()).await.unwrap();
    pair.primary.follow(&pair.standby).await;
    pair.primary.start().await;
    let pair = pair.swapped();
    pair.streams().await;
    pair
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_what_the_writers_know_row_for_row() {
    let rounds: u32 = std::env::var(ROUNDS).ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let mut pair = Pair::with_segments(1).await;
    let tables = "CREATE TABLE wide (id bigint PRIMARY KEY, v text); CREATE TABLE emptied (id int); \
                  CREATE TABLE early (id int); CREATE SEQUENCE counter; INSERT INTO emptied VALUES (1)";
    pair.primary.connect().await.batch_execute(tables).await.unwrap();
    for round in 0..rounds {
        pair.streams().await;
        one_round(&pair, round).await;
        pair = back(pair).await;
        pair.primary.connect().await.batch_execute("TRUNCATE t, wide, early").await.unwrap();
    }
}

async fn one_round(pair: &Pair, round: u32) {
    let truth = Arc::new(Mutex::new(Truth::default()));
    let old = &pair.primary;
    // Begun before the switch and ended after it; the new primary has its first rows, uncommitted.
    let early = old.connect().await;
    early.batch_execute("BEGIN; INSERT INTO early SELECT generate_series(1, 5)").await.unwrap();
    let rolled_back = old.connect().await;
    rolled_back.batch_execute("BEGIN; INSERT INTO early SELECT generate_series(6, 9)").await.unwrap();
    // No commit has flushed them yet.
    old.ask(&format!("CREATE TABLE flushed_{round} ()")).await;
    let early_until: Lsn = old.ask("SELECT pg_current_wal_flush_lsn()").await.parse().unwrap();
    pair.streams().await;
    let switch = promote_cut(pair).await;
    assert!(switch.at >= early_until);

    let stop = Arc::new(AtomicBool::new(false));
    let writers = async {
        tokio::join!(
            write(old, &truth, 1, Arc::clone(&stop)),
            write(old, &truth, 2, Arc::clone(&stop)),
            write(old, &truth, 3, Arc::clone(&stop))
        )
    };
    let particular = async {
        let made = particular(old, &early, &rolled_back, &truth).await;
        // Killed while they write.
        old.instance.kill_all(None).await.unwrap();
        stop.store(true, Ordering::Relaxed);
        made
    };
    let ((), filenode) = tokio::join!(
        async {
            writers.await;
        },
        particular
    );
    // What the new primary makes may have the same number.
    pair.standby.ask(&format!("CREATE TABLE other_{round} AS SELECT 1")).await;

    let (salvaged, list) = salvage(pair, &format!("round-{round}"), switch).await;
    let truth = truth.lock().unwrap();
    let by_xid: BTreeMap<u32, Rows> = list.transactions.iter().map(|lost| (lost.xid, listed(lost))).collect();
    let acknowledged: BTreeSet<u32> = truth.acknowledged.keys().copied().collect();
    for (xid, did) in &truth.acknowledged {
        let did: Rows =
            did.iter().map(|(name, rows)| (name.replace("public.made", &filenode), *rows)).collect();
        assert_eq!(by_xid.get(xid), Some(&did), "round {round}, transaction {xid}");
    }
    for xid in by_xid.keys().filter(|xid| !acknowledged.contains(xid)) {
        assert_eq!(
            by_xid.get(xid),
            truth.pending.get(xid),
            "round {round}: {xid} was never written: {list:#?}"
        );
    }
    assert_eq!(list.committed, list.transactions.len() as u64);
    assert_eq!((list.probes, list.unknown.clone(), list.prepared), (3, None, 0));
    assert!(truth.acknowledged.len() > 20, "too few to tell: {}", truth.acknowledged.len());
    let emptied: Vec<_> =
        list.tables.iter().filter(|table| table.emptied).map(|table| &table.table).collect();
    assert_eq!(emptied, ["public.emptied"]);
    assert_eq!(list.sequences, ["public.counter in postgres"]);
    assert!(list.transactions.iter().all(|lost| !lost.partial && lost.at.is_some() && lost.bytes > 0));
    assert!(list.tables.iter().all(|table| table.database.as_deref() == Some("postgres")));
    assert_eq!(salvaged.list.transactions[..], list.transactions[..salvaged.list.transactions.len()]);
    let sums = |list: &[Rows], name: &str| {
        list.iter().filter_map(|rows| rows.get(name)).map(|rows| rows.0).sum::<u64>()
    };
    let all: Vec<Rows> = by_xid.into_values().collect();
    let table = list.tables.iter().find(|table| table.table == "public.t").unwrap();
    assert_eq!(table.inserted, sums(&all, "public.t"));
    let manifest = fs::read_to_string(salvaged.dir.join("MANIFEST")).unwrap();
    for name in ["README ", "listing.txt ", "lost.json ", "000000"] {
        assert!(manifest.lines().any(|line| line.starts_with(name)), "{manifest}");
    }
    assert!(!salvaged.dir.join("waiting.tmp").exists());
    println!(
        "round {round}: {} transactions, {} bytes of WAL, {} tables",
        list.committed,
        list.bytes,
        list.tables.len()
    );
}

/// One of each kind. Returns how the list must call the table that is made here.
async fn particular(old: &Node, early: &Client, rolled_back: &Client, truth: &Mutex<Truth>) -> String {
    let client = old.connect().await;
    // In the server's own folder, so that it may read it.
    let file = old.folder().join("copy.txt");
    fs::write(&file, (0..3000).map(|n| format!("{}\tz\n", -1 - n)).collect::<String>()).unwrap();
    let copy = format!("COPY wide FROM '{}'", file.display());
    done(&client, &copy, truth, &[("public.wide", 3000, 0, 0)]).await;
    let long = "INSERT INTO wide SELECT -g, (SELECT string_agg(md5((n * g)::text), '') FROM generate_series(1, 900) n) \
                FROM generate_series(10001, 10007) g";
    done(&client, long, truth, &[("public.wide", 7, 0, 0)]).await;
    done(&client, "UPDATE wide SET v = v || 'a' WHERE id < -10000", truth, &[("public.wide", 0, 7, 0)]).await;
    client
        .batch_execute("BEGIN; INSERT INTO t VALUES (-1); DELETE FROM wide WHERE id < 0; ROLLBACK")
        .await
        .unwrap();
    done(&client, "SELECT nextval('counter')", truth, &[]).await;
    done(&client, "TRUNCATE emptied", truth, &[]).await;
    done(
        &client,
        "CREATE TABLE made (id int PRIMARY KEY); INSERT INTO made VALUES (1), (2)",
        truth,
        &[("public.made", 2, 0, 0)],
    )
    .await;
    done(
        &client,
        "INSERT INTO made VALUES (2), (3) ON CONFLICT DO NOTHING",
        truth,
        &[("public.made", 1, 0, 0)],
    )
    .await;
    let node =
        cell(&client.simple_query("SELECT pg_relation_filenode('made')::text").await.unwrap()).unwrap();
    let database = cell(
        &client.simple_query("SELECT oid::text FROM pg_database WHERE datname = 'postgres'").await.unwrap(),
    );
    let deep: String =
        (0..80).map(|n| format!("SAVEPOINT s{n}; INSERT INTO t VALUES ({}); ", -100 - n)).collect();
    let deep = format!("{deep} ROLLBACK TO s70; INSERT INTO t VALUES (-99)");
    done(&client, &deep, truth, &[("public.t", 71, 0, 0)]).await;
    for _ in 0..3 {
        client.batch_execute("SELECT pg_logical_emit_message(true, 'locum', 'x')").await.unwrap();
    }
    let xid = cell(
        &early
            .simple_query("INSERT INTO early VALUES (10); SELECT pg_current_xact_id()::xid::text")
            .await
            .unwrap(),
    );
    early.batch_execute("COMMIT").await.unwrap();
    truth
        .lock()
        .unwrap()
        .acknowledged
        .insert(xid.unwrap().parse().unwrap(), rows(&[("public.early", 6, 0, 0)]));
    rolled_back.batch_execute("INSERT INTO early VALUES (11); ROLLBACK").await.unwrap();
    format!("filenode 1663/{}/{node}", database.unwrap())
}

/// A node alone: what it writes from now on counts as lost. Everything else of the tail is as in a pair.
async fn alone(segment_mb: u32) -> (Node, Switch) {
    let node = Node::new("alpha");
    node.init(segment_mb).await;
    node.instance.set(&[("max_prepared_transactions", "5")]).await.unwrap();
    node.start().await;
    node.ask("CREATE TABLE t (id bigint)").await;
    let at: Lsn = node.ask("SELECT pg_current_wal_lsn()").await.parse().unwrap();
    (node, Switch { timeline: Timeline(1), at })
}

fn of(switch: Switch) -> Tail<'static> {
    Tail {
        id: "x",
        node: NodeId::new("alpha").unwrap(),
        under: Stamp::default(),
        timeline: switch.timeline,
        from: switch.at,
        made_at: "2026-11-26T12:00:00Z".parse().unwrap(),
        names: None,
    }
}

fn read(salvaged: &Salvaged) -> LossList {
    serde_json::from_str(&fs::read_to_string(salvaged.dir.join("lost.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn what_is_prepared_is_marked_and_a_salvage_that_was_killed_is_made_again_whole() {
    let (node, _) = alone(16).await;
    let client = node.connect().await;
    client.batch_execute("BEGIN; INSERT INTO t VALUES (1), (2); PREPARE TRANSACTION 'early'").await.unwrap();
    let at = node.ask("SELECT pg_current_wal_lsn()").await.parse().unwrap();
    let switch = Switch { timeline: Timeline(1), at };
    client.batch_execute("COMMIT PREPARED 'early'").await.unwrap();
    let sub = "BEGIN; INSERT INTO t VALUES (3); SAVEPOINT a; INSERT INTO t VALUES (4), (5); PREPARE TRANSACTION 'open: 1'";
    client.batch_execute(sub).await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO t VALUES (9); PREPARE TRANSACTION 'no'").await.unwrap();
    client.batch_execute("ROLLBACK PREPARED 'no'").await.unwrap();
    client.batch_execute("INSERT INTO t SELECT generate_series(1, 200000)").await.unwrap();
    node.instance.kill_all(None).await.unwrap();

    // Given up at moments of all its time, as by a kill: what is left of it is not taken for a salvage.
    let folder = node.state_dir.join("salvage/x");
    let begun = Instant::now();
    node.instance.salvage(&of(switch)).await.unwrap();
    let whole = begun.elapsed();
    fs::remove_dir_all(&folder).unwrap();
    let mut given_up = 0;
    for moment in 0..MOMENTS {
        let within = whole * moment / MOMENTS;
        given_up +=
            u32::from(tokio::time::timeout(within, node.instance.salvage(&of(switch))).await.is_err());
    }
    assert!(given_up > MOMENTS / 2, "{given_up}");
    // One of this epoch and one of an earlier one.
    let half_made = ["x.part", "w.part"].map(|name| folder.with_file_name(name));
    for part in &half_made {
        fs::create_dir_all(part).unwrap();
        fs::write(part.join("listing.txt"), "half").unwrap();
    }
    let salvaged = node.instance.salvage(&of(switch)).await.unwrap();
    assert!(half_made.iter().all(|part| !part.exists()));
    let list = read(&salvaged);
    let seen: Vec<_> = list
        .transactions
        .iter()
        .map(|lost| (lost.prepared_as.as_deref(), lost.state, lost.tables[0].inserted))
        .collect();
    let expected = [
        (Some("early"), LostState::Committed, 2),
        (None, LostState::Committed, 200_000),
        (Some("open: 1"), LostState::Prepared, 3),
    ];
    assert_eq!((seen, list.committed, list.prepared), (expected.to_vec(), 2, 1));
    assert_eq!(read(&node.instance.salvage(&of(switch)).await.unwrap()).transactions, list.transactions);
}

#[tokio::test]
async fn wal_that_is_gone_or_torn_is_said_and_the_rest_is_kept() {
    let (node, switch) = alone(1).await;
    for n in 0..12 {
        node.ask(&format!("INSERT INTO t SELECT generate_series(1, 5000) + {n}")).await;
    }
    node.instance.kill_all(None).await.unwrap();
    let wal = node.config.data_dir.join("pg_wal");
    let mut names: Vec<_> =
        fs::read_dir(&wal).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.len() == 24);
    names.sort();
    let whole = read(&node.instance.salvage(&of(switch)).await.unwrap());
    assert_eq!((whole.unknown, whole.committed), (None, 12));
    let is_saved = |name: &&String| node.state_dir.join("salvage/x").join(name).exists();
    let saved: Vec<_> = names.iter().filter(is_saved).collect();
    let last = saved[saved.len() - 1];

    // One in the middle is torn, then gone.
    let middle = wal.join(saved[saved.len() / 2]);
    let bytes = fs::read(&middle).unwrap();
    fs::write(&middle, vec![0; bytes.len()]).unwrap();
    let torn = read(&node.instance.salvage(&of(switch)).await.unwrap());
    assert!(torn.unknown.as_ref().is_some_and(|why| why.contains("gone or torn")), "{:?}", torn.unknown);
    assert!((1..12).contains(&torn.committed), "{}", torn.committed);
    // What comes after is kept all the same.
    assert!(*last > *saved[saved.len() / 2] && is_saved(&last));
    fs::remove_file(&middle).unwrap();
    let gone = read(&node.instance.salvage(&of(switch)).await.unwrap());
    assert!(gone.unknown.is_some_and(|why| why.contains("gone or torn")));

    // The first ones are gone, commits among them: what is left is listed.
    fs::write(&middle, &bytes).unwrap();
    for name in &saved[..saved.len() / 2] {
        fs::remove_file(wal.join(name)).unwrap();
    }
    let late = read(&node.instance.salvage(&of(switch)).await.unwrap());
    assert!(late.unknown.as_ref().is_some_and(|why| why.contains("was gone")), "{:?}", late.unknown);
    assert!((1..12).contains(&late.committed), "{}", late.committed);

    // All of it.
    for name in &names {
        fs::remove_file(wal.join(name)).ok();
    }
    let nothing = read(&node.instance.salvage(&of(switch)).await.unwrap());
    assert!(nothing.unknown.is_some() && nothing.committed == 0, "{:?}", nothing.unknown);
}

#[tokio::test]
async fn a_hundred_megabytes_are_listed_in_seconds() {
    let (node, switch) = alone(16).await;
    let client = node.connect().await;
    for _ in 0..8 {
        client.batch_execute("INSERT INTO t SELECT generate_series(1, 200000)").await.unwrap();
    }
    node.instance.kill_all(None).await.unwrap();
    let begun = Instant::now();
    let salvaged = node.instance.salvage(&of(switch)).await.unwrap();
    println!(
        "{} MB of lost WAL, {} rows: salvaged and listed in {:.2} s",
        salvaged.tail.bytes >> 20,
        salvaged.tail.inserted,
        begun.elapsed().as_secs_f64()
    );
    assert_eq!((salvaged.tail.transactions, salvaged.tail.inserted), (8, 1_600_000));
}
