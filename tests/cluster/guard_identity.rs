//! The guard beside a server whose directory is not where it was, or that is not alone in its control group.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use locum::{
    guard::{Client, GuardError, Refused},
    model::{GuardMethod, GuardState},
};
use rustix::process::Signal;

use crate::{
    agent_identity::{mapping, name_of, parent_of, processes, segment_of},
    fixture::until,
    guard_fixture::{Guarded, LONG, MOUNTS, Sessions, becomes, now, send, settings, stamp},
};

const BOTH: [bool; 2] = [false, true];
const WRITERS: i64 = 4;

/// When a process was started, in clock ticks since the boot.
fn started(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap()
}

/// Ends what the fixture does not find any more, because its directory has another name.
struct Left(String);

impl Drop for Left {
    fn drop(&mut self) {
        mapping(&self.0).into_iter().for_each(|pid| send(pid, Signal::KILL));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_frozen_and_killed_although_its_directory_was_moved_or_removed() {
    for (signals, removed) in [(false, false), (true, false), (false, true), (true, true)] {
        let guarded = Guarded::new().await;
        let data = guarded.node.instance.data_dir().to_owned();
        let left = Left(segment_of(&data));
        let client = guarded.guard(settings(&guarded.node, signals)).await;
        let sessions = Sessions::start(&guarded.node, WRITERS).await;
        if !removed {
            fs::rename(&data, data.with_extension("away")).unwrap();
            sessions.go_on().await;
        }
        client.arm(now().plus(Duration::from_millis(200)), stamp(5)).await.unwrap();
        let facts = becomes(&client, GuardState::Frozen).await;
        sessions.last().await;
        assert!(sessions.acks().iter().all(|ack| ack.sent <= facts.since), "{facts:?}");
        if removed {
            // While it stands still: one that runs may end by itself without its files.
            fs::remove_dir_all(&data).unwrap();
        } else {
            client.arm(now().plus(LONG), stamp(5)).await.unwrap();
            sessions.go_on().await;
        }
        client.kill(stamp(6)).await.unwrap();
        until("nobody maps its segment", || async { mapping(&left.0).is_empty().then_some(()) }).await;
        drop(sessions.finish().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_comes_after_the_directory_was_moved_takes_the_server_that_its_agent_vouches_for() {
    let guarded = Guarded::new().await;
    let data = guarded.node.instance.data_dir().to_owned();
    let left = Left(segment_of(&data));
    let sessions = Sessions::start(&guarded.node, WRITERS).await;
    fs::rename(&data, data.with_extension("away")).unwrap();
    let client = Client::attach(settings(&guarded.node, true)).await.unwrap();
    // Of one that had this number before.
    let refused = client.watch(guarded.postmaster, started(guarded.postmaster) - 1).await;
    assert!(matches!(refused, Err(GuardError::Refused(Refused::NotIt))), "{refused:?}");
    client.watch(guarded.postmaster, started(guarded.postmaster)).await.unwrap();
    client.arm(now(), stamp(5)).await.unwrap();
    let facts = becomes(&client, GuardState::Frozen).await;
    sessions.last().await;
    assert!(sessions.acks().iter().all(|ack| ack.sent <= facts.since), "{facts:?}");
    client.kill(stamp(6)).await.unwrap();
    until("nobody maps its segment", || async { mapping(&left.0).is_empty().then_some(()) }).await;
    drop(sessions.finish().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_that_does_not_see_its_postmaster_die_is_ended() {
    for signals in BOTH {
        let guarded = Guarded::new().await;
        let segment = segment_of(guarded.node.instance.data_dir());
        let client = guarded.guard(settings(&guarded.node, signals)).await;
        client.arm(now().plus(LONG), stamp(5)).await.unwrap();
        let sql = guarded.node.connect().await;
        let copying =
            tokio::spawn(async move { sql.batch_execute("COPY t FROM PROGRAM 'exec sleep 602'").await });
        let runs = |pid: &u32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x00602\x00")
        };
        let program = until("it copies", || async { processes().into_iter().find(runs) }).await;
        let session = parent_of(program).unwrap();
        send(guarded.postmaster, Signal::KILL);
        until("nobody maps its segment", || async { mapping(&segment).is_empty().then_some(()) }).await;
        assert_ne!(name_of(session).as_deref(), Some("sleep"));
        if name_of(program).as_deref() == Some("sleep") {
            send(program, Signal::KILL);
        }
        // The program held the client's connection open.
        assert!(copying.await.unwrap().is_err());
    }
}

/// A process that shows that it gets on.
struct Ticker {
    child: Child,
    file: PathBuf,
}

impl Ticker {
    fn start(file: PathBuf) -> Self {
        let script = "while :; do echo >> \"$0\"; sleep 0.005; done";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg(&file).stdin(Stdio::null());
        Self { child: command.spawn().unwrap(), file }
    }

    async fn goes_on(&self) {
        goes_on(&self.file).await;
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn goes_on(file: &PathBuf) {
    let length = || fs::metadata(file).map_or(0, |meta| meta.len());
    let before = length();
    until("it gets on", || async { (length() > before + 3).then_some(()) }).await;
}

/// A control group. Dropping it removes it, if nobody is in it.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Self> {
        let mount =
            MOUNTS.iter().map(PathBuf::from).find(|mount| mount.join("cgroup.controllers").exists())?;
        let path = mount.join(format!("locum-test-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }

    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let root = self.0.parent().unwrap();
        for line in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ended_meanwhile = fs::write(root.join("cgroup.procs"), line);
        }
        let _someone_is_in_it = fs::remove_dir(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shares_the_control_group_of_an_adopted_server_is_neither_frozen_nor_killed() {
    let Some(group) = Group::new() else {
        println!("skipped: needs root and cgroup v2");
        return;
    };
    let guarded = Guarded::new().await;
    let other = Ticker::start(guarded.node.folder().join("ticks"));
    group.take(other.child.id());
    group.take(guarded.postmaster);
    let children = processes().into_iter().filter(|pid| parent_of(*pid) == Some(guarded.postmaster));
    children.for_each(|pid| group.take(pid));
    let segment = segment_of(guarded.node.instance.data_dir());
    let client = guarded.guard(settings(&guarded.node, false)).await;
    assert_eq!(client.facts().unwrap().method, GuardMethod::Cgroup);
    client.arm(now(), stamp(5)).await.unwrap();
    becomes(&client, GuardState::Frozen).await;
    other.goes_on().await;
    client.kill(stamp(6)).await.unwrap();
    until("nobody maps its segment", || async { mapping(&segment).is_empty().then_some(()) }).await;
    other.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_of_the_server_has_left_behind_is_not_killed_with_it() {
    for signals in BOTH {
        let guarded = Guarded::new().await;
        let segment = segment_of(guarded.node.instance.data_dir());
        let client = guarded.guard(settings(&guarded.node, signals)).await;
        client.arm(now().plus(LONG), stamp(5)).await.unwrap();
        // Where the server's user may write.
        let file = std::env::temp_dir().join(format!("locum-test-left-{}-{signals}", guarded.postmaster));
        let script = format!("while :; do echo \\$\\$ >> {}; sleep 0.005; done", file.display());
        let leave = format!(
            "COPY (SELECT 1) TO PROGRAM 'setsid sh -c \"{script}\" >/dev/null 2>&1 </dev/null & exit 0'"
        );
        guarded.node.connect().await.batch_execute(&leave).await.unwrap();
        goes_on(&file).await;
        client.kill(stamp(6)).await.unwrap();
        until("nobody maps its segment", || async { mapping(&segment).is_empty().then_some(()) }).await;
        goes_on(&file).await;
        let pid = fs::read_to_string(&file).unwrap().lines().next().unwrap().parse().unwrap();
        send(pid, Signal::KILL);
        fs::remove_file(&file).unwrap();
    }
}
