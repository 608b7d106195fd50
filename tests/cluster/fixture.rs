//! PostgreSQL servers of our own under `/tmp`, and a guard that ends exactly those.
//!
//! `Pair::new()` is a primary with a streaming standby behind a slot, with checksums, trust authentication and a role
//! `replicator` that may stream, rewind and clone. As root they run as `postgres`.

use std::{
    fs,
    future::Future,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Duration,
};

use locum::{
    config,
    postgres::{CloneFrom, Instance, Postmaster, Source},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

/// How long anything that should happen soon may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Where the server binaries are.
pub(crate) fn bin_dir() -> PathBuf {
    crate::lab::place::postgres_programs().expect("PostgreSQL's programs")
}

/// Waits until `condition` gives something, looking again every few milliseconds.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Ports that nobody listens on, each given out once, below those that outgoing connections take: the port of a server
/// that is down for a moment must not become the local end of some connection, nor the port of another one.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    /// Each of the tests that run at once has so many of its own.
    const BLOCK: u16 = 2_000;
    const LOWEST: u16 = 10_000;
    const BLOCKS: u16 = 11;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        // Not always the same first one: of a test before this one, something may still be about to end.
        let mut random = [0; 2];
        getrandom::fill(&mut random).expect("random bytes");
        AtomicU16::new(u16::from_le_bytes(random))
    });
    let slot = std::env::var("NEXTEST_TEST_GLOBAL_SLOT").map_or(0, |slot| slot.parse().expect("a number"));
    let block = LOWEST + slot % BLOCKS * BLOCK;
    let mut free = std::iter::repeat_with(|| block + next.fetch_add(1, Ordering::Relaxed) % BLOCK)
        .take(BLOCK.into())
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    std::array::from_fn(|_| free.next().expect("a free port"))
}

/// One server's place. Dropping it kills its processes and removes its files.
pub(crate) struct Node {
    /// For messages.
    pub(crate) name: &'static str,
    /// Where its own agent would connect.
    pub(crate) port: u16,
    /// The configuration it was made from.
    pub(crate) config: config::Postgres,
    /// What is tested.
    pub(crate) instance: Instance,
    /// Its state directory.
    pub(crate) state_dir: PathBuf,
    sockets: PathBuf,
    root: tempfile::TempDir,
}

impl Node {
    /// A place for a server, without a data directory yet.
    pub(crate) fn new(name: &'static str) -> Self {
        let root =
            tempfile::Builder::new().prefix("locum-test-").tempdir_in("/tmp").expect("a folder under /tmp");
        Self::in_folder(name, root)
    }

    /// The same in a given folder.
    pub(crate) fn in_folder(name: &'static str, root: tempfile::TempDir) -> Self {
        let [port] = free_ports();
        let (state_dir, sockets) = (root.path().join("state"), root.path().join("run"));
        fs::create_dir(&state_dir).expect("a state folder");
        fs::create_dir(&sockets).expect("a socket folder");
        let config = config::Postgres {
            data_dir: root.path().join("data"),
            bin_dir: bin_dir(),
            connect: format!("host={} port={port} user=postgres dbname=postgres", sockets.display()),
            address: format!("127.0.0.1:{port}"),
            replication: "user=replicator".to_owned(),
            verify: "user=replicator dbname=postgres".to_owned(),
            // Not in the data directory, which is copied about.
            options: vec![
                format!("-c port={port}"),
                format!("-c unix_socket_directories={}", sockets.display()),
                "-c listen_addresses=127.0.0.1".to_owned(),
            ],
            no_failover: false,
            no_sync: false,
            no_clone: false,
            priority: 0,
            clone_max_rate: None,
            start_timeout: Duration::from_secs(600),
            salvage: locum::postgres::SalvageLimits {
                max_bytes: 1 << 30,
                max_age: Duration::from_secs(86_400),
                max_copy: 1 << 30,
            },
        };
        let instance = Instance::new(&config, &state_dir).expect("an instance");
        for path in [root.path(), &sockets] {
            own(path, &instance);
        }
        Self { name, port, config, instance, state_dir, sockets, root }
    }

    /// The folder that everything of this node is in.
    pub(crate) fn folder(&self) -> &Path {
        self.root.path()
    }

    /// A new, empty database cluster with WAL segments of that many MB.
    pub(crate) async fn init(&self, segment_mb: u32) {
        let mut command = self.instance.command("initdb");
        command
            .arg("-D")
            .arg(&self.config.data_dir)
            .args(["-k", "-A", "trust", "-U", "postgres", "-E", "UTF8"]);
        command.args(["--locale=C", "--no-sync", &format!("--wal-segsize={segment_mb}")]);
        let done = command.output().await.expect("initdb runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        // Small and quick; no archive, no autovacuum of its own accord in the WAL that is counted; nothing in /dev/shm
        // that a killed server would leave.
        self.configure(
            "shared_buffers = '16MB'\ndynamic_shared_memory_type = mmap\nautovacuum = off\n\
             wal_keep_size = '64MB'\nmax_wal_size = '256MB'\nwal_level = logical\n",
        );
    }

    /// Adds to its `postgresql.conf`.
    pub(crate) fn configure(&self, settings: &str) {
        let path = self.config.data_dir.join("postgresql.conf");
        let given = fs::read_to_string(&path).expect("postgresql.conf");
        fs::write(&path, given + settings).expect("postgresql.conf");
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn start(&self) -> Postmaster {
        let postmaster = self.instance.start().await.unwrap_or_else(|e| panic!("{} starts: {e}", self.name));
        until("accepting connections", || async { self.try_connect().await }).await;
        postmaster
    }

    /// A session, if it can be had.
    pub(crate) async fn try_connect(&self) -> Option<Client> {
        let (client, connection) =
            timeout(SOON, tokio_postgres::connect(&self.config.connect, NoTls)).await.ok()?.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// A session.
    pub(crate) async fn connect(&self) -> Client {
        until("a connection", || self.try_connect()).await
    }

    /// The first column of the first row of a query in a session of its own, as text.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        let rows = self.connect().await.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let value = rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        value.unwrap_or_default()
    }

    /// Waits until a query's answer is what is expected.
    pub(crate) async fn becomes(&self, sql: &str, expected: &str) {
        until(sql, || async { (self.ask(sql).await == expected).then_some(()) }).await;
    }

    /// How another node reaches it.
    pub(crate) fn source(&self) -> Source {
        Source::new(&self.config.replication, &self.config.address).expect("a source")
    }

    /// Configures it to stream from another, through the slot of its name; takes effect at the next start or reload.
    pub(crate) async fn follow(&self, upstream: &Self) {
        let conninfo = upstream.source().primary_conninfo(self.name);
        let settings = [("primary_conninfo", conninfo.as_str()), ("primary_slot_name", self.name)];
        self.instance.set(&settings).await.expect("settings are written");
        self.instance.write_standby_signal().await.expect("standby.signal is written");
    }

    /// Makes a slot, if it is not there.
    pub(crate) async fn slot(&self, name: &str) {
        let missing =
            format!("WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{name}')");
        self.ask(&format!("SELECT pg_create_physical_replication_slot('{name}', true) {missing}")).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let instance = self.instance.clone();
        let kill = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(instance.kill_all(None)))
        };
        // On a thread of its own: this may be inside a runtime, and may be a panic.
        let killed = std::thread::spawn(kill).join();
        if !matches!(killed, Ok(Ok(Ok(_)))) {
            eprintln!("{}: processes may be left: {killed:?}", self.name);
        }
        let _ = &self.sockets;
    }
}

/// Gives a folder to the user the server runs as, when that is somebody else.
fn own(path: &Path, instance: &Instance) {
    let owner = instance.owner();
    let _only_root_can = std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
}

/// A primary and a standby that streams from it.
pub(crate) struct Pair {
    /// The primary at first.
    pub(crate) primary: Node,
    /// The standby at first.
    pub(crate) standby: Node,
}

impl Pair {
    /// Makes both, with 16 MB segments, and waits until the standby streams. A table `t(id bigint)` is there.
    pub(crate) async fn new() -> Self {
        Self::with_segments(16).await
    }

    /// The same with other segments.
    pub(crate) async fn with_segments(segment_mb: u32) -> Self {
        Self::with(segment_mb, "").await
    }

    /// The same with more in both servers' `postgresql.conf`.
    pub(crate) async fn with(segment_mb: u32, settings: &str) -> Self {
        let (primary, standby) = (Node::new("alpha"), Node::new("beta"));
        primary.init(segment_mb).await;
        primary.configure(settings);
        primary.start().await;
        let sql = "CREATE ROLE replicator LOGIN REPLICATION; \
             GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), \
             pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) TO replicator; \
             CREATE TABLE t (id bigint PRIMARY KEY)";
        primary.connect().await.batch_execute(sql).await.expect("roles and table");
        primary.slot(standby.name).await;
        let from =
            CloneFrom { source: primary.source(), slot: Some(standby.name.to_owned()), max_rate: None };
        standby.instance.clone_upstream(&from, |_| ()).await.expect("a clone");
        standby.follow(&primary).await;
        standby.start().await;
        let pair = Self { primary, standby };
        pair.streams().await;
        pair
    }

    /// Waits until the standby streams and has everything.
    pub(crate) async fn streams(&self) {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{}' AND state = 'streaming' \
             AND flush_lsn = pg_current_wal_flush_lsn()",
            self.standby.name
        );
        self.primary.becomes(&sql, "1").await;
    }

    /// The roles change.
    pub(crate) fn swapped(self) -> Self {
        Self { primary: self.standby, standby: self.primary }
    }
}

/// Sessions that insert single rows and note what was acknowledged.
pub(crate) struct Writers {
    acked: Arc<Mutex<Vec<i64>>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Writers {
    /// Starts them, and returns once each has had a commit acknowledged. Numbers begin at `first`.
    pub(crate) async fn start(node: &Node, count: i64, first: i64) -> Self {
        let (acked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let (client, acked, stop) = (node.connect().await, Arc::clone(&acked), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut id = first + number;
                // The simple protocol: it returns at ReadyForQuery, which is the acknowledgement.
                while !stop.load(Ordering::Relaxed)
                    && client.batch_execute(&format!("INSERT INTO t VALUES ({id})")).await.is_ok()
                {
                    acked.lock().expect("a lock").push(id);
                    id += count;
                }
            });
        }
        let writers = Self { acked, stop, tasks };
        until("every writer writes", || async {
            (writers.acknowledged() >= 4 * count as usize).then_some(())
        })
        .await;
        writers
    }

    /// How many rows were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acked.lock().expect("a lock").len()
    }

    /// Ends them and returns what was acknowledged.
    pub(crate) async fn finish(mut self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut *self.acked.lock().expect("a lock"))
    }
}

/// How many of these rows a node lacks.
pub(crate) async fn missing(node: &Node, ids: &[i64]) -> usize {
    let rows = node.connect().await.query("SELECT id FROM t", &[]).await.expect("rows");
    let there: std::collections::BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    ids.iter().filter(|id| !there.contains(id)).count()
}

/// A small file system, taken away again.
pub(crate) struct Small(PathBuf);

impl Small {
    /// Over an empty folder, with so many MiB. None, and a word about it, where this user may not do so.
    pub(crate) fn mount(folder: &Path, mib: u32) -> Option<Self> {
        let size = format!("size={mib}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output();
        if done.is_ok_and(|done| done.status.success()) {
            return Some(Self(folder.to_owned()));
        }
        println!("skipped: a small file system cannot be mounted here");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What is in it stays.
    pub(crate) fn grow(&self, mib: u32) {
        let size = format!("remount,size={mib}m");
        assert!(Command::new("mount").args(["-o", &size]).arg(&self.0).status().expect("mount").success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
