//! The file shared by real processes: this test binary, run again, as members that write, race, die and freeze.

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use locum::{
    ports::{Guard, Outcome, Store, StoreError},
    store::Embedded,
};
use rustix::process::{Pid, Signal, kill_process};

use super::{committed, put, value};

const FILE: &str = "LOCUM_TEST_STORE";
const ROUNDS: &str = "LOCUM_TEST_ROUNDS";

/// Kills what a failed test would leave running.
struct Member(Child);

impl Member {
    /// Another process that adds one to the key `n`, `rounds` times, and prints each number it got through.
    fn start(path: &Path, rounds: u32) -> Self {
        let mut command = Command::new(env::current_exe().expect("own path"));
        command.args(["--exact", "store::processes::member", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(FILE, path).env(ROUNDS, rounds.to_string()).stdout(Stdio::piped());
        Self(command.spawn().expect("spawn"))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("pid")).expect("pid");
        kill_process(pid, signal).expect("signal");
    }

    fn numbers(&mut self) -> impl Iterator<Item = u64> + use<> {
        let lines = BufReader::new(self.0.stdout.take().expect("piped")).lines();
        lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("did ")?.parse().ok())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: what [`Member`] runs.
#[tokio::test]
#[ignore = "run by other tests, as another process"]
async fn member() {
    let (Ok(path), Ok(rounds)) = (env::var(FILE), env::var(ROUNDS)) else { return };
    let store = Embedded::open(Path::new(&path)).expect("open");
    // The harness writes "test … " without a line's end before.
    println!();
    let mut done = 0;
    while done < rounds.parse().expect("a number") {
        let before = store.get("n").await.expect("get").expect("there");
        let next = before.value.parse::<u64>().expect("a number") + 1;
        let guards = vec![Guard::Modified("n".into(), before.modified)];
        match store.commit(guards, vec![put("n", &next.to_string())]).await {
            Ok(Outcome::Committed(_)) => {
                println!("did {next}");
                done += 1;
            }
            Ok(Outcome::GuardFailed) | Err(StoreError::Busy(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn number(store: &dyn Store) -> u64 {
    value(store, "n").await.expect("there").parse().expect("a number")
}

#[tokio::test]
async fn processes_that_count_together_skip_and_repeat_no_number() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store.db");
    let store = Embedded::open(&path).expect("open");
    committed(&store, vec![], vec![put("n", "0")]).await;
    let mut members: Vec<Member> = (0..3).map(|_| Member::start(&path, 60)).collect();
    let readers: Vec<_> = members.iter_mut().map(Member::numbers).collect();
    let mut numbers: Vec<u64> = readers.into_iter().flatten().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=180).collect::<Vec<_>>());
    assert_eq!(number(&store).await, 180);
}

#[tokio::test]
async fn what_a_killed_process_was_told_is_committed_stays() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store.db");
    committed(&Embedded::open(&path).expect("open"), vec![], vec![put("n", "0")]).await;
    for kill_after in [3, 17, 40] {
        let mut member = Member::start(&path, 100_000);
        let mut numbers = member.numbers();
        let mut last = numbers.by_ref().take(kill_after).last().expect("it works");
        member.signal(Signal::KILL);
        last = numbers.last().unwrap_or(last);
        let store = Embedded::open(&path).expect("open after a kill");
        let stored = number(&store).await;
        assert!(stored == last || stored == last + 1, "told {last}, stored {stored}");
    }
}

#[tokio::test]
async fn a_frozen_process_blocks_nobody_for_ever() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store.db");
    let store = Embedded::open(&path).expect("open");
    committed(&store, vec![], vec![put("n", "0")]).await;
    let mut member = Member::start(&path, 100_000);
    let mut numbers = member.numbers();
    for _ in 0..10 {
        numbers.next().expect("it works");
        // Somewhere: between its transactions, or within one.
        member.signal(Signal::STOP);
        let write = store.commit(vec![], vec![put("other", "")]);
        let answer = tokio::time::timeout(Duration::from_secs(5), write).await.expect("an answer in time");
        assert!(matches!(answer, Ok(Outcome::Committed(_)) | Err(StoreError::Busy(_))), "{answer:?}");
        member.signal(Signal::CONT);
    }
}
