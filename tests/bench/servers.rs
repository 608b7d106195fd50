//! What is measured against: one PostgreSQL, HAProxy in TCP mode before it, Locum's proxy before it. Dropping the place
//! ends them and removes its folder.

use std::{
    ffi::OsStr,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use locum::{
    clock::SystemClock,
    config,
    endpoint::Proxy,
    model::{EndpointKind, EndpointName, Epoch, Incarnation, NodeId, Reply, RouteOrder, Stamp, Version},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::Side;

/// pgbench's database.
pub(crate) const DATABASE: &str = "postgres";
/// pgbench's scale: not below the clients, who would wait for each other's branch.
const SCALE: &str = "64";
/// How long a server may take until it listens, or has ended.
const SOON: Duration = Duration::from_secs(30);

/// Nothing that has to do with the connections; durable commits.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 1GB
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off
";

/// The servers' place.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    bin: PathBuf,
    ports: [u16; 3],
    // The proxies before what they lead to.
    proxies: Vec<Kid>,
    _postgres: Kid,
}

/// A process of ours. Dropping it ends it.
pub(crate) struct Kid {
    process: Child,
    end: Signal,
}

impl Kid {
    /// `end` is the signal that ends it at once.
    pub(crate) fn start(mut command: Command, end: Signal) -> Result<Self> {
        let shown = format!("{command:?}");
        command.stdin(Stdio::null());
        Ok(Self { process: command.spawn().with_context(|| format!("start {shown}"))?, end })
    }

    /// Resident memory of the process, in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}

impl Drop for Kid {
    fn drop(&mut self) {
        _ = kill_process(Pid::from_child(&self.process), self.end);
        let end = Instant::now() + SOON;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > end {
                _ = self.process.kill();
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl Place {
    /// Makes a database cluster and starts its server.
    pub(crate) fn make() -> Result<Self> {
        ensure!(exists("haproxy"), "haproxy was not found; scripts/setup --tests installs it");
        let bin = programs()?;
        let folder = tempfile::Builder::new().prefix("locum-bench-").tempdir_in("/tmp")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let [direct, haproxy, locum] = free_ports()?;
        eprintln!("PostgreSQL in {}, pgbench's tables at scale {SCALE}", folder.path().display());
        let postgres = postgres(&bin, folder.path(), direct)?;
        let mut fill = Command::new(bin.join("pgbench"));
        fill.args(["-i", "-q", "-s", SCALE, "-h", "127.0.0.1", "-U", "postgres", "-p", &direct.to_string()]);
        output({
            fill.arg(DATABASE);
            fill
        })?;
        Ok(Self { folder, bin, ports: [direct, haproxy, locum], proxies: Vec::new(), _postgres: postgres })
    }

    /// Starts both proxies, anew where they run: how their threads and memory happen to lie stays with a process.
    pub(crate) fn start_proxies(&mut self) -> Result<()> {
        let [direct, haproxy, locum] = self.ports;
        self.proxies.clear();
        self.proxies.push(self::haproxy(self.folder.path(), haproxy, direct)?);
        self.proxies.push(self::locum(locum, &format!("127.0.0.1:{direct}"))?);
        Ok(())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    pub(crate) const fn port(&self, side: Side) -> u16 {
        match side {
            Side::Direct => self.ports[0],
            Side::Haproxy => self.ports[1],
            Side::Locum => self.ports[2],
        }
    }
}

fn postgres(bin: &Path, folder: &Path, port: u16) -> Result<Kid> {
    let data = folder.join("data");
    fs::create_dir(&data)?;
    give_away(&data)?;
    let mut initdb = as_postgres(&bin.join("initdb"));
    initdb.arg("-D").arg(&data).args(["-k", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C"]);
    output(initdb)?;
    let conf = data.join("postgresql.conf");
    let text = fs::read_to_string(&conf)? + SETTINGS;
    fs::write(&conf, format!("{text}port = {port}\nunix_socket_directories = '{}'\n", data.display()))?;
    let mut server = as_postgres(&bin.join("postgres"));
    server.arg("-D").arg(&data).stderr(fs::File::create(folder.join("postgres.log"))?);
    // Its fast shutdown.
    let kid = Kid::start(server, Signal::INT)?;
    listens(port)?;
    let mut ready = Command::new(bin.join("pg_isready"));
    ready.args(["-q", "-t", "30", "-h", "127.0.0.1", "-p", &port.to_string()]);
    let end = Instant::now() + SOON;
    while !ready.status()?.success() {
        ensure!(Instant::now() < end, "PostgreSQL is not ready");
        sleep(Duration::from_millis(20));
    }
    Ok(kid)
}

/// HAProxy as its manual sets up TCP mode, with time limits that no measurement meets and room for every connection.
pub(crate) fn haproxy(folder: &Path, port: u16, target: u16) -> Result<Kid> {
    let file = folder.join(format!("haproxy-{port}.cfg"));
    let text = format!(
        "global\n  maxconn 8000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen bench\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{target}\n"
    );
    fs::write(&file, text)?;
    let mut command = apart("haproxy");
    command.args(["-db", "-f"]).arg(file);
    let kid = Kid::start(command, Signal::TERM)?;
    listens(port)?;
    Ok(kid)
}

/// This program again, as the proxy.
pub(crate) fn locum(port: u16, target: &str) -> Result<Kid> {
    let mut command = apart(std::env::current_exe()?);
    command.args(["serve", &format!("127.0.0.1:{port}"), target]);
    let kid = Kid::start(command, Signal::TERM)?;
    listens(port)?;
    Ok(kid)
}

/// Runs the proxy in the runtime that `locum run` has, until the process is killed.
pub(crate) fn serve(listen: SocketAddr, target: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = config::Endpoint {
            name: EndpointName::new("bench").map_err(anyhow::Error::msg)?,
            target: EndpointKind::Primary,
            listen,
            max_held: 20_000,
            hold: SOON,
            tuning: config::Tuning::default(),
        };
        let proxy = Proxy::bind(&config, Arc::new(SystemClock))?;
        let stamp = Stamp { incarnation: Incarnation(1), epoch: Epoch(1), version: Version(1) };
        let node = NodeId::new("one").map_err(anyhow::Error::msg)?;
        let reply = proxy.order(stamp, RouteOrder::Point { node, address: target.to_owned() });
        ensure!(reply == Reply::Done, "{reply:?}");
        std::future::pending().await
    })
}

/// Ports that nobody listens on, below those that outgoing connections take.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut taken: Vec<TcpListener> = Vec::new();
    for port in 21_000..32_000 {
        taken.extend(TcpListener::bind(("127.0.0.1", port)));
        if taken.len() == N {
            break;
        }
    }
    let ports: Vec<u16> =
        taken.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<Result<_>>()?;
    ports.try_into().ok().context("not enough free ports")
}

fn listens(port: u16) -> Result<()> {
    let end = Instant::now() + SOON;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(Instant::now() < end, "nobody listens on port {port}");
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

fn programs() -> Result<PathBuf> {
    let mut usual = (14..=18).rev().map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin")));
    usual.find(|dir| dir.join("initdb").exists()).context("PostgreSQL 14 to 18 is not installed")
}

/// A program in a session of its own, as a service manager starts a service and as clients on another host are. Linux shares the
/// processors between sessions before it shares them between threads (autogroups): with all in one session, a round in
/// which two of eight clients ran for two seconds and six of them stood still was not rare, and had the best p99.
pub(crate) fn apart(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setsid");
    command.arg(program);
    command
}

/// A program apart and as the user `postgres` where this is root, which PostgreSQL refuses to be.
fn as_postgres(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return apart(program);
    }
    let mut command = apart("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
    command.env_remove("HOME").current_dir("/tmp");
    command
}

fn give_away(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let id = |flag: &str| -> Result<u32> {
        let mut command = Command::new("id");
        command.args([flag, "postgres"]);
        Ok(output(command)?.trim().parse()?)
    };
    chown(path, Some(id("-u")?), Some(id("-g")?)).context("give the data directory to postgres")
}

/// Runs a program to its end and returns what it printed.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let shown = format!("{command:?}");
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("start {shown}"))?;
    if !done.status.success() {
        bail!("{shown} failed ({}): {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
