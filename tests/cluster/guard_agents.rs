//! A real server whose agent dies or freezes: this test binary, run again, is the agent.

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

use crate::{
    fixture::until,
    guard_fixture::{Guarded, LONG, Sessions, becomes, now, send, settings, stamp},
};

const STATE: &str = "LOCUM_TEST_GUARD_STATE";
const DATA: &str = "LOCUM_TEST_GUARD_DATA";
const POSTMASTER: &str = "LOCUM_TEST_GUARD_POSTMASTER";
const SIGNALS: &str = "LOCUM_TEST_GUARD_SIGNALS";
const TTL: Duration = Duration::from_secs(1);

struct Agent(Child);

impl Agent {
    fn start(guarded: &Guarded, signals: bool) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "guard_agents::agent", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(STATE, &guarded.node.state_dir).env(DATA, guarded.node.instance.data_dir());
        command.env(POSTMASTER, guarded.postmaster.to_string()).env(SIGNALS, signals.to_string());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
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
    let names = [STATE, DATA, POSTMASTER, SIGNALS].map(env::var);
    let [Ok(state), Ok(data), Ok(pid), Ok(signals)] = names else { return };
    let mut settings = Settings::new(Path::new(&state), Path::new(&data), LONG);
    settings.program = env!("CARGO_BIN_EXE_locum").into();
    settings.signals = signals == "true";
    let client = Client::attach(settings).await.unwrap();
    client.watch(pid.parse().unwrap(), 1).await.unwrap();
    client.arm(now().plus(TTL), stamp(5)).await.unwrap();
    // The harness writes "test … " without a line's end before.
    println!("\narmed");
    // Bounded, should nobody end it.
    for _ in 0..1_000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.arm(now().plus(TTL), stamp(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_agent_the_server_is_frozen_at_the_last_deadline() {
    for (signal, signals) in [(Signal::KILL, false), (Signal::STOP, true)] {
        let guarded = Guarded::new().await;
        let sessions = Sessions::start(&guarded.node, 8).await;
        let agent = Agent::start(&guarded, signals);
        sessions.go_on().await;
        let silent = agent.halt(signal).await;
        let client = Client::attach(settings(&guarded.node, signals)).await.unwrap();
        let facts = becomes(&client, GuardState::Frozen).await;
        let last = sessions.last().await;
        println!("{:?}: last acknowledgement {:?} after its agent", facts.method, last.got.since(silent));
        assert!(facts.deadline.unwrap() <= silent.plus(TTL), "{facts:?}");
        assert!(sessions.acks().iter().all(|ack| ack.sent <= facts.since), "{last:?}, {facts:?}");
        // A new agent finds it as it was left, and goes on with the same sessions.
        client.watch(guarded.postmaster, 1).await.unwrap();
        client.arm(now().plus(LONG), stamp(5)).await.unwrap();
        sessions.go_on().await;
        sessions.finish().await;
    }
}
