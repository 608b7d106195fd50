//! The fence of a server whose directory is not where it was: writers are connected to the server itself, and after the
//! agent's word none of them is told of a commit any more.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command as Program, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use locum::model::Command;
use tokio::task::JoinSet;

use crate::{
    agent_fixture::{
        Node, Pair, SOON, bin_dir, folder, initdb, is_down, joined, program, promote, settings, stamp,
        standby,
    },
    fixture::{free_ports, until},
    guard_fixture::settings_of,
};

/// An archiver that is always at it: each segment takes it longer than any test.
const ARCHIVING: &str = "archive_mode = on\narchive_command = 'exec sleep 600'\n";
const WRITERS: i64 = 4;

/// What befalls the data directory of the primary while that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Removed,
    Moved,
    ParentMoved,
    MountedOver,
    Replaced,
}

/// Undoes a mount.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Program::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A pair whose primary works in a folder of its own.
struct Place {
    pair: Pair,
    home: PathBuf,
    /// The primary's segment.
    segment: String,
    /// What its archiver runs.
    programs: Vec<u32>,
}

impl Place {
    async fn new(guarded: bool) -> Self {
        let dir = folder();
        let home = dir.path().join("home");
        fs::create_dir(&home).expect("a folder");
        own_as(&home, dir.path());
        let (mut cfg, state_dir) = settings(dir.path(), "a");
        cfg.data_dir = home.join("a");
        initdb(&cfg.data_dir);
        append(&cfg.data_dir.join("postgresql.conf"), ARCHIVING);
        let guard = guarded.then(|| settings_of(&state_dir, &cfg.data_dir));
        let a = Node::with("a", cfg, state_dir, guard);
        let b = Node::new(dir.path(), "b");
        let pair = joined(a, b, dir).await;
        pair.a.ask("CREATE TABLE t (id bigint PRIMARY KEY)").await;
        pair.a.ask("SELECT pg_switch_wal()").await;
        let segment = segment_of(&pair.a.cfg.data_dir);
        let mut place = Self { pair, home, segment, programs: Vec::new() };
        let at_it = until("the archiver is at it", || async { place.archiving().into_iter().next() }).await;
        place.programs.push(at_it);
        place
    }

    /// What its archiver runs.
    fn archiving(&self) -> Vec<u32> {
        let postmaster = self.pair.a.postmaster().cast_unsigned();
        let of = |parent: u32| processes().into_iter().filter(move |pid| parent_of(*pid) == Some(parent));
        of(postmaster).flat_map(of).filter(|pid| name_of(*pid).as_deref() == Some("sleep")).collect()
    }

    /// Does it. Err: it cannot be done here.
    fn befalls(&self, fate: Fate) -> Result<Option<Mounted>, ()> {
        let (data, away) = (&self.pair.a.cfg.data_dir, self.home.with_file_name("away"));
        match fate {
            Fate::Removed => remove(data),
            Fate::Moved => fs::rename(data, &away).expect("moved"),
            Fate::ParentMoved => fs::rename(&self.home, &away).expect("moved"),
            Fate::MountedOver => {
                fs::create_dir(&away).expect("a folder");
                let mounted =
                    Program::new("mount").arg("--bind").args([&away, data]).stderr(Stdio::null()).status();
                if !mounted.expect("mount").success() {
                    println!("skipped: nothing can be mounted here");
                    return Err(());
                }
                return Ok(Some(Mounted(data.clone())));
            }
            Fate::Replaced => {
                fs::rename(data, &away).expect("moved");
                initdb(data);
            }
        }
        Ok(None)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whatever came of the test, by what cannot be renamed.
        for pid in mapping(&self.segment) {
            let _ = Program::new("kill").arg("-KILL").arg(pid.to_string()).status();
        }
        for pid in self.programs.iter().filter(|pid| name_of(**pid).as_deref() == Some("sleep")) {
            let _ = Program::new("kill").arg("-KILL").arg(pid.to_string()).status();
        }
    }
}

fn append(path: &Path, text: &str) {
    let before = fs::read_to_string(path).expect("a file");
    fs::write(path, before + text).expect("a file");
}

fn own_as(path: &Path, like: &Path) {
    use std::os::unix::fs::MetadataExt;
    let owner = fs::metadata(like).expect("a folder");
    let _only_root_can = std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()));
}

/// Removes a directory in which a server makes files meanwhile.
fn remove(path: &Path) {
    let begun = Instant::now();
    while path.exists() {
        let _may_have_got_a_file_meanwhile = fs::remove_dir_all(path);
        assert!(begun.elapsed() < SOON, "it cannot be removed");
    }
}

pub(crate) fn processes() -> Vec<u32> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

pub(crate) fn name_of(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

/// The id of the interlock segment, by the lock file.
pub(crate) fn segment_of(data_dir: &Path) -> String {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).expect("postmaster.pid");
    text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)).expect("a segment").to_owned()
}

/// Every living process that maps a segment.
pub(crate) fn mapping(segment: &str) -> Vec<u32> {
    let maps = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| {
            maps.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.get(4) == Some(&segment) && words.get(5).is_some_and(|path| path.starts_with("/SYSV"))
            })
        })
    };
    processes().into_iter().filter(maps).collect()
}

/// Writers on connections of their own to one server, each for as long as its connection lives.
struct Commits {
    asked: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Commits {
    async fn start(node: &Node) -> Self {
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS {
            let (sql, asked, stop) = (node.sql().await, Arc::clone(&asked), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut id = number;
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    if sql.batch_execute(&format!("INSERT INTO t VALUES ({id})")).await.is_err() {
                        return;
                    }
                    asked.lock().expect("not poisoned").push(begun);
                    id += WRITERS;
                }
            });
        }
        let commits = Self { asked, stop, tasks };
        commits.go_on().await;
        commits
    }

    fn acknowledged(&self) -> usize {
        self.asked.lock().expect("not poisoned").len()
    }

    async fn go_on(&self) {
        let before = self.acknowledged();
        until("commits are acknowledged", || async { (self.acknowledged() > before + 20).then_some(()) })
            .await;
    }

    /// How many were acknowledged that were asked for after an instant. Waits until every connection has ended.
    async fn after(mut self, instant: Instant) -> usize {
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let all_ended = tokio::time::timeout(SOON / 6, ended).await.is_ok();
        self.stop.store(true, Ordering::Relaxed);
        let late = self.asked.lock().expect("not poisoned").iter().filter(|asked| **asked > instant).count();
        assert!(all_ended, "{late} commits acknowledged after the fence, and the sessions go on");
        late
    }
}

/// The fence of the primary, whatever has befallen its directory, in async and in sync.
async fn is_fenced(fate: Fate, guarded: bool) {
    for sync in [false, true] {
        let place = Place::new(guarded).await;
        let (a, segment) = (&place.pair.a, place.segment.clone());
        if sync {
            place.pair.in_sync(1, 3).await;
        }
        let commits = Commits::start(a).await;
        let Ok(_mounted) = place.befalls(fate) else { return };
        if fate != Fate::Removed {
            // Without its files it may end by itself at any moment.
            commits.go_on().await;
        }

        let begun = Instant::now();
        a.done(stamp(2, 1), Command::Fence).await;
        let fenced = Instant::now();
        println!("{fate:?}, sync {sync}, guard {guarded}: fenced in {:?}", fenced - begun);
        assert_eq!(mapping(&segment), Vec::<u32>::new(), "processes that map its segment");
        assert_eq!(commits.after(fenced).await, 0, "commits acknowledged after the fence");
        assert!(is_down(&a.agent.facts()));
        let left = place.programs.iter().filter(|pid| name_of(**pid).as_deref() == Some("sleep")).count();
        assert!(left == 1 || guarded, "what its archiver ran is no writer, and was killed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_fenced_although_its_directory_was_removed() {
    is_fenced(Fate::Removed, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_fenced_although_its_directory_was_moved() {
    is_fenced(Fate::Moved, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_fenced_although_the_parent_of_its_directory_was_moved() {
    is_fenced(Fate::ParentMoved, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_fenced_although_something_was_mounted_over_its_directory() {
    is_fenced(Fate::MountedOver, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_fenced_although_another_directory_was_put_in_its_place() {
    is_fenced(Fate::Replaced, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_with_a_guard_is_fenced_although_its_directory_was_removed_or_moved() {
    is_fenced(Fate::Removed, true).await;
    is_fenced(Fate::Moved, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_started_anew_knows_the_server_whose_directory_is_gone() {
    for fate in [Fate::Removed, Fate::Moved] {
        let mut place = Place::new(false).await;
        let commits = Commits::start(&place.pair.a).await;
        let _kept = place.befalls(fate);
        place.pair.a.restart_agent().await;
        place.pair.a.done(stamp(2, 1), Command::Fence).await;
        let fenced = Instant::now();
        assert_eq!(mapping(&place.segment), Vec::<u32>::new(), "processes that map its segment");
        assert_eq!(commits.after(fenced).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_not_started_while_the_one_of_before_runs_elsewhere() {
    let place = Place::new(false).await;
    let commits = Commits::start(&place.pair.a).await;
    let _kept = place.befalls(Fate::Replaced);
    let reply = place.pair.a.agent.order(stamp(1, 9), Command::Serve { floor: None }).await;
    commits.go_on().await;
    assert!(!mapping(&place.segment).is_empty(), "{reply:?}");
    assert!(
        !place.pair.a.cfg.data_dir.join("postmaster.pid").exists(),
        "a second one was started: {reply:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_ended_although_its_directory_was_moved_also_in_mid_promotion() {
    for promoting in [false, true] {
        let place = Place::new(false).await;
        let b = &place.pair.b;
        let segment = segment_of(&b.cfg.data_dir);
        fs::rename(&b.cfg.data_dir, b.cfg.data_dir.with_extension("away")).expect("moved");
        if promoting {
            b.done(stamp(2, 1), Command::Promise).await;
            let agent = Arc::clone(&b.agent);
            let promoted = tokio::spawn(async move { agent.order(stamp(2, 2), promote()).await });
            b.done(stamp(3, 1), Command::Fence).await;
            println!("the promotion: {:?}", promoted.await.expect("an answer"));
        } else {
            b.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
            b.done(stamp(3, 1), Command::Fence).await;
        }
        assert_eq!(mapping(&segment), Vec::<u32>::new());
        assert!(is_down(&b.agent.facts()));
    }
}

/// A server that nobody here watches. Dropping it ends it.
struct Stranger {
    child: Child,
    port: u16,
}

impl Stranger {
    fn start(data_dir: &Path, before: &[&str]) -> Self {
        let [port] = free_ports();
        let postgres = bin_dir().join("postgres");
        let mut command = match before {
            [] => program("postgres"),
            [first, more @ ..] => {
                let mut command = Program::new(first);
                command.args(more).arg(postgres);
                command
            }
        };
        command.arg("-D").arg(data_dir).args(["-c", "listen_addresses=127.0.0.1", "-c", "archive_mode=off"]);
        command.args(["-c", "unix_socket_directories=", "-c", &format!("port={port}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().expect("postgres"), port }
    }

    fn connect(&self) -> String {
        format!("host=127.0.0.1 port={} user=locum dbname=postgres", self.port)
    }

    async fn answers(&self) -> bool {
        tokio_postgres::connect(&self.connect(), tokio_postgres::NoTls).await.is_ok()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // Its children end by themselves once it is dead.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_a_copy_of_the_directory_is_left_alone() {
    let place = Place::new(false).await;
    let a = &place.pair.a;
    let copy = place.home.join("copy");
    let source = format!("{} replication=true", a.cfg.connect);
    let mut copied = program("pg_basebackup");
    copied.args(["-X", "stream", "-c", "fast", "-d", &source, "-D"]).arg(&copy);
    assert!(copied.status().expect("pg_basebackup").success());
    let stranger = Stranger::start(&copy, &[]);
    until("the copy answers", || async { stranger.answers().await.then_some(()) }).await;
    let commits = Commits::start(a).await;
    // Also where the copy has taken the place of the original by name.
    let _kept = place.befalls(Fate::Moved);
    a.done(stamp(2, 1), Command::Fence).await;
    let fenced = Instant::now();
    assert_eq!(mapping(&place.segment), Vec::<u32>::new());
    assert_eq!(commits.after(fenced).await, 0);
    assert!(stranger.answers().await, "somebody else's server was ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_in_the_same_directory_is_fenced_too() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let place = Place::new(false).await;
    let a = &place.pair.a;
    let commits = Commits::start(a).await;
    // PostgreSQL's own lock is the file, and the segment: neither holds in a container with the directory of the host.
    fs::remove_file(a.cfg.data_dir.join("postmaster.pid")).expect("removed");
    let second = Stranger::start(
        &a.cfg.data_dir,
        &["unshare", "--ipc", "setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"],
    );
    until("the second one answers", || async { second.answers().await.then_some(()) }).await;
    a.done(stamp(2, 1), Command::Fence).await;
    let fenced = Instant::now();
    assert_eq!(mapping(&place.segment), Vec::<u32>::new());
    assert_eq!(commits.after(fenced).await, 0);
    assert!(!second.answers().await, "a server writes the same files");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_waits_for_a_program_and_does_not_see_its_postmaster_die_is_fenced() {
    let place = Place::new(false).await;
    let a = &place.pair.a;
    let sql = a.sql().await;
    let copying =
        tokio::spawn(async move { sql.batch_execute("COPY t FROM PROGRAM 'exec sleep 601'").await });
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY t FROM PROGRAM%' AND state = 'active'";
    until("it copies", || async { (a.ask(waits).await != "0").then_some(()) }).await;
    // A server whose files vanish may end by itself before it is killed.
    let postmaster = postmaster_of(&place.segment);
    let _kept = place.befalls(Fate::Removed);
    let _ended_by_itself = rustix::process::kill_process(postmaster, rustix::process::Signal::KILL);
    a.until("its end", is_down).await;
    a.done(stamp(2, 1), Command::Fence).await;
    assert_eq!(mapping(&place.segment), Vec::<u32>::new(), "processes that map its segment");
    let program =
        |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x00601\x00");
    for pid in processes().into_iter().filter(program) {
        let _ = Program::new("kill").arg("-KILL").arg(pid.to_string()).status();
    }
    // The program held the client's connection open.
    assert!(copying.await.expect("it ends").is_err());
}

/// The postmaster of a segment: the one whose parent does not map it.
fn postmaster_of(segment: &str) -> rustix::process::Pid {
    let all = mapping(segment);
    let head = all.iter().find(|pid| parent_of(**pid).is_none_or(|parent| !all.contains(&parent)));
    head.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())).expect("a postmaster")
}
