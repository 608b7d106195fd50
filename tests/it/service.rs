//! `locum run` as a service of systemd: what it tells it, and the unit file itself.
#![allow(clippy::disallowed_methods, reason = "what is timed here is a real process")]

use std::{
    fs,
    io::ErrorKind,
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixDatagram},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use locum::model::GuardLack;

/// How long a sign may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

struct Member(Child);

impl Drop for Member {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _collected = self.0.wait();
    }
}

fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A member without PostgreSQL, as systemd would start it.
fn start(dir: &Path, watchdog: Option<&str>) -> Member {
    let mut env = Command::new("env");
    env.env_clear().env("NOTIFY_SOCKET", dir.join("notify")).stdin(Stdio::null());
    if let Some(microseconds) = watchdog {
        env.env("WATCHDOG_USEC", microseconds);
    }
    start_by(env, dir, "")
}

/// The same, run by `command`, with `more` in its configuration.
fn start_by(mut command: Command, dir: &Path, more: &str) -> Member {
    fs::write(dir.join("token"), "0123456789abcdef0123456789abcdef").unwrap();
    fs::set_permissions(dir.join("token"), fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "cluster = \"orders\"\nnode = \"seoul\"\nmembers = [\"seoul\"]\nstate_dir = \"{0}/state\"\n\
         [store]\nembedded = \"{0}/store.db\"\n[api]\nlisten = \"127.0.0.1:{1}\"\npeer_listen = \"127.0.0.1:{2}\"\n\
         token_file = \"{0}/token\"\n[witness]\nverify = \"user=nobody dbname=postgres\"\n{more}",
        dir.display(),
        port(),
        port()
    );
    fs::write(dir.join("locum.toml"), text).unwrap();
    command.arg(env!("CARGO_BIN_EXE_locum")).arg("run").arg("-c").arg(dir.join("locum.toml"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Member(command.spawn().unwrap())
}

fn hear(socket: &UnixDatagram) -> Option<String> {
    let mut bytes = [0; 4096];
    match socket.recv(&mut bytes) {
        Ok(count) => Some(String::from_utf8_lossy(&bytes[..count]).trim_end().to_owned()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(error) => panic!("{error}"),
    }
}

fn hear_until(socket: &UnixDatagram, wanted: &str) -> Vec<String> {
    let (until, mut heard) = (Instant::now() + SOON, Vec::new());
    while Instant::now() < until {
        heard.extend(hear(socket));
        if heard.last().is_some_and(|message| message.lines().any(|line| line.starts_with(wanted))) {
            return heard;
        }
    }
    panic!("no {wanted} within {SOON:?}; heard {heard:?}");
}

#[test]
fn a_member_tells_systemd_that_it_is_ready_lives_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut member = start(dir.path(), Some("2000000"));
    assert_eq!(hear_until(&socket, "READY=1"), ["READY=1"], "nothing comes before it is ready");
    hear_until(&socket, "STATUS=primary none, NOT serving; leader seoul");
    for _ in 0..3 {
        hear_until(&socket, "WATCHDOG=1");
    }
    let pid = rustix::process::Pid::from_child(&member.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    hear_until(&socket, "STOPPING=1");
    assert!(member.0.wait().unwrap().success());
    assert_eq!(hear(&socket), None, "nothing comes after it stopped");
}

#[test]
fn where_systemd_asks_for_no_sign_of_life_none_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let _member = start(dir.path(), None);
    let mut heard = hear_until(&socket, "READY=1");
    heard.extend(hear_until(&socket, "STATUS="));
    assert!(heard.iter().all(|message| !message.contains("WATCHDOG")), "{heard:?}");
}

#[test]
fn a_member_outside_systemd_or_with_a_dead_socket_runs_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody is bound to the socket.
    let mut member = start(dir.path(), Some("2000000"));
    let until = Instant::now() + SOON;
    while !dir.path().join("store.db").exists() {
        assert!(Instant::now() < until && member.0.try_wait().unwrap().is_none(), "it runs");
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&member.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    member.0.wait().unwrap();
}

#[test]
fn the_unit_leaves_postgresql_alone_and_systemd_understands_it() {
    let unit = fs::read_to_string("deploy/locum@.service").unwrap();
    for line in ["Type=notify", "KillMode=process", "Restart=always", "OOMPolicy=continue", "Delegate=yes"] {
        assert!(unit.lines().any(|each| each == line), "{line} is missing");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("locum@seoul.service");
    // Its programs are looked for: the one that is not installed is led to the one that is tested.
    fs::write(&file, unit.replace("/usr/local/bin/locum", env!("CARGO_BIN_EXE_locum"))).unwrap();
    match Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output() {
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success() && !said.contains("locum@"), "{said}");
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "systemd-analyze"),
    }
}

#[test]
fn the_unit_grants_what_the_guard_asks_for() {
    let unit = fs::read_to_string("deploy/locum@.service").unwrap();
    let value = |key: &str| {
        let mut lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.next().unwrap_or_else(|| panic!("{key} is missing")).to_owned()
    };
    let (priority, score) = (locum::guard::REALTIME_PRIORITY, locum::guard::GUARD_OOM_SCORE);
    assert!(value("LimitRTPRIO").parse::<i32>().unwrap() >= priority, "the guard asks for {priority}");
    assert_eq!(
        value("OOMScoreAdjust").parse::<i32>().unwrap(),
        score,
        "no process may lower what it was given"
    );
    // The kernel counts the whole program, of which only what was touched is locked.
    assert_eq!(value("LimitMEMLOCK"), "infinity");
    assert!(locum::guard::MEMBER_OOM_SCORE > score, "a member that grows without bound can be ended");
    let said: Vec<&str> =
        [GuardLack::Realtime, GuardLack::Memory, GuardLack::Oom].map(GuardLack::in_words).to_vec();
    for grant in
        [format!("LimitRTPRIO={priority}"), "LimitMEMLOCK=infinity".into(), format!("OOMScoreAdjust={score}")]
    {
        assert!(
            said.iter().any(|words| words.contains(&grant)),
            "{grant}: a finding names what is missing: {said:?}"
        );
        assert!(unit.lines().any(|line| line == grant), "{grant}");
    }
}

#[test]
fn an_endpoint_listens_on_the_socket_that_systemd_holds_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, other) = (held.local_addr().unwrap(), port());
    let text = format!("[[endpoint]]\nname = \"db\"\nlisten = \"127.0.0.1:{other}\"\ntarget = \"primary\"\n");
    // The shell becomes the member: the number that the sockets are for is its own.
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$@\"", "sh"]);
    shell.env_clear().env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "db");
    shell.stdin(OwnedFd::from(held.try_clone().unwrap()));
    let _member = start_by(shell, dir.path(), &text);
    let listens = |seen: &serde_json::Value| seen["endpoints"][0]["listen"].as_str().map(str::to_owned);
    let until = Instant::now() + SOON;
    let seen = loop {
        let mut status = Command::new(env!("CARGO_BIN_EXE_locum"));
        status.env_clear().args(["status", "--json", "-c"]).arg(dir.path().join("locum.toml"));
        let said = status.stdin(Stdio::null()).output().unwrap().stdout;
        if let Some(seen) = serde_json::from_slice(&said).ok().as_ref().and_then(listens) {
            break seen;
        }
        assert!(Instant::now() < until, "{}", String::from_utf8_lossy(&said));
    };
    assert_eq!(seen, address.to_string());
    assert!(TcpStream::connect(("127.0.0.1", other)).is_err(), "and nowhere else");
}
