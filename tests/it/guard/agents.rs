//! Agents that die, freeze and come back: this test binary, run again, as one that renews its deadline.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use locum::{
    guard::{Client, Settings},
    model::{GuardState, Mono},
};
use rustix::process::Signal;

use super::{LONG, Place, becomes, now, send, stamp, until};

const STATE: &str = "LOCUM_TEST_GUARD_STATE";
const DATA: &str = "LOCUM_TEST_GUARD_DATA";
const POSTMASTER: &str = "LOCUM_TEST_GUARD_POSTMASTER";
/// How far ahead each deadline of the agent lies.
const TTL: Duration = Duration::from_millis(600);
/// Between two renewals.
const RENEW: Duration = Duration::from_millis(50);

struct Agent(Child);

impl Agent {
    /// Another process that guards the made-up server and renews; returns once it has armed the guard.
    fn start(place: &Place) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "guard::agents::agent", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(STATE, place.state.path()).env(DATA, place.tree.dir());
        command.env(POSTMASTER, place.tree.postmaster().to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        lines.find(|line| line == "armed").expect("it arms the guard");
        Self(child)
    }

    /// Kills or stops it, and returns once none of its threads runs any more: a stop takes a moment.
    async fn halt(&self, signal: Signal) -> Mono {
        send(self.0.id(), signal);
        until("it runs no more", || async {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).ok()?.flatten();
            let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
            let runs = |stat: String| {
                !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 'Z', 'X']))
            };
            (!stats.into_iter().any(runs)).then_some(())
        })
        .await;
        now()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: what [`Agent`] runs.
#[tokio::test]
#[ignore = "run by other tests, as another process"]
async fn agent() {
    let (Ok(state), Ok(data), Ok(pid)) = (env::var(STATE), env::var(DATA), env::var(POSTMASTER)) else {
        return;
    };
    let mut settings = Settings::new(Path::new(&state), Path::new(&data), LONG);
    settings.program = env!("CARGO_BIN_EXE_locum").into();
    let client = Client::attach(settings).await.unwrap();
    client.watch(pid.parse().unwrap(), 1).await.unwrap();
    client.arm(now().plus(TTL), stamp(5)).await.unwrap();
    // The harness writes "test … " without a line's end before.
    println!("\narmed");
    // Bounded, should nobody end it.
    for _ in 0..2_000 {
        tokio::time::sleep(RENEW).await;
        client.arm(now().plus(TTL), stamp(5)).await.unwrap();
    }
}

#[tokio::test]
async fn an_agent_that_dies_or_freezes_leaves_the_guard_counting() {
    for signal in [Signal::KILL, Signal::STOP] {
        let place = Place::new();
        let agent = Agent::start(&place);
        place.tree.goes_on().await;
        let silent = agent.halt(signal).await;
        let client = Client::attach(place.settings(false)).await.unwrap();
        assert_eq!(client.facts().unwrap().state, GuardState::Armed, "it was found as it was left");
        let facts = becomes(&client, GuardState::Frozen).await;
        assert!(place.tree.stands_still().await);
        assert!(facts.deadline.unwrap() <= silent.plus(TTL), "{facts:?}, silent at {silent:?}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_neither_disarms_nor_thaws() {
    let place = Place::new();
    let client = place.guard(place.settings(false)).await;
    let deadline = now().plus(Duration::from_millis(300));
    client.arm(deadline, stamp(5)).await.unwrap();
    drop(client);
    until("the deadline", || async { (now() > deadline).then_some(()) }).await;
    let client = Client::attach(place.settings(false)).await.unwrap();
    let facts = becomes(&client, GuardState::Frozen).await;
    assert_eq!((facts.deadline, facts.stamp), (Some(deadline), Some(stamp(5))));
    drop(client);
    assert!(place.tree.stands_still().await);
}

#[tokio::test]
async fn an_agent_that_comes_back_in_time_goes_on_renewing() {
    let place = Place::new();
    drop(Agent::start(&place));
    let client = Client::attach(place.settings(false)).await.unwrap();
    let found = client.facts().unwrap();
    assert_eq!((found.state, found.postmaster), (GuardState::Armed, Some(place.tree.postmaster())));
    client.watch(place.tree.postmaster(), 1).await.unwrap();
    client.arm(now().plus(LONG), stamp(5)).await.unwrap();
    until("the old deadline", || async { (now() > found.deadline.unwrap()).then_some(()) }).await;
    assert!(!place.tree.stands_still().await);
}

#[tokio::test]
async fn a_guard_that_is_killed_is_replaced_and_told_what_holds() {
    let place = Place::new();
    let client = place.guard(place.settings(false)).await;
    let deadline = now().plus(Duration::from_secs(2));
    client.arm(deadline, stamp(5)).await.unwrap();
    let first = place.guard_pid();
    send(first, Signal::KILL);
    until("another guard", || async { super::pid(place.state.path()).filter(|pid| *pid != first) }).await;
    until("it is armed", || async { client.facts().filter(|facts| facts.deadline == Some(deadline)) }).await;
    becomes(&client, GuardState::Frozen).await;
    assert!(place.tree.stands_still().await);
    // Also while it stands still: the next one finds it so, and lets it go on only with a later deadline.
    let second = place.guard_pid();
    send(second, Signal::KILL);
    until("a third guard", || async { super::pid(place.state.path()).filter(|pid| *pid != second) }).await;
    becomes(&client, GuardState::Frozen).await;
    assert!(place.tree.stands_still().await);
    client.arm(now().plus(LONG), stamp(5)).await.unwrap();
    place.tree.goes_on().await;
}
