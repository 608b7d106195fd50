//! Who is listened to, what is refused, and what the guard is like.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    process::Command,
    time::Duration,
};

use locum::{
    guard::{Client, GuardError, Refused},
    model::GuardState,
};
use rustix::process::Signal;

use super::{LONG, Place, SOON, becomes, now, send, stamp};

#[tokio::test]
async fn a_deadline_is_an_instant_and_is_not_counted_from_when_it_is_heard_of() {
    let place = Place::new();
    let client = place.guard(place.settings(false)).await;
    client.arm(now().plus(LONG / 2), stamp(5)).await.unwrap();
    client.disarm(stamp(5)).await.unwrap();
    // The guard hears of it only a second after it was sent, when it has passed.
    send(place.guard_pid(), Signal::STOP);
    let deadline = now().plus(Duration::from_millis(900));
    let arm = client.arm(deadline, stamp(5));
    let resume = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        send(place.guard_pid(), Signal::CONT);
        now()
    };
    let (armed, resumed) = tokio::join!(arm, resume);
    armed.unwrap();
    let facts = becomes(&client, GuardState::Frozen).await;
    println!("frozen {:?} after it was heard of", facts.since.since(resumed));
    assert!(facts.since < resumed.plus(Duration::from_millis(500)), "{facts:?}, heard of at {resumed:?}");
}

#[tokio::test]
async fn a_lower_stamp_is_refused_also_from_another_connection() {
    let place = Place::new();
    let first = place.guard(place.settings(false)).await;
    first.arm(now().plus(LONG), stamp(5)).await.unwrap();
    let second = Client::attach(place.settings(false)).await.unwrap();
    for refused in [
        second.arm(now().plus(LONG * 2), stamp(4)).await,
        second.disarm(stamp(4)).await,
        second.kill(stamp(4)).await,
    ] {
        assert!(matches!(refused, Err(GuardError::Refused(Refused::Stale))), "{refused:?}");
    }
    assert_eq!(first.facts().unwrap().state, GuardState::Armed);
}

#[tokio::test]
async fn only_a_server_of_the_data_directory_is_guarded() {
    let place = Place::new();
    let client = Client::attach(place.settings(false)).await.unwrap();
    let other = client.watch(std::process::id(), 1).await;
    assert!(matches!(other, Err(GuardError::Refused(Refused::NotIt))), "{other:?}");
    let armed = client.arm(now().plus(LONG), stamp(5)).await;
    assert!(matches!(armed, Err(GuardError::Refused(Refused::NoServer))), "{armed:?}");
}

#[tokio::test]
async fn a_guard_starts_before_there_is_a_data_directory() {
    let place = Place::new();
    let mut settings = place.settings(false);
    settings.data_dir = place.state.path().join("not-yet");
    let client = Client::attach(settings).await.unwrap();
    assert_eq!(client.facts().unwrap().state, GuardState::Off);
}

#[tokio::test]
async fn the_same_server_named_again_stays_armed_and_another_cannot_take_its_place() {
    let place = Place::new();
    let client = place.guard(place.settings(false)).await;
    let deadline = now().plus(LONG);
    client.arm(deadline, stamp(5)).await.unwrap();
    let facts = client.watch(place.tree.postmaster(), 2).await.unwrap();
    assert_eq!((facts.state, facts.deadline), (GuardState::Armed, Some(deadline)));
    let other = client.watch(std::process::id(), 3).await;
    assert!(matches!(other, Err(GuardError::Refused(Refused::Guarding))), "{other:?}");
}

#[tokio::test]
async fn an_armed_guard_does_not_quit_and_a_disarmed_one_does() {
    let place = Place::new();
    let client = place.guard(place.settings(false)).await;
    client.arm(now().plus(LONG), stamp(5)).await.unwrap();
    let refused = client.quit().await;
    assert!(matches!(refused, Err(GuardError::Refused(Refused::Guarding))), "{refused:?}");
    let client = Client::attach(place.settings(false)).await.unwrap();
    client.disarm(stamp(5)).await.unwrap();
    client.quit().await.unwrap();
    super::until("it has ended", || async { super::pid(place.state.path()).is_none().then_some(()) }).await;
}

#[tokio::test]
async fn who_speaks_something_else_is_hung_up_on_and_disturbs_nobody() {
    let place = Place::new();
    let client = place.guard(place.settings(false)).await;
    client.arm(now().plus(LONG), stamp(5)).await.unwrap();
    for _ in 0..20 {
        let mut stranger = UnixStream::connect(place.state.path().join("guard.sock")).unwrap();
        stranger.set_read_timeout(Some(SOON)).unwrap();
        stranger.write_all(&[b'x'; 80]).unwrap();
        assert_eq!(stranger.read(&mut [0; 1]).unwrap(), 0);
    }
    assert_eq!(client.arm(now().plus(LONG), stamp(5)).await.unwrap().state, GuardState::Armed);
}

#[tokio::test]
async fn the_socket_is_for_its_user_alone_and_a_second_guard_is_kept_out() {
    let place = Place::new();
    let _client = place.guard(place.settings(false)).await;
    let mode = fs::metadata(place.state.path().join("guard.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut command = Command::new(env!("CARGO_BIN_EXE_locum"));
    command.arg("guard").arg("--state-dir").arg(place.state.path()).arg("--data-dir").arg(place.tree.dir());
    let second = command.output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another guard holds this state directory"));
}

#[tokio::test]
async fn a_guard_takes_little_memory_and_one_thread() {
    let place = Place::new();
    let client = place.guard(place.settings(false)).await;
    client.arm(now().plus(LONG), stamp(5)).await.unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", place.guard_pid())).unwrap();
    let value = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (anon, file, locked) = (value("RssAnon:"), value("RssFile:"), value("VmLck:"));
    println!(
        "own memory {anon} kB, of the program's file {file} kB, lockable {locked} kB; {:?}",
        client.facts()
    );
    assert!(anon < 4 << 10, "{status}");
    assert_eq!(value("Threads:"), 1);
}

#[test]
fn help_says_what_it_is_and_that_nobody_need_start_it() {
    let help = Command::new(env!("CARGO_BIN_EXE_locum")).args(["guard", "--help"]).output().unwrap();
    let text = String::from_utf8_lossy(&help.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.status.success() && text.contains("there is no need to start it by hand"), "{text}");
}
