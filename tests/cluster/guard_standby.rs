//! The guard beside a standby: nobody but Locum ends its recovery.

use std::{
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use locum::{
    guard::Client,
    model::{GuardFacts, GuardState, Mono},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;
use tokio_postgres::SimpleQueryMessage;

use crate::{
    fixture::{Node, Pair, missing, until},
    guard_fixture::{LONG, becomes, now, send, settings, stamp},
    pair::child,
};

/// How a person ends a standby's recovery.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// `SELECT pg_promote()`.
    Sql,
    /// `pg_ctl promote`.
    Program,
    /// The file of `promote_trigger_file` is made (up to version 15).
    Trigger,
    /// `recovery_target_action = promote`, and the target is reached.
    Target,
}

impl Way {
    fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Target => &[("recovery_target_name", "here"), ("recovery_target_action", "promote")],
            _ => &[],
        }
    }

    async fn go(self, kept: &Pair) {
        let node = &kept.standby;
        match self {
            Self::Sql => {
                // Its session is held like any other, and may be ended before it has answered.
                let _asked = node.connect().await.batch_execute("SELECT pg_promote(false)").await;
            }
            Self::Program => {
                let mut command = node.instance.command("pg_ctl");
                command.args(["promote", "--no-wait", "-D"]).arg(&node.config.data_dir);
                command.stdout(Stdio::null()).stderr(Stdio::null());
                assert!(command.status().await.expect("pg_ctl").success());
            }
            Self::Trigger => std::fs::write(trigger(node), "").expect("a file"),
            Self::Target => drop(kept.primary.ask("SELECT pg_create_restore_point('here')").await),
        }
    }
}

fn trigger(node: &Node) -> std::path::PathBuf {
    node.folder().join("run").join("promote-now")
}

/// Restarts a server as people do, not as Locum does.
pub(crate) async fn started_by_hand(node: &Node) {
    if let Some(postmaster) = node.instance.find().await.expect("a look") {
        node.instance.stop_fast(&postmaster, Duration::from_secs(20)).await.expect("a stop");
    }
    let mut command = node.instance.command("pg_ctl");
    command.args(["start", "-D"]).arg(&node.config.data_dir);
    command.arg("-o").arg(node.config.options.join(" "));
    command.arg("-l").arg(node.folder().join("run").join("by-hand.log"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().await.expect("pg_ctl").success());
    until("accepting connections", || async { node.try_connect().await.map(|_| ()) }).await;
}

/// Sessions at a standby that insert as soon as they may, in a tight loop, and one that asks whether recovery is over.
pub(crate) struct Eager {
    stop: Arc<AtomicBool>,
    acks: Arc<Mutex<Vec<(i64, Mono, Mono)>>>,
    /// When the server itself, by its own clock, was seen out of recovery first, and inserted a row last.
    seen: Arc<Mutex<Option<(Mono, Mono)>>>,
    tasks: JoinSet<()>,
}

impl Eager {
    pub(crate) async fn start(node: &Node, count: i64, first: i64) -> Self {
        let mut eager =
            Self { stop: Arc::default(), acks: Arc::default(), seen: Arc::default(), tasks: JoinSet::new() };
        for number in 0..count {
            let (client, acks, seen) =
                (node.connect().await, Arc::clone(&eager.acks), Arc::clone(&eager.seen));
            let stop = Arc::clone(&eager.stop);
            eager.tasks.spawn(async move {
                let mut id = first + number;
                while !stop.load(Ordering::Relaxed) && !client.is_closed() {
                    let sent = now();
                    let asked =
                        client.simple_query(&format!("INSERT INTO t VALUES ({id}) RETURNING {CLOCK}")).await;
                    if let Ok(answer) = asked {
                        note(&seen, &answer);
                        acks.lock().expect("a lock").push((id, sent, now()));
                        id += count;
                    }
                }
            });
        }
        let (client, seen, stop) = (node.connect().await, Arc::clone(&eager.seen), Arc::clone(&eager.stop));
        eager.tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) && !client.is_closed() {
                let asked = format!("SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE {CLOCK} END");
                if let Ok(answer) = client.simple_query(&asked).await {
                    note(&seen, &answer);
                }
            }
        });
        eager
    }

    /// What was acknowledged: the row, when it was asked for, and when the answer came.
    pub(crate) fn acks(&self) -> Vec<(i64, Mono, Mono)> {
        self.acks.lock().expect("a lock").clone()
    }

    /// When the server was out of recovery for certain, and when it inserted last of what it acknowledged; None: nobody saw it.
    fn seen(&self) -> Option<(Mono, Mono)> {
        *self.seen.lock().expect("a lock")
    }

    pub(crate) fn ids(&self) -> Vec<i64> {
        self.acks().into_iter().map(|(id, ..)| id).collect()
    }
}

impl Drop for Eager {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.abort_all();
    }
}

/// The server's clock, in microseconds since 1970.
const CLOCK: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Notes what the server said of its clock, as the boot-time clock shows it.
fn note(seen: &Mutex<Option<(Mono, Mono)>>, answer: &[SimpleQueryMessage]) {
    let said = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse::<u64>().ok(),
        _ => None,
    });
    let Some(said) = said else { return };
    let wall = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let wall = wall.tv_sec.cast_unsigned() * 1_000_000 + wall.tv_nsec.cast_unsigned() / 1_000;
    let at = Mono(now().0.saturating_sub(wall.saturating_sub(said)));
    let mut seen = seen.lock().expect("a lock");
    let (first, last) = seen.unwrap_or((at, at));
    *seen = Some((first.min(at), last.max(at)));
}

/// `DB_IN_PRODUCTION` of a control file.
const IN_PRODUCTION: u32 = 6;

fn state(node: &Node) -> u32 {
    let file = std::fs::read(node.config.data_dir.join("global/pg_control")).expect("a control file");
    u32::from_ne_bytes(file[16..20].try_into().expect("four bytes"))
}

/// When the control file of a standby says that it is out of recovery, at most 0.3 ms late where a core is free. None: not
/// within a minute.
fn ended(node: &Node) -> std::thread::JoinHandle<Option<Mono>> {
    let (data_dir, until) =
        (node.config.data_dir.join("global/pg_control"), now().plus(Duration::from_secs(60)));
    std::thread::spawn(move || {
        while now() < until {
            let file = std::fs::read(&data_dir).unwrap_or_default();
            if file.get(16) == Some(&(IN_PRODUCTION as u8)) {
                return Some(now());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        None
    })
}

/// A pair whose standby is guarded.
struct Kept {
    pair: Pair,
    client: Client,
    postmaster: u32,
}

impl Kept {
    async fn new(signals: bool, way: Way) -> Self {
        Self::with(signals, way, &[]).await
    }

    /// One that was started by hand with these settings, if there are any, and with the trigger file, if that is the way.
    async fn with(signals: bool, way: Way, settings: &[(&str, &str)]) -> Self {
        let pair = Pair::new().await;
        let file = trigger(&pair.standby).display().to_string();
        let mut own = settings.to_vec();
        if matches!(way, Way::Trigger) {
            own.push(("promote_trigger_file", &file));
        }
        if !own.is_empty() {
            // Somebody else started it, so what Locum leaves out at a start is not left out here.
            pair.standby.instance.set(&own).await.expect("set");
            started_by_hand(&pair.standby).await;
            pair.streams().await;
        }
        let postmaster = pair.standby.instance.find().await.expect("a look").expect("it runs");
        let client =
            Client::attach(crate::guard_fixture::settings(&pair.standby, signals)).await.expect("a guard");
        client.watch(postmaster.pid(), 1).await.expect("a server");
        let kept = client.keep().await.expect("in recovery");
        assert!(kept.keeps && kept.state == GuardState::Off, "{kept:?}");
        Self { pair, client, postmaster: postmaster.pid() }
    }
}

impl Kept {
    /// Removes `standby.signal` by hand, again where the second that sessions are held for has passed unseen.
    async fn is_held(&self, also: impl Fn() -> bool) {
        let file = self.pair.standby.config.data_dir.join("standby.signal");
        until("held", || async {
            if stands(self.postmaster) {
                return also().then_some(());
            }
            std::fs::write(&file, "").expect("a file");
            std::fs::remove_file(&file).expect("removed");
            None
        })
        .await;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Ok(stream) =
            std::os::unix::net::UnixStream::connect(self.pair.standby.state_dir.join("guard.sock"))
        else {
            return;
        };
        let guard = rustix::net::sockopt::socket_peercred(&stream).expect("a peer").pid;
        let _ended_meanwhile =
            Pid::from_raw(self.postmaster.cast_signed()).map(|pid| kill_process(pid, Signal::KILL));
        let _ended_meanwhile = kill_process(guard, Signal::KILL);
    }
}

/// One run: how long after the end of recovery everything stood still, and what was acknowledged there.
async fn promoted_by_hand(signals: bool, way: Way) -> (GuardFacts, Option<Duration>, usize) {
    let kept = Kept::with(signals, way, way.settings()).await;
    let eager = Eager::start(&kept.pair.standby, 6, 1_000_000).await;
    let ended = ended(&kept.pair.standby);
    way.go(&kept.pair).await;
    let facts = becomes(&kept.client, GuardState::Frozen).await;
    assert!(facts.strayed, "{facts:?}");
    // An answer may still be on its way; nothing that was asked for later is ever answered.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let late: Vec<_> = eager.acks().into_iter().filter(|(_, sent, _)| *sent > facts.since).collect();
    assert!(late.is_empty(), "acknowledged after it was frozen at {:?}: {late:?}", facts.since);
    let acks = eager.acks();
    // By the server's own clock: what a client sees of a busy machine is later.
    let seen = eager.seen();
    let ended = ended.join().expect("a thread");
    let after = ended.map(|ended| facts.since.since(ended));
    println!(
        "  realtime {}, all still {after:?} after the control file, {:?} after sessions saw the end, last acknowledged \
         insert {:?} after that",
        facts.realtime,
        seen.map(|(first, _)| facts.since.since(first)),
        seen.map(|(first, last)| last.since(first))
    );
    // No lease lets it go on any more, not even one of a later epoch.
    assert!(kept.client.arm(now().plus(LONG), stamp(9)).await.is_err());
    (facts, after, acks.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_promoted_by_hand_is_frozen_and_never_let_go() {
    for (signals, way) in [(false, Way::Sql), (true, Way::Program)] {
        let (facts, after, acks) = promoted_by_hand(signals, way).await;
        println!(
            "{way:?}, {:?}: frozen {after:?} after the end of recovery, {acks} acknowledged",
            facts.method
        );
    }
}

/// `TEST_STRAY_RUNS` runs of each kind, all printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn how_long_after_the_end_of_recovery_a_standby_is_frozen() {
    let runs = std::env::var("TEST_STRAY_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let (mut seen, mut rows) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let way = [Way::Sql, Way::Program, Way::Trigger, Way::Target][run % 4];
        let (facts, after, acks) = promoted_by_hand(run / 4 % 2 == 1, way).await;
        println!("run {run}: {way:?}, {:?}: {after:?}, {acks} acknowledged", facts.method);
        seen.extend(after);
        rows.push(acks);
    }
    seen.sort();
    let none = rows.iter().filter(|acks| **acks == 0).count();
    println!("all still after the end of recovery, {} of {runs} runs: {seen:?}", seen.len());
    println!("nothing acknowledged in {none} of {runs} runs; rows: {rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_under_a_lease_that_runs_is_not_held_up() {
    // Between the first sign and the end of recovery, and long enough for the guard to have seen the sign.
    let note = "sleep 0.3; grep State: /proc/$(head -1 postmaster.pid)/status >../run/seen.new; mv ../run/seen.new ../run/seen";
    let kept = Kept::with(false, Way::Sql, &[("recovery_end_command", note)]).await;
    kept.client.arm(now().plus(LONG), stamp(5)).await.expect("a lease");
    Way::Sql.go(&kept.pair).await;
    let seen = kept.pair.standby.folder().join("run").join("seen");
    let seen = until("the end of recovery", || async { std::fs::read_to_string(&seen).ok() }).await;
    assert!(seen.contains("State:\tS"), "its sessions and its postmaster were never stopped: {seen}");
    kept.pair.standby.becomes("SELECT pg_is_in_recovery()", "f").await;
    kept.pair.standby.ask("INSERT INTO t VALUES (1) RETURNING 1").await;
    let facts = kept.client.keep().await.expect("an answer");
    assert_eq!((facts.state, facts.strayed, facts.keeps), (GuardState::Armed, false, false));
}

/// What recovery waits for before it ends: that the postmaster stands still.
const UNTIL_HELD: &str = "i=0; until grep -q State:.T /proc/$(head -1 postmaster.pid)/status || [ $i -gt 500 ]; \
                          do i=$((i+1)); sleep 0.01; done";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_by_a_standby_whose_guard_saw_it_leave_recovery() {
    for signals in [false, true] {
        let kept = Kept::with(signals, Way::Sql, &[("recovery_end_command", UNTIL_HELD)]).await;
        let eager = Eager::start(&kept.pair.standby, 6, 1_000_000).await;
        Way::Sql.go(&kept.pair).await;
        let facts = becomes(&kept.client, GuardState::Frozen).await;
        assert!(facts.strayed, "{facts:?}");
        // What was answered before it stood still has arrived by then.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!((eager.acks(), eager.seen()), (vec![], None), "nobody was told that recovery is over");
        assert_eq!(state(&kept.pair.standby), IN_PRODUCTION, "it did end, so it can be rewound");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_signal_that_a_person_removes_stops_sessions_for_a_moment_and_nobody_is_ended() {
    for signals in [false, true] {
        let kept = Kept::new(signals, Way::Sql).await;
        let standby = &kept.pair.standby;
        let startup = child(&standby.config.data_dir, "startup").cast_unsigned();
        let checkpointer = child(&standby.config.data_dir, "checkpointer").cast_unsigned();
        let session = standby.connect().await;
        let backend: u32 = session
            .query_one("SELECT pg_backend_pid()", &[])
            .await
            .expect("a row")
            .get::<_, i32>(0)
            .cast_unsigned();
        kept.is_held(|| stands(backend) && !stands(startup) && !stands(checkpointer)).await;
        until("let go", || async { (!stands(kept.postmaster)).then_some(()) }).await;
        session.query_one("SELECT pg_is_in_recovery()", &[]).await.expect("the same session");
        kept.pair.streams().await;
        let facts = kept.client.keep().await.expect("an answer");
        assert!(facts.keeps && !facts.strayed && facts.state == GuardState::Off, "{facts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_held_with_a_lock_has_its_turn_to_give_it_back() {
    let kept = Kept::new(true, Way::Sql).await;
    let standby = &kept.pair.standby;
    let session = standby.connect().await;
    // More than once, for a machine too busy to answer within the second that it is held.
    for _ in 0..20 {
        kept.is_held(|| true).await;
        session.query_one("SELECT pg_is_in_recovery()", &[]).await.expect("an answer");
        if stands(kept.postmaster) {
            return;
        }
    }
    panic!("no session was answered while it was held");
}

fn stands(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("State:\tT")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_runs_out_in_mid_promotion_freezes_a_server_still_in_recovery() {
    for signals in [false, true] {
        let kept = Kept::new(signals, Way::Sql).await;
        let standby = &kept.pair.standby;
        let eager = Eager::start(standby, 4, 1_000_000).await;
        // The promotion hangs where recovery would end.
        let startup = child(&standby.config.data_dir, "startup").cast_unsigned();
        send(startup, Signal::STOP);
        let deadline = now().plus(Duration::from_millis(400));
        kept.client.arm(deadline, stamp(5)).await.expect("a lease");
        std::fs::write(standby.config.data_dir.join("promote"), "").expect("the request");
        send(kept.postmaster, Signal::USR1);
        let facts = becomes(&kept.client, GuardState::Frozen).await;
        assert!(facts.since >= deadline && !facts.strayed, "{facts:?}");
        send(startup, Signal::CONT);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(eager.acks(), [], "it stands still, whatever was to come");
        // The lease comes after all, in its own epoch: the promotion goes on.
        kept.client.arm(now().plus(LONG), stamp(5)).await.expect("a later lease");
        send(startup, Signal::CONT);
        until("a first write", || async { (!eager.acks().is_empty()).then_some(()) }).await;
        assert!(!kept.client.keep().await.expect("an answer").strayed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_shut_down_or_loses_a_backend_has_not_left_recovery() {
    let kept = Kept::new(false, Way::Sql).await;
    let standby = &kept.pair.standby;
    // Its own crash recovery: every process but the postmaster is new, the startup process too.
    send(child(&standby.config.data_dir, "checkpointer").cast_unsigned(), Signal::KILL);
    until("it answers again", || async { standby.try_connect().await.map(|_| ()) }).await;
    kept.pair.streams().await;
    let facts = kept.client.keep().await.expect("an answer");
    assert!(facts.keeps && !facts.strayed, "{facts:?}");
    Way::Sql.go(&kept.pair).await;
    assert!(
        becomes(&kept.client, GuardState::Frozen).await.strayed,
        "whichever startup process it is by now"
    );

    let kept = Kept::new(false, Way::Sql).await;
    let postmaster = kept.pair.standby.instance.find().await.expect("a look").expect("it runs");
    kept.pair.standby.instance.stop_fast(&postmaster, Duration::from_secs(20)).await.expect("a stop");
    let facts = becomes(&kept.client, GuardState::Off).await;
    assert!(!facts.strayed, "{facts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_answers_for_may_be_promoted_and_a_guard_without_an_agent_still_counts() {
    let kept = Kept::new(false, Way::Sql).await;
    kept.client.disarm(stamp(5)).await.expect("an orderly stop of the member");
    Way::Sql.go(&kept.pair).await;
    kept.pair.standby.becomes("SELECT pg_is_in_recovery()", "f").await;
    kept.pair.standby.ask("INSERT INTO t VALUES (1) RETURNING 1").await;

    let kept = Kept::new(false, Way::Sql).await;
    let Kept { pair, client, .. } = &kept;
    let before = client.facts().expect("facts").since;
    // Its agent is gone for longer than an unneeded guard stays.
    let lonely = Client::attach(settings(&pair.standby, false)).await.expect("the same guard");
    drop(lonely);
    let socket = std::os::unix::net::UnixStream::connect(pair.standby.state_dir.join("guard.sock"));
    let guard = rustix::net::sockopt::socket_peercred(socket.expect("it listens")).expect("a peer").pid;
    let eager = Eager::start(&pair.standby, 2, 1_000_000).await;
    Way::Program.go(pair).await;
    let facts = becomes(client, GuardState::Frozen).await;
    assert!(facts.strayed && facts.since > before);
    println!("guard {guard:?}: {} acknowledged", eager.acks().len());
    assert_eq!(missing(&pair.primary, &eager.ids()).await, eager.ids().len(), "nobody else has them");
}
